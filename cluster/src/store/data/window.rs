//! The deduplication window of one entity: the requests it carried out last, with their replies.
//!
//! Bounded twice: by [`limits::DEDUPLICATION_WINDOW`] requests, the oldest leaving first, and by
//! [`limits::REMEMBERED_REPLY_BYTES`] per reply, above which only the fact is remembered.

use std::collections::{HashMap, VecDeque};

use odeum_proto::{RequestId, limits};
use serde::{Deserialize, Serialize};

/// What a request costs in a snapshot beside its id and reply.
const REQUEST_OVERHEAD: u64 = 19;

/// The reply of a request that was carried out; `None` when it was too large to be remembered.
pub type Remembered = Option<Vec<u8>>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(RequestId, Remembered)>", into = "Vec<(RequestId, Remembered)>")]
pub(super) struct Window {
    oldest_first: VecDeque<RequestId>,
    /// Only looked up, never iterated: its order differs between replicas.
    replies: HashMap<RequestId, Remembered>,
    bytes: u64,
}

impl Window {
    pub(super) fn get(&self, request: &RequestId) -> Option<&Remembered> {
        self.replies.get(request)
    }

    /// Remembers a request that is not in the window; the oldest one leaves when it is full.
    pub(super) fn remember(&mut self, request: &RequestId, reply: Option<&[u8]>) {
        self.insert(request.clone(), reply.and_then(kept).map(<[u8]>::to_vec));
        while self.oldest_first.len() > limits::DEDUPLICATION_WINDOW {
            if let Some(oldest) = self.oldest_first.pop_front() {
                let reply = self.replies.remove(&oldest).unwrap_or_default();
                self.bytes -= request_bytes(&oldest, reply.as_deref());
            }
        }
    }

    /// All requests, oldest first, each with what is kept of its reply.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RequestId, &Remembered)> {
        self.oldest_first.iter().filter_map(|request| self.replies.get_key_value(request))
    }

    /// What the window counts against the group's quota.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Remembers a request with what is kept of its reply. The caller keeps to the bound.
    pub(super) fn insert(&mut self, request: RequestId, reply: Remembered) {
        self.bytes += request_bytes(&request, reply.as_deref());
        self.oldest_first.push_back(request.clone());
        self.replies.insert(request, reply);
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

impl From<Vec<(RequestId, Remembered)>> for Window {
    fn from(requests: Vec<(RequestId, Remembered)>) -> Self {
        let mut window = Self::default();
        for (request, reply) in requests {
            window.insert(request, reply);
        }
        window
    }
}

impl From<Window> for Vec<(RequestId, Remembered)> {
    fn from(mut window: Window) -> Self {
        let take = |request: RequestId| {
            let reply = window.replies.remove(&request).unwrap_or_default();
            (request, reply)
        };
        window.oldest_first.into_iter().map(take).collect()
    }
}
