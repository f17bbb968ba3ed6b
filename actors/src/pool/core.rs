//! What a pool decides: which job goes to which worker, when, and what follows a death.
//! Pure: `(event, now) -> commands`, without tokio and without a clock.
//!
//! Invariants, checked by the property tests: a job that could run on any worker waits only
//! while no worker has room; every job ends in exactly one outcome; a worker holds at most
//! `prefetch` jobs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use self::workers::{Leave, State, WorkerState};
use super::job::{Affinity, Key, Priority};
use super::stats::Counters;

pub(crate) use self::event::{Command, Event, JobId, Refusal, Rules, Terms};

mod event;
#[cfg(test)]
mod tests;
mod workers;

/// What the timer is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Job(JobId),
    Age { worker: usize, generation: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the queue for any worker.
    Anywhere,
    /// In the queue of one worker.
    At(usize),
    /// Given to that worker.
    With(usize),
}

#[derive(Debug)]
struct Entry<P> {
    payload: P,
    terms: Terms,
    place: Place,
    /// How often a worker died in the middle of it.
    died: u32,
    /// Its caller has been told that the deadline passed.
    overdue: bool,
    alarm: Instant,
}

/// Waiting jobs: the most urgent first, then the oldest.
type Lane = BTreeSet<(Reverse<Priority>, JobId)>;

pub(crate) struct Core<P> {
    rules: Rules,
    size: usize,
    draining: bool,
    jobs: BTreeMap<JobId, Entry<P>>,
    next_job: u64,
    anywhere: Lane,
    waiting: usize,
    workers: Vec<WorkerState>,
    /// Workers with room, by the number of jobs they have. Among equals the lowest index is
    /// taken: the busy ones stay warm, and a shrink finds the highest idle.
    free: BTreeSet<(usize, usize)>,
    alarms: BTreeSet<(Instant, Alarm)>,
    counters: Counters,
    out: Vec<Command<P>>,
    now: Instant,
}

