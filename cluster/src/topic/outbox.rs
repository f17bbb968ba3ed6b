//! What waits to be sent to one peer: bounded; who publishes waits for room, but not for long, and
//! what had no room is counted, so that the peer's subscribers learn that they missed it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use odeum_proto::TopicName;
use odeum_proto::topic::TopicMessage;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Messages that may wait: a second's worth at 4,000 a second, to ride out a link that is made anew.
const MESSAGES: usize = 4_096;

/// Their bytes: as much as one stream's queue holds.
const BYTES: usize = 16 << 20;

/// Messages that travel together, and their bytes: enough to spread the cost of a request thin,
/// little enough that the stream is free again in a millisecond.
const BATCH_MESSAGES: usize = 512;
/// See [`BATCH_MESSAGES`].
const BATCH_BYTES: usize = 256 << 10;

/// The end of a row of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    row: u64,
    number: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<TopicMessage>,
    bytes: usize,
    /// It was waited for room in vain: nobody waits again before half of the queue is gone.
    lagging: bool,
    rows: HashMap<TopicName, Mark>,
    /// Dropped since the last message of the topic; to be told when there is room.
    dropped: HashMap<TopicName, Mark>,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.waiting.len() >= MESSAGES || self.bytes >= BYTES
    }

    /// Notes that the messages of a row up to `mark` did not arrive.
    fn drop_to(&mut self, topic: &TopicName, mark: Mark) {
        if self.rows.get(topic).is_some_and(|row| row.row == mark.row) {
            let dropped = self.dropped.entry(topic.clone()).or_insert(mark);
            *dropped = mark.max(*dropped);
        }
    }
}

