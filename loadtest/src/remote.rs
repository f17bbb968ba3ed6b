//! Our nodes against others that send messages between processes: the same workloads, two
//! processes on loopback for each side, everything encrypted, ours and theirs in turn.
//!
//! | row | what is measured |
//! |---|---|
//! | tell | one sender; the time ends when the receiver has counted the last one |
//! | ask, 1 in flight | the median time to the echo |
//! | ask, n in flight | echoes a second to n askers |
//! | ask beside 2 × 16 MiB | one asker, the time that one echo in a hundred exceeds |
//! | bulk | transfers of 16 MiB, two at a time, each acknowledged when it is whole |

use std::path::Path;

use anyhow::Context as _;
use odeum_cluster::transport::pki::Authority;
use tempfile::TempDir;

use crate::report::{Report, Row, Target};
use crate::vs::erlang;

pub mod cpus;
pub(crate) mod driver;
mod ours;
pub(crate) mod pair;
pub mod process;
pub(crate) mod tls;
pub mod workload;

use self::cpus::{Cpus, Placement};
use self::pair::Pair;
use self::process::Side;
use self::workload::{Outcome, Workload};

/// A small message, in bytes.
const SMALL: usize = 64;
/// A message that fills a page, in bytes.
const PAGE: usize = 4 << 10;
/// A large transfer, in bytes.
const BLOB: usize = 16 << 20;
/// Large transfers at a time.
const BLOBS: usize = 2;

/// The process that has the counter, and its certificate's node.
pub(crate) const HOLD: &str = "hold";
/// The process that drives it, and its certificate's node.
pub(crate) const DRIVE: &str = "drive";

/// What our side must reach against a peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Targets {
    pub(crate) tell: Target,
    pub(crate) ask_time: Target,
    pub(crate) asks: Target,
    pub(crate) beside: Target,
    pub(crate) bulk: Target,
}

/// One row: what is done, and which part of the outcome counts.
struct Line {
    row: &'static str,
    unit: &'static str,
    workload: Workload,
    value: fn(Outcome) -> f64,
    target: Target,
}

/// The rows. `quick` divides the work.
fn lines(targets: Targets, quick: u64) -> [Line; 7] {
    let rate = |outcome: Outcome| outcome.per_second;
    let line = |row, unit, workload, value, target| Line { row, unit, workload, value, target };
    let ask = |in_flight, count: u64| Workload::Ask {
        bytes: SMALL,
        in_flight,
        count: (count / quick).max(1),
    };
    let tell = |bytes, count: u64| Workload::Tell { bytes, count: (count / quick).max(1) };
    // Long enough for some hundred asks on the slowest side, so that there is a p99.
    let millis = (4_000 / quick).max(50);
    let beside = Workload::Beside { bytes: SMALL, blobs: BLOBS, blob_bytes: BLOB, millis };
    let bulk =
        Workload::Bulk { bytes: BLOB, in_flight: BLOBS, count: (12 / quick).max(BLOBS as u64) };
    [
        line("tell 64 B", "/s", tell(SMALL, 1_000_000), rate, targets.tell),
        line("tell 4 KiB", "/s", tell(PAGE, 40_000), rate, Target::None),
        line("ask 64 B, 1 in flight, p50", "µs", ask(1, 10_000), |o| o.p50, targets.ask_time),
        line("ask 64 B, 64 in flight", "/s", ask(64, 100_000), rate, targets.asks),
        line("ask 64 B, 1024 in flight", "/s", ask(1_024, 100_000), rate, Target::None),
        line("ask 64 B beside 2 x 16 MiB, p99", "µs", beside, |o| o.p99, targets.beside),
        line("bulk 16 MiB", "MB/s", bulk, |o| o.per_second * BLOB as f64 / 1e6, targets.bulk),
    ]
}

/// Who takes part in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// Whoever's processes are this program, too.
    Rust(Side),
    /// Erlang.
    Erlang,
}

impl Party {
    pub(crate) async fn start(
        self,
        stage: &Path,
        placement: Placement,
        threads: Option<usize>,
    ) -> anyhow::Result<Pair> {
        match self {
            Self::Rust(side) => process::start(side, stage, placement, threads).await,
            Self::Erlang => erlang::start(stage, placement).await,
        }
    }
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds; each row is their median.
    pub rounds: usize,
    /// Divides the work of a round.
    pub quick: usize,
    /// Threads of each process in Rust, instead of what is best for its side.
    pub threads: Option<usize>,
    /// Where the processes run.
    pub cpus: Cpus,
}

/// Runs all rows. Each round has processes of its own, for what a process happens to have in
/// which part of its memory makes a difference of its own.
pub(crate) async fn compare(
    peer: &'static str,
    theirs: Party,
    targets: Targets,
    effort: Effort,
) -> anyhow::Result<Report> {
    let lines = lines(targets, effort.quick as u64);
    let placement = effort.cpus.place()?;
    let mut measured = vec![Vec::with_capacity(effort.rounds); lines.len()];
    for _ in 0..effort.rounds {
        let stages = [stage(&[HOLD, DRIVE])?, stage(&[HOLD, DRIVE])?];
        let [ours_in, theirs_in] = stages.each_ref().map(TempDir::path);
        let mut us = Party::Rust(Side::Odeum).start(ours_in, placement, effort.threads).await?;
        let mut them = theirs.start(theirs_in, placement, effort.threads).await?;
        for (Line { row, workload, value, .. }, measured) in lines.iter().zip(&mut measured) {
            let ours = us.measure(*workload).await.with_context(|| format!("ours, {row}"))?;
            let theirs = them.measure(*workload).await.with_context(|| format!("{peer}, {row}"))?;
            measured.push((value(ours), value(theirs)));
        }
        us.end().await;
        them.end().await;
    }
    let rows = lines.iter().zip(&measured);
    let rows = rows.map(|(line, measured)| Row::new(line.row, line.unit, line.target, measured));
    Ok(Report { peer, conditions: vec![placement.to_string()], rows: rows.collect() })
}

/// A folder for the files of a comparison, with certificates of one authority for its processes.
pub(crate) fn stage(names: &[&str]) -> anyhow::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("odeum-loadtest-").tempdir()?;
    let authority = Authority::create(dir.path())?;
    for name in names {
        authority.issue(&name.parse()?, &certs(dir.path(), name))?;
    }
    Ok(dir)
}

/// The folder of a process's certificates.
pub(crate) fn certs(stage: &Path, name: &str) -> std::path::PathBuf {
    stage.join("certs").join(name)
}
