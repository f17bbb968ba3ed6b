//! The load itself: what generators say, what nodes take, and the faults meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use odeum_runtime::api::client::ApiClient;
use tokio::time::{Instant, interval, timeout};

use super::Director;
use super::generators::{Generators, understood};
use super::stage::Stage;
use crate::fleet::Pids;
use crate::monotonic;
use crate::scenario::collect::Collected;
use crate::scenario::live::View;
use crate::scenario::outcome::FaultMark;
use crate::scenario::protocol::{Check, Found, Looked, Order, Said};
use crate::scenario::sample::Samples;
use crate::scenario::spec::Fault;
use crate::scenario::timetable::timetable;
use crate::scenario::torment::{Marks, Torment};
use crate::scenario::{lasts, machine};

/// Between the order to begin and the first send.
const LEAD: Duration = Duration::from_millis(300);

/// How often nodes and generators are looked at, and the picture is drawn.
const LOOK: Duration = Duration::from_secs(1);

/// How long after its deadline an answer may come to be told by a generator, in seconds.
const BEHIND: u64 = 5;

/// What is found wrong and kept: what follows it proves nothing more.
const FOUND: usize = 100;

/// What comes out of a load.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) collected: Collected,
    pub(super) samples: Samples,
    pub(super) found: Vec<Found>,
    pub(super) marks: Marks,
    pub(super) looked: Looked,
    pub(super) longest_gap_us: u64,
}

impl Director {
    /// The load itself, with its faults.
    pub(super) async fn load(
        &mut self,
        stage: &mut Stage,
        generators: &mut Generators,
        pids: &Pids,
        load: &mut Load,
    ) -> anyhow::Result<()> {
        let (faults, events) = timetable(&self.scenario);
        let mark = |fault: &Fault| FaultMark {
            name: fault.to_string(),
            begins_s: fault.when().0.as_secs_f64(),
            ends_s: None,
            whole_s: None,
            not_possible: None,
        };
        load.marks = Arc::new(Mutex::new(faults.iter().map(mark).collect()));
        let at = monotonic::now() + u64::try_from(LEAD.as_nanos())?;
        for generator in &mut generators.all {
            generator.order(&Order::Begin { at }).await?;
        }
        let began = Instant::now() + LEAD;
        let names = stage.nodes.iter().map(|node| node.name.clone());
        let nodes = names.zip(stage.clients.iter().cloned()).collect();
        let mut torment = Torment::new(
            stage.fleet.as_mut(),
            nodes,
            stage.deployed.clone(),
            (self.able.clone(), self.scenario.seed()),
            Arc::clone(&load.marks),
        );
        let mut over = 0;
        {
            let tormenting = torment.run(&faults, &events, began);
            tokio::pin!(tormenting);
            let (mut tormented, mut ticks) = (false, interval(LOOK));
            while over < generators.all.len() || !tormented {
                tokio::select! {
                    word = generators.words.recv() => {
                        over += usize::from(self.take(load, understood(word)?));
                    }
                    () = &mut tormenting, if !tormented => tormented = true,
                    _ = ticks.tick() => {
                        self.tick(load, (generators, pids), &stage.clients, began).await;
                    }
                }
            }
        }
        let errors = std::mem::take(&mut torment.errors);
        drop(torment);
        for error in errors {
            self.is_wrong(load, Check::Health, format!("health: {error}"));
        }
        Ok(())
    }

    /// Takes what a generator says; whether it is over.
    pub(super) fn take(&mut self, load: &mut Load, said: Said) -> bool {
        match said {
            Said::Second { number, counts } => load.collected.take(number, &counts),
            Said::Found(found) => self.found(load, found),
            Said::Over { longest_gap_us } => {
                load.longest_gap_us = load.longest_gap_us.max(longest_gap_us);
                return true;
            }
            Said::Done(looked) => {
                load.looked.add(&looked);
                return true;
            }
            Said::Ready | Said::Failed(_) => {}
        }
        false
    }

    fn found(&mut self, load: &mut Load, found: Found) {
        if load.found.len() < FOUND {
            self.live.say(&format!("FOUND: {}", found.title));
            load.found.push(found);
        }
    }

    pub(super) fn is_wrong(&mut self, load: &mut Load, check: Check, title: String) {
        self.found(load, Found { check, title, account: String::new() });
    }

    /// Once a second.
    async fn tick(
        &mut self,
        load: &mut Load,
        (generators, pids): (&Generators, &Pids),
        clients: &[ApiClient],
        began: Instant,
    ) {
        let elapsed = Instant::now().saturating_duration_since(began);
        let memory = look_at_nodes(&mut load.samples, pids, clients).await;
        let share = elapsed.as_secs_f64() / lasts(&self.scenario).as_secs_f64();
        for generator in &generators.all {
            if let Some(pid) = generator.child.id() {
                load.samples.look_at_generator(pid, share);
            }
        }
        let second = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        // Of this second nothing may have come yet.
        load.collected.takes_memory(second.saturating_sub(1), memory);
        let behind = self.scenario.deadline.0.as_secs() + BEHIND;
        let behind = u32::try_from(behind).unwrap_or(u32::MAX);
        load.collected.close_before(second.saturating_sub(behind));
        let marks = load.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let view = View {
            scenario: &self.scenario,
            elapsed,
            collected: &load.collected,
            faults: &marks,
            found: &load.found,
            memory,
        };
        self.live.draw(&view);
    }
}

pub(super) fn files_of(pids: &Pids, name: &str) -> Option<u64> {
    let pid = pids.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()?;
    machine::files_of(pid)
}

/// Looks at all nodes; the memory of the largest.
pub(super) async fn look_at_nodes(
    samples: &mut Samples,
    pids: &Pids,
    clients: &[ApiClient],
) -> u64 {
    let here = pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !here.is_empty() {
        let memory = here.iter().map(|(name, pid)| samples.look_at(name, *pid));
        return memory.max().unwrap_or_default();
    }
    // They are elsewhere, and tell about themselves.
    let Some(client) = clients.first() else { return 0 };
    let Ok(Ok(nodes)) = timeout(LOOK / 2, client.nodes()).await else { return 0 };
    let mut most = 0;
    for node in nodes {
        if let Some(told) = node.load {
            samples.has_memory(node.id.as_str(), told.memory_bytes);
            most = most.max(told.memory_bytes);
        }
    }
    most
}