/// The queue to one peer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    arrived: Notify,
    room: Arc<Notify>,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to wait for before the next message, if it should be waited.
    pub(super) fn crowded(&self) -> Option<OwnedNotified> {
        let queue = self.lock();
        (queue.is_full() && !queue.lagging).then(|| Arc::clone(&self.room).notified_owned())
    }

    /// It was waited in vain.
    pub(super) fn give_up_waiting(&self) {
        let mut queue = self.lock();
        queue.lagging = queue.is_full();
    }

    /// Queues a message, or drops it when there is no room. `row` is for a row that begins with it;
    /// `None` sends it without a number. Whether it was queued.
    pub(super) fn offer(&self, topic: &TopicName, body: Bytes, row: Option<u64>) -> bool {
        let mut queue = self.lock();
        let mark = row.map(|row| {
            let mark = queue.rows.entry(topic.clone()).or_insert(Mark { row, number: 0 });
            mark.number += 1;
            *mark
        });
        if queue.is_full() {
            if let Some(mark) = mark {
                queue.drop_to(topic, mark);
            }
            return false;
        }
        // Its number tells of those that were dropped before it.
        queue.dropped.remove(topic);
        let Mark { row, number } = mark.unwrap_or(Mark { row: 0, number: 0 });
        queue.bytes += body.len();
        queue.waiting.push_back(TopicMessage {
            topic: topic.clone(),
            row,
            number,
            body: Some(body),
        });
        drop(queue);
        self.arrived.notify_one();
        true
    }

    /// The next messages to send, once there are some.
    pub(super) async fn batch(&self) -> Vec<TopicMessage> {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Vec<TopicMessage> {
        let mut queue = self.lock();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            let Some(message) = queue.waiting.pop_front() else { break };
            bytes += message.body.as_ref().map_or(0, Bytes::len);
            batch.push(message);
        }
        queue.bytes -= bytes;
        if queue.waiting.is_empty() {
            let dropped = std::mem::take(&mut queue.dropped);
            batch.extend(dropped.into_iter().map(|(topic, Mark { row, number })| TopicMessage {
                topic,
                row,
                number,
                body: None,
            }));
        }
        if queue.waiting.len() <= MESSAGES / 2 && queue.bytes <= BYTES / 2 {
            queue.lagging = false;
        }
        drop(queue);
        self.room.notify_waiters();
        batch
    }

    /// Notes that a batch did not arrive, or may not have.
    pub(super) fn lost(&self, marks: impl IntoIterator<Item = (TopicName, u64, u64)>) {
        let mut queue = self.lock();
        for (topic, row, number) in marks {
            queue.drop_to(&topic, Mark { row, number });
        }
        drop(queue);
        self.arrived.notify_one();
    }

    /// Drops what waits: the peer is down.
    pub(super) fn clear(&self) {
        let mut queue = self.lock();
        for message in std::mem::take(&mut queue.waiting) {
            queue.drop_to(&message.topic, Mark { row: message.row, number: message.number });
        }
        queue.bytes = 0;
        queue.lagging = false;
        drop(queue);
        self.room.notify_waiters();
    }

    /// The peer has no subscribers of `topic` any more.
    pub(super) fn end_row(&self, topic: &TopicName) {
        let mut queue = self.lock();
        queue.rows.remove(topic);
        queue.dropped.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        name.parse().expect("valid")
    }

    fn numbers(batch: &[TopicMessage]) -> Vec<(u64, bool)> {
        batch.iter().map(|message| (message.number, message.body.is_some())).collect()
    }

    fn fill(outbox: &Outbox, topic: &TopicName) {
        while outbox.offer(topic, Bytes::from_static(b"x"), Some(1)) {}
    }

    #[test]
    fn what_had_no_room_is_told_behind_what_had() {
        let (outbox, topic) = (Outbox::default(), topic("a"));
        fill(&outbox, &topic);
        assert!(!outbox.offer(&topic, Bytes::new(), Some(1)));
        let mut seen = Vec::new();
        loop {
            let batch = outbox.take();
            if batch.is_empty() {
                break;
            }
            seen.extend(numbers(&batch));
        }
        let bound = MESSAGES as u64;
        assert_eq!(seen.len() as u64, bound + 1);
        // Two were dropped: the last number says so.
        assert_eq!(seen.last(), Some(&(bound + 2, false)));
    }

    #[test]
    fn a_message_behind_a_gap_tells_of_it_by_its_number_alone() {
        let (outbox, topic) = (Outbox::default(), topic("a"));
        fill(&outbox, &topic);
        outbox.take();
        assert!(outbox.offer(&topic, Bytes::new(), Some(1)));
        let rest: Vec<_> = std::iter::from_fn(|| Some(outbox.take()).filter(|b| !b.is_empty()))
            .flat_map(|batch| numbers(&batch))
            .collect();
        let bound = MESSAGES as u64;
        assert_eq!(rest.last(), Some(&(bound + 2, true)));
        assert!(rest.iter().all(|(_, is_message)| *is_message));
    }

    #[test]
    fn it_is_waited_for_room_once_and_not_again_before_half_of_the_queue_is_gone() {
        let (outbox, topic) = (Outbox::default(), topic("a"));
        assert!(outbox.crowded().is_none());
        fill(&outbox, &topic);
        assert!(outbox.crowded().is_some());
        outbox.give_up_waiting();
        assert!(outbox.crowded().is_none());
        outbox.take();
        fill(&outbox, &topic);
        assert!(outbox.crowded().is_none(), "still lagging");
        while !outbox.take().is_empty() {}
        fill(&outbox, &topic);
        assert!(outbox.crowded().is_some());
    }

    #[test]
    fn what_a_lost_batch_carried_is_told_unless_the_row_is_over() {
        let (outbox, a, b) = (Outbox::default(), topic("a"), topic("b"));
        outbox.offer(&a, Bytes::new(), Some(1));
        outbox.offer(&b, Bytes::new(), Some(2));
        let batch = outbox.take();
        outbox.end_row(&b);
        outbox.lost(batch.into_iter().map(|lost| (lost.topic, lost.row, lost.number)));
        assert_eq!(numbers(&outbox.take()), [(1, false)]);
        outbox.offer(&b, Bytes::new(), Some(3));
        assert_eq!(numbers(&outbox.take()), [(1, true)]);
    }

    #[test]
    fn a_peer_that_was_down_is_told_what_was_dropped_meanwhile() {
        let (outbox, topic) = (Outbox::default(), topic("a"));
        fill(&outbox, &topic);
        outbox.clear();
        assert_eq!(numbers(&outbox.take()), [(MESSAGES as u64 + 1, false)]);
    }
}
