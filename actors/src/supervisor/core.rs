//! What a supervisor decides: `(state, event, now) -> (state, commands)`. No task, no clock,
//! no ractor; the actor beside it ([`super::actor`]) carries the commands out.
//!
//! Children are kept by an id that grows with every one added, so their order is start
//! order, and a restart of one touches none of the others.
//!
//! Source of the semantics: Erlang/OTP, `supervisor(3)`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::child::Policy;
use crate::event::Change;
use crate::policy::exit::{Exit, GaveUp};
use crate::policy::{Intensity, Restart, Shutdown, Strategy, Window};

use self::kid::{Due, Group, Kid, Mode, Phase, Stage, Then};

mod group;
mod kid;

/// A child of one supervisor; ids grow in start order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChildId(pub(crate) u64);

/// How long a killed child may take to be gone. A kill drops the child's future at its next
/// await, so longer means that it blocks its thread.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(2);

/// How many exits the report of a supervisor that gave up lists.
const LAST_EXITS: usize = 8;

#[derive(Debug)]
pub(crate) enum Event {
    /// Start the static children.
    Boot,
    Ready {
        child: ChildId,
        run: u64,
    },
    Exited {
        child: ChildId,
        run: u64,
        exit: Exit,
    },
    /// Remove a child, stopping it first.
    Remove {
        child: ChildId,
    },
    /// Stop a child if it runs, and start it again.
    Restart {
        child: ChildId,
    },
    /// Stop all and end with this.
    Shutdown(Exit),
    /// Time passed.
    Tick,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Start {
        child: ChildId,
        run: u64,
    },
    Stop {
        child: ChildId,
    },
    Kill {
        child: ChildId,
    },
    Publish {
        child: ChildId,
        change: Change,
    },
    /// All static children are ready.
    Ready,
    Finish(Exit),
}

#[derive(Debug)]
pub(crate) struct Core {
    name: Arc<str>,
    strategy: Strategy,
    window: Window,
    /// Boxed: a tree filled in order leaves its nodes half empty.
    children: BTreeMap<ChildId, Box<Kid>>,
    next_id: u64,
    group: Option<Group>,
    mode: Mode,
    timers: BTreeMap<(Instant, u64), Due>,
    next_timer: u64,
    last: VecDeque<(Arc<str>, Exit)>,
    now: Instant,
    random: f64,
    out: Vec<Command>,
}

impl Core {
    pub(crate) fn new(
        name: Arc<str>,
        strategy: Strategy,
        intensity: Intensity,
        now: Instant,
    ) -> Self {
        Self {
            name,
            strategy,
            window: Window::new(intensity),
            children: BTreeMap::new(),
            next_id: 0,
            group: None,
            mode: Mode::Booting,
            timers: BTreeMap::new(),
            next_timer: 0,
            last: VecDeque::new(),
            now,
            random: 0.0,
            out: Vec::new(),
        }
    }

    /// Declares a child; it starts with [`Event::Boot`] or [`Event::Restart`].
    pub(crate) fn declare(&mut self, name: Arc<str>, policy: Policy) -> ChildId {
        let id = ChildId(self.next_id);
        self.next_id += 1;
        let kid = Kid {
            name,
            policy,
            phase: Phase::Idle,
            run: 0,
            streak: 0,
            restarts: 0,
            proven: false,
            timed_out: false,
            timer: None,
        };
        self.children.insert(id, Box::new(kid));
        id
    }

    /// Whether children can be added.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.mode, Mode::Booting | Mode::Running)
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// `random` is between 0 and 1 and drawn anew for every event.
    pub(crate) fn on(&mut self, event: Event, now: Instant, random: f64) -> Vec<Command> {
        self.now = now;
        self.random = random;
        match event {
            Event::Boot => self.boot(),
            Event::Ready { child, run } => self.on_ready(child, run),
            Event::Exited { child, run, exit } => self.on_exited(child, run, exit),
            Event::Remove { child } => self.on_remove(child),
            Event::Restart { child } => self.on_restart(child),
            Event::Shutdown(exit) => self.end(exit),
            Event::Tick => self.on_tick(),
        }
        std::mem::take(&mut self.out)
    }

    fn boot(&mut self) {
        let first = ChildId(0);
        self.group = Some(Group { from: first, cursor: first, stage: Stage::Starting });
        self.step();
    }

    fn on_ready(&mut self, child: ChildId, run: u64) {
        let now = self.now;
        let Some(kid) = self.children.get_mut(&child) else { return };
        if kid.run != run || kid.phase != Phase::Starting {
            return;
        }
        kid.phase = Phase::Running { since: now };
        kid.proven = true;
        self.disarm(child);
        self.publish(child, Change::Ready);
        self.step();
    }

