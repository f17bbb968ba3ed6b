//! Whether the replicated store keeps what it promises while its nodes die, stop, are cut off from
//! each other, and lose what is on their disks. Three nodes are processes, each in a network
//! namespace of its own, with mutual TLS and an fsync before each answer. Clients ask all of them;
//! what they were answered is held against what is promised:
//!
//! | promise | how it is seen |
//! |---|---|
//! | every variable is linearizable, by lease reads too | the history of each (`history`) is held against a register (`register`, `linear`) |
//! | what was acknowledged is there at the end | each variable is read once more, at every node, as a part of its history |
//! | a compare-and-set loses no update | a counter (`counter`) is what was acknowledged, and at most what is unknown more |
//! | a request is carried out once | values are seen (`streams`) once, and only those that were written |
//! | a watch tells everything once, in order | watchers (`watchers`) that go from node to node are told the same, and all that was acknowledged |
//! | no session ends before its time to live is over | sessions (`ttl`) by the clock of who touches them |
//! | a node whose log is damaged says where and does not start | a byte is changed |
//! | the cluster works again when a fault is over | every node answers and writes within two minutes |
//!
//! Which faults come in which order is decided by a seed; what the cluster does meanwhile is its
//! own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::check::findings::{Finding, write as write_findings};
use crate::report::{Report, Row};

mod clients;
mod cluster;
mod counter;
mod damage;
mod ending;
mod inflict;
mod link;
pub mod member;
mod plan;
mod scene;
mod streams;
mod ttl;
mod watchers;
mod wire;

use self::cluster::{Cluster, MEMBERS, Make};
use self::plan::{Class, Lots, Without};
use self::scene::Scene;

/// How long it goes on when nobody says.
const USUAL: &str = "2m";

/// No fault begins with less time left than most need.
const LAST: Duration = Duration::from_secs(12);

/// Which faults, for how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of store-faults")]
pub struct FaultsArgs {
    /// `store-faults`: the class of faults.
    #[arg(long, value_enum, default_value = "mix")]
    class: Class,
    /// `store-faults`: all classes by lot, as by default.
    #[arg(long, conflicts_with = "class")]
    mix: bool,
    /// `store-faults`, `move-faults`: for how long faults come, such as 30m.
    #[arg(long = "for", value_name = "TIME", default_value = USUAL, value_parser = humantime::parse_duration)]
    time: Duration,
    /// `store-faults`: where findings are written, with histories, logs and data; by default the
    /// folder of the scenario stays, and is named.
    #[arg(long, value_name = "FOLDER")]
    findings: Option<PathBuf>,
}

impl FaultsArgs {
    /// For how long faults come.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.time
    }
}

/// Whether this process may do what the scenario takes.
#[must_use]
pub fn is_possible() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the scenario; `say` is told what happens as it does. What comes by lot is decided by `seed`, which
/// is drawn when it is not given, and told.
///
/// # Errors
/// If the cluster cannot be had: it takes root, `ip` and `nft`.
pub async fn run(
    args: FaultsArgs,
    seed: Option<u64>,
    say: impl Fn(&str),
) -> anyhow::Result<Report> {
    let seed = seed.unwrap_or_else(|| StdRng::from_rng(&mut rand::rng()).random());
    say(&format!("{:?} for {:?}, --seed {seed}", args.class, args.time));
    let small = matches!(args.class, Class::DiskFull | Class::Mix);
    let disk = small.then(|| usize::try_from(seed % MEMBERS as u64)).transpose()?;
    let clock = matches!(args.class, Class::Clock | Class::Mix);
    let mut cluster = Cluster::start(Make { disk, clock }).await?;
    let without = Without { clock: !cluster.has_clock() };
    if clock && without.clock {
        anyhow::ensure!(args.class == Class::Mix, "there is no C compiler to move clocks with");
        say("without clocks that jump: there is no C compiler");
    }
    let scene = Arc::new(Scene::new(cluster.ways()));
    let mut clients = clients::start(&scene, seed);
    let watchers = watchers::start(&scene, seed);

    let lots = Lots::new(args.class, seed, without);
    let mut faults = Tally::default();
    tokio::select! {
        over = torment(&mut cluster, lots, &args, seed, &mut faults, &say) => {
            let over = over.map_err(|error| Finding::new(format!("{error:#}")));
            scene.findings.unless_ok(over);
        }
        () = scene.findings.first() => {}
    }
    scene.end();
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    let mut looked_at = 0;
    if !scene.findings.any() {
        match ending::look(&scene).await {
            Ok(count) => looked_at = count,
            Err(finding) => scene.findings.add(finding),
        }
        if let Err(error) = cluster.well() {
            scene.findings.add(Finding::new(format!("{error:#}")));
        }
    }
    drop(watchers);

    let findings = scene.findings.take();
    if !findings.is_empty() {
        report_findings(&mut cluster, &findings, args.findings, &say)?;
    }
    Ok(report(&scene, (args.class, seed), faults, [looked_at, findings.len()]))
}

