//! The replies that an activation remembers by idempotency key. Pure.
//!
//! What falls out is the oldest: one behind which there are [`limits::DEDUPLICATION_WINDOW`] others, once
//! it is older than [`limits::DEDUPLICATION_TIME`], and any while all of them have more than
//! [`limits::DEDUPLICATION_BYTES`]. A reply that is too large to be remembered leaves its key behind, so
//! that a retry is refused instead of repeated.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use bytes::Bytes;
use hashbrown::HashTable;
use odeum_proto::handover::Answered;
use odeum_proto::{RequestId, limits};
use tokio::time::Instant;

/// What a key takes with its place in the index, in bytes, roughly.
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
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// The numbers of the entries, found by the hashes of their keys. That the oldest is forgotten, which
    /// each message costs, reads no key.
    numbers: HashTable<u64>,
    hasher: foldhash::quality::RandomState,
    bytes: usize,
    /// Keys that it was ever given, which is the number of the next entry.
    given: u64,
}

#[derive(Debug)]
struct Entry {
    key: RequestId,
    hash: u64,
    at: Instant,
    remembered: Remembered,
}

impl Window {
    /// What was answered under `key`.
    #[must_use]
    pub fn get(&self, key: &RequestId) -> Option<&Remembered> {
        let place = self.place(key, self.hasher.hash_one(key))?;
        Some(&self.entries.get(place)?.remembered)
    }

    /// Remembers an answer that is given `now`.
    pub fn put(&mut self, key: RequestId, reply: Bytes, now: Instant) {
        self.remember(key, Remembered::Reply(reply), now);
    }

    fn remember(&mut self, key: RequestId, remembered: Remembered, now: Instant) {
        let remembered = match remembered {
            Remembered::Reply(reply) if reply.len() <= limits::REMEMBERED_REPLY_BYTES => {
                self.bytes += reply.len();
                Remembered::Reply(reply)
            }
            Remembered::Reply(_) | Remembered::TooLarge => Remembered::TooLarge,
        };
        let hash = self.hasher.hash_one(&key);
        match self.place(&key, hash).and_then(|place| self.entries.get_mut(place)) {
            Some(entry) => {
                let before = std::mem::replace(&mut entry.remembered, remembered);
                self.bytes -= before.len();
            }
            None => self.push(Entry { key, hash, at: now, remembered }),
        }
        while self.is_over(now) {
            let number = self.forgotten();
            let Some(oldest) = self.entries.pop_front() else { return };
            if let Ok(found) = self.numbers.find_entry(oldest.hash, |other| *other == number) {
                found.remove();
            }
            self.bytes -= oldest.remembered.len();
        }
        self.shrink();
    }

    /// Whether it is time for the oldest to be forgotten.
    fn is_over(&self, now: Instant) -> bool {
        let Some(oldest) = self.entries.front() else { return false };
        let many = self.entries.len() > limits::DEDUPLICATION_WINDOW;
        let old = || now.duration_since(oldest.at) >= limits::DEDUPLICATION_TIME;
        self.weight() > limits::DEDUPLICATION_BYTES || many && old()
    }

    /// Gives back the memory of a burst.
    fn shrink(&mut self) {
        if self.entries.capacity() / 4 > self.entries.len().max(limits::DEDUPLICATION_WINDOW) {
            self.entries.shrink_to_fit();
            let (entries, forgotten) = (&self.entries, self.forgotten());
            let hash_of =
                |number: &u64| entries.get(place(*number, forgotten)).map_or(0, |it| it.hash);
            self.numbers.shrink_to_fit(hash_of);
        }
    }

    fn push(&mut self, entry: Entry) {
        let (hash, number, forgotten) = (entry.hash, self.given, self.forgotten());
        self.entries.push_back(entry);
        self.given += 1;
        let entries = &self.entries;
        let hash_of = |number: &u64| entries.get(place(*number, forgotten)).map_or(0, |it| it.hash);
        self.numbers.insert_unique(hash, number, hash_of);
    }

    /// Where the entry of a key is.
    fn place(&self, key: &RequestId, hash: u64) -> Option<usize> {
        let forgotten = self.forgotten();
        let is_it = |number: &u64| {
            self.entries.get(place(*number, forgotten)).is_some_and(|entry| entry.key == *key)
        };
        self.numbers.find(hash, is_it).map(|number| place(*number, forgotten))
    }

    /// How many entries it has no more, which is the number of the oldest.
    fn forgotten(&self) -> u64 {
        self.given - self.entries.len() as u64
    }
}

/// Where the entry with a number is, when so many before the first are forgotten.
fn place(number: u64, forgotten: u64) -> usize {
    usize::try_from(number.wrapping_sub(forgotten)).unwrap_or(usize::MAX)
}

impl Remembered {
    /// Bytes that it takes beside its key.
    fn len(&self) -> usize {
        match self {
            Self::Reply(reply) => reply.len(),
            Self::TooLarge => 0,
        }
    }
}

