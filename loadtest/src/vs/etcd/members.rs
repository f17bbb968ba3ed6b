//! Three etcd processes that know each other.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Pid;
use tokio::process::Command;

use crate::remote::pair::Process;
use crate::store::MEMBERS;
use crate::store::keeper::{free_ports, keep};

/// The members of a cluster.
pub(super) struct Members {
    /// Who ends them.
    pub(super) keepers: Vec<Process>,
    /// Themselves.
    pub(super) pids: Vec<Pid>,
    /// Where they serve clients, as a list.
    pub(super) at: String,
}

/// Starts the members in `dir`.
pub(super) async fn start(dir: &Path, flags: &[&str]) -> anyhow::Result<Members> {
    let ports = free_ports::<{ 2 * MEMBERS }>()?;
    let (clients, peers) = ports.split_at(MEMBERS);
    let url = |port: &u16| format!("http://{}:{port}", Ipv4Addr::LOCALHOST);
    let members: Vec<_> = clients.iter().zip(peers).enumerate().collect();
    let cluster: Vec<String> =
        members.iter().map(|(n, (_, peer))| format!("m{n}={}", url(peer))).collect();
    let cluster = cluster.join(",");
    let (mut keepers, mut pids) = (Vec::new(), Vec::new());
    for (n, (client, peer)) in members {
        let name = format!("m{n}");
        let data = dir.join(&name).display().to_string();
        let (client, peer) = (url(client), url(peer));
        let mut words = vec!["etcd", "--name", &name, "--data-dir", &data];
        words.extend(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        words.extend(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        words.extend(["--initial-cluster", &cluster, "--initial-cluster-state", "new"]);
        words.extend(["--log-level", "error"]);
        words.extend(flags);
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let log = dir.join(format!("{name}.log"));
        let (keeper, pid) = keep(&format!("etcd {name}"), &log, &words).await?;
        keepers.push(keeper);
        pids.push(pid);
    }
    let at: Vec<String> =
        clients.iter().map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST)).collect();
    Ok(Members { keepers, pids, at: at.join(",") })
}

/// What `etcd --version` says first; `None` when it is not installed.
pub(super) async fn version() -> Option<String> {
    let mut command = Command::new("etcd");
    let said = command.arg("--version").stderr(Stdio::null()).output().await.ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    Some(said.lines().next()?.trim_start_matches("etcd Version: ").to_owned())
}
