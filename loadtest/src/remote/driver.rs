//! The driving process: does workloads with the other one, for every side in the same way.

use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::workload::{Outcome, Workload};

/// No answer takes longer on a machine that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that wait to be done; the comparison sends the next one after the outcome.
const LINES: usize = 8;

/// A counter in another process, as one side reaches it.
pub(crate) trait Remote: Clone + Send + Sync + 'static {
    /// Sends what is to be counted. Returns when there is room for the next.
    fn tell(&self, body: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// What was counted, everything told before included.
    fn count(&self) -> impl Future<Output = anyhow::Result<u64>> + Send;
    /// Asks for the body back.
    fn ask(&self, body: Bytes) -> impl Future<Output = anyhow::Result<Bytes>> + Send;
    /// Sends what is large, and returns when the other process has all of it.
    fn blob(&self, body: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Says what others need to know to reach this process, and lives until its input ends.
pub(crate) async fn hold(address: impl std::fmt::Display) -> anyhow::Result<()> {
    say(&format!("ready {address}"))?;
    let mut lines = lines();
    while lines.recv().await.is_some() {}
    Ok(())
}

/// Does what the lines of the input say.
pub(crate) async fn drive(remote: impl Remote) -> anyhow::Result<()> {
    let mut lines = lines();
    say("ready driver")?;
    while let Some(line) = lines.recv().await {
        let workload = line.parse()?;
        let remote = remote.clone();
        // On a worker thread: what `block_on` polls wakes across threads.
        let mut doing = JoinSet::new();
        doing.spawn(async move { perform(&remote, workload).await });
        let outcome = doing.join_next().await.context("nothing was done")??;
        say(&outcome.with_context(|| format!("workload {workload}"))?.to_string())?;
    }
    Ok(())
}

/// The lines of the standard input. The process ends when they do: nothing outlives the
/// comparison that started it.
pub(crate) fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    receiver
}

/// Writes a line for the comparison.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").context("nobody listens")?;
    out.flush().context("nobody listens")
}

async fn perform<R: Remote>(remote: &R, workload: Workload) -> anyhow::Result<Outcome> {
    match workload {
        Workload::Tell { bytes, count } => tell(remote, bytes, count).await,
        Workload::Ask { bytes, in_flight, count } => {
            let each = (count / in_flight as u64).max(1);
            asks(remote, bytes, in_flight, each).await
        }
        Workload::Beside { bytes, blobs, blob_bytes, millis } => {
            beside(remote, bytes, (blobs, blob_bytes), Duration::from_millis(millis)).await
        }
        Workload::Bulk { bytes, in_flight, count } => {
            let each = (count / in_flight as u64).max(1);
            bulk(remote, bytes, in_flight, each).await
        }
    }
}

async fn tell<R: Remote>(remote: &R, bytes: usize, count: u64) -> anyhow::Result<Outcome> {
    let body = body(bytes);
    let before = remote.count().await?;
    let began = Instant::now();
    for _ in 0..count {
        remote.tell(body.clone()).await?;
    }
    let seen =
        timeout(PATIENCE, remote.count()).await.context("the tells did not arrive")?? - before;
    let took = began.elapsed();
    anyhow::ensure!(seen == count, "{seen} of {count} messages arrived");
    Ok(Outcome { per_second: per_second(count, took), ..Outcome::default() })
}

async fn asks<R: Remote>(
    remote: &R,
    bytes: usize,
    in_flight: usize,
    each: u64,
) -> anyhow::Result<Outcome> {
    let body = body(bytes);
    let began = Instant::now();
    let mut askers = JoinSet::new();
    for _ in 0..in_flight {
        let (remote, body) = (remote.clone(), body.clone());
        askers.spawn(async move {
            let mut nanos = Vec::with_capacity(usize::try_from(each)?);
            for _ in 0..each {
                nanos.push(ask(&remote, &body).await?);
            }
            anyhow::Ok(nanos)
        });
    }
    let mut nanos = Vec::new();
    while let Some(ended) = askers.join_next().await {
        nanos.extend(ended??);
    }
    let took = began.elapsed();
    Ok(outcome(nanos, took))
}

async fn beside<R: Remote>(
    remote: &R,
    bytes: usize,
    (blobs, blob_bytes): (usize, usize),
    time: Duration,
) -> anyhow::Result<Outcome> {
    let (body, blob) = (body(bytes), body(blob_bytes));
    let until = Instant::now() + time;
    let mut carriers = JoinSet::new();
    for _ in 0..blobs {
        let (remote, blob) = (remote.clone(), blob.clone());
        carriers.spawn(async move {
            while Instant::now() < until {
                remote.blob(blob.clone()).await?;
            }
            anyhow::Ok(())
        });
    }
    let mut nanos = Vec::new();
    while Instant::now() < until {
        nanos.push(ask(remote, &body).await?);
    }
    while let Some(ended) = carriers.join_next().await {
        ended??;
    }
    Ok(outcome(nanos, time))
}

async fn bulk<R: Remote>(
    remote: &R,
    bytes: usize,
    in_flight: usize,
    each: u64,
) -> anyhow::Result<Outcome> {
    let blob = body(bytes);
    let began = Instant::now();
    let mut carriers = JoinSet::new();
    for _ in 0..in_flight {
        let (remote, blob) = (remote.clone(), blob.clone());
        carriers.spawn(async move {
            for _ in 0..each {
                remote.blob(blob.clone()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = carriers.join_next().await {
        ended??;
    }
    let took = began.elapsed();
    Ok(Outcome { per_second: per_second(each * in_flight as u64, took), ..Outcome::default() })
}

/// The time that one question took, in nanoseconds.
async fn ask<R: Remote>(remote: &R, body: &Bytes) -> anyhow::Result<u64> {
    let began = Instant::now();
    let answer = remote.ask(body.clone()).await?;
    let took = began.elapsed();
    anyhow::ensure!(answer.len() == body.len(), "another answer than the question");
    Ok(u64::try_from(took.as_nanos())?)
}

/// What requests that took so long came to, within `took`; times are no numbers where there are none.
pub(crate) fn outcome(mut nanos: Vec<u64>, took: Duration) -> Outcome {
    nanos.sort_unstable();
    let at = |share: f64| {
        let index = (nanos.len().saturating_sub(1) as f64 * share).round() as usize;
        nanos.get(index).map_or(f64::NAN, |nanos| *nanos as f64 / 1_000.0)
    };
    Outcome { per_second: per_second(nanos.len() as u64, took), p50: at(0.5), p99: at(0.99) }
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn body(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}
