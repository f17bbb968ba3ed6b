//! The replies that an activation remembers by idempotency key. Pure.
//!
//! What falls out is the oldest: one behind which there are [`limits::DEDUPLICATION_WINDOW`] others, once
//! it is older than [`limits::DEDUPLICATION_TIME`], and any while all of them have more than
//! [`limits::DEDUPLICATION_BYTES`]. A reply that is too large to be remembered leaves its key behind, so
//! that a retry is refused instead of repeated.
//!
//! Each message costs that one is remembered and mostly that one is forgotten. So keys and replies stand
//! behind one another in one ring of bytes, and of an entry that falls out nothing is read that is far
//! from what fell out before it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use odeum_proto::handover::Answered;
use odeum_proto::{RequestId, limits};
use tokio::time::Instant;

/// What an entry takes beside its key and reply, with its place in the index, in bytes, roughly.
const ENTRY_WEIGHT: usize = 64;

/// What a key had as its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// The encoded reply.
    Reply(Vec<u8>),
    /// It was carried out; its reply was too large.
    TooLarge,
}

/// The deduplication window of one activation.
#[derive(Debug, Default)]
pub struct Window {
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// The key and the reply of each, in the same order.
    bytes: VecDeque<u8>,
    /// How many bytes have fallen out.
    dropped: u64,
    /// The numbers of the entries, found by the hashes of their keys.
    numbers: HashTable<u64>,
    hasher: foldhash::quality::RandomState,
    /// Keys that it was ever given, which is the number of the next entry.
    given: u64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    at: Instant,
    /// Where its key begins, counted from the first byte there ever was.
    start: u64,
    key: u16,
    /// How long its reply is; `None` when it was too large.
    reply: Option<u16>,
}

impl Entry {
    fn len(&self) -> usize {
        usize::from(self.key) + usize::from(self.reply.unwrap_or_default())
    }
}

impl Window {
    /// What was answered under `key`.
    #[must_use]
    pub fn get(&self, key: &RequestId) -> Option<Remembered> {
        let entry = self.entry(key, self.hash(key))?;
        Some(match self.reply(entry) {
            Some(reply) => Remembered::Reply(reply.into_owned()),
            None => Remembered::TooLarge,
        })
    }

    /// Remembers an answer that is given `now`, the first one under `key`.
    pub fn put(&mut self, key: &RequestId, reply: &[u8], now: Instant) {
        let fits = reply.len() <= limits::REMEMBERED_REPLY_BYTES;
        self.remember(key, fits.then_some(reply), now);
    }

    fn remember(&mut self, key: &RequestId, reply: Option<&[u8]>, now: Instant) {
        let hash = self.hash(key);
        if self.entry(key, hash).is_some() {
            return;
        }
        // Neither a key nor a reply that is remembered is so long that this could fail.
        let Ok(length) = u16::try_from(key.as_str().len()) else { return };
        let reply_length = reply.and_then(|reply| u16::try_from(reply.len()).ok());
        let start = self.dropped + self.bytes.len() as u64;
        self.bytes.extend(key.as_str().as_bytes());
        self.bytes.extend(reply.filter(|_| reply_length.is_some()).unwrap_or_default());
        self.push(Entry { hash, at: now, start, key: length, reply: reply_length });
        while self.is_over(now) {
            let number = self.forgotten();
            let Some(oldest) = self.entries.pop_front() else { return };
            if let Ok(found) = self.numbers.find_entry(oldest.hash, |other| *other == number) {
                found.remove();
            }
            self.bytes.drain(..oldest.len());
            self.dropped += oldest.len() as u64;
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
            self.bytes.shrink_to_fit();
            let forgotten = self.forgotten();
            self.numbers.shrink_to_fit(hashes(&self.entries, forgotten));
        }
    }

    fn push(&mut self, entry: Entry) {
        let (hash, number, forgotten) = (entry.hash, self.given, self.forgotten());
        self.entries.push_back(entry);
        self.given += 1;
        self.numbers.insert_unique(hash, number, hashes(&self.entries, forgotten));
    }

    fn hash(&self, key: &RequestId) -> u64 {
        self.hasher.hash_one(key.as_str())
    }

    /// The entry of a key.
    fn entry(&self, key: &RequestId, hash: u64) -> Option<&Entry> {
        let forgotten = self.forgotten();
        let of = |number: u64| self.entries.get(place(number, forgotten));
        let is_it = |number: &u64| {
            of(*number).is_some_and(|entry| *self.key(entry) == *key.as_str().as_bytes())
        };
        of(*self.numbers.find(hash, is_it)?)
    }

    fn key(&self, entry: &Entry) -> Cow<'_, [u8]> {
        self.slice(entry.start, entry.key)
    }

    fn reply(&self, entry: &Entry) -> Option<Cow<'_, [u8]>> {
        Some(self.slice(entry.start + u64::from(entry.key), entry.reply?))
    }

    /// So many bytes from one on; a copy only where the ring begins anew between them.
    fn slice(&self, start: u64, length: u16) -> Cow<'_, [u8]> {
        let (from, length) = (place(start, self.dropped), usize::from(length));
        let (front, back) = self.bytes.as_slices();
        let within = |part: &'_ [u8], from: Option<usize>| -> Option<std::ops::Range<usize>> {
            let range = from?..from?.checked_add(length)?;
            (range.end <= part.len()).then_some(range)
        };
        if let Some(range) = within(front, Some(from)) {
            return Cow::Borrowed(&front[range]);
        }
        if let Some(range) = within(back, from.checked_sub(front.len())) {
            return Cow::Borrowed(&back[range]);
        }
        self.bytes.iter().skip(from).take(length).copied().collect()
    }

    /// How many entries it has no more, which is the number of the oldest.
    fn forgotten(&self) -> u64 {
        self.given - self.entries.len() as u64
    }
}

