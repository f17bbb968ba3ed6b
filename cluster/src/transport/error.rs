//! What can go wrong between this node and a peer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use odeum_proto::codec::{DecodeError, EncodeError};
use odeum_proto::wire::WireVersion;
use odeum_proto::{ClusterId, NodeId};

use super::{ServeError, pki::PkiError};

/// Why a request has no reply, or why there is no link.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// The peer is neither linked nor in the address book. Retrying helps once it is.
    #[error("no address is known for node {peer}")]
    Unknown {
        /// Who was to be reached.
        peer: NodeId,
    },
    /// There is no link to the peer, or it was lost while the request was under way; then its
    /// effect is unknown. Retry what is safe to do twice.
    #[error("node {peer} is unreachable: {reason}")]
    Unreachable {
        /// Who was to be reached.
        peer: NodeId,
        /// What happened to the link.
        reason: Box<str>,
    },
    /// No answer came in time; the effect is unknown.
    #[error("no answer from node {peer} within {after:?}")]
    Deadline {
        /// Who was asked.
        peer: NodeId,
        /// The deadline that was given.
        after: Duration,
    },
    /// The message is larger than its class allows; nothing was sent.
    #[error("a message of {got} bytes where its class allows {limit}")]
    TooLarge {
        /// Its size in bytes.
        got: usize,
        /// The bound in bytes.
        limit: usize,
    },
    /// The peer answered that it has no answer.
    #[error("node {peer}: {error}")]
    Remote {
        /// Who was asked.
        peer: NodeId,
        /// Its words.
        error: ServeError,
    },
    /// The peer's answer is not what this node understands.
    #[error("the answer of node {peer}: {error}")]
    Answer {
        /// Who was asked.
        peer: NodeId,
        /// What was wrong with it.
        error: DecodeError,
    },
    /// The question cannot be written; a programming error.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The peer speaks another wire version. Upgrade one of the two.
    #[error(
        "wire version {theirs} of the node at {addr} does not fit ours, {ours}: upgrade the older one"
    )]
    Version {
        /// Where it listens or dialled from.
        addr: SocketAddr,
        /// What this node speaks.
        ours: WireVersion,
        /// What the peer speaks.
        theirs: WireVersion,
    },
    /// The peer belongs to another cluster.
    #[error("node {peer} at {addr} belongs to cluster {theirs}, this node to {ours}")]
    OtherCluster {
        /// Who it says it is.
        peer: NodeId,
        /// Where it listens or dialled from.
        addr: SocketAddr,
        /// The cluster of this node.
        ours: ClusterId,
        /// The cluster of the peer.
        theirs: ClusterId,
    },
    /// One of the two certificates was not accepted by the other side: another CA, expired, or
    /// not for this use.
    #[error(
        "the certificates do not fit between this node and {addr}: {reason}; both must be valid and \
         of the same authority"
    )]
    Certificate {
        /// Where it listens or dialled from.
        addr: SocketAddr,
        /// Which side refused, and why.
        reason: Box<str>,
    },
    /// The certificate names another node than the peer claims to be, or than was expected.
    #[error("the certificate of {addr} is for node {certified}, but {claimed} was claimed")]
    Identity {
        /// Where it listens or dialled from.
        addr: SocketAddr,
        /// The node in the certificate.
        certified: NodeId,
        /// The node it claims or is expected to be.
        claimed: NodeId,
    },
    /// The peer has this node's own name: two nodes with one certificate, or an address that
    /// leads back here.
    #[error("the node at {addr} is called {node} as well")]
    SameNode {
        /// Where it listens or dialled from.
        addr: SocketAddr,
        /// The name both have.
        node: NodeId,
    },
    /// No connection to an address came about.
    #[error("no connection to {addr}: {reason}")]
    Connect {
        /// Where to.
        addr: SocketAddr,
        /// What happened.
        reason: Box<str>,
    },
    /// The UDP address cannot be listened on.
    #[error("cannot listen on {addr} (udp): {kind}; choose another address with --cluster")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The certificates of this node cannot be used.
    #[error(transparent)]
    Pki(#[from] std::sync::Arc<PkiError>),
    /// The transport is not running: the node is starting or stopping.
    #[error("the transport is not running")]
    Stopped,
}

impl TransportError {
    /// Whether the same request may succeed a moment later. It does not say that the first try
    /// had no effect.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::Unreachable { .. }
            | Self::Deadline { .. }
            | Self::Connect { .. }
            | Self::Stopped => true,
            Self::Remote { error, .. } => {
                matches!(
                    error,
                    ServeError::NoService | ServeError::Busy { .. } | ServeError::Expired
                )
            }
            _ => false,
        }
    }
}
