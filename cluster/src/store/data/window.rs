//! The deduplication window of one entity: the requests it carried out last, with their replies.
//!
//! The oldest leaves first: when there are more than [`limits::DEDUPLICATION_WINDOW`], and it is older
//! than [`limits::DEDUPLICATION_TIME`] of log time or all of them have more than
//! [`limits::DEDUPLICATION_BYTES`]. So it leaves with one that comes, or, when none does, with what
//! expires in the group. Of a reply above [`limits::REMEMBERED_REPLY_BYTES`] only the fact is remembered.

use std::collections::{HashMap, VecDeque};

use odeum_proto::{LogTime, RequestId, limits};
use serde::{Deserialize, Serialize, Serializer};

/// What a request costs in a snapshot beside its id and reply: lengths, a time.
const REQUEST_OVERHEAD: u64 = 28;

/// The reply of a request that was carried out; `None` when it was too large to be remembered.
pub type Remembered = Option<Vec<u8>>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<Row>")]
pub(super) struct Window {
    oldest_first: VecDeque<(LogTime, RequestId)>,
    /// Only looked up, never iterated: its order differs between replicas.
    replies: HashMap<RequestId, Remembered>,
    bytes: u64,
}

/// A request as it is in a snapshot: when it was carried out, and its reply.
type Row = (RequestId, LogTime, Remembered);

impl Window {
    pub(super) fn get(&self, request: &RequestId) -> Option<&Remembered> {
        self.replies.get(request)
    }

    /// Remembers a request that is not in the window, and forgets those for which it is time.
    pub(super) fn remember(&mut self, request: &RequestId, reply: Option<&[u8]>, now: LogTime) {
        self.insert(request.clone(), reply.and_then(kept).map(<[u8]>::to_vec), now);
        self.trim(now, u32::MAX);
    }

    /// Forgets those for which it is time, at most so many; how many that were.
    pub(super) fn trim(&mut self, now: LogTime, at_most: u32) -> u32 {
        let mut trimmed = 0;
        while trimmed < at_most
            && self.is_over(now)
            && let Some((_, oldest)) = self.oldest_first.pop_front()
        {
            let reply = self.replies.remove(&oldest).unwrap_or_default();
            self.bytes -= request_bytes(&oldest, reply.as_deref());
            trimmed += 1;
        }
        if self.replies.capacity() / 4 > self.replies.len().max(limits::DEDUPLICATION_WINDOW) {
            self.oldest_first.shrink_to_fit();
            self.replies.shrink_to_fit();
        }
        trimmed
    }

    /// Whether it has more requests than are remembered however old they are.
    pub(super) fn is_long(&self) -> bool {
        self.oldest_first.len() > limits::DEDUPLICATION_WINDOW
    }

    /// When it should be shorter even if no other request comes. While some do, the oldest is never as
    /// old as that.
    pub(super) fn due(&self) -> Option<LogTime> {
        let (at, _) = self.oldest_first.front().filter(|_| self.is_long())?;
        Some(at.after(2 * limits::DEDUPLICATION_TIME))
    }

    /// Whether it is time for the oldest to be forgotten.
    fn is_over(&self, now: LogTime) -> bool {
        let Some((at, _)) = self.oldest_first.front().filter(|_| self.is_long()) else {
            return false;
        };
        self.bytes > limits::DEDUPLICATION_BYTES as u64
            || now >= at.after(limits::DEDUPLICATION_TIME)
    }

    /// All requests, oldest first, each with what is kept of its reply.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RequestId, &Remembered)> {
        self.oldest_first.iter().filter_map(|(_, request)| self.replies.get_key_value(request))
    }

    /// What the window counts against the group's quota.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Remembers a request, with what is kept of its reply, as carried out `at` a time that is not before
    /// those of the others. The caller keeps to the bounds.
    pub(super) fn insert(&mut self, request: RequestId, reply: Remembered, at: LogTime) {
        self.bytes += request_bytes(&request, reply.as_deref());
        self.oldest_first.push_back((at, request.clone()));
        self.replies.insert(request, reply);
    }

    /// Makes them younger by `took` milliseconds, in which nobody could ask for them.
    pub(super) fn rejuvenate(&mut self, took: u64) {
        for (at, _) in &mut self.oldest_first {
            *at = LogTime(at.0.saturating_add(took));
        }
    }
}

/// What is remembered of a reply.
pub(super) fn kept(reply: &[u8]) -> Option<&[u8]> {
    (reply.len() <= limits::REMEMBERED_REPLY_BYTES).then_some(reply)
}

/// What remembering one request counts.
pub(super) fn request_bytes(request: &RequestId, reply: Option<&[u8]>) -> u64 {
    request.as_str().len() as u64 + reply.map_or(0, <[u8]>::len) as u64 + REQUEST_OVERHEAD
}

impl From<Vec<Row>> for Window {
    fn from(requests: Vec<Row>) -> Self {
        let mut window = Self::default();
        for (request, at, reply) in requests {
            window.insert(request, reply, at);
        }
        window
    }
}

impl Serialize for Window {
    /// As its [`Row`]s.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let reply = |request: &RequestId| self.replies.get(request).and_then(Option::as_ref);
        to.collect_seq(self.oldest_first.iter().map(|(at, request)| (request, at, reply(request))))
    }
}
