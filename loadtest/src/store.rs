//! Our replicated store against others, all on this machine and on one disk: three processes of ours,
//! every acknowledged write on the disks of two of them, and as many of theirs as their module says.
//!
//! | row | what is measured |
//! |---|---|
//! | writes, n in flight | values of 256 B a second, and the time that one in a hundred exceeds |
//! | linearizable reads | of values, a second |
//! | lease reads | the same, by a lease of the leader where there is one |
//! | local reads | of what the member that is asked has, which may be old |
//! | gap | the longest time between two acknowledged writes while the leader is killed |

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::remote;
use crate::remote::pair::Process;
use crate::remote::workload::Outcome;
use crate::report::{Report, Row, Target};

pub(crate) mod driver;
pub(crate) mod keeper;
mod ours;
pub mod process;
pub mod workload;

use self::driver::{KEYS, VALUE};
use self::workload::{Reading, Request, Workload};

/// Members of each side's cluster.
pub(crate) const MEMBERS: usize = 3;

/// How long writes go on while a leader is killed. The longest election and a vote that is split
/// fit into what is left when it is.
const GAP: Duration = Duration::from_secs(4);

/// What our side must reach against a peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Targets {
    /// Writes a second, by how many are in flight.
    pub(crate) writes: &'static [(usize, Target)],
    /// The time that one write in a hundred exceeds.
    pub(crate) write_time: Target,
    /// Reads a second with 256 in flight.
    pub(crate) reads: Target,
    /// Reads by a lease.
    pub(crate) lease_reads: Target,
    /// Reads of what a member has.
    pub(crate) local_reads: Target,
    /// The gap while a leader is killed, for those that have more than one.
    pub(crate) gap: Option<Target>,
}

impl Targets {
    fn reads(self) -> [(&'static str, Reading, Target); 3] {
        [
            ("linearizable reads", Reading::Linearizable, self.reads),
            ("lease reads", Reading::Lease, self.lease_reads),
            ("local reads", Reading::Local, self.local_reads),
        ]
    }
}

/// Reads in flight.
const READERS: usize = 256;

/// A cluster of one side, and who drives it.
#[derive(Debug)]
pub(crate) struct Cluster {
    processes: Vec<Process>,
    /// The members, in the order of their starts.
    members: Vec<Pid>,
    /// Which process drives it; none when each member can.
    driver: Option<usize>,
}

impl Cluster {
    /// A cluster whose members drive it themselves.
    pub(crate) fn embedded(processes: Vec<Process>) -> anyhow::Result<Self> {
        let members = processes.iter().map(Process::id).collect::<anyhow::Result<_>>()?;
        Ok(Self { processes, members, driver: None })
    }

    /// A cluster that another process drives.
    pub(crate) fn driven(mut processes: Vec<Process>, members: Vec<Pid>, driver: Process) -> Self {
        let place = processes.len();
        processes.push(driver);
        Self { processes, members, driver: Some(place) }
    }

    /// Has `driver` do something, or whoever usually does.
    async fn say(&mut self, workload: Workload, driver: Option<usize>) -> anyhow::Result<String> {
        let driver = self.driver.or(driver).unwrap_or_default();
        let process = self.processes.get_mut(driver).context("no such process")?;
        process.exchange(&workload.to_string()).await
    }

    async fn load(
        &mut self,
        request: Request,
        in_flight: usize,
        time: Duration,
    ) -> anyhow::Result<Outcome> {
        let millis = u64::try_from(time.as_millis())?;
        self.say(Workload::Load { request, in_flight, millis }, None).await?.parse()
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        self.say(Workload::Fill, None).await.map(drop)
    }

    /// Kills the leader; returns the longest gap between two writes that a
    /// survivor, or whoever else drives, has made meanwhile, in milliseconds.
    async fn gap(&mut self) -> anyhow::Result<f64> {
        let leader: usize = self.say(Workload::Leader, None).await?.parse()?;
        let victim = *self.members.get(leader).context("no such member")?;
        let kill = async {
            sleep(GAP / 4).await;
            kill_process(victim, Signal::KILL).context("the leader cannot be killed")
        };
        let survivor = Some((leader + 1) % self.members.len());
        let millis = u64::try_from(GAP.as_millis())?;
        let (gap, ()) = tokio::try_join!(self.say(Workload::Gap { millis }, survivor), kill)?;
        Ok(gap.parse::<f64>()? / 1_000.0)
    }

    async fn end(self) {
        // Whoever drives first: what it has in flight must not meet members that end.
        for process in self.processes.into_iter().rev() {
            process.end().await;
        }
    }
}

/// How a cluster is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timing {
    /// As it comes.
    Default,
    /// A heartbeat each 50 ms, an election after 300 ms.
    Quick,
}

/// Whom we are compared with.
pub(crate) trait Peer {
    /// Starts a cluster of it in `dir`.
    fn start(
        &self,
        dir: &Path,
        setting: Setting,
    ) -> impl Future<Output = anyhow::Result<Cluster>> + Send;
}

