//! The version of the wire and of the disk, and the messages of the transport itself.
//!
//! Nodes of one [`MAJOR`] understand each other; a peer with another is refused with an error
//! that names both. A minor step only adds what older nodes may ignore.
//!
//! The first bytes of a connection, both ways, are the [preamble]: its layout holds for
//! every wire version there will ever be, so that two nodes that understand nothing else of each
//! other can still say why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, EncodeError};
use crate::ids::{ClusterId, Incarnation, NodeId};

/// The wire version: raised when bytes change their meaning. 2: the record of a node says what it
/// hosts, and the key of an entity is any text. 3: sessions in groups of their own. 4: changes go to
/// the leader of a group together. 6: firmware has replicas, and moves with what it has in memory; a
/// commit tells of several requests. 7: firmware names nodes, and others to be apart from; of two
/// connections the one that goes is seen out. 8: what entities have carried out is remembered for a time.
pub const MAJOR: u16 = 8;

/// The step within the wire version: raised when something is added.
pub const MINOR: u16 = 0;

/// Opens every connection, so that a peer that speaks something else is told from one that is
/// merely older.
pub const MAGIC: [u8; 6] = *b"odeum\n";

/// Length of the preamble's fixed part: magic, major, minor, length of what follows.
pub const PREAMBLE_BYTES: usize = MAGIC.len() + 6;

/// Largest body behind a preamble, in bytes. A hello has under 100; the rest is room to grow.
pub const HELLO_BYTES: usize = 1_024;

/// A wire version as a peer states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireVersion {
    /// Must be equal on both sides.
    pub major: u16,
    /// May differ.
    pub minor: u16,
}

impl WireVersion {
    /// The version this binary speaks.
    pub const CURRENT: Self = Self { major: MAJOR, minor: MINOR };
}

impl fmt::Display for WireVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Who speaks, said by both sides before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The speaker. Its certificate must say the same.
    pub node: NodeId,
    /// Its start, so that a link to an earlier life is replaced.
    pub incarnation: Incarnation,
    /// Its cluster; `None` while it has joined none.
    pub cluster: Option<ClusterId>,
    /// Counts the speaker's connection attempts. Of two connections of one dialler the later one
    /// stays, on both sides.
    pub attempt: u64,
}

/// The accepting side's answer to a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Who answers.
    pub hello: Hello,
    /// Why the connection will be closed, if it will.
    pub refusal: Option<HelloRefusal>,
}

/// Why an accepting node does not want a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloRefusal {
    /// The two nodes belong to different clusters; each knows the other's from its hello.
    OtherCluster,
    /// The certificate is another node's than the hello says.
    Identity {
        /// The node in the certificate.
        certified: NodeId,
    },
    /// The dialler has the accepting node's own name.
    SameNode,
}

/// What a node says of itself over the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
    /// The version of its binary.
    pub version: String,
    /// The wire version it speaks.
    pub wire: WireVersion,
}

/// A body with the preamble before it.
///
/// # Errors
/// [`EncodeError`] when the type itself cannot be written.
pub fn preamble<T: Serialize>(version: WireVersion, body: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&version.major.to_le_bytes());
    bytes.extend_from_slice(&version.minor.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    codec::encode_into(body, &mut bytes)?;
    let length = u16::try_from(bytes.len() - PREAMBLE_BYTES)
        .ok()
        .filter(|&n| usize::from(n) <= HELLO_BYTES)
        .ok_or_else(|| EncodeError {
            what: std::any::type_name::<T>(),
            reason: format!("longer than {HELLO_BYTES} bytes").into(),
        })?;
    if let Some(place) = bytes.get_mut(PREAMBLE_BYTES - 2..PREAMBLE_BYTES) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    Ok(bytes)
}

/// Reads the fixed part of a preamble: the peer's version and how many bytes follow.
///
/// # Errors
/// [`PreambleError`] when it is no preamble or announces too much.
pub fn parse_preamble(bytes: &[u8; PREAMBLE_BYTES]) -> Result<(WireVersion, usize), PreambleError> {
    let (magic, rest) = bytes.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(PreambleError::NotOdeum);
    }
    let field = |at: usize| match rest.get(at..at + 2) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => 0,
    };
    let version = WireVersion { major: field(0), minor: field(2) };
    let length = usize::from(field(4));
    if length > HELLO_BYTES {
        return Err(PreambleError::TooLong { got: length });
    }
    Ok((version, length))
}

/// First bytes that open no connection between nodes. The connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreambleError {
    /// The magic is missing.
    #[error("the peer does not speak the protocol of odeum nodes")]
    NotOdeum,
    /// More is announced than a hello may have.
    #[error("a hello of {got} bytes where at most {HELLO_BYTES} are allowed")]
    TooLong {
        /// What was announced.
        got: usize,
    },
    /// The body is no valid value.
    #[error("malformed hello: {0}")]
    Body(#[from] DecodeError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> Hello {
        Hello {
            node: "n1".parse().expect("valid"),
            incarnation: Incarnation(3),
            cluster: None,
            attempt: 7,
        }
    }

    fn split(bytes: &[u8]) -> ([u8; PREAMBLE_BYTES], &[u8]) {
        let (head, body) = bytes.split_at(PREAMBLE_BYTES);
        (head.try_into().expect("length"), body)
    }

    #[test]
    fn a_hello_survives_the_wire() {
        let bytes = preamble(WireVersion::CURRENT, &hello()).expect("encodes");
        let (head, body) = split(&bytes);
        assert_eq!(parse_preamble(&head), Ok((WireVersion::CURRENT, body.len())));
        assert_eq!(codec::decode::<Hello>(body), Ok(hello()));
    }

    /// Two nodes of different wire versions can only name each other's version if this never
    /// changes, not even with a new major.
    #[test]
    fn the_preamble_is_the_same_in_every_wire_version() {
        let bytes = preamble(WireVersion { major: 0x0201, minor: 0x0403 }, &hello()).expect("ok");
        assert_eq!(bytes, b"odeum\n\x01\x02\x03\x04\x06\x00\x02n1\x03\x00\x07");
    }

    /// The rest of what crosses here. When this fails, undo the change or raise [`MAJOR`].
    #[test]
    fn the_bytes_of_this_wire_version_stay() {
        let welcome = |refusal| codec::encode(&Welcome { hello: hello(), refusal }).expect("ok");
        let other = "n2".parse().expect("valid");
        assert_eq!(welcome(None), b"\x02n1\x03\x00\x07\x00");
        assert_eq!(welcome(Some(HelloRefusal::OtherCluster)), b"\x02n1\x03\x00\x07\x01\x00");
        assert_eq!(
            welcome(Some(HelloRefusal::Identity { certified: other })),
            b"\x02n1\x03\x00\x07\x01\x01\x02n2"
        );
        assert_eq!(welcome(Some(HelloRefusal::SameNode)), b"\x02n1\x03\x00\x07\x01\x02");
        let info = NodeInfo {
            node: "n1".parse().expect("valid"),
            incarnation: Incarnation(3),
            version: "0.1.0".to_owned(),
            wire: WireVersion { major: 1, minor: 0 },
        };
        assert_eq!(codec::encode(&info).expect("ok"), b"\x02n1\x03\x050.1.0\x01\x00");
    }

    proptest! {
        #[test]
        fn any_first_bytes_are_read_or_refused(head in any::<[u8; PREAMBLE_BYTES]>()) {
            if let Ok((_, length)) = parse_preamble(&head) {
                prop_assert!(length <= HELLO_BYTES);
            }
        }
    }
}
