use std::collections::{BTreeMap, VecDeque};

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::exit::Exit;
use crate::pool::config::Recycle;

const MS: Duration = Duration::from_millis(1);

/// What a caller of the model was told, by job number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Done,
    Refused(Refusal),
    Failed,
    Overdue,
}

/// A job as the model knows it.
#[derive(Debug)]
struct Known {
    terms: Terms,
    begun: u32,
    told: Vec<Told>,
    /// Its ticket: whether a worker may still begin it, and whether its holder has.
    open: bool,
    in_hand: bool,
}

/// Workers that do what a random list of operations says, around a real core.
struct Model {
    core: Core<usize>,
    now: Instant,
    prefetch: usize,
    jobs: Vec<Known>,
    ids: BTreeMap<usize, JobId>,
    /// Of workers that run: generation and mailbox.
    running: BTreeMap<usize, (u64, VecDeque<usize>)>,
    /// Workers that are to start.
    starting: Vec<usize>,
    generations: u64,
    /// Whether the order of plain jobs is checked: a requeue breaks it by design.
    requeues: bool,
    last_plain: BTreeMap<Priority, usize>,
}

#[derive(Debug, Clone)]
enum Op {
    Submit { priority: u8, affinity: u8, key: u64, expires: u64, deadline: u64, attempts: u32 },
    Start(usize),
    Begin(usize),
    Finish(usize, u64),
    Die(usize),
    Pass(u64),
    Resize(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3u8, 0..6u8, 0..5u64, 1..200u64, 1..300u64, 1..4u32).prop_map(
            |(priority, affinity, key, expires, deadline, attempts)| Op::Submit {
                priority, affinity, key, expires, deadline, attempts
            }
        ),
        4 => any::<usize>().prop_map(Op::Start),
        6 => any::<usize>().prop_map(Op::Begin),
        6 => (any::<usize>(), 0..110u64).prop_map(|(worker, memory)| Op::Finish(worker, memory)),
        2 => any::<usize>().prop_map(Op::Die),
        3 => (1..60u64).prop_map(Op::Pass),
        1 => (1..5usize).prop_map(Op::Resize),
    ]
}

impl Model {
    fn new(prefetch: usize, room: Option<usize>, size: usize, recycle: Recycle) -> Self {
        let now = Instant::now();
        let rules = Rules { prefetch, room, grace: Some(20 * MS), recycle };
        let mut model = Self {
            core: Core::new(rules, now),
            now,
            prefetch,
            jobs: Vec::new(),
            ids: BTreeMap::new(),
            running: BTreeMap::new(),
            starting: Vec::new(),
            generations: 0,
            requeues: false,
            last_plain: BTreeMap::new(),
        };
        model.tell(Event::Resize { size });
        model
    }

