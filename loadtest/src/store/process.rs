//! The processes that drive a store: this program, started once more with the hidden command
//! `store-peer`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use tokio::process::Command;

use super::ours;
use crate::remote;
use crate::vs::{etcd, redis};

/// Whose store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Ours: the process is a member.
    Odeum,
    /// etcd's: the process is a client.
    Etcd,
    /// Redis: the process is a client.
    Redis,
}

/// What such a process is started with.
#[derive(Debug, Args)]
pub struct PeerArgs {
    /// Whose store it is.
    side: Side,
    /// The folder of the comparison.
    #[arg(long)]
    stage: PathBuf,
    /// The name of a member.
    #[arg(long, default_value = "")]
    name: String,
    /// Where the members are, or one to join by.
    #[arg(long)]
    at: Option<String>,
    /// Whether a lost leader is replaced sooner than usual.
    #[arg(long)]
    quick: bool,
    /// Threads; 1 runs everything but the log on one. The default is what is best for the side.
    #[arg(long)]
    threads: Option<usize>,
}

impl Side {
    /// As many threads as measured best on two cores, which three members share: with one, our
    /// members write a quarter more while little is in flight, and a tenth less while 1,024 are. The
    /// client of Redis, which passes bytes on, has one, so that the server has the other CPU.
    pub(crate) fn threads(self) -> usize {
        match self {
            Self::Odeum => 1,
            Self::Etcd => 2,
            Self::Redis => 1,
        }
    }
}

/// Has such a process run on so many threads, if that is said.
pub(crate) fn with_threads(command: &mut Command, threads: Option<usize>) {
    if let Some(threads) = threads {
        command.args(["--threads", &threads.to_string()]);
    }
}

/// Runs such a process until its input ends.
///
/// # Errors
/// If it cannot do what it is there for.
pub fn run(args: PeerArgs) -> anyhow::Result<()> {
    let PeerArgs { side, stage, name, at, quick, threads } = args;
    let runtime = remote::process::runtime(threads.unwrap_or_else(|| side.threads()))?;
    runtime.block_on(async {
        match side {
            Side::Odeum => ours::drive(&stage, &name, at, quick).await,
            Side::Etcd => etcd::drive(&at.unwrap_or_default()).await,
            Side::Redis => redis::drive(&at.unwrap_or_default()).await,
        }
    })
}
