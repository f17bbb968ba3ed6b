//! What the present instance waits for: its timers, its asks, its topics.
//!
//! They end with the instance, or go with it when it moves with its memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use bytes::Bytes;
use odeum_actors::{Context, TimerKey};
use tokio::{task::AbortHandle, time::Instant};

use super::{HostActor, events::Event};
use crate::firmware::{
    deeds::Message,
    travel::{Asked, CARRIED_BYTES, Carried},
};

/// Why an ask has no outcome whose message was too much to go with the guest.
const LEFT_BEHIND: &str = "the guest moved to another node before the answer came, and had too much under \
                           way to ask again there";

/// What is outstanding for the present instance.
#[derive(Default)]
pub(super) struct Outstanding {
    /// Counts the instances, from 1.
    life: u64,
    /// Whether what it waits for goes with it when it moves.
    goes_with_it: bool,
    timers: HashMap<u64, Timer>,
    asks: HashMap<u64, Ask>,
    topics: Vec<(String, AbortHandle)>,
    /// Bytes of the messages that are kept.
    kept: usize,
}

struct Timer {
    key: TimerKey,
    set: Instant,
    after: Duration,
}

struct Ask {
    made: Instant,
    /// Its message, for when the guest moves.
    message: Option<Message>,
}

impl Outstanding {
    /// Which instance it is of.
    pub(super) fn life(&self) -> u64 {
        self.life
    }

    /// Whether the instance waits for nothing that would come to it alone.
    pub(super) fn is_nothing(&self) -> bool {
        self.timers.is_empty() && self.topics.is_empty() && self.asks.is_empty()
    }

    /// A new instance begins: nothing of the last one comes to it.
    pub(super) fn renew(&mut self, ctx: &mut Context<HostActor>, goes_with_it: bool) {
        for (_, timer) in self.timers.drain() {
            ctx.cancel(timer.key);
        }
        for (_, task) in self.topics.drain(..) {
            task.abort();
        }
        *self = Self { life: self.life + 1, goes_with_it, ..Self::default() };
    }

    pub(super) fn timer_set(&mut self, number: u64, key: TimerKey, after: Duration) {
        self.timers.insert(number, Timer { key, set: Instant::now(), after });
    }

    /// The timer, if it has not been told yet.
    pub(super) fn timer_cancelled(&mut self, number: u64) -> Option<TimerKey> {
        self.timers.remove(&number).map(|timer| timer.key)
    }

    /// An ask is made. Its message is kept as far as it could go with the guest.
    pub(super) fn asked(&mut self, number: u64, message: &Message) {
        let kept = self.kept + message.call.body.len();
        let is_kept = self.goes_with_it && kept <= CARRIED_BYTES;
        if is_kept {
            self.kept = kept;
        }
        let message = is_kept.then(|| message.clone());
        self.asks.insert(number, Ask { made: Instant::now(), message });
    }

    /// An ask has an outcome that the guest is still to be told.
    pub(super) fn answered(&mut self, number: u64) {
        self.asks.insert(number, Ask { made: Instant::now(), message: None });
    }

    pub(super) fn subscribed(&mut self, topic: String, task: AbortHandle) {
        self.topics.push((topic, task));
    }

    /// Something happens to the instance; whether it still waits for that.
    pub(super) fn came(&mut self, event: &Event) -> bool {
        match event {
            Event::TimedOut(number) => self.timers.remove(number).is_some(),
            Event::Answered { number, .. } => match self.asks.entry(*number) {
                Entry::Occupied(ask) => {
                    let message = ask.remove().message;
                    self.kept -= message.map_or(0, |message| message.call.body.len());
                    true
                }
                Entry::Vacant(_) => false,
            },
            Event::Started | Event::Published(_) => true,
        }
    }

    /// What goes with the instance, to which `events` have happened that it was not told of.
    pub(super) fn carried<'a>(&self, events: impl Iterator<Item = &'a Event>) -> Carried {
        let mut carried = Carried::default();
        let mut bytes = 0;
        for event in events {
            let Event::Answered { number, outcome } = event else { continue };
            bytes += outcome.as_ref().map_or(0, Vec::len);
            // What has no room is asked again.
            if self.asks.contains_key(number) && bytes <= CARRIED_BYTES {
                let outcome = outcome.as_deref().map(Bytes::copy_from_slice);
                carried.answers.push((*number, outcome.map_err(Clone::clone)));
            }
        }
        let left = |since: Instant, of: Duration| of.saturating_sub(since.elapsed());
        let told: Vec<u64> = carried.expected().collect();
        for (number, ask) in self.asks.iter().filter(|(number, _)| !told.contains(number)) {
            match &ask.message {
                Some(Message { call, spread_by }) => {
                    let mut call = call.clone();
                    call.remaining = left(ask.made, call.remaining);
                    let is_spread = spread_by.is_some();
                    carried.asks.push(Asked { number: *number, call, is_spread });
                }
                None => carried.answers.push((*number, Err(LEFT_BEHIND.into()))),
            }
        }
        let timers = self.timers.iter();
        carried.timers = timers.map(|(number, it)| (*number, left(it.set, it.after))).collect();
        carried.topics = self.topics.iter().map(|(topic, _)| topic.clone()).collect();
        carried
    }
}
