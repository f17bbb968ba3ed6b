//! The node processes of the demo: started, killed, restarted and stopped.
//!
//! Real processes of this very executable, because a node that dies inside the demo's own process
//! would prove nothing. None outlives the demo by accident: each has a pipe from the demo as its
//! standard input and ends when that closes, which also happens when the demo is killed by
//! SIGKILL. Each is in a process group of its own, so that Ctrl-C reaches the demo alone and the
//! demo decides in which order things end.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use odeum_proto::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::error::DemoError;
use crate::api::client::ApiClient;

/// How long a node may take to stop after SIGTERM before it is killed. It finishes requests that
/// are under way for up to five seconds.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// How many bytes at the end of a log are read for its last lines.
const TAIL_BYTES: u64 = 16 << 10;

/// What a node writes into its data folder when it listens.
#[derive(Debug, Deserialize)]
struct Ports {
    api: SocketAddr,
    cluster: SocketAddr,
    pid: u32,
}

/// Where a running node listens.
#[derive(Debug, Clone)]
pub(super) struct Reachable {
    /// A client of its API.
    pub client: ApiClient,
    /// Where its API listens.
    pub api: SocketAddr,
    /// Where it listens for other nodes.
    pub cluster: SocketAddr,
    /// Its process.
    pub pid: u32,
}

/// A node: its files, and its process while that runs.
#[derive(Debug)]
struct Member {
    id: NodeId,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    reachable: Option<Reachable>,
}

/// All node processes of one demo.
#[derive(Debug)]
pub(super) struct Fleet {
    executable: PathBuf,
    root: PathBuf,
    /// Whether the nodes go on when the demo has ended.
    outlives: bool,
    members: Vec<Member>,
}

impl Fleet {
    /// A fleet without nodes, whose files go into `root`.
    pub(super) fn new(root: &Path, outlives: bool) -> Result<Self, DemoError> {
        // The link leads to this executable even when its file was replaced by a newer build, so that
        // a node that is started again is the same as the one that was killed.
        let executable = match Path::new("/proc/self/exe") {
            link if link.exists() => link.to_owned(),
            _ => std::env::current_exe()
                .map_err(|reason| DemoError::Setup { doing: "find the own executable", reason })?,
        };
        Ok(Self { executable, root: root.to_owned(), outlives, members: Vec::new() })
    }

    /// Where the authority is: a folder that no node is told of.
    pub(super) fn authority(&self) -> PathBuf {
        self.root.join("authority")
    }

    /// Where the certificates of `id` are.
    pub(super) fn certs(&self, id: &NodeId) -> PathBuf {
        self.root.join("certs").join(id.as_str())
    }

    /// Starts the process of `id` on its data folder; a new folder when it is new.
    pub(super) fn start(&mut self, id: &NodeId, join: Option<SocketAddr>) -> Result<(), DemoError> {
        let failed = |reason| DemoError::Process { doing: "start", node: id.clone(), reason };
        let data = self.root.join(id.as_str());
        let log = self.root.join(format!("{id}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
        let child = self.command(id, &data, join, output).and_then(|mut c| c.spawn());
        let member = Member {
            id: id.clone(),
            data,
            log,
            child: Some(child.map_err(failed)?),
            reachable: None,
        };
        self.members.retain(|old| old.id != *id);
        self.members.push(member);
        Ok(())
    }

    fn command(
        &self,
        id: &NodeId,
        data: &Path,
        join: Option<SocketAddr>,
        output: File,
    ) -> io::Result<Command> {
        let mut command = Command::new(&self.executable);
        command
            .arg0("odeum")
            .args(["up", "--api", "127.0.0.1:0", "--cluster", "127.0.0.1:0", "--node"])
            .arg(id.as_str())
            .arg("--data-dir")
            .arg(data)
            .arg("--certs")
            .arg(self.certs(id))
            // The guest is a part of this program.
            .arg("--allow-unsigned");
        if let Some(join) = join {
            command.arg("--join").arg(join.to_string());
        }
        // Settings meant for the user's own node are not meant for these.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ODEUM_") && name.contains("__")) {
                command.env_remove(name);
            }
        }
        // And nothing of these is for them.
        command.env("ODEUM_FIRMWARE__CACHE_DIR", data.with_file_name("compiled"));
        if self.outlives {
            command.stdin(Stdio::null());
        } else {
            command.arg("--exit-with-stdin").stdin(Stdio::piped()).kill_on_drop(true);
        }
        command.stdout(output.try_clone()?).stderr(output).process_group(0);
        Ok(command)
    }

