//! What clients, watchers and faults share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::cluster::{MEMBERS, Ways};
use super::counter::{self, Tally};
use super::link::{PATIENCE, Reply};
use super::streams::Streams;
use super::ttl::Leases;
use super::wire::Do;
use crate::check::findings::Findings;
use crate::check::keys::{Keys, Sort};
use crate::check::operation::Answer;

/// Counters.
const COUNTERS: usize = 2;

/// Variables at a time.
const VARIABLES: usize = 10;

/// Before the name of every session of a variable.
pub(super) const VARIABLE: &str = "register-";

/// What clients, watchers and faults share.
#[derive(Debug)]
pub(super) struct Scene {
    began: Instant,
    /// To the nodes.
    pub(super) ways: Ways,
    /// Variables.
    pub(super) keys: Keys,
    /// What is wrong.
    pub(super) findings: Findings,
    streams: Mutex<Streams>,
    leases: Mutex<Leases>,
    counters: Mutex<BTreeMap<String, Tally>>,
    /// Whether clients are to end.
    ended: AtomicBool,
    /// When a write was last acknowledged, to anybody, and the longest time between two.
    last_write: AtomicU64,
    longest_gap: AtomicU64,
}

impl Scene {
    /// Nothing was done yet.
    pub(super) fn new(ways: Ways) -> Self {
        let counters = (0..COUNTERS).map(|n| (format!("{}{n}", counter::PREFIX), Tally::default()));
        Self {
            began: Instant::now(),
            ways,
            keys: Keys::new(Sort {
                prefix: VARIABLE.to_owned(),
                slots: VARIABLES,
                kept: usize::MAX,
            }),
            findings: Findings::default(),
            streams: Mutex::new(Streams::new()),
            leases: Mutex::default(),
            counters: Mutex::new(counters.collect()),
            ended: AtomicBool::new(false),
            last_write: AtomicU64::new(0),
            longest_gap: AtomicU64::new(0),
        }
    }

    /// Microseconds since the scenario began, by a clock that nobody sets.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// What watchers were told.
    pub(super) fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions with a time to live.
    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counters.
    pub(super) fn counters(&self) -> MutexGuard<'_, BTreeMap<String, Tally>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells clients to end.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether clients go on.
    pub(super) fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed) && !self.findings.any()
    }

    /// A write was acknowledged.
    pub(super) fn wrote(&self) {
        let now = self.now();
        let gap = now.saturating_sub(self.last_write.fetch_max(now, Ordering::Relaxed));
        self.longest_gap.fetch_max(gap, Ordering::Relaxed);
    }

    /// The longest time between two acknowledged writes, in microseconds.
    pub(super) fn longest_gap(&self) -> u64 {
        self.longest_gap.load(Ordering::Relaxed)
    }

    /// Asks the node in a place.
    pub(super) async fn ask(&self, place: usize, what: Do) -> Reply {
        match self.ways.to(place % MEMBERS) {
            Some(way) => way.ask(what, PATIENCE).await,
            None => Reply::NotSent,
        }
    }

    /// Asks nodes in turn, from one on, until one has created a session; whether one has.
    pub(super) async fn create(&self, place: usize, session: &str) -> bool {
        let what = || Do::Create { session: session.to_owned(), ttl_ms: None };
        for n in 0..MEMBERS {
            if let Reply::Answer(Answer::Done) = self.ask(place + n, what()).await {
                return true;
            }
        }
        false
    }
}
