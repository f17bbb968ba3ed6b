//! The variables that are written, read and held against the model.
//!
//! Each is used for a while and then another takes its place: operations of which nobody knows the
//! outcome stay open for ever, and what has to be tried grows with their number. One that is done
//! with is checked as soon as the last operation on it has ended; at the end of the scenario it is
//! read once more, everywhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::findings::Finding;
use super::history::{self, Entry};
use super::linear::{Checker, Fault};
use super::operation::{Answer, Op};
use super::register::Register;

/// Operations after which another variable takes a variable's place. Fewer leave less to be tried;
/// more leave more room for what goes wrong late.
const OPERATIONS: usize = 400;
/// Operations of unknown outcome after which it does.
const UNKNOWN: usize = 6;

/// How variables are called, and how many there are.
#[derive(Debug, Clone)]
pub(crate) struct Sort {
    /// Before the name of every session of a variable.
    pub(crate) prefix: String,
    /// Variables at a time.
    pub(crate) slots: usize,
    /// Variables that are done with and kept, the latest ones, to be read once more at the end. Each
    /// has some hundred operations in memory.
    pub(crate) kept: usize,
}

/// One variable, in a session of its own, so that its versions are its own.
#[derive(Debug)]
pub(crate) struct Key {
    /// The session.
    pub(crate) name: String,
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
    pub(crate) fn is_ready(&self) -> bool {
        self.inner().ready
    }

    /// Its session is there.
    pub(crate) fn is_there(&self) {
        self.inner().ready = true;
    }

    /// The version that was seen last.
    pub(crate) fn version(&self) -> u64 {
        self.inner().version
    }
}

/// What became of an operation.
#[derive(Debug)]
pub(crate) enum Outcome {
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
pub(crate) struct Counts {
    /// Operations that returned.
    pub(crate) operations: AtomicU64,
    /// Operations of unknown outcome.
    pub(crate) unknown: AtomicU64,
    /// Variables checked.
    pub(crate) checked: AtomicU64,
}

/// All variables.
#[derive(Debug)]
pub(crate) struct Keys {
    sort: Sort,
    slots: Mutex<Vec<Arc<Key>>>,
    done_with: Mutex<VecDeque<Past>>,
    /// Sessions of variables that are done with and not kept.
    forgotten: Mutex<Vec<String>>,
    /// The next variable's number.
    next: AtomicU64,
    /// The next value: no two writes write the same.
    value: AtomicI64,
    /// How much was done.
    pub(crate) counts: Counts,
}

/// A variable that was checked, and what is known of it since.
#[derive(Debug)]
pub(crate) struct Past {
    /// Its session.
    pub(crate) name: String,
    entries: Vec<Entry>,
    checker: Checker<Register>,
}

impl Keys {
    /// The first ones.
    pub(crate) fn new(sort: Sort) -> Self {
        let keys = Self {
            sort,
            slots: Mutex::default(),
            done_with: Mutex::default(),
            forgotten: Mutex::default(),
            next: AtomicU64::new(0),
            value: AtomicI64::new(1),
            counts: Counts::default(),
        };
        keys.slots().extend((0..keys.sort.slots).map(|_| keys.new_key()));
        keys
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Key>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done_with(&self) -> MutexGuard<'_, VecDeque<Past>> {
        self.done_with.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_key(&self) -> Arc<Key> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{number}", self.sort.prefix);
        Arc::new(Key { name, inner: Mutex::default() })
    }

    /// The sessions of variables that were done with, and are not read any more, since the last time.
    pub(crate) fn forgotten(&self) -> Vec<String> {
        std::mem::take(&mut *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many there are at a time.
    pub(crate) fn slot_count(&self) -> usize {
        self.sort.slots
    }

    /// A value that nobody has written.
    pub(crate) fn value(&self) -> i64 {
        self.value.fetch_add(1, Ordering::Relaxed)
    }

    /// Which values nobody has written yet: this one and all above it.
    pub(crate) fn unwritten(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// The variable in a place.
    pub(crate) fn at(&self, slot: usize) -> Option<Arc<Key>> {
        self.slots().get(slot).cloned()
    }

    /// An operation is about to be called; its number. None when the variable is done with.
    pub(crate) fn begin(&self, key: &Key, client: u8, op: Op, called: u64) -> Option<usize> {
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
    pub(crate) fn end(&self, key: &Arc<Key>, id: usize, outcome: Outcome) -> Result<(), Finding> {
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
                let mut done_with = self.done_with();
                done_with.push_back(Past { name: key.name.clone(), entries, checker });
                if done_with.len() > self.sort.kept
                    && let Some(past) = done_with.pop_front()
                {
                    let mut forgotten =
                        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
                    forgotten.push(past.name);
                }
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
    pub(crate) fn close(&self) -> Result<Vec<Past>, Finding> {
        let left = std::mem::take(&mut *self.slots());
        for key in left {
            let mut inner = key.inner();
            inner.closed = true;
            self.check_if_done(&key, inner)?;
        }
        Ok(std::mem::take(&mut *self.done_with()).into())
    }
}

impl Past {
    /// Whether anything was done with it that a later read can show.
    pub(crate) fn was_used(&self) -> bool {
        !self.entries.is_empty()
    }

    /// It was read once more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(&mut self, read: Entry) -> Result<(), Finding> {
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
