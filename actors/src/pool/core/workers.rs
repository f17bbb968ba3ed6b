//! The part of the pool's core about workers: their lives, their recycling, the pool's size.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::policy::exit::Exit;

use super::super::job::Affinity;
use super::{Alarm, Command, Core, JobId, Lane, Place, Refusal};

/// Why a worker takes no more jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// To be made anew.
    Recycle,
    /// To be removed.
    Retire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not there.
    Absent,
    /// Being started or restarted.
    Starting,
    Ready,
    /// Finishing what it has.
    Leaving(Leave),
    /// Its supervisor is removing it.
    Removing,
}

#[derive(Debug)]
pub(super) struct WorkerState {
    pub(super) state: State,
    pub(super) generation: u64,
    pub(super) assigned: VecDeque<JobId>,
    /// Jobs that wait for this worker only.
    pub(super) lane: Lane,
    /// With how many jobs it stands among the free ones, if it does.
    pub(super) filed: Option<usize>,
    /// How many jobs this incarnation has finished.
    served: u64,
    /// When this incarnation is too old.
    too_old: Option<Instant>,
}

impl WorkerState {
    fn new() -> Self {
        Self {
            state: State::Absent,
            generation: 0,
            assigned: VecDeque::new(),
            lane: Lane::new(),
            filed: None,
            served: 0,
            too_old: None,
        }
    }
}

impl<P: Clone> Core<P> {
    /// Whether all workers there should be are ready, and there are no others.
    pub(crate) fn is_settled(&self) -> bool {
        self.workers.len() == self.size
            && self.workers.iter().all(|worker| worker.state == State::Ready)
    }

    pub(super) fn lane_of(&mut self, worker: usize) -> &mut Lane {
        if self.workers.len() <= worker {
            self.workers.resize_with(worker + 1, WorkerState::new);
        }
        &mut self.workers[worker].lane
    }

    pub(super) fn on_ready(&mut self, worker: usize, generation: u64) {
        let Some(state) = self.workers.get_mut(worker) else { return };
        if generation <= state.generation || state.state == State::Absent {
            return;
        }
        // What an earlier incarnation was given it cannot have begun: its end would have
        // been told before.
        let given = std::mem::take(&mut state.assigned);
        state.generation = generation;
        state.served = 0;
        if !matches!(state.state, State::Removing | State::Leaving(Leave::Retire)) {
            state.state = State::Ready;
        }
        // Before it has room, so that they do not overtake what waits.
        for job in given {
            self.requeue(job);
        }
        self.set_age_alarm(worker, generation);
        self.file(worker);
        self.fill(worker);
        self.leave_if_idle(worker);
    }

    pub(super) fn on_finished(
        &mut self,
        worker: usize,
        generation: u64,
        job: JobId,
        done: bool,
        memory: Option<u64>,
    ) {
        let recycle = &self.rules.recycle;
        let Some(state) = self.workers.get_mut(worker) else { return };
        if state.generation != generation {
            return;
        }
        state.assigned.retain(|given| *given != job);
        state.served += u64::from(done);
        let worn = recycle.jobs.is_some_and(|limit| state.served >= limit)
            || recycle.memory.zip(memory).is_some_and(|(limit, used)| used >= limit);
        if worn && state.state == State::Ready {
            state.state = State::Leaving(Leave::Recycle);
        }
        if let Some(entry) = self.forget(job) {
            self.counters.done += u64::from(done && !entry.overdue);
            self.counters.expired += u64::from(!done && !entry.overdue);
        }
        self.file(worker);
        self.fill(worker);
        self.leave_if_idle(worker);
    }

    pub(super) fn on_ended(
        &mut self,
        worker: usize,
        generation: u64,
        again: bool,
        begun: bool,
        exit: &Exit,
    ) {
        let Some(state) = self.workers.get_mut(worker) else { return };
        if state.generation != generation || state.state == State::Absent {
            return;
        }
        let mut given = std::mem::take(&mut state.assigned);
        state.state = match state.state {
            State::Ready | State::Starting | State::Leaving(Leave::Recycle) => State::Starting,
            other => other,
        };
        self.counters.deaths += u64::from(exit.is_abnormal());
        let too_old = state.too_old.take();
        if let Some(at) = too_old {
            self.alarms.remove(&(at, Alarm::Age { worker, generation }));
        }
        self.file(worker);
        if begun && let Some(job) = given.pop_front() {
            self.on_died_in(job, again, exit);
        }
        for job in given {
            self.requeue(job);
        }
        self.leave_if_idle(worker);
    }