/// What came of the faults.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    faults: usize,
    /// The longest time until all nodes answered when one was over.
    longest: Duration,
}

/// Faults, one after the other, until the time is over.
async fn torment(
    cluster: &mut Cluster,
    mut lots: Lots,
    args: &FaultsArgs,
    seed: u64,
    tally: &mut Tally,
    say: &impl Fn(&str),
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        let planned = lots.draw();
        tokio::time::sleep(planned.calm).await;
        if tally.faults > 0 && began.elapsed() + LAST > args.time {
            return Ok(());
        }
        tally.faults += 1;
        let at = began.elapsed().as_secs_f64();
        say(&format!("{at:7.1} s: {} for {:?}", planned.fault, planned.lasts));
        let whole = inflict::inflict(cluster, planned.fault, planned.lasts, &mut rng)
            .await
            .with_context(|| format!("fault at {at:.1} s, {}", planned.fault))?;
        say(&format!("{:11} whole again after {:.1} s", "", whole.as_secs_f64()));
        tally.longest = tally.longest.max(whole);
    }
}

fn report_findings(
    cluster: &mut Cluster,
    findings: &[Finding],
    folder: Option<PathBuf>,
    say: &impl Fn(&str),
) -> anyhow::Result<()> {
    for finding in findings {
        say(&format!("FOUND: {}", finding.title));
    }
    cluster.keep();
    let folder = folder.unwrap_or_else(|| cluster.stage().join("findings"));
    write_findings(findings, &folder)?;
    say(&format!(
        "more in {}; logs and data of the nodes in {}",
        folder.display(),
        cluster.stage().display()
    ));
    Ok(())
}

fn report(
    scene: &Scene,
    (class, seed): (Class, u64),
    Tally { faults, longest }: Tally,
    [looked_at, findings]: [usize; 2],
) -> Report {
    let keys = &scene.keys.counts;
    let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed) as f64;
    let (changes, watchers) = scene.streams().count();
    let tallies = scene.counters().clone();
    let increments: i64 = tallies.values().map(|tally| tally.acknowledged).sum();
    Report {
        peer: "budget",
        conditions: vec![
            format!("faults of class {class:?}, seed {seed}"),
            format!("{MEMBERS} nodes in namespaces, mutual TLS, fsync before each answer"),
        ],
        rows: vec![
            Row::told("operations on variables", "", of(&keys.operations)),
            Row::told("of unknown outcome", "", of(&keys.unknown)),
            Row::told("increments of counters", "", increments as f64),
            Row::told(&format!("changes told to {watchers} watchers"), "", changes as f64),
            Row::told("sessions that ended", "", scene.leases().ended() as f64),
            Row::told("faults", "", faults as f64),
            Row::told("variables checked", "", of(&keys.checked)),
            Row::told("of them read at the end", "", looked_at as f64),
            Row::told("longest time until all nodes answer", "ms", longest.as_secs_f64() * 1e3),
            Row::told("longest time without a write", "ms", scene.longest_gap() as f64 / 1e3),
            Row::violations(findings),
        ],
    }
}
