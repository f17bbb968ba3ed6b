//! The JSON of the HTTP API: what the server writes and every client reads.
//!
//! One home for both sides, so that the command line, the demo and the server cannot drift apart.
//! Fields are only ever added; a client ignores those it does not know.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use odeum_proto::{
    ClusterId, Digest, Epoch, Incarnation, Name, NodeId, RequestId, Revision, SessionId,
};
use serde::{Deserialize, Serialize};

/// Header of a call: the idempotency key.
pub const REQUEST_HEADER: &str = "idempotency-key";
/// Header of a call: the session it is about.
pub const SESSION_HEADER: &str = "odeum-session";
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
/// Sessions on one page when the client does not say.
pub const DEFAULT_PAGE: usize = 100;
/// Most sessions on one page.
pub const MAX_PAGE: usize = 1_000;

/// Something that prints as text and can be read back, as a JSON string.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A short fixed word for machines, such as `not-found`.
    pub error: String,
    /// What happened, for people.
    pub message: String,
    /// Whether the same request (a call: with the same idempotency key) may succeed a moment later.
    pub retryable: bool,
}

/// `GET /v1/status`: one node, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeId,
    /// Its cluster; `None` until it has founded or joined one.
    pub cluster: Option<ClusterId>,
    /// How often it has started on its data folder.
    pub incarnation: Incarnation,
    /// The version of its binary.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Time since its start, in milliseconds.
    pub uptime_ms: u64,
    /// Where its HTTP API listens (TCP).
    pub api_addr: SocketAddr,
    /// Where its cluster endpoint listens (UDP).
    pub cluster_addr: SocketAddr,
    /// Its replica of the store.
    pub store: StoreSummary,
}

/// A node's replica of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSummary {
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The Raft term.
    pub term: u64,
    /// Index of the last entry in its log.
    pub last_log: u64,
    /// The last change its state contains.
    pub applied: Revision,
    /// The last change in its latest snapshot.
    pub snapshot: Option<u64>,
    /// Nodes with a vote.
    pub voters: Vec<NodeId>,
    /// Nodes that copy the log without a vote.
    pub learners: Vec<NodeId>,
    /// Whether a majority answers, so that writes go through.
    pub quorum: bool,
}

/// `GET /v1/nodes`: one node, as the asked node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// Its name.
    pub id: NodeId,
    /// Whether it is there.
    pub state: NodeState,
    /// For how long it has been in this state, in milliseconds; `None` when the asked node has
    /// not seen a change.
    pub since_ms: Option<u64>,
    /// How often it has started on its data folder.
    pub incarnation: Incarnation,
    /// Where its cluster endpoint listens (UDP).
    pub cluster_addr: SocketAddr,
    /// Where its HTTP API listens (TCP).
    pub api_addr: SocketAddr,
    /// Its part in the store; `None` when it has none yet.
    pub role: Option<StoreRole>,
    /// The link from the asked node to it; `None` for the asked node itself.
    pub link: Option<LinkSummary>,
    /// The version of its binary.
    pub version: String,
}

/// Whether a node is there, by the failure detector of the asked node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It answers probes.
    Alive,
    /// It missed probes and may still defend itself.
    Suspect,
    /// It is gone.
    Down,
    /// It is known to the cluster and was not heard of yet.
    Joining,
}

/// A node's part in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreRole {
    /// Orders the writes.
    Leader,
    /// Votes and copies the log.
    Voter,
    /// Copies the log.
    Learner,
}

/// The QUIC connection between two nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSummary {
    /// Whether it stands.
    pub up: bool,
    /// Its smoothed round-trip time in microseconds, when it stands.
    pub rtt_us: Option<u64>,
}

/// `GET /v1/firmware` and `GET /v1/firmware/{name}`: one deployed firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareSummary {
    /// Its name.
    pub name: Name,
    /// The content of its package.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Length of its package in bytes.
    pub size: u64,
    /// Where it is placed; `None` while it waits for a node.
    pub node: Option<NodeId>,
    /// The fencing token of that placement.
    pub epoch: Option<Epoch>,
    /// How it fares.
    pub state: FirmwareState,
    /// How often its instance was restarted in this placement; known where it is placed.
    pub restarts: Option<u32>,
    /// Linear memory of its instance; known where it is placed, while it runs.
    pub memory_bytes: Option<u64>,
    /// Why it was restarted last, or why it does not run.
    pub last_error: Option<String>,
}

/// How a firmware fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareState {
    /// It takes messages.
    Running,
    /// It is being fetched, compiled or instantiated.
    Starting,
    /// It ended by an error and is started again after a pause.
    Restarting,
    /// It has no node yet.
    Waiting,
    /// It ended too often, or cannot be started.
    Failed,
}

