//! The last that each firmware on this node has said and that became of it.
//!
//! What is here is for people who ask, now or soon: it is bounded, in memory, and gone with the
//! process. It is kept as long as the firmware is deployed, also when it is elsewhere by now. The
//! node's own log has the same lines, for those who keep logs.

mod events;
mod ring;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use odeum_proto::{
    Epoch, ReplicaId,
    chronicle::{Begin, Happening, Level, Line, Lines, Stream, What},
};
use tokio::{sync::watch, time::timeout};

use self::{events::Events, ring::Ring};

/// How much of what a firmware says is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// Most lines.
    pub lines: usize,
    /// Most bytes of them.
    pub bytes: usize,
}

impl Default for LogBounds {
    /// What was said in the last minutes by a guest that logs as guests do; with a thousand of
    /// them a quarter of a gigabyte at most.
    fn default() -> Self {
        Self { lines: 1_000, bytes: 256 << 10 }
    }
}

/// The chronicles of all firmware that has run on this node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Chronicles(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bounds: LogBounds,
    all: Mutex<BTreeMap<ReplicaId, Arc<Chronicle>>>,
    /// Moves on when there is one more.
    added: watch::Sender<u64>,
}

/// What one firmware has said, and what became of it.
#[derive(Debug)]
pub(super) struct Chronicle {
    kept: Mutex<Kept>,
    /// Moves on with every line.
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    ring: Ring,
    events: Events,
}

impl Chronicles {
    /// None yet; each is to be bounded so.
    #[must_use]
    pub fn new(bounds: LogBounds) -> Self {
        Self(Arc::new(Inner { bounds, ..Inner::default() }))
    }

    /// The one of `name`, which begins if there is none.
    pub(super) fn of(&self, name: &ReplicaId) -> Arc<Chronicle> {
        if let Some(there) = self.find(name) {
            return there;
        }
        let mut all = locked(&self.0.all);
        let new = || Arc::new(Chronicle::new(self.0.bounds));
        let there = Arc::clone(all.entry(name.clone()).or_insert_with(new));
        drop(all);
        self.0.added.send_modify(|added| *added = added.wrapping_add(1));
        there
    }

    /// Forgets that of `name`, which is deployed no more.
    pub(super) fn forget(&self, name: &ReplicaId) {
        locked(&self.0.all).remove(name);
    }

    /// Something became of `name` by the hand of somebody who asked this node.
    pub fn happened(&self, name: &ReplicaId, epoch: Epoch, what: What) {
        self.of(name).happened(epoch, what);
    }

    fn find(&self, name: &ReplicaId) -> Option<Arc<Chronicle>> {
        locked(&self.0.all).get(name).cloned()
    }

    /// What became of `name` here, the oldest first.
    #[must_use]
    pub fn events(&self, name: &ReplicaId) -> Vec<Happening> {
        self.find(name).map(|it| locked(&it.kept).events.all()).unwrap_or_default()
    }

    /// Lines of `name`; waits for the first of them, but not longer than `patience`.
    pub async fn lines(&self, name: &ReplicaId, begin: Begin, patience: Duration) -> Lines {
        let found = async {
            let mut added = self.0.added.subscribe();
            loop {
                added.mark_unchanged();
                match self.find(name) {
                    Some(there) => return Some(there),
                    None => added.changed().await.ok()?,
                }
            }
        };
        let read = async {
            let chronicle = found.await?;
            let mut last = chronicle.last.subscribe();
            loop {
                last.mark_unchanged();
                let lines = chronicle.read(begin);
                if !lines.lines.is_empty() || lines.missed > 0 {
                    return Some(lines);
                }
                last.changed().await.ok()?;
            }
        };
        match timeout(patience, read).await {
            Ok(Some(lines)) => lines,
            // It says where to read on, when there is anything.
            _ => self.find(name).map(|it| it.read(begin)).unwrap_or_default(),
        }
    }
}

impl Chronicle {
    fn new(bounds: LogBounds) -> Self {
        // Not 0, which is none.
        let ring = Ring::new(rand::random::<u64>().max(1), bounds);
        let kept = Mutex::new(Kept { ring, events: Events::default() });
        Self { kept, last: watch::Sender::new(0) }
    }

