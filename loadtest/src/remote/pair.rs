//! The two processes of a side, and the conversation with them: one line there, one line back.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::cpus;
use super::driver::PATIENCE;
use super::workload::{Outcome, Workload};

/// What a process gets to end by itself when its input does.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a process may take for a line: more than for any message within.
const EXCHANGE: Duration = PATIENCE.saturating_add(PATIENCE);

/// A process that is killed when this is dropped, and ends by itself when this process is killed,
/// for then its input ends.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts `command`, on one CPU if that is given, and waits until it is ready; returns what
    /// it said then.
    pub(crate) async fn start(
        name: impl Into<String>,
        command: &mut Command,
        cpu: Option<usize>,
    ) -> anyhow::Result<(Self, String)> {
        let name = name.into();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child =
            cpus::spawn_on(cpu, command).with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut process = Self { name, child, stdin, lines };
        let said = process.line(PATIENCE).await?;
        let ready = said.strip_prefix("ready ").with_context(|| {
            format!("{} said {said:?} where it should say that it is ready", process.name)
        })?;
        let ready = ready.to_owned();
        Ok((process, ready))
    }

    async fn line(&mut self, wait: Duration) -> anyhow::Result<String> {
        timeout(wait, self.lines.next_line())
            .await
            .with_context(|| format!("{} has said nothing for {wait:?}", self.name))??
            .with_context(|| format!("{} ended early", self.name))
    }

    /// Says a line and returns the line that comes back.
    pub(crate) async fn exchange(&mut self, line: &str) -> anyhow::Result<String> {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        self.line(EXCHANGE).await.with_context(|| format!("{line:?}"))
    }

    async fn measure(&mut self, workload: Workload) -> anyhow::Result<Outcome> {
        self.exchange(&workload.to_string()).await?.parse()
    }

    /// Its number.
    pub(crate) fn id(&self) -> anyhow::Result<Pid> {
        let id = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        Pid::from_raw(i32::try_from(id)?).context("no process has the number 0")
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("{} cannot be killed", self.name))
    }

    /// Lets it end.
    pub(crate) async fn end(mut self) {
        drop(self.stdin);
        if timeout(FAREWELL, self.child.wait()).await.is_err() {
            // Killed and reaped; an error means that it ended at this moment.
            let _ = self.child.kill().await;
        }
    }
}

/// The two processes of a side.
#[derive(Debug)]
pub(crate) struct Pair {
    hold: Process,
    drive: Process,
}

impl Pair {
    /// The process with the counter, and the one that drives it.
    pub(crate) fn new(hold: Process, drive: Process) -> Self {
        Self { hold, drive }
    }

    pub(crate) async fn measure(&mut self, workload: Workload) -> anyhow::Result<Outcome> {
        self.drive.measure(workload).await
    }

    pub(crate) async fn end(self) {
        self.drive.end().await;
        self.hold.end().await;
    }
}
