//! What carries everything between nodes: one QUIC connection per pair of nodes, mutually
//! authenticated, with a stream for each class of traffic.
//!
//! The rest of the crate sees [`TransportHandle`] (ask a peer, keep links to these peers, who is
//! linked) and [`Serve`] (answer a peer). quinn, rustls and certificates stay behind it.
//!
//! Promises, each kept by a test in `transport/tests.rs`:
//! * A peer is who its certificate says, of this CA, of this wire version and of this cluster, or
//!   both sides say in one line why not.
//! * Requests of one class and key start at the peer in the order they were made, as long as they
//!   go by the same connection.
//! * A request ends by its deadline; when its link is lost it fails at once with
//!   [`TransportError::Unreachable`], and its effect is unknown.
//! * Queues are bounded in bytes on both sides; who sends faster than the peer works waits.
//! * Certificates that are renewed are used by new connections at once; links that stand stay.
//! * Of two connections between the same nodes both sides keep the same one; the other ends when
//!   what is under way on it has come to its end.
//!
//! Not done, and why: 0-RTT (a replayed first flight could repeat a request; a reconnect costs
//! one round trip) and following a peer to another address in mid-connection (a moved node is
//! dialled anew at its new address, from the address book).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::wire::WireVersion;
use odeum_proto::{ClusterId, GroupId, Incarnation, NodeId, codec};
use tokio::sync::watch;

mod bulk;
mod conn;
mod endpoint;
mod error;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handle;
mod handover;
mod hello;
pub(crate) mod lane;
mod link;
mod meter;
pub mod pki;
mod plan;
mod pump;
mod renewal;
mod settings;
mod stats;
mod tls;

pub use endpoint::start;
pub use error::TransportError;
pub use frame::FrameError;
pub(crate) use handle::ControlStream;
pub use handle::TransportHandle;
pub use settings::UDP_BUFFER;
pub use stats::{ClassStats, LinkStats};

/// Who answers a request on the peer's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Consensus messages of a Raft group.
    Raft(GroupId),
    /// Writes and read barriers forwarded to a group's leader.
    Store(GroupId),
    /// Messages to entities.
    Call,
    /// Packages and checkpoints, by digest.
    Blob,
    /// What firmware runs on the node.
    Firmware,
    /// A node that wants to join.
    Join,
    /// Interest in topics, and what is published under them.
    Topic,
    /// The time of day.
    Clock,
    /// What firmware on the node has logged, and what became of it.
    Chronicle,
    /// The state of entities that move here, and how moves from here stand.
    Move,
    /// The life of the node: whether it is to begin anew.
    Restart,
    /// What entities of shards that go to the node had in memory.
    Handover,
}

/// Which streams a request uses. A class never waits for a lower one; within a stream order is
/// kept, so a large message delays what is behind it: large things go by [`Class::Bulk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The control plane's session. Not for requests.
    Control,
    /// Consensus: one stream.
    Consensus,
    /// Entity messages and everything else that is small: `lanes` streams, chosen by key.
    Lane,
    /// Transfers up to [`odeum_proto::limits::BULK_BYTES`]: a stream of its own for each.
    Bulk,
}

/// A request with all its particulars; [`TransportHandle::request`] covers the usual ones.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who shall answer.
    pub service: Service,
    /// By which streams.
    pub class: Class,
    /// Requests with the same key keep their order ([`Class::Lane`] only).
    pub key: u64,
    /// The question.
    pub body: Bytes,
    /// When to give up.
    pub deadline: Duration,
}

/// Answers the requests of one service.
pub trait Serve: Send + Sync + 'static {
    /// Called in the order in which the requests of a stream came; the futures run side by side.
    /// What must keep that order is to be queued before the future is returned.
    ///
    /// The future is dropped when the link to `from` is lost.
    fn serve(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>>;
}

/// Why a peer has no answer. Errors of the service itself travel in the answer's body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// The peer does not run this service (yet).
    #[error("the service does not run there")]
    NoService,
    /// The deadline had passed when the request came to its turn; it was not started.
    #[error("the deadline passed before the request was started")]
    Expired,
    /// The answer is larger than its class allows.
    #[error("the answer is too large for its class")]
    TooLarge,
    /// The service cannot take more now. Retry later.
    #[error("busy: {reason}")]
    Busy {
        /// With what.
        reason: Box<str>,
    },
    /// The service failed on this request.
    #[error("{reason}")]
    Failed {
        /// How.
        reason: Box<str>,
    },
}

