//! The last look, when the cluster is whole and nothing is sent any more: all that was acknowledged is
//! there.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use odeum_runtime::api::types::CallOptions;
use tokio::time::{Instant, sleep};

use super::Work;
use super::entities::{Entities, ToldTo};
use super::target::{Asked, Guest};
use super::variables::{self, Variables};
use crate::check::findings::Finding;
use crate::check::history::Entry;
use crate::check::keys::Past;
use crate::check::operation::Op;
use crate::guests;
use crate::scenario::protocol::{Check, Looked};

/// How long anything may take to be answered at the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one try may.
const TRY: Duration = Duration::from_secs(5);

/// How many times as long as a request may take a watch may take to tell of the last write.
const UNTOLD: u32 = 3;

/// What it may take in any case, where requests may take less than the store does without anything wrong: a
/// group of which the leader is lost stands for election for up to 1.26 s, and twice when votes are split.
const UNTOLD_AT_LEAST: Duration = Duration::from_millis(2_500);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);

/// What is looked at at a time.
const AT_ONCE: usize = 16;

/// Entities that were told something and are looked at.
const TOLD: usize = 20_000;

/// Who reads, in histories.
const READER: u8 = u8::MAX;

impl Work {
    /// Looks at everything once more.
    pub(super) async fn look(&self) -> Looked {
        let mut looked = Looked::default();
        let guests = self.targets.iter().flat_map(|asked| match asked {
            Asked::Call { guests, .. } => guests.as_slice(),
            _ => &[],
        });
        stream::iter(guests).for_each_concurrent(AT_ONCE, |guest| self.look_at_guest(guest)).await;
        for asked in &self.targets {
            let Asked::Call { guests, .. } = asked else { continue };
            for guest in guests {
                let (answered, unknown) = guest.counter().asked();
                looked.counters += 1;
                looked.counted += answered;
                looked.unknown += unknown;
            }
        }
        if let Some(variables) = &self.variables {
            self.look_at_watch(variables).await;
            self.look_at_variables(variables).await;
            let counts = &variables.keys.counts;
            let of = |count: &std::sync::atomic::AtomicU64| {
                count.load(std::sync::atomic::Ordering::Relaxed)
            };
            looked.variables = of(&counts.checked);
            looked.operations = of(&counts.operations);
            looked.unknown += of(&counts.unknown);
            (looked.changes, looked.lapses) = variables.told().count();
        }
        if let Some(entities) = &self.entities {
            self.look_at_entities(entities, &mut looked).await;
        }
        looked
    }

    fn is_wrong(&self, check: Check, title: String) {
        self.teller.found(check, title, String::new());
    }

