//! Publish and subscribe across the nodes of a cluster.
//!
//! A [`Topic<T>`] is a name under which messages of one type are published; whoever subscribes to
//! it, on any node, gets them. Nothing is stored: a message goes to those who are there. Each node
//! tells the others which topics it has subscribers of, so a node without any gets no messages.
//!
//! What is promised:
//! * **At most once, in order** per publisher and subscriber: never twice, never a later message
//!   before an earlier one of the same task. Kept by `topic/order.rs` and
//!   `tests/topics.rs`.
//! * **Whom it reaches**: all subscribers of the node, and of every other live node whose
//!   subscription this node knows of. [`Topic::subscribe`] returns when all linked nodes know.
//! * **What is lost is told**: a subscriber that is slower than the messages come, or whose link
//!   was cut or crowded, gets [`SubscriptionError::Missed`] in the place of what is missing, with
//!   their number. Only what was lost while this node did not know the subscription yet is not.
//! * **Nobody is held up**: a slow subscriber costs others nothing. [`Topic::publish`] waits up
//!   to 200 ms for room to a crowded peer, once; until that has caught up, what has no room is
//!   dropped for it.
//!
//! [`Topic::broadcast`] sends one message to every linked node, whether or not its subscriptions
//! are known yet, for news that a node which has only just come should not miss.
//!
//! ```no_run
//! # async fn example(topics: odeum_cluster::topic::TopicsHandle) -> Result<(), Box<dyn std::error::Error>> {
//! let prices = topics.topic::<(String, f64)>("prices/eu")?;
//! let mut subscription = prices.subscribe().await?;
//! prices.publish(&("tea".to_owned(), 2.5)).await?;
//! while let Some(price) = subscription.next().await {
//!     match price {
//!         Ok((what, price)) => println!("{what}: {price}"),
//!         Err(missed) => println!("{missed}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::{BoxFuture, poll_fn};
use odeum_actors::{ChildSpec, child};
use odeum_proto::codec::{self, DecodeError, EncodeError};
use odeum_proto::topic::{TopicReply, TopicRequest};
use odeum_proto::{IdError, NodeId, TopicName, limits};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::membership::{LiveSet, MemberState};
use crate::transport::{Serve, ServeError, Service, TransportHandle};

mod interest;
mod order;
mod outbox;
mod ring;
mod spread;
mod table;

use ring::{Item, Ring};
use spread::Spread;
use table::Shared;

/// Messages that may wait for one subscriber unless it asks for another bound: a second's worth at
/// 1,000 a second.
const QUEUE: usize = 1_024;

/// How long a new subscription waits until all linked nodes know of it. One round trip is the
/// rule; a node that does not answer is found dead in less.
const KNOWN_WAIT: Duration = Duration::from_secs(1);

/// Why a message was not published, or a topic not subscribed to.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The name cannot be a topic's. Correct it.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The message is larger than one may be. Publish where it is to be had instead.
    #[error("a message of {got} bytes where at most {limit} are allowed")]
    TooLarge {
        /// Its length.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// The message's type cannot be written: a programming error.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// This node has subscribers of as many topics as one may have. Subscribe to fewer, wider ones.
    #[error("this node has subscribers of {} topics, the most it may have", limits::TOPICS)]
    TooManyTopics,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

/// Why a subscriber got no message in this place. The next one may be there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// So many messages were published here and did not arrive, or came faster than they were taken.
    #[error("{count} messages were missed")]
    Missed {
        /// How many.
        count: u64,
    },
    /// The message is of another type: its publisher uses the name for something else.
    #[error("not a message of this topic: {0}")]
    Undecodable(#[from] DecodeError),
}

/// Whom a message was sent to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Subscriptions on this node.
    pub subscribers: usize,
    /// Other nodes.
    pub nodes: usize,
    /// Other nodes for which it was dropped, since they do not keep up.
    pub lagging: usize,
}

/// The topics of a cluster, as one node has them. Cheap to clone; valid across restarts of the
/// actor behind it.
#[derive(Debug, Clone)]
pub struct TopicsHandle {
    shared: Arc<Shared>,
    transport: TransportHandle,
    live: watch::Receiver<Arc<LiveSet>>,
}

impl TopicsHandle {
    /// The topic called `name`, for messages of type `T`. All nodes must use the same type.
    ///
    /// # Errors
    /// [`TopicError::Name`] when the name is empty, longer than [`limits::KEY_BYTES`] or not
    /// printable ASCII.
    pub fn topic<T>(&self, name: &str) -> Result<Topic<T>, TopicError> {
        Ok(Topic { name: name.parse()?, topics: self.clone(), messages: PhantomData })
    }

    /// Waits until all linked, live peers know version `version` of what this node wants.
    async fn known(&self, version: u64) {
        let mut known = self.shared.known.subscribe();
        let all_know = known.wait_for(|known| {
            let (links, live) = (self.transport.links(), self.live.borrow());
            let links = links.borrow();
            links.keys().all(|peer| {
                let member = live.members.get(peer);
                member.is_some_and(|member| member.state == MemberState::Down)
                    || known.get(peer).is_some_and(|known| *known >= version)
            })
        });
        if timeout(KNOWN_WAIT, all_know).await.is_err() {
            tracing::debug!(version, "a subscription is not known everywhere yet");
        }
    }
}

