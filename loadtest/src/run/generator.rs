//! The generator itself: whether what it measures is the cluster and not the generator.
//!
//! | row | what is measured | against |
//! |---|---|---|
//! | requests of a closed loop | reads that one generator gets answered, with all that it takes down | a bare loop of the same client with as many at a time, in a process of its own |
//! | error of send times | how long after their times one in a hundred sends begins, at 1,000 a second | 10 µs |
//! | error of the machine | the same for a thread that only looks at the clock from half a millisecond before: nothing is more exact | the first row's |
//! | memory of an hour | how much a generator that has sent for a while has more than one that has sent a tenth as long | a budget |

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use odeum_proto::{RequestId, SessionId};
use odeum_runtime::api::client::{ApiClient, SetOptions};
use odeum_runtime::api::types::{Reading, SettingsBody};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::fleet::{Fleet, FleetOptions};
use crate::monotonic;
use crate::report::{Report, Row, Target};
use crate::scenario::against;
use crate::scenario::outcome::Outcome;

/// Clients of a closed loop.
const CLIENTS: usize = 16;
/// How long each side sends, in seconds.
const SECONDS: u64 = 10;
/// Sends a second whose times are held against when they were due.
const RATE: u64 = 1_000;
/// What the error may be, in microseconds.
const ERROR: f64 = 10.0;
/// How long before its time that thread is awake, in nanoseconds.
const AWAKE: u64 = 500_000;
/// What memory may grow by from a tenth of the time to all of it, in MiB: histograms of some seconds.
const GROWTH: f64 = 16.0;

/// What the bare loop is started with.
#[derive(Debug, Args)]
pub struct BareArgs {
    /// The API of the node.
    url: String,
    /// A session with the variable `value`.
    session: String,
    /// How long.
    seconds: u64,
}

/// Sends without taking anything down, on one thread; requests a second.
///
/// # Errors
/// If a request fails.
pub fn bare(args: &BareArgs) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = ApiClient::new(&args.url)?;
        let session: SessionId = args.session.parse()?;
        let begin = Instant::now();
        let end = begin + Duration::from_secs(args.seconds);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (client, session) = (client.clone(), session.clone());
            clients.spawn(async move {
                let mut count = 0_u64;
                while Instant::now() < end {
                    client.variable(&session, "value", Reading::Local).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            });
        }
        let mut all = 0;
        while let Some(count) = clients.join_next().await {
            all += count??;
        }
        Ok(all as f64 / begin.elapsed().as_secs_f64())
    })
}

/// Runs the measurement.
///
/// # Errors
/// If the node cannot be had, or a generator fails.
pub async fn run(rounds: usize, quick: usize) -> anyhow::Result<Report> {
    let seconds = (SECONDS / quick as u64).max(2);
    let names = vec!["n1".to_owned()];
    let fleet = Fleet::start(FleetOptions { names, ..FleetOptions::default() }).await?;
    let client = fleet.client(0)?.clone();
    let url = client.url().to_string();
    let session: SessionId = "bare".parse()?;
    client.create_session(&session, &SettingsBody::default(), &RequestId::random()).await?;
    let value = "1 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".into();
    let (options, request) = (SetOptions::default(), RequestId::random());
    client.set_variable(&session, "value", &value, options, &request).await?;

    let [mut rates, mut errors, mut floors, mut growth] = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        let theirs = started(&url, seconds).await?;
        let phase = format!("hold: {{ clients: {CLIENTS}, for: {seconds}s }}");
        rates.push((sent(&url, &phase).await?.all.rate, theirs));
        let phase = |seconds| format!("hold: {{ rate: {RATE}, for: {seconds}s }}");
        let short = sent(&url, &phase((seconds / 10).max(1))).await?;
        let long = sent(&url, &phase(seconds)).await?;
        let error = long.generators.late_p99_us as f64;
        errors.push((error, ERROR));
        floors.push((tokio::task::spawn_blocking(move || floor(seconds)).await?, error));
        let mib = |it: &Outcome| it.generators.memory_bytes as f64 / f64::from(1 << 20);
        growth.push(((mib(&long) - mib(&short)).max(0.0), GROWTH));
    }
    fleet.end().await;
    let at_most = Target::AtMost(1.0);
    Ok(Report {
        peer: "bare or budget",
        conditions: vec![format!(
            "one generator, one node on the same {} CPUs, reads of what the node has",
            std::thread::available_parallelism()?
        )],
        rows: vec![
            Row::new("requests of a closed loop", "/s", Target::AtLeast(0.9), &rates),
            Row::new("error of send times, p99", "\u{b5}s", at_most, &errors),
            Row::new("error of the machine, p99", "\u{b5}s", Target::None, &floors),
            Row::new("growth of a generator", "MiB", at_most, &growth),
        ],
    })
}

/// How late a thread is that does nothing else: what one in a hundred times exceeds, in microseconds.
fn floor(seconds: u64) -> f64 {
    let mut late: Vec<u64> = Vec::new();
    let mut due = monotonic::now();
    for _ in 0..RATE * seconds {
        due += 1_000_000_000 / RATE;
        let wait = due.saturating_sub(monotonic::now()).saturating_sub(AWAKE);
        std::thread::sleep(Duration::from_nanos(wait));
        while monotonic::now() < due {
            std::hint::spin_loop();
        }
        late.push(monotonic::now() - due);
    }
    late.sort_unstable();
    late.get(late.len() * 99 / 100).map_or(0.0, |nanos| *nanos as f64 / 1_000.0)
}

/// What a bare loop gets, a second.
async fn started(url: &str, seconds: u64) -> anyhow::Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare-client", url, "bare", &seconds.to_string()]).kill_on_drop(true);
    let output = command.output().await.context("a bare client")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

async fn sent(url: &str, phase: &str) -> anyhow::Result<Outcome> {
    let text = format!(
        "name: generator\ngenerators: 1\ntargets:\n  reads:\n    read: {{ sessions: 1, consistency: \
         local }}\nphases:\n  - {phase}\n"
    );
    against(&text, vec![url.to_owned()]).await
}