    /// Where `id` listens, as soon as it does; the file of an earlier process does not count.
    pub(super) fn reachable(&mut self, id: &NodeId) -> Option<Reachable> {
        let member = self.members.iter_mut().find(|member| member.id == *id)?;
        if member.reachable.is_none() {
            let text = std::fs::read_to_string(member.data.join("ports.json")).ok()?;
            let ports: Ports = serde_json::from_str(&text).ok()?;
            if member.child.as_ref()?.id() != Some(ports.pid) {
                return None;
            }
            member.reachable = Some(Reachable {
                client: ApiClient::new(&format!("http://{}", ports.api)).ok()?,
                api: ports.api,
                cluster: ports.cluster,
                pid: ports.pid,
            });
        }
        member.reachable.clone()
    }

    /// Where each running node listens.
    pub(super) fn all_reachable(&mut self) -> Vec<(NodeId, Reachable)> {
        let mut ids: Vec<_> = self.members.iter().map(|member| member.id.clone()).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| Some((id.clone(), self.reachable(&id)?))).collect()
    }

    /// Fails when a node has ended that nobody stopped.
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        for member in &mut self.members {
            if let Some(child) = &mut member.child
                && let Ok(Some(status)) = child.try_wait()
            {
                member.child = None;
                return Err(DemoError::Died { node: member.id.clone(), status });
            }
        }
        Ok(())
    }

    /// Kills `id` by SIGKILL. Returns the moment of the signal.
    pub(super) async fn kill(&mut self, id: &NodeId) -> Result<Instant, DemoError> {
        let failed = |reason| DemoError::Process { doing: "kill", node: id.clone(), reason };
        let member = self.members.iter_mut().find(|member| member.id == *id);
        let member = member.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        member.reachable = None;
        // It stays here until it has ended, so that an interrupted demo still waits for its end.
        let child = member.child.as_mut();
        let child = child.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let at = Instant::now();
        child.start_kill().map_err(failed)?;
        child.wait().await.map_err(failed)?;
        member.child = None;
        Ok(at)
    }

    /// Stops all nodes by SIGTERM, one after the other as an operator would, each within a
    /// deadline and with success.
    pub(super) async fn stop_all(&mut self) -> Result<(), DemoError> {
        for member in self.members.iter_mut().rev() {
            let Some(child) = &mut member.child else { continue };
            let failed =
                |reason| DemoError::Process { doing: "stop", node: member.id.clone(), reason };
            // Open until the node has ended: it is to end by the signal and by nothing else.
            let _pipe = child.stdin.take();
            if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
                kill_process(pid, Signal::TERM).map_err(|errno| failed(errno.into()))?;
            }
            let Ok(status) = timeout(STOP_DEADLINE, child.wait()).await else {
                return Err(DemoError::Deadline {
                    event: "its end after SIGTERM".into(),
                    node: member.id.clone(),
                    after: STOP_DEADLINE,
                    last: None,
                });
            };
            let status: ExitStatus = status.map_err(failed)?;
            member.child = None;
            if !status.success() {
                return Err(DemoError::NotClean { node: member.id.clone(), status });
            }
        }
        Ok(())
    }

    /// Kills whatever still runs. For every way out but the regular one: their data is thrown
    /// away, so there is nothing to save.
    pub(super) async fn kill_all(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.child.take()
                && let Err(error) = child.kill().await
            {
                tracing::warn!(node = %member.id, %error, "node process not killed");
            }
        }
    }

    /// Lets the nodes go on without the demo.
    pub(super) fn release(&mut self) {
        for member in &mut self.members {
            member.child = None;
        }
    }

    /// The log file of `id` and its last `lines` lines.
    pub(super) fn log_tail(&self, id: &NodeId, lines: usize) -> Option<(PathBuf, Vec<String>)> {
        let member = self.members.iter().find(|member| member.id == *id)?;
        let tail = tail(&member.log, lines).ok()?;
        Some((member.log.clone(), tail))
    }
}

fn tail(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|&line| line.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_whole_lines() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        for line in 0..5_000 {
            writeln!(file, "line {line}").expect("written");
        }
        let last = tail(file.path(), 2).expect("read");
        assert_eq!(last, ["line 4998", "line 4999"]);
        assert_eq!(tail(file.path(), 0).expect("read"), Vec::<String>::new());
    }
}