/// A name under which messages of one type are published. Cheap to clone.
pub struct Topic<T> {
    name: TopicName,
    topics: TopicsHandle,
    messages: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), topics: self.topics.clone(), messages: PhantomData }
    }
}

impl<T> std::fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Topic").field(&self.name).finish()
    }
}

impl<T: Serialize> Topic<T> {
    /// Sends a message to all subscribers that this node knows of, its own and those of live peers.
    ///
    /// Returns when it is in their queues, after at most 200 ms: it is on its way and may still be
    /// lost. A future that is dropped before has sent nothing.
    ///
    /// # Errors
    /// [`TopicError::TooLarge`] beyond [`limits::MESSAGE_BYTES`], [`TopicError::Encode`].
    pub async fn publish(&self, message: &T) -> Result<Reach, TopicError> {
        self.send(message, false).await
    }

    /// As [`publish`](Self::publish), but to all linked, live nodes, whether or not their
    /// subscriptions are known here. A node without subscribers drops the message.
    ///
    /// # Errors
    /// As there.
    pub async fn broadcast(&self, message: &T) -> Result<Reach, TopicError> {
        self.send(message, true).await
    }

    async fn send(&self, message: &T, all: bool) -> Result<Reach, TopicError> {
        let shared = &self.topics.shared;
        if !shared.is_wanted(&self.name, all) {
            return Ok(Reach::default());
        }
        let body = Bytes::from(codec::encode(message)?);
        match body.len() {
            got if got > limits::MESSAGE_BYTES => {
                Err(TopicError::TooLarge { got, limit: limits::MESSAGE_BYTES })
            }
            _ => Ok(shared.publish(&self.name, &body, all).await),
        }
    }
}

impl<T: DeserializeOwned> Topic<T> {
    /// Subscribes. Messages are kept from now on; the future is done when all linked nodes know
    /// that this one wants them, or after a second.
    ///
    /// # Errors
    /// [`TopicError::TooManyTopics`], [`TopicError::Stopped`].
    pub async fn subscribe(&self) -> Result<Subscription<T>, TopicError> {
        self.subscribe_with(QUEUE).await
    }

    /// As [`subscribe`](Self::subscribe), with a queue for so many messages. More rides out longer
    /// pauses of the subscriber and costs memory while it pauses, in all cases at most 16 MiB.
    ///
    /// # Errors
    /// As there.
    pub async fn subscribe_with(&self, messages: usize) -> Result<Subscription<T>, TopicError> {
        let (id, ring, version) = self.topics.shared.subscribe(&self.name, messages)?;
        let (topic, shared) = (self.name.clone(), Arc::clone(&self.topics.shared));
        let subscription = Subscription { topic, id, ring, shared, messages: PhantomData };
        self.topics.known(version).await;
        Ok(subscription)
    }
}

/// The messages of a topic, as they come. Dropping it ends the subscription.
pub struct Subscription<T> {
    topic: TopicName,
    id: u64,
    ring: Arc<Ring>,
    shared: Arc<Shared>,
    messages: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscription").field(&self.topic).finish()
    }
}

impl<T: DeserializeOwned> Subscription<T> {
    /// The next message, or what there is to say in its place; `None` when the node has stopped.
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<T, SubscriptionError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<T: DeserializeOwned> Stream for Subscription<T> {
    type Item = Result<T, SubscriptionError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ring.poll_next(cx).map(|item| {
            item.map(|item| match item {
                Item::Message(body) => Ok(codec::decode(&body)?),
                Item::Missed(count) => Err(SubscriptionError::Missed { count }),
            })
        })
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.shared.unsubscribe(&self.topic, self.id);
    }
}

/// Answers what peers tell.
struct Door(Arc<Shared>);

impl Serve for Door {
    fn serve(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        // All of it now: the order of the requests is that of the messages.
        let reply = codec::decode(&body).map_err(ServeError::from).and_then(|request| {
            let reply = match request {
                TopicRequest::Interest(update) => self.0.hear(&from, update),
                TopicRequest::Publish { life, messages } => {
                    self.0.take(&from, life, messages);
                    TopicReply::Taken
                }
            };
            Ok(codec::encode(&reply)?.into())
        });
        Box::pin(std::future::ready(reply))
    }
}

/// Ends the subscriptions when the supervisor gives up what makes the actor: at the node's end.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The topics of this node, and the actor that keeps them, a child of the `ClusterSupervisor`.
#[must_use]
pub fn topics(
    transport: TransportHandle,
    live: watch::Receiver<Arc<LiveSet>>,
) -> (TopicsHandle, ChildSpec) {
    let shared = Arc::new(Shared::new(transport.incarnation(), live.clone(), transport.links()));
    transport.services().insert(Service::Topic, Arc::new(Door(Arc::clone(&shared))));
    let handle = TopicsHandle {
        shared: Arc::clone(&shared),
        transport: transport.clone(),
        live: live.clone(),
    };
    let closing = Closing(shared);
    let (_, spec) = child("Topics", move || {
        Spread::new(Arc::clone(&closing.0), transport.clone(), live.clone())
    });
    (handle, spec)
}
