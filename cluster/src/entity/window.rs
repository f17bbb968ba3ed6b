//! The replies that an activation remembers by idempotency key. Pure.
//!
//! Bounded by number and by bytes: what falls out is the oldest. A reply that is too large to be
//! remembered leaves its key behind, so that a retry is refused instead of repeated.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use odeum_proto::{RequestId, limits};

/// Largest sum of remembered replies of one entity, in bytes.
const WINDOW_BYTES: usize = 1 << 20;

/// What a key takes, twice, in bytes, roughly.
const KEY_WEIGHT: usize = 128;

/// What a key had as its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// The encoded reply.
    Reply(Bytes),
    /// It was carried out; its reply was too large.
    TooLarge,
}

/// The deduplication window of one activation.
#[derive(Debug, Default)]
pub struct Window {
    replies: HashMap<RequestId, Remembered>,
    order: VecDeque<RequestId>,
    bytes: usize,
}

impl Window {
    /// What was answered under `key`.
    #[must_use]
    pub fn get(&self, key: &RequestId) -> Option<&Remembered> {
        self.replies.get(key)
    }

    /// Remembers an answer.
    pub fn put(&mut self, key: RequestId, reply: Bytes) {
        self.remember(key, Remembered::Reply(reply));
    }

    /// Remembers what was remembered elsewhere.
    pub(super) fn remember(&mut self, key: RequestId, remembered: Remembered) {
        let remembered = match remembered {
            Remembered::Reply(reply) if reply.len() <= limits::REMEMBERED_REPLY_BYTES => {
                self.bytes += reply.len();
                Remembered::Reply(reply)
            }
            Remembered::Reply(_) | Remembered::TooLarge => Remembered::TooLarge,
        };
        if let Some(Remembered::Reply(before)) = self.replies.insert(key.clone(), remembered) {
            self.bytes -= before.len();
        } else {
            self.order.push_back(key);
        }
        while self.order.len() > limits::DEDUPLICATION_WINDOW || self.bytes > WINDOW_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(Remembered::Reply(reply)) = self.replies.remove(&oldest) {
                self.bytes -= reply.len();
            }
        }
    }
}

impl Window {
    /// How many bytes it takes, roughly.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.order.len() * KEY_WEIGHT
    }

    /// What it remembers, the oldest first. [`put`](Self::put) makes another one of it.
    pub fn replies(&self) -> impl Iterator<Item = (&RequestId, &Remembered)> {
        self.order.iter().filter_map(|key| Some((key, self.replies.get(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> RequestId {
        format!("r{n}").parse().expect("valid")
    }

    #[test]
    fn a_key_keeps_its_first_reply_until_it_falls_out() {
        let mut window = Window::default();
        for n in 0..=limits::DEDUPLICATION_WINDOW {
            window.put(key(n), Bytes::from(vec![1; 8]));
        }
        assert_eq!(window.get(&key(0)), None);
        assert_eq!(window.get(&key(1)), Some(&Remembered::Reply(Bytes::from(vec![1; 8]))));
    }

    #[test]
    fn large_replies_leave_their_key_and_the_sum_is_bounded() {
        let mut window = Window::default();
        window.put(key(0), Bytes::from(vec![0; limits::REMEMBERED_REPLY_BYTES + 1]));
        assert_eq!(window.get(&key(0)), Some(&Remembered::TooLarge));
        for n in 1..=1_000 {
            window.put(key(n), Bytes::from(vec![0; limits::REMEMBERED_REPLY_BYTES]));
        }
        assert!(window.bytes <= WINDOW_BYTES);
        assert!(window.get(&key(1_000)).is_some());
        assert_eq!(window.get(&key(1)), None);
    }
}
