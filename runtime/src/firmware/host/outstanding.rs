//! What the present instance waits for: its timers, its asks, its topics.
//!
//! They end with the instance, or go with it when it moves with its memory.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

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
    /// What came when nothing could be begun, in its order. It is no more than the instance waits for,
    /// and what of that it has taken back since.
    late: VecDeque<Event>,
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

    /// The first of all that is late: nothing could be begun for it.
    pub(super) fn put_off(&mut self, event: Event) {
        self.late.push_front(event);
    }

    /// Keeps it behind what is late; gives it back when nothing is, and what is never told later.
    pub(super) fn kept_behind(&mut self, event: Event) -> Option<Event> {
        if self.late.is_empty() || matches!(event, Event::Started | Event::Published(_)) {
            return Some(event);
        }
        self.late.push_back(event);
        None
    }

    /// What is late, in its order.
    pub(super) fn late(&self) -> impl Iterator<Item = &Event> {
        self.late.iter()
    }

    /// Takes the first of what is late that the instance waits for still.
    pub(super) fn next_late(&mut self) -> Option<Event> {
        while let Some(event) = self.late.pop_front() {
            if self.waits_for(&event) {
                return Some(event);
            }
        }
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(number: u64) -> Event {
        Event::Answered { number, outcome: Ok(vec![0]) }
    }

    fn numbers(outstanding: &Outstanding) -> Vec<u64> {
        let number = |event: &Event| match event {
            Event::TimedOut(number) | Event::Answered { number, .. } => Some(*number),
            Event::Started | Event::Published(_) => None,
        };
        outstanding.late().filter_map(number).collect()
    }

    #[test]
    fn what_is_late_is_told_in_its_order_and_goes_with_the_guest() {
        let mut outstanding = Outstanding::default();
        for number in 1..=3 {
            outstanding.answered(number);
        }
        let first = outstanding.kept_behind(answered(1)).expect("nothing is late");
        outstanding.put_off(first);
        assert!(outstanding.kept_behind(answered(2)).is_none());
        assert!(outstanding.kept_behind(Event::Started).is_some(), "it is never told later");
        let first = outstanding.next_late().expect("it is late");
        assert!(outstanding.kept_behind(answered(3)).is_none());
        outstanding.put_off(first);
        assert_eq!(numbers(&outstanding), [1, 2, 3]);
        let carried = outstanding.carried(outstanding.late());
        assert_eq!(carried.answers.len(), 3);
        assert!(carried.answers.iter().all(|(_, outcome)| outcome.is_ok()), "{carried:?}");
    }

    #[test]
    fn what_is_late_and_not_waited_for_any_more_is_passed_over() {
        let mut outstanding = Outstanding::default();
        outstanding.answered(2);
        outstanding.put_off(answered(2));
        outstanding.put_off(Event::TimedOut(1));
        let next = outstanding.next_late();
        assert!(matches!(next, Some(Event::Answered { number: 2, .. })), "{next:?}");
        outstanding.put_off(answered(2));
        outstanding.renew(false);
        assert!(outstanding.next_late().is_none(), "another instance waits for nothing of it");
    }
}