/// The hashes of entries by their numbers.
fn hashes(entries: &VecDeque<Entry>, forgotten: u64) -> impl Fn(&u64) -> u64 + '_ {
    move |number| entries.get(place(*number, forgotten)).map_or(0, |entry| entry.hash)
}

/// Where what has a number is, when so many before the first are gone.
fn place(number: u64, gone: u64) -> usize {
    usize::try_from(number.wrapping_sub(gone)).unwrap_or(usize::MAX)
}

impl Window {
    /// How many bytes it takes, roughly.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + self.entries.len() * ENTRY_WEIGHT
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
        let answer = |entry: &Entry| {
            let key = std::str::from_utf8(&self.key(entry)).ok()?.parse().ok()?;
            let answered = match self.reply(entry) {
                Some(reply) => Answered::Reply(reply.into_owned()),
                None => Answered::TooLarge,
            };
            Some((key, answered))
        };
        // A key was one when it came.
        self.entries.iter().skip(skip).take(count).filter_map(answer).collect()
    }

    /// Remembers what came from another node, as if it had been answered `now`.
    pub fn extend(&mut self, answered: Vec<(RequestId, Answered)>, now: Instant) {
        for (key, answered) in answered {
            match answered {
                Answered::Reply(reply) => self.put(&key, &reply, now),
                Answered::TooLarge => self.remember(&key, None, now),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn key(n: usize) -> RequestId {
        format!("r{n}").parse().expect("valid")
    }

    /// A window that was given `count` small replies at one moment.
    fn given(count: usize, now: Instant) -> Window {
        let mut window = Window::default();
        for n in 0..count {
            window.put(&key(n), b"reply", now);
        }
        window
    }

    #[test]
    fn a_key_keeps_its_first_reply_until_it_falls_out() {
        let most = limits::DEDUPLICATION_WINDOW;
        let began = Instant::now();
        let mut window = given(most, began);
        let later = began + 1_000 * limits::DEDUPLICATION_TIME;
        window.put(&key(0), b"again", later);
        assert_eq!(window.len(), most, "however old they are");
        window.put(&key(most), b"", later);
        assert_eq!(window.get(&key(0)), None);
        let reply = Remembered::Reply(b"reply".to_vec());
        assert_eq!(window.get(&key(1)), Some(reply));
    }

    #[test]
    fn however_many_came_after_it_a_young_key_is_kept() {
        let began = Instant::now();
        let count = 3 * limits::DEDUPLICATION_WINDOW;
        let mut window = given(count, began);
        let later = began + limits::DEDUPLICATION_TIME;
        window.put(&key(count), b"", later - Duration::from_millis(1));
        assert_eq!(window.len(), count + 1);
        window.put(&key(count + 1), b"", later);
        assert_eq!(window.len(), limits::DEDUPLICATION_WINDOW);
        assert_eq!(window.get(&key(0)), None);
    }

    #[test]
    fn young_keys_fall_out_when_they_are_too_many_to_keep() {
        let window = given(limits::DEDUPLICATION_BYTES / ENTRY_WEIGHT, Instant::now());
        let weight = window.weight();
        assert!(weight <= limits::DEDUPLICATION_BYTES && weight > limits::DEDUPLICATION_BYTES - 99);
        assert_eq!(window.get(&key(0)), None);
    }

    #[test]
    fn the_first_answer_under_a_key_stays() {
        let now = Instant::now();
        let mut window = Window::default();
        for n in 0..10_u8 {
            window.put(&key(usize::from(n % 3)), &[n; 7], now);
        }
        assert_eq!((window.len(), window.given()), (3, 3));
        assert_eq!(window.get(&key(0)), Some(Remembered::Reply(vec![0; 7])));
    }

    proptest! {
        /// Whatever the lengths are, and wherever the ring of bytes begins anew.
        #[test]
        fn what_is_remembered_is_what_was_answered(
            replies in proptest::collection::vec(0..=limits::REMEMBERED_REPLY_BYTES + 1, 0..3_000),
        ) {
            let now = Instant::now();
            let mut window = Window::default();
            for (n, length) in replies.iter().enumerate() {
                window.put(&key(n), &vec![n as u8; *length], now);
            }
            prop_assert!(window.weight() <= limits::DEDUPLICATION_BYTES);
            let kept = replies.iter().enumerate().skip(replies.len() - window.len());
            for (n, length) in kept {
                let fits = *length <= limits::REMEMBERED_REPLY_BYTES;
                let reply = Remembered::Reply(vec![n as u8; *length]);
                let expected = if fits { reply } else { Remembered::TooLarge };
                prop_assert_eq!(window.get(&key(n)), Some(expected));
            }
        }
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
                here.put(&key(given), given.to_string().as_bytes(), now);
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
        window.put(&key(0), &[0; limits::REMEMBERED_REPLY_BYTES + 1], now);
        assert_eq!(window.get(&key(0)), Some(Remembered::TooLarge));
        for n in 1..=1_100 {
            window.put(&key(n), &[0; limits::REMEMBERED_REPLY_BYTES], now);
        }
        assert!(window.weight() <= limits::DEDUPLICATION_BYTES);
        assert!(window.get(&key(1_100)).is_some());
        assert_eq!(window.get(&key(1)), None);
    }
}
