//! Our replicated store against a Redis server that writes to disk before it answers.
//!
//! They promise different things, and the table says so. Ours is three nodes: what is acknowledged is
//! on the disks of two of them, and one may be lost. Redis is one server with `appendonly yes` and
//! `appendfsync always`: what is acknowledged is on its disk, and is lost with it. Redis with replicas
//! would be no closer: `WAIT` counts copies, but a replica that is promoted may be one that has none, and
//! it answers from memory. So Redis has one disk to wait for and nobody to ask, and rows have no target:
//! they say what a majority costs.
//!
//! Reads are compared with `GET` in all three of our ways. Its answer comes from the one server there is,
//! as ours comes from the leader (linearizable, by a lease) or from the node that is asked (local).
//!
//! Ours is driven from within one of its nodes, for that is how programs have it; Redis by a process of
//! its own over TCP, for it has no other way. Its client puts what is asked at the same time into one
//! packet, which is best for Redis: one fsync is for all that it reads at once.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::debian;
use crate::remote::pair::Process;
use crate::report::{Report, Target};
use crate::store::process::with_threads;
use crate::store::{self, Cluster, Effort, Peer, Setting, Targets, driver};

mod client;
mod resp;
mod server;

/// What `vs redis --install` gets from Debian.
const PACKAGES: [&str; 1] = ["redis-server"];

/// How many writes are in flight. Nothing is promised of what promises something else.
const WRITES: [(usize, Target); 5] = [
    (1, Target::None),
    (16, Target::None),
    (64, Target::None),
    (256, Target::None),
    (1_024, Target::None),
];

/// Whether Redis is there.
pub async fn is_installed() -> bool {
    version().await.is_some()
}

/// Gets Redis from Debian.
///
/// # Errors
/// If `apt-get` fails, which it does without the rights of root.
pub async fn install() -> anyhow::Result<()> {
    debian::install(&PACKAGES).await
}

/// The version of Redis; `None` when it is not installed.
pub async fn version() -> Option<String> {
    let mut command = Command::new("redis-server");
    let said = command.arg("--version").stderr(Stdio::null()).output().await.ok()?;
    version_in(&String::from_utf8(said.stdout).ok()?).map(str::to_owned)
}

/// The version in what `redis-server --version` says.
fn version_in(said: &str) -> Option<&str> {
    said.split_whitespace().find_map(|word| word.strip_prefix("v="))
}

/// Runs all rows.
///
/// # Errors
/// If a side cannot be started or fails in the middle.
pub async fn run(effort: Effort) -> anyhow::Result<Report> {
    let targets = Targets {
        writes: &WRITES,
        // Nobody takes over where there is one server.
        gap: None,
        ..Targets::default()
    };
    let mut report = store::compare("Redis", &Redis, targets, effort).await?;
    let version = version().await.unwrap_or_default();
    report.conditions.push(format!(
        "ours: {} nodes, on the disks of two before the answer, one may be lost; Redis {version}: one \
         server, not replicated, appendonly yes, appendfsync always: no targets, rows say what a \
         majority costs",
        store::MEMBERS,
    ));
    report.conditions.push(format!(
        "ours driven from within a node; Redis by a process of its own, {} connections, what is asked \
         at the same time in one packet, no TLS",
        client::CONNECTIONS,
    ));
    Ok(report)
}

struct Redis;

impl Peer for Redis {
    async fn start(&self, dir: &Path, setting: Setting) -> anyhow::Result<Cluster> {
        let (keeper, pid, at) = server::start(dir).await?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["store-peer", "redis", "--at", &at, "--stage"]).arg(dir);
        with_threads(&mut command, setting.threads);
        let (driver, _) = Process::start("the client of Redis", &mut command, None).await?;
        Ok(Cluster::driven(vec![keeper], vec![pid], driver))
    }
}

/// Runs the process that drives the server there.
pub(crate) async fn drive(at: &str) -> anyhow::Result<()> {
    driver::drive("client", client::Client::connect(at).await?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_one_of_the_words_that_redis_says() {
        let said = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(version_in(said), Some("7.0.15"));
        assert_eq!(version_in("sh: 1: redis-server: not found"), None);
    }
}
