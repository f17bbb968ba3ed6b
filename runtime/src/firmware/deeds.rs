//! What a guest does to others, beyond its variables and its reply: done by its host when the message
//! is committed, and not at all when it is not.

use std::time::Duration;

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use odeum_proto::{
    EntityId, Epoch, Recipient, ReplicaId, RequestId,
    call::{CallError, CallReply, CallRequest},
};
use serde::{Deserialize, Serialize};

use super::process::wire::at_once;

/// Longest time that an ask waits for its answer, in milliseconds: what calls have at most.
pub(super) const LONGEST_ASK: Duration = Duration::from_secs(60);

/// What the names of guests' topics begin with in the cluster, so that they are apart from those of
/// services.
pub const GUEST_TOPICS: &str = "guest/";

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Send a message that nobody waits for.
    Tell {
        /// The firmware, or a certain replica of it.
        to: Recipient,
        /// The message.
        #[serde(with = "at_once")]
        body: Vec<u8>,
    },
    /// Send a message whose outcome is a message to the guest.
    Ask {
        /// What the outcome is told by.
        number: u64,
        /// The firmware, or a certain replica of it.
        to: Recipient,
        /// The message.
        #[serde(with = "at_once")]
        body: Vec<u8>,
        /// How long to wait.
        deadline: Duration,
    },
    /// Tell the guest when some time is over.
    SetTimer {
        /// What it is told by.
        number: u64,
        /// The time.
        after: Duration,
    },
    /// Take a timer back.
    CancelTimer {
        /// Which.
        number: u64,
    },
    /// Publish under a topic of the cluster.
    Publish {
        /// The topic.
        topic: String,
        /// The message.
        #[serde(with = "at_once")]
        payload: Vec<u8>,
    },
    /// Give the guest what is published under a topic.
    Subscribe {
        /// The topic.
        topic: String,
    },
}

/// A message from a guest to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The message itself; of a firmware with several replicas it names the first.
    pub call: CallRequest,
    /// The replica that sends it, when any replica may have it: all that this one sends goes to the
    /// same, so that its order is kept.
    pub spread_by: Option<ReplicaId>,
}

impl Message {
    pub(super) fn new(
        from: &ReplicaId,
        to: &Recipient,
        body: Vec<u8>,
        remaining: Duration,
    ) -> Self {
        let entity = match to.replica() {
            Some(replica) => replica.entity(),
            None => EntityId::firmware(to.firmware().clone()),
        };
        let request = RequestId::random();
        let call = CallRequest { entity, request, session: None, body, remaining };
        Self { call, spread_by: to.replica().is_none().then(|| from.clone()) }
    }
}

/// The cluster as guests reach it.
pub trait Reach: Send + Sync + 'static {
    /// Sends a message to a firmware, wherever it runs.
    fn call(&self, message: Message) -> BoxFuture<'static, Result<CallReply, CallError>>;
    /// Returns when no other node that is there has anything left of activations of that replica
    /// before this one: they have ended, and what they had not saved is in the store.
    fn handed_over(&self, name: ReplicaId, epoch: Epoch) -> BoxFuture<'static, ()>;
    /// Publishes to all subscribers.
    fn publish(&self, topic: String, payload: Vec<u8>) -> BoxFuture<'static, Result<(), Box<str>>>;
    /// What is published from now on.
    fn subscribe(
        &self,
        topic: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, Box<str>>>;
}