    fn read(&self, begin: Begin) -> Lines {
        locked(&self.kept).ring.read(begin, now_ms())
    }

    pub(super) fn happened(&self, epoch: Epoch, what: What) {
        locked(&self.kept).events.push(now_ms(), epoch, what);
    }

    fn said(&self, epoch: Epoch, level: Level, stream: Stream, text: &str) {
        let line = Line { number: 0, at_ms: now_ms(), epoch, level, stream, text: text.to_owned() };
        locked(&self.kept).ring.push(line);
        self.last.send_modify(|last| *last = last.wrapping_add(1));
    }
}

/// Where one activation of a firmware writes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GuestLog {
    name: ReplicaId,
    /// Shared by all that write for it.
    epoch: Arc<AtomicU64>,
    chronicle: Arc<Chronicle>,
}

impl GuestLog {
    pub(super) fn new(name: ReplicaId, epoch: Epoch, chronicle: Arc<Chronicle>) -> Self {
        Self { name, epoch: Arc::new(AtomicU64::new(epoch.0)), chronicle }
    }

    /// It goes on under another epoch.
    pub(super) fn goes_on(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Ordering::Relaxed);
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    /// For what runs outside of a node.
    #[must_use]
    pub fn alone(name: ReplicaId) -> Self {
        Self::new(name, Epoch(0), Arc::new(Chronicle::new(LogBounds::default())))
    }

    /// The replica.
    pub(super) fn firmware(&self) -> &ReplicaId {
        &self.name
    }

    /// Something became of it.
    pub(super) fn happened(&self, what: What) {
        self.chronicle.happened(self.epoch(), what);
    }

    /// Keeps a line. Who calls this sees to it that the node's log has it, too.
    pub(super) fn keep(&self, level: Level, stream: Stream, text: &str) {
        self.chronicle.said(self.epoch(), level, stream, text);
    }
}

/// Both are only changed whole, so a panic while they were held did no harm.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of day: people compare these lines with other logs.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ReplicaId {
        "counter".parse().expect("a name")
    }

    fn log(chronicles: &Chronicles, epoch: u64) -> GuestLog {
        GuestLog::new(name(), Epoch(epoch), chronicles.of(&name()))
    }

    const FIRST: Begin = Begin::Behind { ring: 0, number: 0, epoch: Epoch(0) };
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn who_waits_gets_the_next_line_of_a_firmware_that_has_not_run_here_yet() {
        let (chronicles, me) = (Chronicles::default(), name());
        let (lines, ()) = tokio::join!(chronicles.lines(&me, FIRST, LONG), async {
            tokio::task::yield_now().await;
            log(&chronicles, 3).keep(Level::Info, Stream::Log, "hi");
        });
        let [line] = &lines.lines[..] else { panic!("{lines:?}") };
        assert_eq!((line.number, line.epoch, line.text.as_str()), (1, Epoch(3), "hi"));
        let behind = Begin::Behind { ring: lines.ring, number: lines.number, epoch: Epoch(3) };
        let (next, ()) = tokio::join!(chronicles.lines(&me, behind, LONG), async {
            tokio::task::yield_now().await;
            log(&chronicles, 4).keep(Level::Info, Stream::Log, "ho");
        });
        assert_eq!((next.ring, next.lines[0].number), (lines.ring, 2));
    }

    #[tokio::test]
    async fn what_is_deployed_no_more_is_forgotten_and_a_new_one_of_its_name_is_another_ring() {
        let chronicles = Chronicles::default();
        log(&chronicles, 3).keep(Level::Info, Stream::Log, "old");
        let old = chronicles.lines(&name(), FIRST, Duration::ZERO).await;
        chronicles.forget(&name());
        assert_eq!(chronicles.lines(&name(), FIRST, Duration::ZERO).await, Lines::default());
        log(&chronicles, 9).keep(Level::Info, Stream::Log, "new");
        let behind = Begin::Behind { ring: old.ring, number: old.number, epoch: Epoch(3) };
        let new = chronicles.lines(&name(), behind, Duration::ZERO).await;
        assert_ne!(new.ring, old.ring);
        assert_eq!(new.lines[0].text, "new");
    }
}
