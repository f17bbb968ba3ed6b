//! The promises of the supervisor's decisions, without a runtime: a world of children that
//! do as chance wants, and invariants that always hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::policy::Strategy;
use crate::policy::backoff::Backoff;

/// What the core believes to run, played by chance.
struct World {
    core: Core,
    now: Instant,
    /// Children with a living incarnation, and whether it was asked to stop.
    live: BTreeMap<ChildId, (u64, bool)>,
    ready: BTreeSet<ChildId>,
    started: Vec<ChildId>,
    stopped: Vec<ChildId>,
    abandoned: BTreeSet<ChildId>,
    finished: Option<Exit>,
    restarts: Vec<Instant>,
}

impl World {
    fn new(strategy: Strategy, intensity: Intensity, policies: &[Policy]) -> Self {
        let now = Instant::now();
        let mut core = Core::new("root".into(), strategy, intensity, now);
        for (index, policy) in policies.iter().enumerate() {
            core.declare(index.to_string().into(), *policy);
        }
        Self {
            core,
            now,
            live: BTreeMap::new(),
            ready: BTreeSet::new(),
            started: Vec::new(),
            stopped: Vec::new(),
            abandoned: BTreeSet::new(),
            finished: None,
            restarts: Vec::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        for command in self.core.on(event, self.now, 0.5) {
            assert_eq!(self.finished, None, "a command after the end: {command:?}");
            match command {
                Command::Start { child, run } => {
                    let before = self.live.insert(child, (run, false));
                    let twice = before.is_some() && !self.abandoned.contains(&child);
                    assert!(!twice, "{child:?} runs twice");
                    self.started.push(child);
                }
                Command::Stop { child } => {
                    self.stopped.push(child);
                    if let Some(live) = self.live.get_mut(&child) {
                        live.1 = true;
                    }
                }
                Command::Kill { child } => {
                    if self.live.get(&child).is_some_and(|live| !live.1) {
                        self.stopped.push(child);
                    }
                    if let Some(live) = self.live.get_mut(&child) {
                        live.1 = true;
                    }
                }
                Command::Publish { child, change: Change::Abandoned } => {
                    self.abandoned.insert(child);
                    self.live.remove(&child);
                    self.ready.remove(&child);
                }
                Command::Publish { change: Change::Restarting { .. }, .. } => {
                    self.restarts.push(self.now);
                }
                Command::Publish { .. } | Command::Ready => {}
                Command::Finish(exit) => self.finished = Some(exit),
            }
        }
    }

    fn become_ready(&mut self, child: ChildId) {
        if let Some((run, _)) = self.live.get(&child).copied()
            && self.ready.insert(child)
        {
            self.tell(Event::Ready { child, run });
        }
    }

    fn exit(&mut self, child: ChildId, exit: Exit) {
        if let Some((run, _)) = self.live.remove(&child) {
            self.ready.remove(&child);
            self.tell(Event::Exited { child, run, exit });
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.core.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.tell(Event::Tick);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ready(u64),
    Exit(u64, bool),
    Pass(u64),
    Remove(u64),
    Restart(u64),
}

fn steps() -> impl Generator<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6u64).prop_map(Step::Ready),
        3 => (0..6u64, any::<bool>()).prop_map(|(child, well)| Step::Exit(child, well)),
        3 => (0..4000u64).prop_map(Step::Pass),
        1 => (0..6u64).prop_map(Step::Remove),
        1 => (0..6u64).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 0..120)
}

fn policy(restart: u8, shutdown: u8, wait: u64) -> Policy {
    Policy {
        restart: [Restart::Permanent, Restart::Transient, Restart::Temporary][restart as usize % 3],
        shutdown: [Shutdown::Timeout(Duration::from_secs(1)), Shutdown::Kill, Shutdown::Infinity]
            [shutdown as usize % 3],
        backoff: Backoff::fixed(Duration::from_millis(wait)),
        start_timeout: Some(Duration::from_secs(3)),
    }
}

