//! The node's end of the socket to one host process.
//!
//! One task writes orders, one reads reports; both are owned by the [`Link`], and dropping it kills
//! the process. What the process says is believed as far as `check` allows, and the first thing that
//! is not ends it. When it has ended, for whatever reason, everybody who waits for it is told why.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    check::{self, Breach, Terms},
    keeper::{End, Process},
    wire::{self, Order, Outcome, Report, VERSION, Work},
};
use crate::firmware::{
    bridge::{Publication, Publisher},
    chronicle::GuestLog,
    effect::{Variables, say_dropped},
    error::GuestFailure,
};

/// Orders that wait to be written: every request that is under way at once has one, and the answers
/// to its questions are few.
const QUEUE: usize = 128;

/// Lines that a process may log in a second; a guest is bounded to fewer by itself.
const LINES: u32 = 4_096;

/// How long a process may take from its start until it is ready, beyond what its guest may: its
/// executable may have to be read from a slow disk, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A process that is ready. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Link {
    process: Arc<Process>,
    orders: mpsc::Sender<Vec<u8>>,
    expected: Arc<Mutex<Expected>>,
    end: watch::Receiver<Option<GuestFailure>>,
    /// Longest time for one thing to do; `None` when there is no such bound.
    patience: Option<Duration>,
    _tasks: JoinSet<()>,
}

/// What the process said when it was ready.
#[derive(Debug)]
pub(super) struct Readiness {
    pub(super) memory_bytes: u64,
    pub(super) lacks: Vec<String>,
}

/// What the process is expected to say.
#[derive(Default)]
struct Expected {
    last: u64,
    outcomes: BTreeMap<u64, oneshot::Sender<Outcome>>,
    /// Those of the message at hand.
    variables: Option<Arc<dyn Variables>>,
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expected").field("outcomes", &self.outcomes.len()).finish_non_exhaustive()
    }
}

/// What a link is made of.
pub(super) struct Ends {
    pub(super) log: GuestLog,
    pub(super) process: Process,
    pub(super) ended: oneshot::Receiver<End>,
    pub(super) stream: UnixStream,
    pub(super) publisher: Publisher,
    pub(super) terms: Terms,
    /// How long the guest may take for one thing.
    pub(super) patience: Option<Duration>,
}

