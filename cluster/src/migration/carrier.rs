//! What the layer above does in a move: it alone knows what an entity has in memory.

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::moves::Carriage;
use odeum_proto::{EntityId, Epoch, NodeId};

/// Why an entity cannot be given away or taken in, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cannot(pub Box<str>);

impl Cannot {
    /// For that reason.
    pub fn because(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string().into())
    }
}

/// Gives entities of this node away, and takes others in.
pub trait Carrier: Send + Sync + 'static {
    /// Begins to give one away. It goes on handling messages.
    fn depart(
        &self,
        entity: &EntityId,
        epoch: Epoch,
    ) -> BoxFuture<'_, Result<Box<dyn Departing>, Cannot>>;

    /// Makes room for one that another node gives away, whose `offer` says what must be known of it.
    fn arrive(
        &self,
        entity: &EntityId,
        epoch: Epoch,
        offer: Bytes,
    ) -> BoxFuture<'_, Result<Box<dyn Arriving>, Cannot>>;
}

/// A piece of what an entity has in memory, or the end of a round.
#[derive(Debug)]
pub enum Copied {
    /// A piece. There is more.
    Piece(Bytes),
    /// All of it was copied.
    Round {
        /// Whether what has changed since is probably so little that it need not be copied before
        /// the entity is frozen.
        small: bool,
    },
}

/// An entity that is given away. Dropped without a word it ends, and begins anew under another
/// epoch: nobody knows any more whether it is still here.
pub trait Departing: Send {
    /// What of it moves.
    fn how(&self) -> Carriage;

    /// What the other node must know of it.
    fn offer(&self) -> Bytes;

    /// Whether there is so little to move that it need not be copied while it runs.
    fn is_small(&self) -> bool;

    /// The next piece of what has changed since the last round, while it runs.
    fn copy(&mut self) -> BoxFuture<'_, Result<Copied, Cannot>>;

    /// Lets it come to the end of the message at hand; after that it handles nothing, and what comes
    /// for it waits.
    fn freeze(&mut self) -> BoxFuture<'_, Result<(), Cannot>>;

    /// What is left of its state, in pieces, at least one: the last is what [`Arriving::thaw`] gets.
    fn rest(&mut self) -> BoxFuture<'_, Result<Vec<Bytes>, Cannot>>;

    /// It stays: it goes on with what waits.
    fn stay(self: Box<Self>);

    /// It has become `next` on `to`: what waits is sent there by those who sent it.
    fn gone(self: Box<Self>, to: &NodeId, next: Epoch);
}

/// An entity that is taken in. Dropped it does not come.
pub trait Arriving: Send {
    /// A piece of its state.
    fn take(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), Cannot>>;

    /// The last piece: with it all are there, and it is made ready to go on.
    fn thaw(&mut self, last: Bytes) -> BoxFuture<'_, Result<(), Cannot>>;

    /// The table says that it is here, under its next epoch: it goes on. Returns when somebody sees
    /// to that.
    fn begin(self: Box<Self>) -> BoxFuture<'static, ()>;
}
