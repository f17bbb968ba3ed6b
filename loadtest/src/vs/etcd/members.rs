//! Three etcd processes that know each other.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use rustix::process::Pid;
use tokio::process::Command;

use crate::remote::pair::Process;
use crate::store::MEMBERS;

/// Runs etcd beside a shell that ends it when the shell's input ends, so that nothing outlives
/// the comparison, however that ends, and waits for it, so that nothing writes to its folder when
/// that is removed. Says the process's number for who wants to kill it.
const KEEPER: &str = r#"
log=$1; shift
"$@" >"$log" 2>&1 & echo "ready $!"
cat >/dev/null
kill -9 $! 2>/dev/null; wait
"#;

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
    let (mut keepers, mut pids) = (Vec::new(), Vec::new());
    for (n, (client, peer)) in members {
        let name = format!("m{n}");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(dir.join(format!("{name}.log")));
        command.args(["etcd", "--name", &name, "--data-dir"]).arg(dir.join(&name));
        command.args(["--listen-client-urls", &url(client)]);
        command.args(["--advertise-client-urls", &url(client)]);
        command.args(["--listen-peer-urls", &url(peer)]);
        command.args(["--initial-advertise-peer-urls", &url(peer)]);
        command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"]);
        command.args(["--log-level", "error"]).args(flags);
        let (keeper, pid) = Process::start(format!("etcd {name}"), &mut command, None).await?;
        keepers.push(keeper);
        pids.push(Pid::from_raw(pid.parse()?).context("no process has the number 0")?);
    }
    let at: Vec<String> =
        clients.iter().map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST)).collect();
    Ok(Members { keepers, pids, at: at.join(",") })
}

/// Ports that nobody has now. etcd needs to know those of all members before it starts.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    // All are held until all are found, or one could be found twice.
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    let ports: Vec<u16> = ports.collect::<std::io::Result<_>>()?;
    ports.try_into().ok().context("the number of ports")
}

/// What `etcd --version` says first; `None` when it is not installed.
pub(super) async fn version() -> Option<String> {
    let mut command = Command::new("etcd");
    let said = command.arg("--version").stderr(Stdio::null()).output().await.ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    Some(said.lines().next()?.trim_start_matches("etcd Version: ").to_owned())
}
