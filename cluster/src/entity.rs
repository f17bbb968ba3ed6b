//! Entities: actors with a cluster-wide name, each active on exactly one node at a time.
//!
//! An embedder registers a [`Kind`] with the nodes that may host it and talks to its entities by
//! [`EntityRef`], from any node. An entity is made when its first message comes and ended when it
//! has been idle, if its kind says so; between two messages it is wherever its shard is placed.
//!
//! ```text
//! EntityRef ── Route ──┬── here ──────────────── Slot ── Runner (supervised actor) ── Entity
//!                      └── lane ── QUIC ── Hub ──┘
//! ```
//!
//! # What is promised
//!
//! | | in the normal case | shard moves | node crashes |
//! |---|---|---|---|
//! | [`tell`](EntityRef::tell) | at most once, in order per (sending node and task, entity) | nothing lost, nothing twice, order kept | what was under way may be lost, never twice |
//! | [`ask`](EntityRef::ask) | one reply or one error before its deadline | the same, a little later | [`CallError::Unreachable`] as soon as the failure detector knows |
//! | [`ask_once`](EntityRef::ask_once) | the effect happens once per key, its reply is repeated | the same while the entity stays active or is [movable](Kind::movable) | asked again at the next owner; what the entity kept only in memory is gone |
//!
//! * A message waits while its entity has no owner or none that can be reached: an ask until its
//!   deadline, a tell for [`HOLD`].
//! * An entity that falls behind pushes back: its senders wait on every node, and other entities
//!   are not held up by it.
//! * An ask whose deadline has passed is not started.
//! * An entity that panics or returns an error is made anew for its next message, after growing
//!   pauses; the message at hand is lost and its asker told, those behind it are not lost.
//! * What an entity of a [movable](Kind::movable) kind has in memory goes with its shard when that goes
//!   to another node in good order: it is frozen, sent, and thawed where the table says that the shard
//!   is next. Whatever fails before that is said costs a pause: it goes on where it was. When the node
//!   crashes it is gone.
//! * A node pays nothing for entities of others that it does not talk to: placement is by shard.
//!
//! An entity is active on one node at a time, also while a node is cut off and does not know it: it
//! handles no message and gives no answer without the lease of its node ([`crate::lease`]), and
//! gets no shard of another node before the lease of that is over. When the lease is over, the
//! entities of the node pause: what they keep in memory stays, messages wait, and who is at work
//! is cut off where it waits for something. With the next lease they go on, except for those that
//! were another node's in between, which are gone with what was sent to them.
//!
//! # What goes where, and what a crash leaves
//!
//! What is placed is the shard, so that is what moves, with all of its entities at once: to a node
//! that joins or is used again, and from one that leaves, stops or is drained. No entity moves by
//! itself; `odeum migrate` says so of one. A node that joins gets no shard with active entities of a kind that
//! is neither [movable](Kind::movable) nor ends them when they are [idle](Kind::idle).
//!
//! | entity | its shard goes in good order | its node crashes (`kill -9`) |
//! |---|---|---|
//! | not active | it is a name: nothing but the shard's row of the table changes | the same |
//! | active, [movable](Kind::movable) | goes on with what it has in memory, and with the replies that it remembers | made anew; its memory is gone |
//! | active, not movable | told by [`passivating`](Entity::passivating), then made anew there | made anew; its memory is gone |
//! | what it has written to the [store](EntityContext::store) | is there | is there |
//! | the place of its shard | another | another, when the lease of the node is over |
//!
//! Not done, and why: no message is kept on disk, and nobody writes down by itself what an entity has in
//! memory: there are no checkpoints of it as there are of firmware, because only the entity knows when
//! its state is whole and what of it is worth a round of the log. What must survive the crash of a node
//! it writes to the store before it replies, and reads when it is
//! [activated](Entity::activated); or the asker asks again with the same key.
//!
//! What it writes there is not fenced by its epoch, as commits of firmware are. When the lease is over it
//! is cut off where it waits for the store, but what it has asked of that goes on: a write that was under
//! way may be made after the next activation has begun, and has read. So it writes with the version that
//! it has read ([`compare_and_set`](crate::store::SessionHandle::compare_and_set)), and reads again when
//! that is another by then.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use odeum_actors::ActorError;
use odeum_proto::EntityId;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod call;
mod context;
mod drained;
mod envelope;
mod frozen;
mod gate;
mod handoff;
mod host;
mod hub;
mod kind;
mod pending;
mod reference;
mod route;
mod runner;
mod shards;
mod slot;
mod table;
mod tenure;
pub mod window;

pub use context::{EntityContext, EntityTimer};
pub use hub::EntitiesHandle;
pub(crate) use hub::{HubParts, entities};
pub use kind::Kind;
pub use odeum_proto::call::CallError;
pub use reference::EntityRef;

/// How long a tell waits for an owner of its entity: longer than a failover takes, short enough
/// that a caller learns of a cluster that has lost its majority.
pub const HOLD: Duration = Duration::from_secs(10);

/// What a kind of entity is told: usually an enum, with the answer that each message gets.
pub trait EntityMessage: Serialize + DeserializeOwned + Send + 'static {
    /// The answer to an ask; `()` where there is nothing to say.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// An entity: owns its state and handles one message at a time.
pub trait Entity: Send + Sized + 'static {
    /// What it is told.
    type Message: EntityMessage;

    /// Runs before the first message, such as to load what it has stored.
    ///
    /// # Errors
    /// It is not active then; it is made anew for its next message, after a pause.
    fn activated(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Handles one message. The reply goes to the asker; of a tell it is dropped.
    ///
    /// # Errors
    /// An error means "make me anew": the asker gets [`CallError::Failed`] with its text. What
    /// an asker should be told otherwise belongs into the reply.
    fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        message: Self::Message,
    ) -> impl Future<Output = Result<<Self::Message as EntityMessage>::Reply, ActorError>> + Send;

    /// Says what it has in memory, when its shard goes to another node and its kind is
    /// [`movable`](Kind::movable). It has handled all that came for it, and does nothing more here:
    /// its tasks and timers end. At most [`ENTITY_STATE_BYTES`](odeum_proto::limits::ENTITY_STATE_BYTES).
    ///
    /// # Errors
    /// It stays, and with it all that was to go to the same node. Also the default.
    fn freeze(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
    ) -> impl Future<Output = Result<Bytes, ActorError>> + Send {
        let _ = ctx;
        async { Err(ActorError::msg("its kind is movable and says not what it has in memory")) }
    }

    /// Goes on with what [`freeze`](Self::freeze) has said, usually on another node, instead of
    /// [`activated`](Self::activated): it begins the timers and tasks again that it needs. Replies by
    /// idempotency key are remembered as before.
    ///
    /// # Errors
    /// It is not active then, and is thawed again for its next message, after a pause.
    fn thaw(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        state: Bytes,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let (_, _) = (ctx, state);
        async { Err(ActorError::msg("its kind says not how it goes on with what it had")) }
    }

    /// Runs once when it ends in good order: idle, or because its shard moves without what it has in
    /// memory.
    fn passivating(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
    ) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }
}

/// An entity's text, `kind/key`, as it is looked up and sent.
#[derive(Clone)]
pub(crate) struct Path {
    pub(crate) id: EntityId,
    pub(crate) text: std::sync::Arc<str>,
}

impl Path {
    pub(crate) fn new(id: EntityId) -> Self {
        let text = id.to_string().into();
        Self { id, text }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
