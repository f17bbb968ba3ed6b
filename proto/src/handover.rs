//! Entities that go to another node with their shard, and what they had in memory.

use serde::{Deserialize, Serialize};

use crate::ids::{EntityKey, EntityKind, Epoch, RequestId};

/// Some of the entities that go to a node. Until the shards are switched they do nothing anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// What they are.
    pub kind: EntityKind,
    /// Which.
    pub entities: Vec<FrozenEntity>,
}

/// An entity that has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenEntity {
    /// Its name within its kind.
    pub key: EntityKey,
    /// Of its shard, under which it has stopped. It goes on where this is followed by another.
    pub epoch: Epoch,
    /// What it had in memory, as its kind writes it.
    #[serde(with = "crate::codec::bytes")]
    pub state: Vec<u8>,
    /// What it answered under idempotency keys, the oldest first.
    pub answered: Vec<(RequestId, Answered)>,
}

/// What was answered under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answered {
    /// The encoded reply.
    Reply(#[serde(with = "crate::codec::bytes")] Vec<u8>),
    /// It was carried out; its reply was too large to be remembered.
    TooLarge,
}

/// What the other node says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reception {
    /// It has them.
    Taken,
    /// It does not take them.
    Refused {
        /// Why.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn the_bytes_of_a_handover_are_those_of_this_wire_version() {
        let reply = |request: &str, answer| (request.parse().expect("valid"), answer);
        let entity = FrozenEntity {
            key: "k".parse().expect("valid"),
            epoch: Epoch(7),
            state: vec![1, 2],
            answered: vec![reply("r", Answered::Reply(vec![3])), reply("s", Answered::TooLarge)],
        };
        let handover = Handover { kind: "note".parse().expect("valid"), entities: vec![entity] };
        let expected = b"\x04note\x01\x01k\x07\x02\x01\x02\x02\x01r\0\x01\x03\x01s\x01";
        assert_eq!(codec::encode(&handover).expect("it can be"), expected);
        assert_eq!(codec::decode(expected), Ok(handover));
        assert_eq!(codec::encode(&Reception::Taken).expect("it can be"), [0]);
        let refused = Reception::Refused { reason: "no".into() };
        assert_eq!(codec::encode(&refused).expect("it can be"), *b"\x01\x02no");
    }
}