/// How a cluster is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) timing: Timing,
    /// See [`Effort::threads`].
    pub(crate) threads: Option<usize>,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds; each row is their median.
    pub rounds: usize,
    /// Divides the time of each load.
    pub quick: usize,
    /// Threads of each process that is written in Rust; what is best for its side if that is not
    /// said.
    pub threads: Option<usize>,
}

impl Effort {
    /// How long each load is measured.
    fn load(self) -> Duration {
        Duration::from_secs(3) / u32::try_from(self.quick).unwrap_or(u32::MAX)
    }

    /// Clusters whose leader is killed in each round: medians of ten by default.
    fn kills(self) -> usize {
        if self.quick == 1 { 2 } else { 1 }
    }
}

/// The figures of one side of a round.
#[derive(Debug, Default)]
struct Figures {
    writes: Vec<Outcome>,
    reads: Vec<Outcome>,
}

/// Runs all rows, ours and theirs in turn.
pub(crate) async fn compare(
    name: &'static str,
    peer: &impl Peer,
    targets: Targets,
    effort: Effort,
) -> anyhow::Result<Report> {
    let mut rounds = Vec::with_capacity(effort.rounds);
    let mut gaps = Vec::with_capacity(effort.rounds * effort.kills());
    for _ in 0..effort.rounds {
        rounds.push(round(name, peer, targets, effort).await?);
        let kills = if targets.gap.is_some() { effort.kills() } else { 0 };
        for _ in 0..kills {
            gaps.push(kill(name, peer, effort.threads).await?);
        }
    }
    let row = |row: String, unit, target, value: &dyn Fn(&Figures) -> f64| {
        let pairs: Vec<_> = rounds.iter().map(|[us, them]| (value(us), value(them))).collect();
        Row::new(row, unit, target, &pairs)
    };
    let of = |n: usize, outcomes: &[Outcome]| outcomes.get(n).copied().unwrap_or_default();
    let mut rows = Vec::new();
    for (n, (in_flight, target)) in targets.writes.iter().enumerate() {
        let what = format!("writes, {in_flight} in flight");
        rows.push(row(what, "/s", *target, &|f| of(n, &f.writes).per_second));
    }
    for (n, (in_flight, _)) in targets.writes.iter().enumerate() {
        let what = format!("writes, {in_flight} in flight, p99");
        rows.push(row(what, "µs", targets.write_time, &|f| of(n, &f.writes).p99));
    }
    for (n, (what, _, target)) in targets.reads().into_iter().enumerate() {
        let what = format!("{what}, {READERS} in flight");
        rows.push(row(what, "/s", target, &|f| of(n, &f.reads).per_second));
    }
    if let Some(target) = targets.gap {
        rows.push(Row::new("gap in writes, leader killed", "ms", target, &gaps));
    }
    let conditions = vec![format!(
        "both sides: on {} CPUs and one disk, fsync before each answer, {VALUE} B values, {KEYS} keys",
        std::thread::available_parallelism()?,
    )];
    Ok(Report { peer: name, conditions, rows })
}

/// One round of loads on clusters of its own: ours and theirs in turn, each while the other rests.
async fn round(
    name: &str,
    peer: &impl Peer,
    targets: Targets,
    effort: Effort,
) -> anyhow::Result<[Figures; 2]> {
    let stages = [remote::stage(&ours::NAMES)?, remote::stage(&[])?];
    let [here, there] = stages.each_ref().map(tempfile::TempDir::path);
    let setting = Setting { timing: Timing::Default, threads: effort.threads };
    let mut clusters = [ours::start(here, setting).await?, peer.start(there, setting).await?];
    let mut figures = [Figures::default(), Figures::default()];
    for cluster in &mut clusters {
        cluster.fill().await?;
    }
    for &(in_flight, _) in targets.writes {
        for ((cluster, figures), side) in clusters.iter_mut().zip(&mut figures).zip(["ours", name])
        {
            let outcome = cluster.load(Request::Write, in_flight, effort.load()).await;
            figures.writes.push(outcome.with_context(|| format!("{side}, {in_flight} writes"))?);
        }
    }
    for (what, how, _) in targets.reads() {
        for ((cluster, figures), side) in clusters.iter_mut().zip(&mut figures).zip(["ours", name])
        {
            let outcome = cluster.load(Request::Read(how), READERS, effort.load()).await;
            figures.reads.push(outcome.with_context(|| format!("{side}, {what}"))?);
        }
    }
    for cluster in clusters {
        cluster.end().await;
    }
    Ok(figures)
}

/// The gaps that the death of a leader leaves, one side after the other.
async fn kill(name: &str, peer: &impl Peer, threads: Option<usize>) -> anyhow::Result<(f64, f64)> {
    let setting = Setting { timing: Timing::Quick, threads };
    let stage = remote::stage(&ours::NAMES)?;
    let mut cluster = ours::start(stage.path(), setting).await?;
    let ours = cluster.gap().await.context("ours, leader killed")?;
    cluster.end().await;
    let stage = remote::stage(&[])?;
    let mut cluster = peer.start(stage.path(), setting).await?;
    let theirs = cluster.gap().await.with_context(|| format!("{name}, leader killed"));
    cluster.end().await;
    Ok((ours, theirs?))
}