    fn on_exited(&mut self, child: ChildId, run: u64, exit: Exit) {
        let Some(kid) = self.children.get_mut(&child) else { return };
        if kid.run != run {
            return;
        }
        let phase = kid.phase;
        let exit = if kid.timed_out { Exit::StartTimeout } else { exit };
        kid.timed_out = false;
        match phase {
            Phase::Stopping { then, .. } => {
                self.disarm(child);
                self.stopped(child, then, exit);
            }
            Phase::Starting => {
                self.disarm(child);
                self.crashed(child, exit, None);
            }
            Phase::Running { since } => self.crashed(child, exit, Some(since)),
            Phase::Idle | Phase::Backoff | Phase::Done => {}
        }
    }

    /// A stop that was wanted has come to its end.
    fn stopped(&mut self, child: ChildId, then: Then, exit: Exit) {
        self.publish(child, Change::Stopped(exit));
        let temporary = self.kid(child, |kid| {
            kid.phase = Phase::Idle;
            kid.policy.restart == Restart::Temporary
        });
        match then {
            Then::Remove => self.forget(child),
            Then::Start if self.is_open() => self.start(child),
            Then::Start => {}
            // A temporary child does not come back after a group's restart.
            Then::Idle if temporary == Some(true) && self.is_open() => self.forget(child),
            Then::Idle => {}
        }
        self.step();
    }

    /// A child ended without being asked to.
    fn crashed(&mut self, child: ChildId, exit: Exit, ran_since: Option<Instant>) {
        self.publish(child, Change::Exited(exit.clone()));
        let now = self.now;
        let open = self.is_open();
        let Some(kid) = self.children.get_mut(&child) else { return };
        kid.phase = Phase::Idle;
        let name = Arc::clone(&kid.name);
        if exit.is_abnormal() {
            if self.last.len() == LAST_EXITS {
                self.last.pop_front();
            }
            self.last.push_back((Arc::clone(&name), exit.clone()));
        }
        if !open {
            self.step();
            return;
        }
        if !kid.proven {
            // It never ran: who added it, or who started this supervisor, gets the error.
            if self.mode == Mode::Booting {
                let reason = format!("{name} {exit}").into();
                self.end(Exit::StartFailed { reason });
            } else {
                self.forget(child);
                self.step();
            }
            return;
        }
        if !kid.policy.restart.applies(&exit) {
            if kid.policy.restart == Restart::Temporary {
                self.forget(child);
            } else {
                kid.phase = Phase::Done;
            }
            self.step();
            return;
        }
        if ran_since.is_some_and(|since| {
            kid.policy.backoff.is_healthy(now.saturating_duration_since(since))
        }) {
            kid.streak = 0;
        }
        kid.streak = kid.streak.saturating_add(1);
        let wait = kid.policy.backoff.wait(kid.streak, self.random);
        let attempt = kid.streak;
        kid.restarts += 1;
        if !self.window.admit(now) {
            self.give_up(child);
            return;
        }
        self.publish(child, Change::Restarting { after: wait, attempt });
        match self.strategy {
            Strategy::OneForOne => self.restart_one(child, wait),
            Strategy::OneForAll => self.restart_group(ChildId(0), wait),
            Strategy::RestForOne => self.restart_group(child, wait),
        }
    }

    fn restart_one(&mut self, child: ChildId, wait: Duration) {
        if wait.is_zero() {
            self.start(child);
        } else {
            self.kid(child, |kid| kid.phase = Phase::Backoff);
            self.arm(child, wait);
        }
        self.step();
    }

    fn give_up(&mut self, child: ChildId) {
        let Some(kid) = self.children.get(&child) else { return };
        let intensity = self.window.intensity();
        let mut report = GaveUp::new(Arc::clone(&self.name), Arc::clone(&kid.name), intensity);
        report.restarts = kid.restarts;
        report.last = self.last.iter().cloned().collect();
        self.end(Exit::GaveUp(Arc::new(report)));
    }

    fn end(&mut self, exit: Exit) {
        if !self.is_open() {
            return;
        }
        self.group = None;
        self.mode = Mode::Ending { exit, cursor: ChildId(u64::MAX) };
        self.step();
    }

    fn on_remove(&mut self, child: ChildId) {
        match self.phase(child) {
            Some(Phase::Starting | Phase::Running { .. }) => self.stop(child, Then::Remove),
            Some(Phase::Stopping { killed, .. }) => {
                let phase = Phase::Stopping { then: Then::Remove, killed };
                self.kid(child, |kid| kid.phase = phase);
            }
            Some(Phase::Idle | Phase::Backoff | Phase::Done) => {
                self.disarm(child);
                self.forget(child);
                self.step();
            }
            None => {}
        }
    }

