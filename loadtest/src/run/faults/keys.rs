//! The variables that are written, read and held against the model.
//!
//! Each is used for a while and then another takes its place: operations of which nobody knows the
//! outcome stay open for ever, and what has to be tried grows with their number. One that is done
//! with is checked as soon as the last operation on it has ended; at the end of the scenario it is
//! read once more, everywhere.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::findings::Finding;
use super::history::{self, Entry};
use super::linear::{Checker, Fault};
use super::register::Register;
use super::wire::{Answer, Op};

/// Variables at a time.
const SLOTS: usize = 10;
/// Operations after which another variable takes a variable's place. Fewer leave less to be tried;
/// more leave more room for what goes wrong late.
const OPERATIONS: usize = 400;
/// Operations of unknown outcome after which it does.
const UNKNOWN: usize = 6;

/// Before the name of every session of a variable.
pub(super) const PREFIX: &str = "register-";

/// One variable, in a session of its own, so that its versions are its own.
#[derive(Debug)]
pub(super) struct Key {
    /// The session.
    pub(super) name: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether the session is known to be there.
    ready: bool,
    entries: Vec<Entry>,
    /// Places in `entries` of operations that did not happen.
    dropped: Vec<usize>,
    in_flight: usize,
    unknown: usize,
    /// The version that was seen last, for those who compare.
    version: u64,
    closed: bool,
}

impl Key {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its session is known to be there.
    pub(super) fn is_ready(&self) -> bool {
        self.inner().ready
    }

    /// Its session is there.
    pub(super) fn is_there(&self) {
        self.inner().ready = true;
    }

    /// The version that was seen last.
    pub(super) fn version(&self) -> u64 {
        self.inner().version
    }
}

/// What became of an operation.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It returned.
    Returned {
        /// At the place of which node.
        node: usize,
        /// After the answer had come.
        at: u64,
        /// The answer.
        answer: Answer,
    },
    /// Nobody knows whether it happened, or will.
    Unknown,
    /// It changed nothing and never will.
    Dropped,
}

/// How much was done.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Operations that returned.
    pub(super) operations: AtomicU64,
    /// Operations of unknown outcome.
    pub(super) unknown: AtomicU64,
    /// Variables checked.
    pub(super) checked: AtomicU64,
}

/// All variables.
#[derive(Debug)]
pub(super) struct Keys {
    slots: Mutex<Vec<Arc<Key>>>,
    done_with: Mutex<Vec<Past>>,
    /// The next variable's number.
    next: AtomicU64,
    /// The next value: no two writes write the same.
    value: AtomicI64,
    /// How much was done.
    pub(super) counts: Counts,
}

/// A variable that was checked, and what is known of it since.
#[derive(Debug)]
pub(super) struct Past {
    /// Its session.
    pub(super) name: String,
    entries: Vec<Entry>,
    checker: Checker<Register>,
}

impl Keys {
    /// The first ones.
    pub(super) fn new() -> Self {
        let keys = Self {
            slots: Mutex::default(),
            done_with: Mutex::default(),
            next: AtomicU64::new(0),
            value: AtomicI64::new(1),
            counts: Counts::default(),
        };
        keys.slots().extend((0..SLOTS).map(|_| keys.new_key()));
        keys
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Key>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done_with(&self) -> MutexGuard<'_, Vec<Past>> {
        self.done_with.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_key(&self) -> Arc<Key> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Arc::new(Key { name: format!("{PREFIX}{number}"), inner: Mutex::default() })
    }

    /// How many there are at a time.
    pub(super) fn slot_count() -> usize {
        SLOTS
    }

    /// A value that nobody has written.
    pub(super) fn value(&self) -> i64 {
        self.value.fetch_add(1, Ordering::Relaxed)
    }