impl Link {
    /// Greets a process that was just started, tells it what to run, and waits until it does.
    pub(super) async fn open(ends: Ends, setup: &Order) -> Result<(Self, Readiness), GuestFailure> {
        let Ends { log, process, ended, stream, publisher, terms, patience } = ends;
        let process = Arc::new(process);
        let (read, write) = stream.into_split();
        let (orders, queue) = mpsc::channel(QUEUE);
        let (over, end) = watch::channel(None);
        let (ready, readiness) = oneshot::channel();
        let expected = Arc::<Mutex<Expected>>::default();
        let listener = Listener {
            log,
            process: Arc::clone(&process),
            expected: Arc::clone(&expected),
            orders: orders.clone(),
            setup: Some(wire::frame(setup).map_err(|error| broken(&error))?),
            ready: Some(ready),
            publisher,
            terms,
            lines: Lines::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(write_all(write, queue));
        tasks.spawn(listener.run(read, ended, over));
        let link = Self { process, orders, expected, end, patience, _tasks: tasks };
        let within = START + patience.unwrap_or_default();
        match timeout(within, readiness).await {
            Ok(Ok(readiness)) => Ok((link, readiness?)),
            Ok(Err(_)) => Err(link.failure().await),
            Err(_) => Err(link.give_up(within)),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has the process do something, and waits for its outcome.
    pub(super) async fn work(
        &self,
        work: Work,
        variables: Option<Arc<dyn Variables>>,
    ) -> Result<Outcome, GuestFailure> {
        let (sender, outcome) = oneshot::channel();
        let number = {
            let mut expected = lock(&self.expected);
            expected.last += 1;
            expected.variables = variables;
            let number = expected.last;
            expected.outcomes.insert(number, sender);
            number
        };
        let frame = wire::frame(&Order::Work { number, work }).map_err(|error| broken(&error))?;
        // An error means that it has ended, which the outcome tells.
        let _ = self.orders.send(frame).await;
        let told = match self.patience {
            None => outcome.await,
            Some(patience) => match timeout(patience, outcome).await {
                Ok(told) => told,
                Err(_) => return Err(self.give_up(patience)),
            },
        };
        match told {
            Ok(outcome) => Ok(outcome),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Ends the process for what it said.
    pub(super) fn breached(&self, breach: &Breach) -> GuestFailure {
        self.process.kill();
        hostile(breach)
    }

    /// Why the process ended, once it has.
    pub(super) fn ended(&self) -> impl Future<Output = Option<GuestFailure>> + Send + 'static {
        let mut end = self.end.clone();
        async move { end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()) }
    }

    async fn failure(&self) -> GuestFailure {
        // Nobody kills it but the link itself, which is here.
        self.ended().await.unwrap_or_else(|| process("it was ended"))
    }

    fn give_up(&self, after: Duration) -> GuestFailure {
        self.process.kill();
        process(format!("it was ended by the node, because it was silent for {after:?}"))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The tasks, which are aborted later, have it as well.
        self.process.kill();
    }
}

/// Nothing is held over a panic that could be half done.
fn lock(expected: &Mutex<Expected>) -> MutexGuard<'_, Expected> {
    expected.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn process(reason: impl Into<Box<str>>) -> GuestFailure {
    GuestFailure::Process { reason: reason.into() }
}

pub(super) fn broken(error: &io::Error) -> GuestFailure {
    process(error.to_string())
}

fn hostile(breach: &Breach) -> GuestFailure {
    process(format!("it was ended by the node, because it said what it may not: {breach}"))
}

async fn write_all(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        // An error means that the process is gone; its end tells the rest.
        if stream.write_all(&frame).await.is_err() {
            break;
        }
    }
    // Held open until the task is aborted: closing it tells the process that its node has died.
    std::future::pending::<()>().await;
}

/// Lines of the present second.
#[derive(Default)]
struct Lines {
    began: Option<Instant>,
    lines: u32,
    dropped: u64,
}

impl Lines {
    /// Whether one more is logged. `Some` is how many were not in the second before.
    fn admit(&mut self, now: Instant) -> (bool, Option<u64>) {
        let mut dropped = None;
        if self.began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1)) {
            dropped = Some(std::mem::take(&mut self.dropped)).filter(|dropped| *dropped > 0);
            (self.began, self.lines) = (Some(now), 0);
        }
        self.lines = self.lines.saturating_add(1);
        let fits = self.lines <= LINES;
        self.dropped += u64::from(!fits);
        (fits, dropped)
    }
}

/// Hears what a process says.
struct Listener {
    log: GuestLog,
    process: Arc<Process>,
    expected: Arc<Mutex<Expected>>,
    orders: mpsc::Sender<Vec<u8>>,
    /// What the process is told when it has said who it is.
    setup: Option<Vec<u8>>,
    /// Who waits until it is ready.
    ready: Option<oneshot::Sender<Result<Readiness, GuestFailure>>>,
    publisher: Publisher,
    terms: Terms,
    lines: Lines,
}