fn strategies() -> impl Generator<Value = Strategy> {
    prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever children do: none runs twice, no more restarts than allowed, and a shutdown
    /// always comes to its end, in reverse order, with nothing left running.
    #[test]
    fn whatever_children_do_the_tree_stays_sound(
        strategy in strategies(),
        policies in prop::collection::vec((0u8..3, 0u8..3, prop_oneof![Just(0u64), 1..500u64]), 0..6),
        max_restarts in 0u32..6,
        steps in steps(),
    ) {
        let policies: Vec<Policy> =
            policies.into_iter().map(|(r, s, wait)| policy(r, s, wait)).collect();
        let within = Duration::from_secs(10);
        let mut world = World::new(strategy, Intensity::new(max_restarts, within), &policies);
        world.tell(Event::Boot);
        for step in steps {
            if world.finished.is_some() {
                break;
            }
            match step {
                Step::Ready(child) => world.become_ready(ChildId(child)),
                Step::Exit(child, true) => world.exit(ChildId(child), Exit::Normal),
                Step::Exit(child, false) => world.exit(ChildId(child), Exit::Killed),
                Step::Pass(millis) => world.pass(Duration::from_millis(millis)),
                Step::Remove(child) => world.tell(Event::Remove { child: ChildId(child) }),
                Step::Restart(child) => world.tell(Event::Restart { child: ChildId(child) }),
            }
        }
        for (index, at) in world.restarts.iter().enumerate() {
            let recent = world.restarts[..=index]
                .iter()
                .filter(|earlier| at.duration_since(**earlier) < within)
                .count();
            prop_assert!(recent <= max_restarts as usize);
        }
        world.stopped.clear();
        let mut asked = BTreeSet::new();
        if world.finished.is_none() {
            asked = world.live.iter().filter(|(_, live)| live.1).map(|(id, _)| *id).collect();
            world.tell(Event::Shutdown(Exit::Shutdown));
        }
        // Whoever was asked ends; whoever still waits is helped by time.
        for _ in 0..200 {
            if world.finished.is_some() {
                break;
            }
            let stopping = world.live.iter().find(|(_, live)| live.1).map(|(id, _)| *id);
            match stopping {
                Some(child) => world.exit(child, Exit::Shutdown),
                None => world.pass(Duration::from_secs(1)),
            }
        }
        prop_assert!(world.finished.is_some(), "the shutdown never ends");
        prop_assert!(world.live.is_empty(), "left running: {:?}", world.live);
        let order: Vec<_> = world.stopped.iter().filter(|id| !asked.contains(id)).collect();
        prop_assert!(order.windows(2).all(|pair| pair[0] > pair[1]), "order of stops: {order:?}");
    }

    /// Children start one after the other, each when the one before is ready.
    #[test]
    fn each_child_starts_when_the_one_before_is_ready(strategy in strategies(), count in 1u64..8) {
        let policies = vec![policy(0, 0, 0); usize::try_from(count).unwrap()];
        let mut world = World::new(strategy, Intensity::default(), &policies);
        world.tell(Event::Boot);
        for child in 0..count {
            prop_assert_eq!(world.started.len() as u64, child + 1);
            world.become_ready(ChildId(child));
        }
        prop_assert!(world.started.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

#[test]
fn a_healthy_period_makes_the_next_crash_the_first() {
    let steady = Policy {
        backoff: Backoff::linear(Duration::from_secs(1), Duration::from_secs(60))
            .reset_after(Duration::from_secs(100)),
        ..policy(0, 0, 0)
    };
    let mut world = World::new(Strategy::OneForOne, Intensity::unlimited(), &[steady]);
    world.tell(Event::Boot);
    let child = ChildId(0);
    for (runs_for, waits) in [(1, 1), (1, 2), (1, 3), (100, 1), (99, 2)] {
        world.become_ready(child);
        world.pass(Duration::from_secs(runs_for));
        world.exit(child, Exit::Killed);
        let starts = world.started.len();
        world.pass(Duration::from_millis(waits * 1000 - 1));
        assert_eq!(world.started.len(), starts, "restarted too early");
        world.pass(Duration::from_millis(1));
        assert_eq!(world.started.len(), starts + 1, "not restarted in time");
    }
}

#[test]
fn a_child_that_cannot_even_be_killed_is_left_behind() {
    let mut world = World::new(Strategy::OneForOne, Intensity::unlimited(), &[policy(0, 0, 0); 2]);
    world.tell(Event::Boot);
    world.become_ready(ChildId(0));
    world.become_ready(ChildId(1));
    world.tell(Event::Shutdown(Exit::Shutdown));
    world.pass(Duration::from_secs(1));
    world.pass(KILL_GRACE);
    assert!(world.abandoned.contains(&ChildId(1)));
    world.exit(ChildId(0), Exit::Shutdown);
    assert_eq!(world.finished, Some(Exit::Shutdown));
}
