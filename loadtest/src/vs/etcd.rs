//! Our replicated store against etcd's: three members each, on one disk.
//!
//! Ours is driven from within one of its members, for that is how programs have it; etcd's by a
//! process of its own over gRPC without TLS, for it has no other way.
//!
//! etcd's requests go to its leader. Tried and worse, on two cores, for writes and reads alike:
//! all members in turn, of which two pass them on.

use std::path::Path;

use tokio::process::Command;

use crate::debian;
use crate::remote::pair::Process;
use crate::report::{Report, Target};
use crate::store::process::{Side, with_threads};
use crate::store::{self, Cluster, Effort, MEMBERS, Peer, Setting, Targets, Timing, driver};

mod client;
mod members;
mod wire;

/// What `vs etcd --install` gets from Debian.
const PACKAGES: [&str; 1] = ["etcd-server"];

/// How many times as many writes a second, by how many are in flight.
const WRITES: [(usize, Target); 5] = [
    (1, Target::AtLeast(1.5)),
    (16, Target::AtLeast(3.0)),
    (64, Target::AtLeast(3.5)),
    (256, Target::AtLeast(3.5)),
    (1_024, Target::AtLeast(5.0)),
];

/// Whether etcd is there.
pub async fn is_installed() -> bool {
    version().await.is_some()
}

/// The version of etcd; `None` when it is not installed.
pub async fn version() -> Option<String> {
    members::version().await
}

/// Gets etcd from Debian.
///
/// # Errors
/// If `apt-get` fails, which it does without the rights of root.
pub async fn install() -> anyhow::Result<()> {
    debian::install(&PACKAGES).await
}

/// Runs all rows.
///
/// # Errors
/// If a side cannot be started or fails in the middle.
pub async fn run(effort: Effort) -> anyhow::Result<Report> {
    let targets = Targets {
        writes: &WRITES,
        write_time: Target::AtMost(1.0),
        reads: Target::AtLeast(3.5),
        lease_reads: Target::AtLeast(5.0),
        gap: Some(Target::AtMost(1.0)),
        ..Targets::default()
    };
    let mut report = store::compare("etcd", &Etcd, targets, effort).await?;
    let version = version().await.unwrap_or_default();
    report.conditions.push(format!(
        "{MEMBERS} members each; ours driven from within a member, {} a member; etcd {version}: driven by a process of \
         its own, {} connections to the leader, no TLS",
        threads(effort.threads.unwrap_or_else(|| Side::Odeum.threads())),
        client::CONNECTIONS,
    ));
    report.conditions.push(
        "while a leader is killed both have a heartbeat of 50 ms and an election after 300 ms"
            .to_owned(),
    );
    Ok(report)
}

fn threads(number: usize) -> String {
    if number == 1 { "one thread".to_owned() } else { format!("{number} threads") }
}

struct Etcd;

impl Peer for Etcd {
    async fn start(&self, dir: &Path, setting: Setting) -> anyhow::Result<Cluster> {
        let flags: &[&str] = match setting.timing {
            Timing::Default => &[],
            Timing::Quick => &["--heartbeat-interval", "50", "--election-timeout", "300"],
        };
        let members::Members { keepers, pids, at } = members::start(dir, flags).await?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["store-peer", "etcd", "--at", &at, "--stage"]).arg(dir);
        with_threads(&mut command, setting.threads);
        let (driver, _) = Process::start("etcd's client", &mut command, None).await?;
        Ok(Cluster::driven(keepers, pids, driver))
    }
}

/// Runs the process that drives the cluster with these members.
pub(crate) async fn drive(at: &str) -> anyhow::Result<()> {
    let members: Vec<&str> = at.split(',').collect();
    driver::drive("client", client::Client::connect(&members).await?).await
}