    fn on_restart(&mut self, child: ChildId) {
        if !self.is_open() {
            return;
        }
        match self.phase(child) {
            Some(Phase::Starting | Phase::Running { .. }) => self.stop(child, Then::Start),
            Some(Phase::Stopping { then: Then::Idle, killed }) => {
                let phase = Phase::Stopping { then: Then::Start, killed };
                self.kid(child, |kid| kid.phase = phase);
            }
            // While a group stops or starts, it will start this one in its order.
            Some(Phase::Idle) if self.group.is_some() => {}
            Some(Phase::Idle | Phase::Backoff | Phase::Done) => {
                self.disarm(child);
                self.start(child);
            }
            Some(Phase::Stopping { .. }) | None => {}
        }
    }

    fn on_tick(&mut self) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            match entry.remove() {
                Due::Child(child) => {
                    self.kid(child, |kid| kid.timer = None);
                    self.on_due(child);
                }
                Due::Group => self.on_group_due(),
            }
        }
    }

    fn on_due(&mut self, child: ChildId) {
        match self.phase(child) {
            Some(Phase::Backoff) => {
                self.start(child);
                self.step();
            }
            Some(Phase::Starting) => {
                let killed_before =
                    self.kid(child, |kid| std::mem::replace(&mut kid.timed_out, true));
                if killed_before == Some(true) {
                    self.abandon(child);
                } else {
                    self.out.push(Command::Kill { child });
                    self.arm(child, KILL_GRACE);
                }
            }
            Some(Phase::Stopping { killed: true, .. }) => self.abandon(child),
            Some(Phase::Stopping { then, killed: false }) => {
                self.kid(child, |kid| kid.phase = Phase::Stopping { then, killed: true });
                self.out.push(Command::Kill { child });
                self.arm(child, KILL_GRACE);
            }
            Some(Phase::Idle | Phase::Running { .. } | Phase::Done) | None => {}
        }
    }

    /// Goes on without a child that a kill did not end. Its late exit is told apart by `run`.
    fn abandon(&mut self, child: ChildId) {
        self.publish(child, Change::Abandoned);
        if let Some(run) = self.kid(child, |kid| kid.run) {
            self.on_exited(child, run, Exit::Stuck);
            self.kid(child, |kid| {
                if kid.run == run {
                    kid.run += 1;
                }
            });
        }
    }

    fn start(&mut self, child: ChildId) {
        let Some(kid) = self.children.get_mut(&child) else { return };
        kid.run += 1;
        kid.phase = Phase::Starting;
        kid.timed_out = false;
        let run = kid.run;
        let limit = kid.policy.start_timeout;
        self.publish(child, Change::Starting);
        self.out.push(Command::Start { child, run });
        if let Some(limit) = limit {
            self.arm(child, limit);
        }
    }

    fn stop(&mut self, child: ChildId, then: Then) {
        let Some(shutdown) = self.kid(child, |kid| kid.policy.shutdown) else { return };
        self.disarm(child);
        let killed = shutdown == Shutdown::Kill;
        self.kid(child, |kid| kid.phase = Phase::Stopping { then, killed });
        match shutdown {
            Shutdown::Kill => {
                self.out.push(Command::Kill { child });
                self.arm(child, KILL_GRACE);
            }
            Shutdown::Timeout(limit) => {
                self.out.push(Command::Stop { child });
                self.arm(child, limit);
            }
            Shutdown::Infinity => self.out.push(Command::Stop { child }),
        }
    }

    fn forget(&mut self, child: ChildId) {
        self.disarm(child);
        if self.children.remove(&child).is_some() {
            self.publish(child, Change::Removed);
        }
    }

    fn arm(&mut self, child: ChildId, wait: Duration) {
        self.disarm(child);
        let key = (self.now + wait, self.next_timer);
        self.next_timer += 1;
        if let Some(kid) = self.children.get_mut(&child) {
            kid.timer = Some(key);
            self.timers.insert(key, Due::Child(child));
        }
    }

    fn disarm(&mut self, child: ChildId) {
        if let Some(key) = self.children.get_mut(&child).and_then(|kid| kid.timer.take()) {
            self.timers.remove(&key);
        }
    }

    fn publish(&mut self, child: ChildId, change: Change) {
        self.out.push(Command::Publish { child, change });
    }

    fn phase(&self, child: ChildId) -> Option<Phase> {
        self.children.get(&child).map(|kid| kid.phase)
    }

    fn kid<R>(&mut self, child: ChildId, change: impl FnOnce(&mut Kid) -> R) -> Option<R> {
        self.children.get_mut(&child).map(|kid| change(kid))
    }
}

#[cfg(test)]
mod tests;