macro_rules! displayed_as_in_json {
    ($($name:ident { $($variant:ident => $text:literal),* $(,)? })*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $text),* })
            }
        }
    )*};
}

displayed_as_in_json! {
    NodeState { Alive => "alive", Suspect => "suspect", Down => "down", Joining => "joining" }
    StoreRole { Leader => "leader", Voter => "voter", Learner => "learner" }
    FirmwareState {
        Running => "running",
        Starting => "starting",
        Restarting => "restarting",
        Waiting => "waiting",
        Failed => "failed",
    }
}

/// Query of `PUT /v1/firmware/{name}`: bounds on the instance. What is left out is the node's
/// default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployOptions {
    /// Linear memory, such as `16MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Time for one message, such as `250ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// Answer of `PUT /v1/firmware/{name}` (201): the package is stored on more than one node, when
/// there is more than one, and the cluster knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Its name.
    pub name: Name,
    /// The content of its package.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Length of its package in bytes.
    pub size: u64,
    /// Where it is placed, if that is decided.
    pub node: Option<NodeId>,
}

/// `GET /v1/sessions`: a page of sessions, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionSummary>,
    /// The `after` of the next page; `None` when this is the last.
    pub next: Option<SessionId>,
}

/// A session without its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// How many variables it has.
    pub variables: usize,
    /// The last change to it.
    pub revision: Revision,
}

/// `GET /v1/sessions/{id}`: a session with its variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its variables by name.
    pub variables: BTreeMap<String, SessionVariable>,
}

/// One variable of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionVariable {
    /// Its value.
    #[serde(flatten)]
    pub value: Text,
    /// How often it was written, from 1.
    pub version: u64,
    /// The change that wrote it last.
    pub revision: Revision,
}

/// Bytes in JSON: as they are when they are UTF-8, else in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "encoding", content = "value", rename_all = "kebab-case")]
pub enum Text {
    /// The bytes are this text.
    #[serde(rename = "utf-8")]
    Utf8(String),
    /// The bytes are no text; this is their base64 form.
    Base64(String),
}

impl Text {
    /// `bytes` in the form that is easiest to read.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes)
            .map_or_else(|_| Self::Base64(BASE64.encode(bytes)), |text| Self::Utf8(text.to_owned()))
    }

    /// The bytes; `None` when what claims to be base64 is not.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Utf8(text) => Some(text.as_bytes().to_vec()),
            Self::Base64(text) => BASE64.decode(text).ok(),
        }
    }
}

/// `GET /v1/actors`: an actor or supervisor with what is beneath it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorNode {
    /// Its name among its siblings.
    pub name: String,
    /// `supervisor` or `actor`.
    pub kind: String,
    /// How it fares, such as `running`.
    pub state: String,
    /// How often it was restarted.
    pub restarts: u64,
    /// Messages that wait in its mailbox.
    pub mailbox: usize,
    /// Messages it has handled, over all its restarts.
    pub handled: u64,
    /// Time it was at work, over all its restarts, in microseconds.
    pub busy_us: u64,
    /// What it supervises, in start order.
    pub children: Vec<ActorNode>,
}

/// What a caller may say about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOptions {
    /// The idempotency key; a new one when `None`. Name it to be able to retry.
    pub request: Option<RequestId>,
    /// The session the message is about; the firmware's default session when `None`.
    pub session: Option<String>,
    /// How long to wait.
    pub deadline: Duration,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { request: None, session: None, deadline: DEFAULT_DEADLINE }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_text_stay_readable_and_others_survive() {
        for bytes in [&b"41"[..], "\u{e4}".as_bytes(), &[0xff, 0x00, 0x80]] {
            assert_eq!(Text::of(bytes).bytes().as_deref(), Some(bytes));
        }
        let json = serde_json::to_value(SessionVariable {
            value: Text::of(b"41"),
            version: 41,
            revision: Revision(7),
        })
        .expect("serializes");
        assert_eq!(
            json,
            serde_json::json!({"encoding": "utf-8", "value": "41", "version": 41, "revision": 7})
        );
        assert!(serde_json::from_value::<SessionVariable>(json).is_ok());
    }

    #[test]
    fn a_digest_is_text_in_json() {
        let deployed = Deployed {
            name: "counter".parse().expect("a name"),
            digest: Digest::of(b"x"),
            size: 1,
            node: None,
        };
        let json = serde_json::to_value(&deployed).expect("serializes");
        assert_eq!(json["digest"], Digest::of(b"x").to_string());
        assert_eq!(serde_json::from_value::<Deployed>(json).expect("reads back"), deployed);
    }
}
