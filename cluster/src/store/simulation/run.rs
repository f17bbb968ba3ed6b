//! One run: its cluster is founded, things go wrong, and at the end all must be as promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use odeum_proto::session::Change;
use odeum_proto::{GroupId, Revision};

use super::PANICKED;
use super::history::{self, Written};
use super::host;
use super::plan::{Fault, Timed};
use super::wire::host;
use super::world::{Phase, Wish, World};
use crate::store::StoreHandle;
use crate::store::data::{Data, Watched};

/// How long anything may take when nothing goes wrong: an election and a snapshot, some times.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a machine is without power when that went in a flush.
const DARK: Duration = Duration::from_millis(500);

/// How fine the time of a run is.
const TICK: Duration = Duration::from_millis(2);

/// What came of it, or what is not as promised.
pub(super) type Outcome<T = ()> = Result<T, String>;

/// A run as it is made.
pub(super) struct Run<'a> {
    pub(super) sim: turmoil::Sim<'a>,
    pub(super) world: Arc<World>,
    /// Nodes that are down, and when they come back.
    down: BTreeMap<usize, Duration>,
}

impl Run<'_> {
    pub(super) fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let plan = &world.plan;
        tracing::info!(target: "simulation", seed, ?plan);
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(plan.latency)
            .udp_capacity(1 << 16)
            .enable_random_order();
        let mut sim = builder.build();
        for node in world.nodes() {
            let world = Arc::clone(&world);
            sim.host(host(node), move || host::run(Arc::clone(&world), node));
        }
        Self { sim, world, down: BTreeMap::new() }
    }

    /// One tick, and what has to be done for the nodes after it.
    fn step(&mut self) -> Outcome {
        self.sim.step().map_err(|error| error.to_string())?;
        let now = self.sim.elapsed();
        for node in self.world.nodes() {
            if self.world.disk(node).is_off() {
                self.take_down(node, true, now + DARK);
            }
        }
        let back: Vec<usize> =
            self.down.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect();
        for node in back {
            self.down.remove(&node);
            if !self.world.now().removed.contains(&node) {
                self.sim.bounce(host(node));
            }
        }
        let gone: Vec<usize> = {
            let now = self.world.now();
            now.removed.iter().filter(|node| now.stores.contains_key(node)).copied().collect()
        };
        for node in gone {
            self.take_down(node, false, Duration::MAX);
        }
        let faults = std::mem::take(&mut self.world.now().faults);
        match faults.first() {
            Some(fault) => Err(fault.clone()),
            None if PANICKED.load(Ordering::SeqCst) => Err("a task has panicked".into()),
            None => Ok(()),
        }
    }

    /// Lets a node die, which comes back at `until`.
    fn take_down(&mut self, node: usize, power: bool, until: Duration) {
        if self.down.contains_key(&node) || self.world.now().lives[node] == 0 {
            return;
        }
        // Before the rest of it, which closes its socket.
        let store = self.world.now().stores.remove(&node);
        drop(store);
        self.sim.crash(host(node));
        self.world.now().end_wish(node, false);
        let disk = self.world.disk(node);
        if power {
            disk.lose_power()
        } else {
            disk.lose_process()
        }
        self.down.insert(node, until);
    }

    /// Goes on until `reached`.
    fn until(&mut self, what: &str, mut reached: impl FnMut(&World) -> bool) -> Outcome {
        let end = self.sim.elapsed() + PATIENCE;
        while !reached(&self.world) {
            self.step()?;
            if self.sim.elapsed() > end {
                return Err(format!("not in time: {what}\n{}", self.situation()));
            }
        }
        Ok(())
    }

    /// What each node says of each group.
    pub(super) fn situation(&self) -> String {
        let mut lines = vec![format!("wishes: {:?}", self.world.now().wishes)];
        let nodes: Vec<_> = self.world.now().stores.values().cloned().collect();
        for status in nodes.iter().flat_map(StoreHandle::statuses) {
            lines.push(format!("{status:?}"));
        }
        lines.join("\n")
    }

    /// From nothing to the end.
    pub(super) fn make(&mut self) -> Outcome {
        self.until("the cluster is founded and filled", |world| {
            let members = world.members();
            members.len() == world.plan.nodes
                && members.iter().all(|(_, store)| {
                    let all_vote = |group| {
                        let status = store.status_of(group);
                        let voters = status.members.iter().filter(|member| member.voter).count();
                        status.leader.is_some() && voters == world.plan.nodes
                    };
                    World::groups().all(all_vote)
                })
        })?;
        self.world.now().wishes.push_back(Wish::Prepare);
        self.world.now().phase = Phase::Busy;
        self.until("clients can begin", |world| world.now().prepared)?;
        self.go_wrong()?;
        self.world.now().phase = Phase::End;
        self.until("every node can write to every group", |world| {
            let now = world.now();
            let all = now.invited.difference(&now.removed);
            now.wishes.is_empty()
                && now.doing.is_empty()
                && all.clone().all(|node| now.wrote.contains(node))
        })?;
        self.until("all replicas have all", |world| {
            let members = world.members();
            let revision =
                |group| members.iter().map(move |(_, store)| store.view_at(group, |_, at| at));
            World::groups().all(|group| {
                let mut revisions = revision(group);
                let first = revisions.next();
                revisions.all(|other| Some(other) == first)
            })
        })?;
        self.compare()
    }

    /// Everything that is planned.
    fn go_wrong(&mut self) -> Outcome {
        let begin = self.sim.elapsed();
        let plan = self.world.plan.clone();
        let mut todo: Vec<(Duration, bool, Timed)> = Vec::new();
        for &timed in &plan.faults {
            todo.push((timed.at, true, timed));
            todo.push((timed.at + timed.lasts, false, timed));
        }
        todo.sort_by_key(|(at, ..)| *at);
        let mut todo = todo.into_iter().peekable();
        while todo.peek().is_some() || self.sim.elapsed() < begin + plan.busy {
            let passed = self.sim.elapsed() - begin;
            while let Some((_, begins, timed)) = todo.next_if(|(at, ..)| *at <= passed) {
                tracing::info!(target: "simulation", ?passed, begins, fault = ?timed.fault);
                if begins { self.begin(timed) } else { self.finish(timed.fault) }
            }
            self.step()?;
        }
        // What was held by one fault and set free by another.
        for (a, b) in self.pairs() {
            self.sim.release(host(a), host(b));
        }
        for node in self.world.nodes() {
            self.world.disk(node).keep_power();
        }
        Ok(())
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let nodes = self.world.nodes();
        nodes
            .clone()
            .flat_map(|a| nodes.clone().map(move |b| (a, b)))
            .filter(|(a, b)| a < b)
            .collect()
    }

    fn begin(&mut self, Timed { lasts, fault, .. }: Timed) {
        let until = self.sim.elapsed() + lasts;
        let wish = |wish| self.world.now().wishes.push_back(wish);
        match fault {
            Fault::Kill(node) => self.take_down(node, false, until),
            Fault::PowerLoss(node) => self.take_down(node, true, until),
            Fault::PowerLossInFlush(node, syncs) => {
                self.world.disk(node).lose_power_after(syncs);
            }
            Fault::Blackout => {
                for node in self.world.nodes() {
                    self.take_down(node, true, until);
                }
            }
            Fault::Cut(node) => {
                for other in self.world.nodes().filter(|other| *other != node) {
                    self.sim.partition(host(node), host(other));
                }
            }
            Fault::Deaf(from, to) => self.sim.partition_oneway(host(from), host(to)),
            Fault::Hold(a, b) => self.sim.hold(host(a), host(b)),
            Fault::Loss(percent) => self.world.now().loss = percent,
            Fault::HandOver(node) => wish(Wish::HandOver(node)),
            Fault::Leave(node) => wish(Wish::Remove(node)),
            Fault::Join => {
                let new = self.world.plan.nodes;
                self.world.now().invited.insert(new);
                wish(Wish::Admit(new));
            }
        }
    }

    fn finish(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(node) => {
                for other in self.world.nodes().filter(|other| *other != node) {
                    self.sim.repair(host(node), host(other));
                }
            }
            Fault::Deaf(from, to) => self.sim.repair_oneway(host(from), host(to)),
            Fault::Hold(a, b) => self.sim.release(host(a), host(b)),
            Fault::Loss(_) => self.world.now().loss = 0,
            _ => {}
        }
    }

    /// What must be true at the end.
    fn compare(&self) -> Outcome {
        let members = self.world.members();
        let mut all = Vec::new();
        for group in World::groups().filter(|group| *group != GroupId::Control) {
            let states: Vec<Data> =
                members.iter().map(|(_, store)| store.view_data(group, Clone::clone)).collect();
            if let Some(other) = states.iter().position(|state| *state != states[0]) {
                return Err(format!(
                    "{group} differs at {} and {}",
                    members[0].0, members[other].0
                ));
            }
            let changes = states[0].changes_after(Revision(0), Watched::All);
            let changes: Vec<_> = changes.map_err(|gone| format!("{gone:?}"))?.cloned().collect();
            history::money_moves_whole(changes.iter())?;
            if group == GroupId::Data(0) {
                self.watchers_saw(&changes)?;
            }
            all.extend(changes);
        }
        let control: Vec<_> = members.iter().map(|(_, store)| store.view(Clone::clone)).collect();
        if control.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err("the control group differs".into());
        }
        history::check(&self.world.now().events, &Written::of(all.iter()))
    }

    /// Every watcher has seen the changes as they are, as far as it lived.
    fn watchers_saw(&self, changes: &[Arc<Change>]) -> Outcome {
        let now = self.world.now();
        for (node, seen) in &now.watched {
            let there = changes.iter().take_while(|change| change.revision <= seen.revision);
            if !there.eq(seen.changes.iter()) {
                return Err(format!("node {node} has not seen each change once"));
            }
            let lives = now.stores.contains_key(node) && !now.removed.contains(node);
            let last = changes.last().map(|change| change.revision);
            if lives && last > Some(seen.revision) {
                return Err(format!("node {node} has seen {} of {last:?}", seen.revision));
            }
        }
        Ok(())
    }
}
