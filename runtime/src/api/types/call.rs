//! A message to a firmware and its reply: bodies are bytes, the rest is in headers.

use std::time::Duration;

use odeum_proto::{Epoch, NodeId, RequestId};

/// Header of a call: the idempotency key.
pub const REQUEST_HEADER: &str = "idempotency-key";
/// Header of a call: the session it is about.
pub const SESSION_HEADER: &str = "odeum-session";
/// Header of a call: a text that selects one of several replicas, always the same.
pub const KEY_HEADER: &str = "odeum-key";
/// Header of a call: how long to wait, such as `5s`.
pub const DEADLINE_HEADER: &str = "odeum-deadline";
/// Header of an answer: the node that answered.
pub const NODE_HEADER: &str = "odeum-node";
/// Header of an answer: the activation that answered.
pub const EPOCH_HEADER: &str = "odeum-epoch";
/// Header of an answer: `true` when this is the remembered reply of an earlier try.
pub const REPLAYED_HEADER: &str = "odeum-replayed";

/// How long a call may take when its caller does not say.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// The longest deadline of a call: a longer one would hold its connection and its place in the
/// entity's queue for a client that is long gone.
pub const MAX_DEADLINE: Duration = Duration::from_secs(60);

/// What a caller may say about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOptions {
    /// The idempotency key; a new one when `None`. Name it to be able to retry.
    pub request: Option<RequestId>,
    /// The session the message is about; the firmware's default session when `None`.
    pub session: Option<String>,
    /// Selects one of several replicas, always the same. The idempotency key does that without one,
    /// and without either it is any that is ready.
    pub key: Option<String>,
    /// How long to wait.
    pub deadline: Duration,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { request: None, session: None, key: None, deadline: DEFAULT_DEADLINE }
    }
}

/// What a call came to, as the HTTP answer's body and headers say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAnswer {
    /// The reply's bytes.
    pub body: Vec<u8>,
    /// The request it answers.
    pub request: RequestId,
    /// The node that answered.
    pub node: NodeId,
    /// The activation that answered.
    pub epoch: Epoch,
    /// Whether the effect had happened at an earlier try and this is the remembered reply.
    pub replayed: bool,
}
