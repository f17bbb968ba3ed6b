//! One Redis server that has each write on disk before it answers.

use std::net::Ipv4Addr;
use std::path::Path;

use rustix::process::Pid;

use crate::remote::pair::Process;
use crate::store::keeper::{free_ports, keep};

/// Starts it in `dir`: who ends it, itself, and where it listens.
pub(super) async fn start(dir: &Path) -> anyhow::Result<(Process, Pid, String)> {
    let [port] = free_ports()?;
    let (port, host) = (port.to_string(), Ipv4Addr::LOCALHOST.to_string());
    let folder = dir.display().to_string();
    let mut words = vec!["redis-server", "--bind", &host, "--port", &port, "--dir", &folder];
    words.extend(["--appendonly", "yes", "--appendfsync", "always"]);
    // No snapshots beside the log: they would be work that ours does not have either in this time.
    words.extend(["--save", "", "--daemonize", "no"]);
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let (keeper, pid) = keep("redis-server", &dir.join("redis.log"), &words).await?;
    Ok((keeper, pid, format!("{host}:{port}")))
}