    /// A worker died in the middle of a job.
    fn on_died_in(&mut self, job: JobId, again: bool, exit: &Exit) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        entry.died += 1;
        if again && !entry.overdue && entry.died < entry.terms.attempts {
            // It was begun before it expired; from now on only its deadline counts.
            entry.terms.expires = entry.terms.deadline;
            return self.requeue(job);
        }
        if let Some(entry) = self.forget(job)
            && !entry.overdue
        {
            self.counters.failed += 1;
            let (payload, exit, attempts) = (entry.payload, exit.clone(), entry.died);
            self.out.push(Command::Fail { payload, exit, attempts });
        }
    }

    /// Puts a job back to where its age puts it.
    fn requeue(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        if entry.overdue {
            self.forget(job);
            return;
        }
        if entry.terms.expires <= self.now {
            if let Some(entry) = self.forget(job) {
                self.counters.expired += 1;
                self.refuse(entry.payload, Refusal::Expired);
            }
            return;
        }
        // Nobody was told that it might wait, and it was never begun.
        let must_not_wait =
            matches!(entry.terms.affinity, Affinity::OnlyIfFree(_)) && entry.died == 0;
        if must_not_wait {
            if let Some(entry) = self.forget(job) {
                self.refuse(entry.payload, Refusal::Gone);
            }
            return;
        }
        let (old, new) = (entry.alarm, entry.terms.expires);
        entry.alarm = new;
        self.alarms.remove(&(old, Alarm::Job(job)));
        self.alarms.insert((new, Alarm::Job(job)));
        self.counters.requeued += 1;
        self.place(job);
    }

    pub(super) fn on_removed(&mut self, worker: usize) {
        let Some(state) = self.workers.get_mut(worker) else { return };
        if state.state != State::Removing {
            return;
        }
        state.state = State::Absent;
        if worker < self.size {
            self.add(worker);
        }
        while self.workers.len() > self.size
            && self.workers.last().is_some_and(|last| last.state == State::Absent)
        {
            self.workers.pop();
        }
    }

    pub(super) fn on_resize(&mut self, size: usize) {
        // Keys need a worker.
        self.size = size.max(1);
        for worker in 0..self.size {
            let state = self.workers.get(worker).map_or(State::Absent, |worker| worker.state);
            match state {
                State::Absent => self.add(worker),
                State::Leaving(Leave::Retire) => {
                    self.workers[worker].state = State::Ready;
                    self.file(worker);
                }
                _ => {}
            }
        }
        for worker in self.size..self.workers.len() {
            let state = &mut self.workers[worker];
            if !matches!(state.state, State::Absent | State::Removing) {
                state.state = State::Leaving(Leave::Retire);
                self.file(worker);
                self.leave_if_idle(worker);
            }
        }
        self.rehome();
    }

    /// Moves the jobs that wait for one worker to the present workers of their keys.
    fn rehome(&mut self) {
        let lanes = self.workers.iter_mut().flat_map(|worker| std::mem::take(&mut worker.lane));
        let jobs: Vec<_> = lanes.collect();
        for (priority, job) in jobs {
            let Some(entry) = self.jobs.get(&job) else { continue };
            let Some(key) = entry.terms.affinity.key() else { continue };
            let home = self.home(key);
            self.lane_of(home).insert((priority, job));
            if let Some(entry) = self.jobs.get_mut(&job) {
                entry.place = Place::At(home);
            }
        }
        for worker in 0..self.workers.len() {
            self.fill(worker);
        }
    }

    fn set_age_alarm(&mut self, worker: usize, generation: u64) {
        let (Some(age), Some(state)) = (self.rules.recycle.age, self.workers.get_mut(worker))
        else {
            return;
        };
        let at = self.now + spread(age, worker, generation);
        state.too_old = Some(at);
        self.alarms.insert((at, Alarm::Age { worker, generation }));
    }

    fn add(&mut self, worker: usize) {
        self.lane_of(worker);
        self.workers[worker].state = State::Starting;
        self.out.push(Command::Add { worker });
    }

    pub(super) fn on_age(&mut self, worker: usize, generation: u64) {
        let Some(state) = self.workers.get_mut(worker) else { return };
        if state.generation == generation && state.state == State::Ready {
            state.state = State::Leaving(Leave::Recycle);
            self.file(worker);
            self.leave_if_idle(worker);
        }
    }

    fn leave_if_idle(&mut self, worker: usize) {
        let Some(state) = self.workers.get_mut(worker) else { return };
        let State::Leaving(why) = state.state else { return };
        if !state.assigned.is_empty() {
            return;
        }
        match why {
            Leave::Recycle => {
                state.state = State::Starting;
                self.counters.recycled += 1;
                self.out.push(Command::Restart { worker });
            }
            Leave::Retire => {
                state.state = State::Removing;
                self.out.push(Command::Remove { worker });
            }
        }
    }

    /// Keeps a worker's place among the free ones up to date.
    pub(super) fn file(&mut self, worker: usize) {
        let Some(state) = self.workers.get_mut(worker) else { return };
        let load = state.assigned.len();
        let room = state.state == State::Ready && load < self.rules.prefetch;
        let filed = room.then_some(load);
        if filed == state.filed {
            return;
        }
        if let Some(old) = std::mem::replace(&mut state.filed, filed) {
            self.free.remove(&(old, worker));
        }
        if let Some(new) = filed {
            self.free.insert((new, worker));
        }
    }
}

/// A worker's own age limit: shorter by up to an eighth, so that workers started together
/// are not all made anew together.
fn spread(age: Duration, worker: usize, generation: u64) -> Duration {
    let mixed = (worker as u64).wrapping_mul(31).wrapping_add(generation.wrapping_mul(17)) % 64;
    age.saturating_sub(age / 512 * u32::try_from(mixed).unwrap_or_default())
}