    async fn look_at_guest(&self, guest: &Guest) {
        let begin = Instant::now();
        loop {
            let Some(client) = self.nodes.at(self.nodes.turn()) else { return };
            let options = CallOptions { deadline: TRY, ..CallOptions::default() };
            match client.call(&guest.name, guests::GET.to_vec(), &options).await {
                Ok(answer) => {
                    let count = guests::count_in(&answer.body).unwrap_or_default();
                    let ended = guest.counter().ends_at(count);
                    if let Err(wrong) = ended {
                        self.is_wrong(Check::of(&wrong), format!("{wrong} ({})", guest.name));
                    }
                    return;
                }
                Err(error) if begin.elapsed() > PATIENCE => {
                    let title = format!("{} does not answer at the end: {error}", guest.name);
                    return self.is_wrong(Check::Health, title);
                }
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    async fn look_at_watch(&self, variables: &Variables) {
        let begin = Instant::now();
        let patience = (UNTOLD * self.scenario.deadline.0).max(UNTOLD_AT_LEAST);
        loop {
            let missing = variables.told().missing().cloned();
            match missing {
                None => return,
                Some(missing) if begin.elapsed() > patience => {
                    let title = format!("{missing:?} was acknowledged, and no watch tells of it");
                    return self.is_wrong(Check::Watch, title);
                }
                Some(_) => sleep(LOOK).await,
            }
        }
    }

    async fn look_at_variables(&self, variables: &Variables) {
        let found = |Finding { title, account, .. }| {
            self.teller.found(Check::Linearizability, title, account);
        };
        let all = match variables.keys.close() {
            Ok(all) => all,
            Err(finding) => return found(finding),
        };
        let names: Vec<String> = all.iter().map(|past| past.name.clone()).collect();
        let used = all.into_iter().filter(Past::was_used);
        stream::iter(used)
            .for_each_concurrent(AT_ONCE, async |mut past| {
                for node in 0..self.nodes.len() {
                    match self.read_at(node, &past.name).await {
                        Some(entry) => {
                            if let Err(finding) = past.read(entry) {
                                return found(finding);
                            }
                        }
                        None => {
                            let title = format!("{} cannot be read at the end", past.name);
                            return self.is_wrong(Check::Health, title);
                        }
                    }
                }
            })
            .await;
        stream::iter(names)
            .for_each_concurrent(AT_ONCE, async |name| variables::remove(self, &name).await)
            .await;
    }

    /// Reads a variable at a node, as soon as that answers.
    async fn read_at(&self, node: usize, name: &str) -> Option<Entry> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let called = variables::micros();
            if let Some(answer) = variables::read(self.nodes.at(node)?, name, TRY).await {
                let (op, returned) = (Op::Get { lease: false }, Some(variables::micros()));
                let answer = Some(answer);
                return Some(Entry { client: READER, node, op, called, returned, answer });
            }
            sleep(LOOK).await;
        }
        None
    }

    async fn look_at_entities(&self, entities: &Entities, looked: &mut Looked) {
        let faults = &self.scenario.faults;
        // Those that move with their shards begin anew, too.
        let may_lose = faults.iter().any(|fault| fault.value.loses_what_is_told());
        let told: Vec<(usize, ToldTo)> =
            entities.told().iter().take(TOLD).map(|(key, told)| (*key, *told)).collect();
        let (held, answers) = entities.asked();
        looked.entities = held + told.len() as u64;
        looked.messages = answers + told.iter().map(|(_, told)| told.number).sum::<u64>();
        let lost = stream::iter(told)
            .map(async |(key, told)| self.look_at_entity(entities, key, told, may_lose).await)
            .buffer_unordered(AT_ONCE);
        looked.lost_with_a_node = lost.fold(0, async |sum, lost| sum + lost).await;
    }

    /// How many messages an entity has lost with a node or a link.
    async fn look_at_entity(
        &self,
        entities: &Entities,
        key: usize,
        told: ToldTo,
        may_lose: bool,
    ) -> u64 {
        let Some(visitor) = entities.visitor_of(key) else { return 0 };
        let name = entities.entity(key);
        let begin = Instant::now();
        let counted = loop {
            match visitor.ask((name, &entities.sender, 0), "", TRY).await {
                Ok(counted) => break counted,
                Err(error) if begin.elapsed() > PATIENCE => {
                    let title = format!("entity {name} does not answer at the end: {error:?}");
                    self.is_wrong(Check::Health, title);
                    return 0;
                }
                Err(_) => sleep(LOOK).await,
            }
        };
        if counted.again > 0 {
            let title = format!("doubled: entity {name} had {} messages again", counted.again);
            self.is_wrong(Check::Doubled, title);
        }
        if counted.late > 0 {
            let late = counted.late;
            let title = format!("reordered: entity {name} had {late} messages behind later ones");
            self.is_wrong(Check::Reordered, title);
        }
        let missing = counted.missed + told.acknowledged.saturating_sub(counted.last);
        let lost = missing.saturating_sub(told.unknown);
        if lost > 0 && !may_lose {
            let title = format!(
                "lost: entity {name} was told {} messages, the last of which is {}; it had {} last \
                 and missed {} before",
                told.number, told.acknowledged, counted.last, counted.missed
            );
            self.is_wrong(Check::Lost, title);
            return 0;
        }
        lost
    }
}