    fn tell(&mut self, event: Event<usize>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for command in self.core.on(event, self.now) {
                events.extend(self.carry_out(command));
            }
        }
        self.check();
    }

    fn carry_out(&mut self, command: Command<usize>) -> Option<Event<usize>> {
        match command {
            Command::Assign { worker, generation, job, payload } => {
                self.on_assign(worker, generation, job, payload);
            }
            Command::Refuse { payload, refusal } => {
                if refusal == Refusal::Evicted {
                    self.check_eviction(payload);
                }
                let known = &mut self.jobs[payload];
                assert!(!known.in_hand, "job {payload} was refused while a worker does it");
                known.open = false;
                // One that was begun before gets the error of its deadline.
                // A ticket that was withdrawn answers no second time.
                if known.told == [Told::Refused(Refusal::Expired)] && refusal == Refusal::Expired {
                    return None;
                }
                let told = if known.begun > 0 { Told::Overdue } else { Told::Refused(refusal) };
                known.told.push(told);
            }
            Command::Overdue { payload } => {
                let late = self.now >= self.jobs[payload].terms.deadline;
                let known = &mut self.jobs[payload];
                if !known.told.is_empty() {
                    return None;
                }
                if known.begun == 0 {
                    known.open = false;
                    known.told.push(Told::Refused(Refusal::Expired));
                } else if late {
                    known.open = false;
                    known.told.push(Told::Overdue);
                }
            }
            Command::Fail { payload, attempts, .. } => {
                assert_eq!(attempts, self.jobs[payload].begun);
                self.jobs[payload].told.push(Told::Failed);
            }
            Command::Add { worker } => self.starting.push(worker),
            Command::Restart { worker } => {
                assert!(self.running[&worker].1.is_empty(), "recycled with jobs");
                return self.end(worker, Exit::Shutdown);
            }
            Command::Remove { worker } => {
                self.starting.retain(|starting| *starting != worker);
                if let Some((_, jobs)) = self.running.remove(&worker) {
                    assert!(jobs.is_empty(), "removed with jobs");
                }
                return Some(Event::Removed { worker });
            }
            Command::Kill { worker } => return self.end(worker, Exit::Killed),
        }
        None
    }

    /// What makes room was never begun, and is the least urgent and the oldest of those.
    fn check_eviction(&self, evicted: usize) {
        let known = &self.jobs[evicted];
        assert_eq!(known.begun, 0, "job {evicted} was begun");
        for entry in self.core.jobs.values() {
            if !matches!(entry.place, Place::With(_)) && entry.died == 0 {
                let rank = (known.terms.priority, evicted);
                assert!(rank < (entry.terms.priority, entry.payload), "{evicted} made room");
            }
        }
    }

    fn on_assign(&mut self, worker: usize, generation: u64, job: JobId, payload: usize) {
        let home = self.jobs[payload].terms.affinity.key().map(|key| self.core.home(key));
        let known = &mut self.jobs[payload];
        assert!(known.told.is_empty(), "job {payload} was answered before it was given out");
        assert!(self.now < known.terms.expires.max(known.terms.deadline));
        if known.begun == 0 {
            assert!(self.now < known.terms.expires, "job {payload} had expired");
        }
        match known.terms.affinity {
            Affinity::Only(_) | Affinity::OnlyIfFree(_) => {
                assert_eq!(home, Some(worker), "strict affinity");
            }
            Affinity::None if !self.requeues => {
                let last = self.last_plain.insert(known.terms.priority, payload);
                assert!(last < Some(payload), "{payload} after {last:?} of one priority");
            }
            Affinity::None | Affinity::Prefer(_) => {}
        }
        self.ids.insert(payload, job);
        let (running, mailbox) = self.running.get_mut(&worker).expect("a worker that runs");
        assert_eq!(*running, generation);
        mailbox.push_back(payload);
        assert!(mailbox.len() <= self.prefetch, "more jobs than configured");
    }

    /// Ends a worker that runs; it will be started again.
    fn end(&mut self, worker: usize, exit: Exit) -> Option<Event<usize>> {
        let (generation, mailbox) = self.running.remove(&worker)?;
        self.requeues |= !mailbox.is_empty();
        let first = mailbox.front().copied();
        let begun = first.is_some_and(|job| std::mem::take(&mut self.jobs[job].in_hand));
        let kept =
            first.is_some_and(|job| self.jobs[job].open && self.jobs[job].terms.attempts > 1);
        self.starting.push(worker);
        Some(Event::Ended { worker, generation, begun, kept, exit })
    }

    fn pick(&self, choice: usize) -> Option<usize> {
        let count = self.running.len().max(1);
        self.running.keys().nth(choice % count).copied()
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Submit { priority, affinity, key, expires, deadline, attempts } => {
                let priority = [Priority::Low, Priority::Normal, Priority::High][priority as usize];
                let key = Key::of(&key);
                let affinity = match affinity {
                    0 => Affinity::Prefer(key),
                    1 => Affinity::Only(key),
                    2 => Affinity::OnlyIfFree(key),
                    _ => Affinity::None,
                };
                let deadline = self.now + Duration::from_millis(deadline);
                let expires = (self.now + Duration::from_millis(expires)).min(deadline);
                let terms = Terms { priority, affinity, expires, deadline, attempts };
                let payload = self.jobs.len();
                let known = Known {
                    terms: terms.clone(),
                    begun: 0,
                    told: vec![],
                    open: true,
                    in_hand: false,
                };
                self.jobs.push(known);
                self.tell(Event::Submit { payload, terms });
            }
            Op::Start(choice) => {
                if !self.starting.is_empty() {
                    let worker = self.starting.remove(choice % self.starting.len());
                    self.generations += 1;
                    let generation = self.generations;
                    self.running.insert(worker, (generation, VecDeque::new()));
                    self.tell(Event::Ready { worker, generation });
                }
            }
            Op::Begin(choice) => self.begin(choice),
            Op::Finish(choice, memory) => self.finish(choice, memory),
            Op::Die(choice) => {
                let exit = Exit::Panicked { reason: "as told".into() };
                if let Some(event) = self.pick(choice).and_then(|worker| self.end(worker, exit)) {
                    self.tell(event);
                }
            }
            Op::Pass(ms) => {
                self.now += Duration::from_millis(ms);
                self.tell(Event::Tick);
            }
            Op::Resize(size) => self.tell(Event::Resize { size }),
        }
    }

    fn begin(&mut self, choice: usize) {
        let Some(worker) = self.pick(choice) else { return };
        let Some(&job) = self.running[&worker].1.front() else { return };
        let known = &mut self.jobs[job];
        if known.open && !known.in_hand {
            known.in_hand = true;
            known.begun += 1;
            assert!(known.begun <= known.terms.attempts, "job {job} was begun too often");
        }
    }

    /// The first job of a worker ends: done if it was begun, else skipped.
    fn finish(&mut self, choice: usize, memory: u64) {
        let Some(worker) = self.pick(choice) else { return };
        let Some((generation, mailbox)) = self.running.get_mut(&worker) else { return };
        let generation = *generation;
        let Some(&job) = mailbox.front() else { return };
        let known = &mut self.jobs[job];
        let done = std::mem::take(&mut known.in_hand);
        if !done && known.open {
            return;
        }
        mailbox.pop_front();
        known.open = false;
        if done && known.told.is_empty() {
            known.told.push(Told::Done);
        }
        let job = self.ids[&job];
        self.tell(Event::Finished { worker, generation, job, done, memory: Some(memory) });
    }

    /// What holds after every step.
    fn check(&self) {
        for (number, known) in self.jobs.iter().enumerate() {
            assert!(known.told.len() <= 1, "job {number} was answered twice: {:?}", known.told);
        }
        let room = |state: &WorkerState| {
            state.state == State::Ready && state.assigned.len() < self.prefetch
        };
        for (index, state) in self.core.workers.iter().enumerate() {
            assert_eq!(state.filed.is_some(), room(state), "worker {index}");
            if room(state) {
                assert!(state.lane.is_empty(), "a job waits for worker {index}, which has room");
            }
        }
        let free = self.core.workers.iter().any(room);
        assert!(!free || self.core.anywhere.is_empty(), "a job waits though a worker has room");
        let lanes: usize = self.core.workers.iter().map(|worker| worker.lane.len()).sum();
        assert_eq!(self.core.waiting, self.core.anywhere.len() + lanes);
        if let Some(room) = self.core.rules.room {
            assert!(self.requeues || self.core.waiting <= room, "more wait than there is room");
        }
    }

    /// Everybody gets to finish.
    fn wind_down(&mut self) {
        self.tell(Event::Drain);
        for _ in 0..10 {
            for choice in 0..64 {
                self.apply(&Op::Start(0));
                self.begin(choice);
                self.finish(choice, 0);
            }
            self.apply(&Op::Pass(100));
        }
    }
}