impl From<codec::DecodeError> for ServeError {
    fn from(error: codec::DecodeError) -> Self {
        Self::Failed { reason: error.to_string().into() }
    }
}

impl From<codec::EncodeError> for ServeError {
    fn from(error: codec::EncodeError) -> Self {
        Self::Failed { reason: error.to_string().into() }
    }
}

/// What this node answers. Services can be added while the endpoint runs: a request to one that
/// is not there yet is answered with [`ServeError::NoService`].
#[derive(Clone, Default)]
pub struct Services(Arc<dashmap::DashMap<Service, Arc<dyn Serve>>>);

impl Services {
    /// With one more service; the later of two wins.
    #[must_use]
    pub fn with(self, service: Service, serve: Arc<dyn Serve>) -> Self {
        self.insert(service, serve);
        self
    }

    /// Adds or replaces a service.
    pub fn insert(&self, service: Service, serve: Arc<dyn Serve>) {
        self.0.insert(service, serve);
    }

    /// The answerer of a service.
    #[must_use]
    pub fn get(&self, service: Service) -> Option<Arc<dyn Serve>> {
        self.0.get(&service).map(|entry| Arc::clone(entry.value()))
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.iter().map(|entry| *entry.key())).finish()
    }
}

/// The cluster this node belongs to: empty until it has joined or founded one, then fixed.
#[derive(Debug, Clone, Default)]
pub struct ClusterCell(Arc<OnceLock<ClusterId>>);

impl ClusterCell {
    /// A cell that holds `cluster` from the start: this node has joined before.
    #[must_use]
    pub fn known(cluster: ClusterId) -> Self {
        let cell = Self::default();
        cell.set(cluster);
        cell
    }

    /// The cluster, once known.
    #[must_use]
    pub fn get(&self) -> Option<ClusterId> {
        self.0.get().copied()
    }

    /// Fixes the cluster. Returns what the cell then holds, which is not `cluster` when another
    /// one was there before.
    pub fn set(&self, cluster: ClusterId) -> ClusterId {
        *self.0.get_or_init(|| cluster)
    }
}

/// How this node takes part in the network.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// This node's name; its certificate must say the same.
    pub node: NodeId,
    /// This start of the node.
    pub incarnation: Incarnation,
    /// Its cluster; while empty, any cluster is accepted and only the certificate counts.
    pub cluster: ClusterCell,
    /// The UDP address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder with `ca.pem`, `node.pem` and `node.key`.
    /// Files that change are taken up while the node runs, for new connections.
    pub certs: PathBuf,
    /// How often those files are looked at. More often costs three `stat`s each time, less
    /// delays the use of new ones, which takes two to three looks.
    pub certs_look: Duration,
    /// How long a connection on which the peer gives way to another is used for want of that one.
    /// Only tests set it to anything but the default.
    #[doc(hidden)]
    pub yield_after: Duration,
    /// How long a connection that gives way may stay for what is under way on it. Only tests set it
    /// to anything but the default.
    #[doc(hidden)]
    pub patience: Duration,
    /// The wire version to speak. Only tests set it to anything but the default.
    #[doc(hidden)]
    pub version: WireVersion,
}

impl TransportConfig {
    /// The settings of a node that has joined no cluster yet.
    #[must_use]
    pub fn new(
        node: NodeId,
        incarnation: Incarnation,
        listen: SocketAddr,
        certs: impl Into<PathBuf>,
    ) -> Self {
        Self {
            node,
            incarnation,
            cluster: ClusterCell::default(),
            listen,
            certs: certs.into(),
            certs_look: settings::CERTS_LOOK,
            yield_after: settings::YIELD_AFTER,
            patience: settings::PATIENCE,
            version: WireVersion::CURRENT,
        }
    }
}

/// A link as its two ends see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// The peer's start.
    pub incarnation: Incarnation,
    /// The peer's address.
    pub addr: SocketAddr,
    /// Whether this node dialled.
    pub dialled: bool,
    /// Tells one connection to a peer from the next: it changes when the link is made anew.
    pub generation: u64,
    /// When the link came up.
    pub since: std::time::Instant,
    /// Round trip as QUIC estimates it, when this was read.
    pub rtt: Duration,
}

/// The links that are up, by peer. A watcher is woken when one comes up or is lost.
pub type Links = watch::Receiver<Arc<BTreeMap<NodeId, LinkInfo>>>;

#[cfg(test)]
mod tests;
