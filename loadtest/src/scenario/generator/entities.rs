//! Entities in Rust: asked by any node, told by always the same one, so that what is told has an order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Ended, Work};
use crate::check::counts::{Counter, Told};
use crate::door::{DoorError, NOBODY, Visitor};
use crate::scenario::protocol::Check;

/// Entities of one generator whose answers are held against each other: with a million names that are
/// asked once there is nothing to hold.
const HELD: usize = 20_000;

/// The pause before a node is asked for another.
const PAUSE: Duration = Duration::from_millis(20);

/// What was told to one entity.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ToldTo {
    /// The number of the latest message.
    pub(super) number: u64,
    /// The number of the latest one that was acknowledged.
    pub(super) acknowledged: u64,
    /// Messages of which nobody knows whether they were sent.
    pub(super) unknown: u64,
}

/// All entities of a generator.
#[derive(Debug)]
pub(crate) struct Entities {
    visitors: Vec<Visitor>,
    index: usize,
    of: usize,
    pub(super) sender: String,
    counters: Mutex<HashMap<usize, Counter>>,
    told: Mutex<HashMap<usize, ToldTo>>,
}

impl Entities {
    /// Those of generator `index` of `of`.
    pub(super) fn new(doors: &[SocketAddr], (index, of): (usize, usize), run: &str) -> Self {
        Self {
            visitors: doors.iter().map(|door| Visitor::new(*door)).collect(),
            index,
            of,
            sender: format!("{run}-{index}"),
            counters: Mutex::default(),
            told: Mutex::default(),
        }
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<usize, Counter>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn told(&self) -> MutexGuard<'_, HashMap<usize, ToldTo>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked: entities that were held, and answers.
    pub(super) fn asked(&self) -> (u64, u64) {
        let counters = self.counters();
        (counters.len() as u64, counters.values().map(|counter| counter.asked().0).sum())
    }

    /// The number of an entity among those of all generators.
    pub(super) fn entity(&self, key: usize) -> usize {
        key * self.of + self.index
    }

    /// The node by which an entity is told.
    pub(super) fn visitor_of(&self, key: usize) -> Option<&Visitor> {
        self.visitors.get(key % self.visitors.len().max(1))
    }
}

fn name_of(error: &DoorError) -> String {
    match error {
        DoorError::Closed => "not running".to_owned(),
        DoorError::Lost => "connection lost".to_owned(),
        DoorError::Refused(why) => why.clone(),
    }
}

impl Work {
    /// Asks an entity, by the node whose turn it is.
    pub(super) async fn ask_entity(&self, entities: &Entities, key: usize, size: usize) -> Ended {
        let floor = {
            let mut counters = entities.counters();
            let is_held = counters.len() < HELD || counters.contains_key(&key);
            is_held.then(|| counters.entry(key).or_insert_with(|| Counter::new(true)).sent())
        };
        let until = Instant::now() + self.scenario.deadline.0;
        let payload = "x".repeat(size);
        let mut ended = Ended { bytes: size as u64, ..Ended::default() };
        loop {
            let place = self.nodes.turn() % entities.visitors.len().max(1);
            let Some(visitor) = entities.visitors.get(place) else { return ended };
            let left = until.saturating_duration_since(Instant::now());
            let entity = (entities.entity(key), NOBODY, 1);
            match visitor.ask(entity, &payload, left).await {
                Ok(counted) => {
                    let Some(floor) = floor else { return ended };
                    let (count, epoch) = (counted.count, counted.life);
                    let told = Told { count, epoch, node: &counted.node, replayed: false };
                    let result = match entities.counters().get_mut(&key) {
                        Some(counter) => counter.answered(floor, told),
                        None => Ok(()),
                    };
                    if let Err(wrong) = result {
                        let title = format!("{wrong} (entity {})", entities.entity(key));
                        self.teller.found(Check::of(&wrong), title, String::new());
                    }
                    return ended;
                }
                Err(DoorError::Closed) if left > 2 * PAUSE => {
                    ended.retried += 1;
                    sleep(PAUSE).await;
                }
                Err(error) => {
                    ended.error = Some(name_of(&error));
                    return ended;
                }
            }
        }
    }

    /// Tells an entity.
    pub(super) async fn tell_entity(&self, entities: &Entities, key: usize, size: usize) -> Ended {
        let mut ended = Ended { bytes: size as u64, ..Ended::default() };
        let Some(visitor) = entities.visitor_of(key) else { return ended };
        let mut number = 0;
        let next = || {
            let mut told = entities.told();
            let of = told.entry(key).or_default();
            of.number += 1;
            number = of.number;
            of.number
        };
        let to = (entities.entity(key), entities.sender.as_str());
        let result = visitor.tell(to, next, &"x".repeat(size), self.scenario.deadline.0).await;
        if let Some(of) = entities.told().get_mut(&key) {
            match &result {
                Ok(()) => of.acknowledged = of.acknowledged.max(number),
                // Without a number it was not sent.
                Err(_) if number > 0 => of.unknown += 1,
                Err(_) => {}
            }
        }
        ended.error = result.err().map(|error| name_of(&error));
        ended
    }
}