fn recycle() -> impl Strategy<Value = Recycle> {
    let age = proptest::option::of((10..200u64).prop_map(Duration::from_millis));
    (age, proptest::option::of(1..5u64), any::<bool>()).prop_map(|(age, jobs, memory)| Recycle {
        age,
        jobs,
        memory: memory.then_some(100),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The model asserts at each step: at most one answer, none begun more often than
    /// allowed, none given out after expiry, strict affinity, first in first out, at most
    /// `prefetch` jobs per worker, nobody waits while there is room, and who makes room for
    /// a newer one is the oldest of the least urgent.
    #[test]
    fn no_job_is_lost_or_answered_twice_and_a_drained_pool_is_empty(
        prefetch in 1..4usize,
        room in proptest::option::of(1..6usize),
        size in 1..5usize,
        recycle in recycle(),
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        let mut model = Model::new(prefetch, room, size, recycle);
        for op in &ops {
            model.apply(op);
        }
        model.wind_down();
        prop_assert!(model.core.is_drained());
        prop_assert!(model.core.jobs.is_empty());
        prop_assert!(model.core.anywhere.is_empty());
        for (number, known) in model.jobs.iter().enumerate() {
            prop_assert_eq!(known.told.len(), 1, "job {} has no answer", number);
        }
        // No alarm of a job that is gone is left behind.
        let left = model.core.alarms.iter().filter(|(_, alarm)| matches!(alarm, Alarm::Job(_)));
        prop_assert_eq!(left.count(), 0);
    }

    #[test]
    fn growing_by_one_moves_keys_to_the_new_worker_only(key in any::<u64>(), size in 1..500usize) {
        let (before, after) = (jump(key, size), jump(key, size + 1));
        prop_assert!(before < size);
        prop_assert!(after == before || after == size);
    }
}

#[test]
fn keys_spread_evenly() {
    let mut counts = [0u32; 8];
    for key in 0..8000u32 {
        counts[jump(Key::of(&key).hash(), 8)] += 1;
    }
    assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
}
