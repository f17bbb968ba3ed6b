//! Servers that are somebody else's programs: how they are started so that nothing of them is left.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::Context as _;
use rustix::process::Pid;
use tokio::process::Command;

use crate::remote::pair::Process;

/// Runs a server beside a shell that ends it when the shell's input ends, so that nothing outlives
/// the comparison, however that ends, and waits for it, so that nothing writes to its folder when
/// that is removed. Says the process's number for who wants to kill it.
const KEEPER: &str = r#"
log=$1; shift
"$@" >"$log" 2>&1 & echo "ready $!"
cat >/dev/null
kill -9 $! 2>/dev/null; wait
"#;

/// Starts the server that `words` are the command line of, with what it says in the file `log`. Returns
/// who ends it, and itself.
pub(crate) async fn keep(
    name: &str,
    log: &Path,
    words: &[String],
) -> anyhow::Result<(Process, Pid)> {
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "sh"]).arg(log).args(words);
    let (keeper, pid) = Process::start(name, &mut command, None).await?;
    Ok((keeper, Pid::from_raw(pid.parse()?).context("no process has the number 0")?))
}

/// Ports that nobody has now, for servers that must be told theirs before they start.
pub(crate) fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    // All are held until all are found, or one could be found twice.
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    let ports: Vec<u16> = ports.collect::<std::io::Result<_>>()?;
    ports.try_into().ok().context("the number of ports")
}