impl Listener {
    async fn run(
        mut self,
        mut stream: OwnedReadHalf,
        ended: oneshot::Receiver<End>,
        over: watch::Sender<Option<GuestFailure>>,
    ) {
        let breach = loop {
            match wire::next(&mut stream).await {
                Ok(Some(report)) => {
                    if let Err(breach) = self.on_report(report).await {
                        break Some(breach);
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(Breach::new(error.to_string())),
            }
        };
        // One that no longer speaks is of no use, either.
        let is_hostile = breach.is_some();
        let end = match is_hostile {
            true => {
                self.process.kill();
                ended.await
            }
            false => match timeout(START, ended).await {
                Ok(end) => end,
                Err(_) => {
                    self.process.kill();
                    over.send_replace(Some(process("it closed its socket and went on")));
                    lock(&self.expected).outcomes.clear();
                    return;
                }
            },
        };
        let failure = match (breach, end) {
            (Some(breach), _) => hostile(&breach),
            (None, Ok(end)) => process(end.reason()),
            (None, Err(_)) => process("it ended"),
        };
        // Before those who wait learn that there is no outcome, so that they find why.
        over.send_replace(Some(failure));
        lock(&self.expected).outcomes.clear();
        self.ready = None;
    }

    async fn on_report(&mut self, report: Report) -> Result<(), Breach> {
        match report {
            Report::Hello { version, pid } => self.on_hello(version, pid).await,
            Report::Ready { memory_bytes, lacks } => {
                let ready = self.ready.take().filter(|_| self.setup.is_none());
                let ready = ready.ok_or_else(|| Breach::new("that it is ready, unasked"))?;
                let memory_bytes = self.terms.memory(memory_bytes)?;
                // An error means that nobody waits for it any more, and it is killed.
                let _ = ready.send(Ok(Readiness { memory_bytes, lacks }));
                Ok(())
            }
            Report::NotReady(failure) => {
                let ready = self.ready.take().filter(|_| self.setup.is_none());
                let ready = ready.ok_or_else(|| Breach::new("that it is not ready, unasked"))?;
                let _ = ready.send(Err(check::failed(failure)));
                Ok(())
            }
            Report::GetVariable { key } => self.on_get_variable(&key).await,
            Report::Published { topic, payload } => {
                self.terms.published(&topic, &payload)?;
                self.on_published(Publication { topic, payload: payload.into() });
                Ok(())
            }
            Report::Log(line) => {
                let (fits, dropped) = self.lines.admit(Instant::now());
                if let Some(dropped) = dropped {
                    tracing::warn!(firmware = %self.log.firmware(), dropped, "guest log lines dropped");
                    say_dropped(&self.log, dropped);
                }
                if fits {
                    line.emit(&self.log);
                }
                Ok(())
            }
            Report::Done { number, outcome } => {
                let waiting = {
                    let mut expected = lock(&self.expected);
                    expected.variables = None;
                    expected.outcomes.remove(&number)
                };
                let waiting = waiting.ok_or_else(|| Breach::new("an outcome, unasked"))?;
                // An error means that whoever asked is gone, as with any late answer.
                let _ = waiting.send(outcome);
                Ok(())
            }
        }
    }

    async fn on_hello(&mut self, version: u32, pid: u32) -> Result<(), Breach> {
        let setup = self.setup.take().ok_or_else(|| Breach::new("who it is, twice"))?;
        if version != VERSION {
            let what = format!("that it speaks version {version}, and the node {VERSION}");
            return Err(Breach::new(what));
        }
        // In a namespace of its own a process knows itself by another number; that is no breach.
        tracing::debug!(firmware = %self.log.firmware(), pid = self.process.pid(), claimed = pid, "host process registered");
        let _ = self.orders.send(setup).await;
        Ok(())
    }

    async fn on_get_variable(&mut self, key: &str) -> Result<(), Breach> {
        Terms::key(key)?;
        let variables = lock(&self.expected).variables.clone();
        let variables = variables.ok_or_else(|| Breach::new("a question without a message"))?;
        let value = variables.get(key).map(Into::into);
        let answer = wire::frame(&Order::Variable { value });
        let answer = answer.map_err(|error| Breach::new(error.to_string()))?;
        let _ = self.orders.send(answer).await;
        Ok(())
    }

    fn on_published(&self, publication: Publication) {
        if !self.publisher.publish(publication) {
            let firmware = self.log.firmware();
            tracing::warn!(%firmware, dropped = 1, "publications dropped: the broker is too slow");
        }
    }
}
