//! A node's process as the harness holds it, and the way to it that clients share: questions go
//! there in lines, answers come back under their numbers.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::member::DEADLINE;
use super::wire::{Ask, Do, Said, Seen};
use crate::check::operation::Answer;

/// How long a client waits for an answer before it goes on without it.
pub(super) const PATIENCE: Duration = DEADLINE.saturating_add(Duration::from_secs(1));

/// How long a node may take until it is a member of its cluster, on a machine that does other work.
const START: Duration = Duration::from_secs(90);

/// How long a node that is told to stop may take.
const FAREWELL: Duration = Duration::from_secs(45);

/// Questions on their way to a node. When there are more it does not read, and is not asked.
const QUESTIONS: usize = 64;

/// Changes on their way to a watcher.
const CHANGES: usize = 256;

/// What a question came to.
#[derive(Debug)]
pub(super) enum Reply {
    /// The node has answered.
    Answer(Answer),
    /// It has not, and may have done what it was asked, or may do so later.
    Unknown,
    /// It was not asked.
    NotSent,
}

/// What a watcher is told; nothing more when the node has ended.
#[derive(Debug)]
pub(super) enum Told {
    /// Changes, oldest first.
    Changes(Vec<Seen>),
    /// Some are missing.
    Lapsed,
}

/// The way to one life of a node.
#[derive(Debug)]
pub(super) struct Link {
    questions: mpsc::Sender<String>,
    next: AtomicU64,
    waiting: Mutex<Option<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    watches: HashMap<u64, mpsc::Sender<Told>>,
}

impl Link {
    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the node to do something.
    pub(super) async fn ask(&self, what: Do, patience: Duration) -> Reply {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match &mut *self.waiting() {
            Some(waiting) => waiting.answers.insert(id, sender),
            None => return Reply::NotSent,
        };
        if !self.send(&Ask::Do { id, what }) {
            if let Some(waiting) = &mut *self.waiting() {
                waiting.answers.remove(&id);
            }
            return Reply::NotSent;
        }
        let reply = timeout(patience, answer).await;
        if let Some(waiting) = &mut *self.waiting() {
            waiting.answers.remove(&id);
        }
        match reply {
            Ok(Ok(answer)) => Reply::Answer(answer),
            Ok(Err(_)) | Err(_) => Reply::Unknown,
        }
    }

    /// Watches a group from a revision on.
    pub(super) fn watch(self: &Arc<Self>, group: u16, after: u64) -> Option<Watching> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, told) = mpsc::channel(CHANGES);
        self.waiting().as_mut()?.watches.insert(id, sender);
        let watching = Watching { link: Arc::clone(self), id, told };
        self.send(&Ask::Watch { id, group, after }).then_some(watching)
    }

    /// Whether there was room for it.
    fn send(&self, ask: &Ask) -> bool {
        serde_json::to_string(ask).is_ok_and(|line| self.questions.try_send(line + "\n").is_ok())
    }

    /// Passes on what the node says, until it ends.
    async fn listen(&self, mut lines: Lines<BufReader<ChildStdout>>) {
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(Said::Answer { id, answer }) => {
                    let asker = self.waiting().as_mut().and_then(|all| all.answers.remove(&id));
                    // One that has waited long enough has gone.
                    let _ = asker.map(|asker| asker.send(answer));
                }
                Ok(Said::Changes { id, changes }) => self.tell(id, Told::Changes(changes)).await,
                Ok(Said::Lapsed { id }) => self.tell(id, Told::Lapsed).await,
                // What somebody in that process prints.
                Err(_) => {}
            }
        }
        *self.waiting() = None;
    }

    async fn tell(&self, id: u64, told: Told) {
        let watcher = self.waiting().as_ref().and_then(|all| all.watches.get(&id).cloned());
        if let Some(watcher) = watcher {
            // One that has gone elsewhere does not listen any more.
            let _ = watcher.send(told).await;
        }
    }
}

/// A watch, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watching {
    link: Arc<Link>,
    id: u64,
    told: mpsc::Receiver<Told>,
}

impl Watching {
    /// What is told next; `None` when the node has ended.
    pub(super) async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(waiting) = &mut *self.link.waiting() {
            waiting.watches.remove(&self.id);
        }
        // A node that does not read goes on telling, and nobody listens.
        self.link.send(&Ask::Unwatch { id: self.id });
    }
}

/// The process of a node, killed when it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    child: Child,
    log: PathBuf,
    /// The way to it.
    pub(super) link: Arc<Link>,
    _talks: JoinSet<()>,
}

impl Member {
    /// Starts a process by `command` and waits until it is a member of its cluster. What it logs
    /// goes to `log`.
    pub(super) async fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.stderr(File::create(log).with_context(|| log.display().to_string())?);
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let stdin = child.stdin.take().context("no stdin")?;
        let ready = timeout(START, lines.next_line()).await;
        let ready = ready.with_context(|| format!("not ready within {START:?}"))?;
        if ready?.as_deref() != Some("ready") {
            let status = timeout(FAREWELL, child.wait()).await;
            anyhow::bail!("it did not start: {status:?}: {}", last_words(log));
        }
        let (questions, queue) = mpsc::channel(QUESTIONS);
        let link = Arc::new(Link {
            questions,
            next: AtomicU64::new(0),
            waiting: Mutex::new(Some(Waiting::default())),
        });
        let mut talks = JoinSet::new();
        talks.spawn(pass_on(queue, stdin));
        let ear = Arc::clone(&link);
        talks.spawn(async move { ear.listen(lines).await });
        Ok(Self { child, log: log.to_owned(), link, _talks: talks })
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.child.id().context("it has ended")?;
        Pid::from_raw(i32::try_from(id)?).context("no process has the number 0")
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Ends it without a word.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        self.panicked()
    }

    /// Tells it to stop, and waits until it has.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = timeout(FAREWELL, self.child.wait()).await;
        let status: ExitStatus =
            status.with_context(|| format!("told to stop, it goes on after {FAREWELL:?}"))??;
        anyhow::ensure!(status.success(), "told to stop, it ended with {status}: {}", self.words());
        self.panicked()
    }

    /// Whether it runs and nothing in it has panicked.
    pub(super) fn is_well(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("it has ended by itself with {status}: {}", self.words());
        }
        self.panicked()
    }

    fn panicked(&self) -> anyhow::Result<()> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        match log.lines().find(|line| line.contains("panicked at")) {
            Some(line) => anyhow::bail!("{line} ({})", self.log.display()),
            None => Ok(()),
        }
    }

    fn words(&self) -> String {
        last_words(&self.log)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Whoever waits for an answer need not wait longer.
        *self.link.waiting() = None;
    }
}

async fn pass_on(mut queue: mpsc::Receiver<String>, mut stdin: ChildStdin) {
    while let Some(line) = queue.recv().await {
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The end of a log.
fn last_words(log: &Path) -> String {
    const LINES: usize = 12;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}
