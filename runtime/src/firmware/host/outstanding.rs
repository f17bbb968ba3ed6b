//! What the present instance waits for: its timers, its asks, its topics.
//!
//! They end with the instance, or go with it when it moves with its memory.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use tokio::{task::AbortHandle, time::Instant};

use super::events::Event;
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
    task: AbortHandle,
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
    pub(super) fn renew(&mut self, goes_with_it: bool) {
        for (_, timer) in self.timers.drain() {
            timer.task.abort();
        }
        for (_, task) in self.topics.drain(..) {
            task.abort();
        }
        *self = Self { life: self.life + 1, goes_with_it, ..Self::default() };
    }

    pub(super) fn timer_set(&mut self, number: u64, task: AbortHandle, after: Duration) {
        self.timers.insert(number, Timer { task, set: Instant::now(), after });
    }

    /// It waits for the timer no more, if it has not been told yet.
    pub(super) fn cancel_timer(&mut self, number: u64) {
        if let Some(timer) = self.timers.remove(&number) {
            timer.task.abort();
        }
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

    /// Whether the instance is to be told of it.
    pub(super) fn waits_for(&self, event: &Event) -> bool {
        match event {
            Event::TimedOut(number) => self.timers.contains_key(number),
            Event::Answered { number, .. } => self.asks.contains_key(number),
            Event::Started | Event::Published(_) => true,
        }
    }

    /// The instance is told of it now.
    pub(super) fn came(&mut self, event: &Event) {
        match event {
            Event::TimedOut(number) => drop(self.timers.remove(number)),
            Event::Answered { number, .. } => {
                let message = self.asks.remove(number).and_then(|ask| ask.message);
                self.kept -= message.map_or(0, |message| message.call.body.len());
            }
            Event::Started | Event::Published(_) => {}
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