    /// Which values nobody has written yet: this one and all above it.
    pub(super) fn unwritten(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// The variable in a place.
    pub(super) fn at(&self, slot: usize) -> Option<Arc<Key>> {
        self.slots().get(slot).cloned()
    }

    /// An operation is about to be called; its number. None when the variable is done with.
    pub(super) fn begin(&self, key: &Key, client: u8, op: Op, called: u64) -> Option<usize> {
        let mut inner = key.inner();
        if inner.closed {
            return None;
        }
        inner.in_flight += 1;
        inner.entries.push(Entry { client, node: 0, op, called, returned: None, answer: None });
        Some(inner.entries.len() - 1)
    }

    /// An operation has ended. Checks the variable if it was the last one.
    ///
    /// # Errors
    /// What is wrong with the variable.
    pub(super) fn end(&self, key: &Arc<Key>, id: usize, outcome: Outcome) -> Result<(), Finding> {
        let mut inner = key.inner();
        inner.in_flight -= 1;
        match outcome {
            Outcome::Returned { node, at, answer } => {
                inner.version = version_in(&answer).unwrap_or(inner.version);
                if let Some(entry) = inner.entries.get_mut(id) {
                    (entry.node, entry.returned, entry.answer) = (node, Some(at), Some(answer));
                }
                self.counts.operations.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Unknown => {
                inner.unknown += 1;
                self.counts.unknown.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Dropped => inner.dropped.push(id),
        }
        if inner.entries.len() >= OPERATIONS || inner.unknown >= UNKNOWN {
            inner.closed = true;
            self.replace(key);
        }
        self.check_if_done(key, inner)
    }

    /// Puts a new variable into the place of one.
    fn replace(&self, key: &Arc<Key>) {
        let mut slots = self.slots();
        if let Some(slot) = slots.iter_mut().find(|slot| Arc::ptr_eq(slot, key)) {
            *slot = self.new_key();
        }
    }

    fn check_if_done(&self, key: &Key, mut inner: MutexGuard<'_, Inner>) -> Result<(), Finding> {
        if !inner.closed || inner.in_flight > 0 {
            return Ok(());
        }
        let Inner { entries, dropped, .. } = std::mem::take(&mut *inner);
        inner.closed = true;
        drop(inner);
        let kept = entries.into_iter().enumerate().filter(|(id, _)| !dropped.contains(id));
        let entries: Vec<Entry> = kept.map(|(_, entry)| entry).collect();
        match history::check(&entries) {
            Ok(checker) => {
                self.counts.checked.fetch_add(1, Ordering::Relaxed);
                self.done_with().push(Past { name: key.name.clone(), entries, checker });
                Ok(())
            }
            Err(fault) => Err(history::account(&key.name, entries, &fault)),
        }
    }

    /// No more operations will be called: checks what is left and gives all variables out, to be
    /// read once more.
    ///
    /// # Errors
    /// What is wrong with a variable.
    pub(super) fn close(&self) -> Result<Vec<Past>, Finding> {
        let left = std::mem::take(&mut *self.slots());
        for key in left {
            let mut inner = key.inner();
            inner.closed = true;
            self.check_if_done(&key, inner)?;
        }
        Ok(std::mem::take(&mut *self.done_with()))
    }
}

impl Past {
    /// Whether anything was done with it that a later read can show.
    pub(super) fn was_used(&self) -> bool {
        !self.entries.is_empty()
    }

    /// It was read once more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&mut self, read: Entry) -> Result<(), Finding> {
        let id = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.checker.call(id, read.op, read.answer.clone());
        self.entries.push(read);
        self.checker.returns(id).map_err(|fault: Fault<Register>| {
            history::account(&self.name, std::mem::take(&mut self.entries), &fault)
        })
    }
}

/// What an answer says of the version.
fn version_in(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Found(found) => Some(found.map_or(0, |(version, _)| version)),
        Answer::Written { version, .. } | Answer::Conflict { is: version } => Some(*version),
        Answer::Removed { .. } => Some(0),
        _ => None,
    }
}