impl Window {
    /// How many bytes it takes, roughly.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.entries.len() * KEY_WEIGHT
    }

    /// How many requests it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many requests it was ever given.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Whether it remembers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What it remembers, the oldest first, as it goes to another node: what was given to it behind the first
    /// `since` requests, `at_most` so many. Moves `since` behind those.
    pub fn to_wire(&self, since: &mut u64, at_most: usize) -> Vec<(RequestId, Answered)> {
        let forgotten = self.forgotten();
        let skip = usize::try_from(since.saturating_sub(forgotten)).unwrap_or(usize::MAX);
        let count = self.entries.len().saturating_sub(skip).min(at_most);
        *since = forgotten.max(*since) + count as u64;
        let answer = |entry: &Entry| match &entry.remembered {
            Remembered::Reply(reply) => (entry.key.clone(), Answered::Reply(reply.to_vec())),
            Remembered::TooLarge => (entry.key.clone(), Answered::TooLarge),
        };
        self.entries.iter().skip(skip).take(count).map(answer).collect()
    }

    /// Remembers what came from another node, as if it had been answered `now`.
    pub fn extend(&mut self, answered: Vec<(RequestId, Answered)>, now: Instant) {
        for (key, answered) in answered {
            let remembered = match answered {
                Answered::Reply(reply) => Remembered::Reply(reply.into()),
                Answered::TooLarge => Remembered::TooLarge,
            };
            self.remember(key, remembered, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(n: usize) -> RequestId {
        format!("r{n}").parse().expect("valid")
    }

    /// A window that was given `count` small replies at one moment.
    fn given(count: usize, now: Instant) -> Window {
        let mut window = Window::default();
        for n in 0..count {
            window.put(key(n), Bytes::from_static(b"reply"), now);
        }
        window
    }

    #[test]
    fn a_key_keeps_its_first_reply_until_it_falls_out() {
        let most = limits::DEDUPLICATION_WINDOW;
        let began = Instant::now();
        let mut window = given(most, began);
        let later = began + 1_000 * limits::DEDUPLICATION_TIME;
        window.put(key(0), Bytes::from_static(b"again"), later);
        assert_eq!(window.len(), most, "however old they are");
        window.put(key(most), Bytes::new(), later);
        assert_eq!(window.get(&key(0)), None);
        let reply = Remembered::Reply(Bytes::from_static(b"reply"));
        assert_eq!(window.get(&key(1)), Some(&reply));
    }

    #[test]
    fn however_many_came_after_it_a_young_key_is_kept() {
        let began = Instant::now();
        let count = 3 * limits::DEDUPLICATION_WINDOW;
        let mut window = given(count, began);
        let later = began + limits::DEDUPLICATION_TIME;
        window.put(key(count), Bytes::new(), later - Duration::from_millis(1));
        assert_eq!(window.len(), count + 1);
        window.put(key(count + 1), Bytes::new(), later);
        assert_eq!(window.len(), limits::DEDUPLICATION_WINDOW);
        assert_eq!(window.get(&key(0)), None);
    }

    #[test]
    fn young_keys_fall_out_when_they_are_too_many_to_keep() {
        let window = given(limits::DEDUPLICATION_BYTES / KEY_WEIGHT + 1, Instant::now());
        assert!(window.weight() <= limits::DEDUPLICATION_BYTES);
        assert!(window.weight() > limits::DEDUPLICATION_BYTES - 2 * KEY_WEIGHT);
        assert_eq!(window.get(&key(0)), None);
    }

    #[test]
    fn what_is_answered_again_under_a_key_takes_the_place_of_its_answer() {
        let now = Instant::now();
        let mut window = Window::default();
        for n in 0..10 {
            window.put(key(n % 3), Bytes::from(vec![1; n]), now);
        }
        assert_eq!((window.len(), window.bytes), (3, 7 + 8 + 9));
        assert_eq!(window.get(&key(0)), Some(&Remembered::Reply(Bytes::from(vec![1; 9]))));
        window.put(key(1), Bytes::from(vec![0; limits::REMEMBERED_REPLY_BYTES + 1]), now);
        assert_eq!((window.len(), window.bytes), (3, 8 + 9));
    }

    #[test]
    fn what_goes_to_another_node_goes_there_once_and_in_its_order() {
        let began = Instant::now();
        let (mut here, mut there) = (Window::default(), Window::default());
        let (mut since, mut given) = (0, 0);
        for (more, at_most) in [(3, 2), (2, 9), (limits::DEDUPLICATION_WINDOW + 7, 5), (1, 9_999)] {
            for _ in 0..more {
                // So far apart that the oldest are forgotten on the way.
                let now = began + u32::try_from(given).expect("few") * limits::DEDUPLICATION_TIME;
                here.put(key(given), Bytes::from(given.to_string()), now);
                given += 1;
            }
            let wire = here.to_wire(&mut since, at_most);
            assert!(wire.len() <= at_most);
            there.extend(wire, began);
        }
        assert!(here.to_wire(&mut since, 9).is_empty());
        let kept = here.to_wire(&mut 0, usize::MAX);
        assert_eq!(kept.len(), limits::DEDUPLICATION_WINDOW);
        assert!(there.to_wire(&mut 0, usize::MAX).ends_with(&kept), "whose are younger there");
    }

    #[test]
    fn large_replies_leave_their_key_and_the_sum_is_bounded() {
        let now = Instant::now();
        let mut window = Window::default();
        window.put(key(0), Bytes::from(vec![0; limits::REMEMBERED_REPLY_BYTES + 1]), now);
        assert_eq!(window.get(&key(0)), Some(&Remembered::TooLarge));
        for n in 1..=1_000 {
            window.put(key(n), Bytes::from(vec![0; limits::REMEMBERED_REPLY_BYTES]), now);
        }
        assert!(window.weight() <= limits::DEDUPLICATION_BYTES);
        assert!(window.get(&key(1_000)).is_some());
        assert_eq!(window.get(&key(1)), None);
    }
}
