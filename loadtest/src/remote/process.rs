//! The processes of a side that is written in Rust: this program, started once more with the
//! hidden command `peer`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};

use super::cpus::Placement;
use super::ours;
use super::pair::{Pair, Process};
use super::{DRIVE, HOLD};
use crate::vs::{bare_quinn, ractor_cluster};

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Ours.
    Odeum,
    /// QUIC without anything above it.
    BareQuinn,
    /// ractor's own cluster.
    #[value(name = "ractor_cluster")]
    RactorCluster,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Has the counter.
    Hold,
    /// Drives it.
    Drive,
}

/// What such a process is started with.
#[derive(Debug, Args)]
pub struct PeerArgs {
    /// Whose process it is.
    side: Side,
    /// Which of the two.
    role: Role,
    /// The folder of the comparison.
    #[arg(long)]
    stage: PathBuf,
    /// What the holding process said when it was ready.
    #[arg(long, default_value = "")]
    at: String,
    /// Threads; 1 runs everything on one. The default is what is best for the side.
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs such a process until its input ends.
///
/// # Errors
/// If it cannot do what it is there for.
pub fn run(args: &PeerArgs) -> anyhow::Result<()> {
    let PeerArgs { side, role, stage, at, threads } = args;
    let runtime = runtime(threads.unwrap_or_else(|| side.threads()))?;
    runtime.block_on(async {
        match (side, role) {
            (Side::Odeum, Role::Hold) => ours::hold(stage).await,
            (Side::Odeum, Role::Drive) => ours::drive(stage, at).await,
            (Side::BareQuinn, Role::Hold) => bare_quinn::hold(stage).await,
            (Side::BareQuinn, Role::Drive) => bare_quinn::drive(stage, at).await,
            (Side::RactorCluster, Role::Hold) => ractor_cluster::hold(stage).await,
            (Side::RactorCluster, Role::Drive) => ractor_cluster::drive(stage, at).await,
        }
    })
}

impl Side {
    /// As many threads as measured best on two cores, where two processes share them: with one,
    /// a question costs half; ractor_cluster makes more of two for everything but questions, as
    /// both others do for large transfers. `--threads` gives all the same.
    fn threads(self) -> usize {
        match self {
            Self::Odeum | Self::BareQuinn => 1,
            Self::RactorCluster => 2,
        }
    }
}

pub(crate) fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

/// Starts both processes of a side.
pub(crate) async fn start(
    side: Side,
    stage: &Path,
    placement: Placement,
    threads: Option<usize>,
) -> anyhow::Result<Pair> {
    let program = std::env::current_exe()?;
    let value = side.to_possible_value().map(|value| value.get_name().to_owned());
    let name = value.unwrap_or_default();
    let command = |role: &str| {
        let mut command = Command::new(&program);
        command.args(["peer", &name, role, "--stage"]).arg(stage);
        if let Some(threads) = threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command
    };
    let Placement { hold: hold_on, drive: drive_on } = placement;
    let (hold, at) = Process::start(format!("{name} {HOLD}"), &mut command(HOLD), hold_on).await?;
    let mut command = command(DRIVE);
    command.args(["--at", &at]);
    let (drive, _) = Process::start(format!("{name} {DRIVE}"), &mut command, drive_on).await?;
    Ok(Pair::new(hold, drive))
}
