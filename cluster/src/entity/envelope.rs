//! A message on its way to an entity's handler, and the way back for its answer.

use std::sync::Arc;

use bytes::Bytes;
use odeum_proto::{EntityId, RequestId, call::CallError, codec};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::hub::Hub;
use super::{EntityMessage, call};
use crate::transport::lane::{LanePeer, Packet, Refused, packet};

/// A message as it came: from this node as a value, from another as bytes, which are decoded by
/// the entity's own task.
pub(super) enum Payload<M> {
    Value(M),
    Wire(Bytes),
}

impl<M: EntityMessage> Payload<M> {
    pub(super) fn open(self) -> Result<M, codec::DecodeError> {
        match self {
            Self::Value(message) => Ok(message),
            Self::Wire(bytes) => codec::decode(&bytes),
        }
    }

    /// Bytes that wait with it; a value of this node counts as nothing, its number is bounded.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Value(_) => 0,
            Self::Wire(bytes) => bytes.len(),
        }
    }
}

/// Where a packet came from.
#[derive(Clone)]
pub(super) enum Source {
    /// A lane of another node.
    Peer(LanePeer),
    /// This node: it was sent to a former owner and came back.
    Own(Arc<Hub>),
}

impl Source {
    /// The lane it came by.
    pub(super) fn peer(&self) -> Option<&LanePeer> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Own(_) => None,
        }
    }

    /// Sends back a message that cannot be delivered here.
    pub(super) fn bounce(&self, packet: Packet) {
        match (self, packet) {
            (from, Packet::Fence { call, .. }) => from.fenced(call),
            (Self::Peer(peer), packet) => push_short(peer, &Packet::Bounce(Box::new(packet))),
            (Self::Own(hub), packet) => hub.came_back(None, packet),
        }
    }

    /// Tells that all before a fence has been handled.
    pub(super) fn fenced(&self, call: u64) {
        match self {
            Self::Peer(peer) => push_short(peer, &Packet::Fenced { call }),
            Self::Own(hub) => hub.fenced(call),
        }
    }
}

/// One entry of an entity's queue.
pub(super) enum Envelope<M: EntityMessage> {
    Tell(Payload<M>),
    Ask(Box<Question<M>>),
    /// A node wants to know when its messages before this have been handled.
    Fence {
        call: u64,
        from: Source,
    },
}

/// An ask.
pub(super) struct Question<M: EntityMessage> {
    pub(super) payload: Payload<M>,
    /// The idempotency key.
    pub(super) key: Option<RequestId>,
    pub(super) until: Instant,
    pub(super) reply: ReplyTo<M::Reply>,
}

impl<M: EntityMessage> Envelope<M> {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Tell(payload) => payload.weight(),
            Self::Ask(question) => question.payload.weight(),
            Self::Fence { .. } => 0,
        }
    }
}

/// Where an answer goes. Dropped without one, the asker is told that there will be none.
pub(super) struct ReplyTo<R>(Option<Way<R>>);

enum Way<R> {
    Here(oneshot::Sender<Result<R, CallError>>, Arc<EntityId>),
    There { from: Source, call: u64, entity: Arc<EntityId> },
}

impl<R: serde::Serialize> ReplyTo<R> {
    pub(super) fn here(sender: oneshot::Sender<Result<R, CallError>>, id: Arc<EntityId>) -> Self {
        Self(Some(Way::Here(sender, id)))
    }

    pub(super) fn there(from: Source, call: u64, entity: Arc<EntityId>) -> Self {
        Self(Some(Way::There { from, call, entity }))
    }

    /// Answers.
    pub(super) fn send(mut self, result: Result<R, CallError>) {
        match self.0.take() {
            // An asker that is gone has given up, which is its right.
            Some(Way::Here(sender, _)) => drop(sender.send(result)),
            Some(Way::There { from: Source::Peer(peer), call, entity }) => match result {
                Ok(reply) => answer(&peer, call, &entity, &reply),
                Err(error) => refuse(&peer, call, &error),
            },
            Some(Way::There { from: Source::Own(hub), call, entity }) => {
                let refused = |error: codec::EncodeError| CallError::Refused {
                    entity: EntityId::clone(&entity),
                    reason: error.to_string().into(),
                };
                let bytes = result.and_then(|reply| codec::encode(&reply).map_err(refused));
                hub.pending().answer(call, bytes.map(Bytes::from));
            }
            None => {}
        }
    }

    /// Whether nobody waits for the answer any more. What a peer has asked that is gone is not
    /// worth the time of those who are there: it may have asked much.
    pub(super) fn is_closed(&self) -> bool {
        match &self.0 {
            Some(Way::Here(sender, _)) => sender.is_closed(),
            Some(Way::There { from: Source::Peer(peer), .. }) => peer.is_gone(),
            _ => false,
        }
    }
}

impl<R> Drop for ReplyTo<R> {
    fn drop(&mut self) {
        let gone = |entity: &EntityId| CallError::Unavailable {
            entity: entity.clone(),
            reason: "it ended before it replied".into(),
        };
        match self.0.take() {
            Some(Way::Here(sender, entity)) => drop(sender.send(Err(gone(&entity)))),
            Some(Way::There { from: Source::Peer(peer), call, entity }) => {
                refuse(&peer, call, &gone(&entity));
            }
            Some(Way::There { from: Source::Own(hub), call, entity }) => {
                hub.pending().answer(call, Err(gone(&entity)));
            }
            None => {}
        }
    }
}

/// Sends a reply, or why it cannot be sent.
fn answer<R: serde::Serialize>(peer: &LanePeer, call: u64, entity: &EntityId, reply: &R) {
    let Some(outlet) = peer.outlet() else { return };
    match outlet.push_reply(|out| packet::put_reply(out, call, reply)) {
        // A peer that is gone waits for nothing.
        Ok(()) | Err(Refused::Closed) => {}
        Err(Refused::Full) => refuse(
            peer,
            call,
            &CallError::Unavailable {
                entity: entity.clone(),
                reason: "its reply found no room on the link; it was carried out".into(),
            },
        ),
        Err(Refused::Body(error)) => refuse(peer, call, &call::body_error(entity, &error)),
    }
}

/// Sends an error in place of a reply.
fn refuse(peer: &LanePeer, call: u64, error: &CallError) {
    // An error is small and always encodes.
    let body = codec::encode(error).unwrap_or_default().into();
    push_short(peer, &Packet::Failure { call, body });
}

/// Sends a short packet; to a peer that is gone nothing is sent.
pub(super) fn push_short(peer: &LanePeer, packet: &Packet) {
    if let Some(outlet) = peer.outlet() {
        let _ = outlet.push_short(packet);
    }
}
