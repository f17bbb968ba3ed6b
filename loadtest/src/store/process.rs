//! The processes that drive a store: this program, started once more with the hidden command
//! `store-peer`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ours;
use crate::vs::etcd;

/// Whose store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Ours: the process is a member.
    Odeum,
    /// etcd's: the process is a client.
    Etcd,
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
}

/// Runs such a process until its input ends.
///
/// # Errors
/// If it cannot do what it is there for.
pub async fn run(args: PeerArgs) -> anyhow::Result<()> {
    let PeerArgs { side, stage, name, at, quick } = args;
    match side {
        Side::Odeum => ours::drive(&stage, &name, at, quick).await,
        Side::Etcd => etcd::drive(&at.unwrap_or_default()).await,
    }
}
