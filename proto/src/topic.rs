//! Publish and subscribe between nodes: which topics a node has subscribers of, and messages.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, TopicName};

/// What one node tells another about topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicRequest {
    /// What it has subscribers of.
    Interest(InterestUpdate),
    /// Messages, in the order in which they were published.
    Publish {
        /// The publisher's start: the numbers below are of this life.
        life: Incarnation,
        /// At least one.
        messages: Vec<TopicMessage>,
    },
}

/// What the other node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicReply {
    /// It knows the interest of that version.
    Known {
        /// The version.
        version: u64,
    },
    /// It lacks what the update builds on: send all of it.
    Unknown,
    /// The messages are in the queues of the subscribers.
    Taken,
}

/// The topics a node has subscribers of, or what has changed in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterestUpdate {
    /// The node's start: versions are of this life.
    pub life: Incarnation,
    /// What the other node then knows; it grows with every change.
    pub version: u64,
    /// The version this is a change of; `None` when `added` are all there are.
    pub base: Option<u64>,
    /// Topics that have subscribers now.
    pub added: Vec<TopicName>,
    /// Topics that have none any more.
    pub removed: Vec<TopicName>,
}

/// One message, or word that some were dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicMessage {
    /// Under which topic.
    pub topic: TopicName,
    /// Which row of numbers; a later row has a greater one. 0 for a message without a number, to a
    /// node that is not known to have subscribers.
    pub row: u64,
    /// Its place in the row, from 1 without gaps: what is missing was dropped.
    pub number: u64,
    /// The message; `None` when the messages up to this number were dropped.
    pub body: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    /// When this fails, undo the change or raise `wire::MAJOR`.
    #[test]
    fn the_bytes_of_wire_version_2_stay() {
        let topic: TopicName = "a/b".parse().expect("valid");
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let interest = TopicRequest::Interest(InterestUpdate {
            life: Incarnation(3),
            version: 9,
            base: Some(7),
            added: vec![topic.clone()],
            removed: vec![],
        });
        let message = |body| TopicMessage { topic: topic.clone(), row: 1, number: 300, body };
        let publish = TopicRequest::Publish {
            life: Incarnation(3),
            messages: vec![message(Some(Bytes::from_static(b"hi"))), message(None)],
        };
        for (request, golden) in [
            (interest, "00030901070103612f6200"),
            (publish, "01030203612f6201fb2c010102686903612f6201fb2c0100"),
        ] {
            let bytes = codec::encode(&request).expect("encodes");
            assert_eq!(codec::decode(&bytes), Ok(request));
            assert_eq!(hex(bytes), golden);
        }
        for (reply, golden) in [
            (TopicReply::Known { version: 5 }, "0005"),
            (TopicReply::Unknown, "01"),
            (TopicReply::Taken, "02"),
        ] {
            assert_eq!(hex(codec::encode(&reply).expect("encodes")), golden);
        }
    }
}