impl<P: Clone> Core<P> {
    pub(crate) fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            size: 0,
            draining: false,
            jobs: BTreeMap::new(),
            next_job: 0,
            anywhere: Lane::new(),
            waiting: 0,
            workers: Vec::new(),
            free: BTreeSet::new(),
            alarms: BTreeSet::new(),
            counters: Counters::default(),
            out: Vec::new(),
            now,
        }
    }

    pub(crate) fn on(&mut self, event: Event<P>, now: Instant) -> Vec<Command<P>> {
        self.now = now;
        // First, so that nothing expired is begun, however late the timer rings.
        self.ring();
        match event {
            Event::Submit { payload, terms } => self.on_submit(payload, terms),
            Event::Ready { worker, generation } => self.on_ready(worker, generation),
            Event::Finished { worker, generation, job, done, memory } => {
                self.on_finished(worker, generation, job, done, memory);
            }
            Event::Ended { worker, generation, begun, kept, exit } => {
                self.on_ended(worker, generation, begun && kept, begun, &exit);
            }
            Event::Removed { worker } => self.on_removed(worker),
            Event::Resize { size } => self.on_resize(size),
            Event::Drain => self.draining = true,
            Event::Tick => {}
        }
        std::mem::take(&mut self.out)
    }

    /// When the next `Tick` is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Whether it takes no jobs and has none.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && self.jobs.is_empty()
    }

    /// What has been counted, and how much of everything there is now.
    pub(crate) fn counters(&self) -> (Counters, Load) {
        let load = Load {
            size: self.size,
            ready: self.workers.iter().filter(|worker| worker.state == State::Ready).count(),
            busy: self.workers.iter().filter(|worker| !worker.assigned.is_empty()).count(),
            waiting: self.waiting,
            running: self.jobs.len() - self.waiting,
            draining: self.draining,
        };
        (self.counters.clone(), load)
    }

    /// The first job that a worker has, which is the only one it can have begun: it takes
    /// them in the order they were assigned to its incarnation.
    pub(crate) fn first_of(&self, worker: usize, generation: u64) -> Option<&P> {
        let state = self.workers.get(worker).filter(|state| state.generation == generation)?;
        state.assigned.front().and_then(|job| self.jobs.get(job)).map(|entry| &entry.payload)
    }

    /// Gives up all jobs that no worker has.
    pub(crate) fn take_waiting(&mut self) -> Vec<P> {
        let given = |entry: &Entry<P>| matches!(entry.place, Place::With(_));
        let (kept, left) =
            std::mem::take(&mut self.jobs).into_iter().partition(|(_, entry)| given(entry));
        self.jobs = kept;
        self.anywhere.clear();
        self.workers.iter_mut().for_each(|worker| worker.lane.clear());
        self.waiting = 0;
        let left: BTreeMap<JobId, Entry<P>> = left;
        left.into_values().map(|entry| entry.payload).collect()
    }

    fn on_submit(&mut self, payload: P, terms: Terms) {
        self.counters.submitted += 1;
        if self.draining {
            return self.refuse(payload, Refusal::Draining);
        }
        if terms.expires <= self.now {
            self.counters.expired += 1;
            return self.refuse(payload, Refusal::Expired);
        }
        if let Affinity::OnlyIfFree(key) = terms.affinity {
            match self.workers.get(self.home(key)) {
                Some(worker) if worker.state == State::Ready && worker.assigned.is_empty() => {}
                Some(worker) if worker.state == State::Ready => {
                    return self.refuse(payload, Refusal::Busy);
                }
                _ => return self.refuse(payload, Refusal::Gone),
            }
        }
        let job = JobId(self.next_job);
        self.next_job += 1;
        let alarm = terms.expires;
        let place = Place::Anywhere;
        self.alarms.insert((alarm, Alarm::Job(job)));
        let entry = Entry { payload, terms, place, died: 0, overdue: false, alarm };
        self.jobs.insert(job, entry);
        self.place(job);
        if self.rules.room.is_some_and(|room| self.waiting > room) {
            self.evict();
        }
    }

    /// Gives back the oldest of the least urgent jobs that wait and were never begun.
    fn evict(&mut self) {
        let unbegun = |job: &JobId| self.jobs.get(job).is_some_and(|entry| entry.died == 0);
        let oldest_of = |priority| {
            let rank = |job| (Reverse(priority), JobId(job));
            let lanes = self.workers.iter().map(|worker| &worker.lane);
            let first = |lane: &Lane| {
                lane.range(rank(0)..=rank(u64::MAX)).map(|(_, job)| *job).find(unbegun)
            };
            std::iter::once(&self.anywhere).chain(lanes).filter_map(first).min()
        };
        let oldest =
            [Priority::Low, Priority::Normal, Priority::High].into_iter().find_map(oldest_of);
        if let Some(job) = oldest {
            self.dequeue(job);
            if let Some(entry) = self.forget(job) {
                self.counters.evicted += 1;
                self.refuse(entry.payload, Refusal::Evicted);
            }
        }
    }

    /// Gives a job to a worker, or puts it in a queue.
    fn place(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get(&job) else { return };
        let rank = (Reverse(entry.terms.priority), job);
        let target = match entry.terms.affinity {
            Affinity::None => self.free.first().map(|(_, worker)| *worker),
            Affinity::Prefer(key) => self.preferred(self.home(key)),
            Affinity::Only(key) | Affinity::OnlyIfFree(key) => {
                let home = self.home(key);
                let state = self.workers.get(home);
                if state.is_some_and(|state| state.filed.is_some() && state.lane.is_empty()) {
                    return self.assign(home, job);
                }
                self.enqueue(job, Place::At(home));
                self.lane_of(home).insert(rank);
                return;
            }
        };
        match target {
            Some(worker) => self.assign(worker, job),
            None => {
                self.enqueue(job, Place::Anywhere);
                self.anywhere.insert(rank);
            }
        }
    }

    /// The worker of the key if none has less to do, else any.
    fn preferred(&self, home: usize) -> Option<usize> {
        let (least, any) = *self.free.first()?;
        let filed = self.workers.get(home).and_then(|worker| worker.filed);
        Some(if filed == Some(least) { home } else { any })
    }

    fn enqueue(&mut self, job: JobId, place: Place) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.place = place;
            self.waiting += 1;
            self.counters.most_waiting = self.counters.most_waiting.max(self.waiting);
        }
    }

    /// Takes a waiting job out of its queue.
    fn dequeue(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get(&job) else { return };
        let rank = (Reverse(entry.terms.priority), job);
        match entry.place {
            Place::Anywhere => self.anywhere.remove(&rank),
            Place::At(worker) => self.lane_of(worker).remove(&rank),
            Place::With(_) => return,
        };
        self.waiting -= 1;
    }

    fn assign(&mut self, worker: usize, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let Some(state) = self.workers.get_mut(worker) else { return };
        entry.place = Place::With(worker);
        state.assigned.push_back(job);
        let (payload, generation) = (entry.payload.clone(), state.generation);
        self.out.push(Command::Assign { worker, generation, job, payload });
        self.file(worker);
    }

    /// Gives a worker with room what has waited for it, in order.
    fn fill(&mut self, worker: usize) {
        while let Some(state) = self.workers.get(worker) {
            if state.filed.is_none() {
                return;
            }
            let first = match (state.lane.first(), self.anywhere.first()) {
                (Some(own), Some(any)) => own.min(any),
                (Some(first), None) | (None, Some(first)) => first,
                (None, None) => return,
            };
            let job = first.1;
            self.dequeue(job);
            self.assign(worker, job);
        }
    }

    /// Forgets a job.
    fn forget(&mut self, job: JobId) -> Option<Entry<P>> {
        let entry = self.jobs.remove(&job)?;
        self.alarms.remove(&(entry.alarm, Alarm::Job(job)));
        Some(entry)
    }

    fn refuse(&mut self, payload: P, refusal: Refusal) {
        let counted_apart = matches!(refusal, Refusal::Expired | Refusal::Evicted);
        self.counters.refused += u64::from(!counted_apart);
        self.out.push(Command::Refuse { payload, refusal });
    }

    /// Everything that is due.
    fn ring(&mut self) {
        while let Some(&(at, alarm)) = self.alarms.first() {
            if at > self.now {
                return;
            }
            self.alarms.pop_first();
            match alarm {
                Alarm::Job(job) => self.on_due(job),
                Alarm::Age { worker, generation } => self.on_age(worker, generation),
            }
        }
    }

    fn on_due(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let (terms, grace) = (&entry.terms, self.rules.grace);
        match entry.place {
            Place::Anywhere | Place::At(_) => {
                self.dequeue(job);
                if let Some(entry) = self.forget(job) {
                    self.counters.expired += 1;
                    self.refuse(entry.payload, Refusal::Expired);
                }
            }
            Place::With(worker) if entry.overdue => {
                let Some(state) = self.workers.get_mut(worker) else { return };
                if state.assigned.front() == Some(&job) {
                    self.counters.killed += 1;
                    self.out.push(Command::Kill { worker });
                    // Until its end is told it gets nothing more: it could only lose it.
                    if state.state == State::Ready {
                        state.state = State::Leaving(Leave::Recycle);
                    }
                    self.file(worker);
                }
            }
            Place::With(_) => {
                let payload = entry.payload.clone();
                let next = if self.now < terms.deadline {
                    Some(terms.deadline)
                } else {
                    entry.overdue = true;
                    self.counters.overdue += 1;
                    grace.map(|grace| terms.deadline + grace)
                };
                if let Some(next) = next {
                    entry.alarm = next;
                    self.alarms.insert((next, Alarm::Job(job)));
                }
                self.out.push(Command::Overdue { payload });
            }
        }
    }

    /// The worker of a key.
    pub(crate) fn home(&self, key: Key) -> usize {
        jump(key.hash(), self.size)
    }
}

/// How much of everything a pool has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) size: usize,
    pub(crate) ready: usize,
    pub(crate) busy: usize,
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) draining: bool,
}

/// Which of `buckets` a key belongs to. From n to n+1 buckets only 1 key in n+1 moves.
///
/// Source: Lamping, Veach 2014, "A Fast, Minimal Memory, Consistent Hash Algorithm".
fn jump(mut key: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0_u64, 0_u64);
    while next < buckets as u64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        // (b + 1) · 2³¹ / ((key >> 33) + 1), in whole numbers: b stays below 2³².
        next = (bucket + 1).saturating_mul(1 << 31) / ((key >> 33) + 1);
    }
    usize::try_from(bucket).unwrap_or(usize::MAX)
}
