//! The deduplication window of one entity: the requests it carried out last, with their replies.
//!
//! The oldest leaves first: when there are more than [`limits::DEDUPLICATION_WINDOW`], and it is older
//! than [`limits::DEDUPLICATION_TIME`] of log time or all of them have more than
//! [`limits::DEDUPLICATION_BYTES`]. Of a reply above [`limits::REMEMBERED_REPLY_BYTES`] only the fact is
//! remembered.

use std::collections::{HashMap, VecDeque};

use odeum_proto::{LogTime, RequestId, limits};
use serde::{Deserialize, Serialize};

/// What a request costs in a snapshot beside its id and reply: lengths, a time.
const REQUEST_OVERHEAD: u64 = 28;

/// The reply of a request that was carried out; `None` when it was too large to be remembered.
pub type Remembered = Option<Vec<u8>>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Row>", into = "Vec<Row>")]
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
        while self.is_over(now) {
            let Some((_, oldest)) = self.oldest_first.pop_front() else { return };
            let reply = self.replies.remove(&oldest).unwrap_or_default();
            self.bytes -= request_bytes(&oldest, reply.as_deref());
        }
    }

    /// Whether it is time for the oldest to be forgotten.
    fn is_over(&self, now: LogTime) -> bool {
        let Some((at, _)) = self.oldest_first.front() else { return false };
        self.oldest_first.len() > limits::DEDUPLICATION_WINDOW
            && (self.bytes > limits::DEDUPLICATION_BYTES as u64
                || now > at.after(limits::DEDUPLICATION_TIME))
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

impl From<Window> for Vec<Row> {
    fn from(mut window: Window) -> Self {
        let take = |(at, request): (LogTime, RequestId)| {
            let reply = window.replies.remove(&request).unwrap_or_default();
            (request, at, reply)
        };
        window.oldest_first.into_iter().map(take).collect()
    }
}
