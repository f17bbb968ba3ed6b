//! The comparisons, one module for each peer, and all of them at once.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::remote::Effort;
use crate::remote::cpus::Cpus;
use crate::report::Report;
use crate::store;

pub mod all;
pub mod bare_quinn;
pub mod bare_wasmtime;
pub mod erlang;
pub mod etcd;
pub mod ractor;
pub mod ractor_cluster;
pub mod redis;

use self::all::{All, AllArgs, Benchmarks};

/// Whom to compare with, and how long.
#[derive(Debug, Args)]
pub struct VsArgs {
    /// Whom to compare with.
    peer: Peer,
    /// Interleaved rounds; each row is the median.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Divides the amount of work of a round, for a quick look.
    #[arg(long, default_value_t = 1)]
    quick: usize,
    /// Threads of each process that is written in Rust; by default what is best for its side.
    #[arg(long)]
    threads: Option<usize>,
    /// Where the two processes of each side run. A question costs a third when both are on one
    /// CPU, so that ratios of processes that the system places are drawn by lot.
    #[arg(long, value_enum, default_value_t)]
    cpus: Cpus,
    /// Also writes the rows to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Gets the peer from Debian first, when it is not there.
    #[arg(long)]
    install: bool,
    #[command(flatten)]
    all: AllArgs,
    /// Also writes the table to this file, for `vs all`.
    #[arg(long, hide = true)]
    pub sheet: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// Each of the following, and each `run` that has a table; writes `BENCHMARKS.md`.
    All,
    /// The actor framework beneath Odeum, used without it.
    Ractor,
    /// ractor's own cluster, over TLS.
    #[value(name = "ractor_cluster")]
    RactorCluster,
    /// QUIC with batched frames and nothing above it.
    BareQuinn,
    /// wasmtime with the same settings and nothing above it.
    BareWasmtime,
    /// Erlang/OTP's distribution, over TLS.
    Erlang,
    /// etcd's replicated store, three members on this machine.
    Etcd,
    /// One Redis server that has each write on its disk before it answers.
    Redis,
}

/// What a comparison came to.
#[derive(Debug)]
pub enum Compared {
    /// A table.
    With(Report),
    /// Many of them.
    All(Benchmarks),
    /// There is nobody to compare with: this peer is not installed.
    NotInstalled(&'static str),
}

/// Compares; `say` is told what happens as it does.
///
/// # Errors
/// If a side cannot be started or fails in the middle.
pub async fn run(args: &VsArgs, say: impl Fn(&str)) -> anyhow::Result<Compared> {
    let VsArgs { peer, threads, cpus, install, .. } = *args;
    let (rounds, quick) = (args.rounds.max(1), args.quick.max(1));
    if peer == Peer::All {
        let all = All { rounds, quick, threads, cpus, install, args: args.all.clone() };
        return Ok(Compared::All(all::run(&all, say).await?));
    }
    args.all.are_not_for_one_peer()?;
    let effort = Effort { rounds, quick, threads, cpus };
    let stores = store::Effort { rounds, quick, threads };
    let report = match peer {
        Peer::All => anyhow::bail!("done above"),
        Peer::Ractor => ractor::run(rounds, quick).await?,
        Peer::RactorCluster => ractor_cluster::run(effort).await?,
        Peer::BareQuinn => bare_quinn::run(effort).await?,
        Peer::BareWasmtime => bare_wasmtime::run(rounds, quick).await?,
        Peer::Erlang => {
            if !is_there(erlang::is_installed(), install, erlang::install()).await? {
                return Ok(Compared::NotInstalled("Erlang"));
            }
            erlang::run(effort).await?
        }
        Peer::Etcd => {
            if !is_there(etcd::is_installed(), install, etcd::install()).await? {
                return Ok(Compared::NotInstalled("etcd"));
            }
            etcd::run(stores).await?
        }
        Peer::Redis => {
            if !is_there(redis::is_installed(), install, redis::install()).await? {
                return Ok(Compared::NotInstalled("Redis"));
            }
            redis::run(stores).await?
        }
    };
    Ok(Compared::With(report))
}

/// Whether a peer is there, once it was got if that is wished.
async fn is_there(
    is_installed: impl Future<Output = bool>,
    install: bool,
    get: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<bool> {
    if is_installed.await {
        return Ok(true);
    }
    if install {
        get.await?;
    }
    Ok(install)
}
