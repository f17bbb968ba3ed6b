//! Content-addressed bytes on other nodes: packages that must outlive the node they came to.
//!
//! Only digests go through the log; the bytes travel on the bulk class, and whoever receives
//! them checks them against their digest.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::{
    Digest, NodeId,
    blob::{BlobReply, BlobRequest},
    codec,
};
use tokio::sync::watch;

use crate::{
    membership::{LiveSet, MemberState},
    transport::{Class, Serve, ServeError, Service, TransportHandle},
};

/// How long one transfer may take: 64 MiB at 2 MiB/s.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(32);

/// Where a node keeps its blobs.
pub trait BlobShelf: Send + Sync + 'static {
    /// The bytes of that digest, if they are here and undamaged.
    fn get(&self, digest: Digest) -> BoxFuture<'static, Option<Bytes>>;
    /// Keeps `bytes`; done when they are on disk. Refuses bytes that are not what `digest` says.
    fn put(&self, digest: Digest, bytes: Bytes) -> BoxFuture<'static, Result<(), Box<str>>>;
}

/// Moves blobs between nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    transport: TransportHandle,
    live: watch::Receiver<Arc<LiveSet>>,
}

/// Why a blob did not move.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    /// No node that is alive has it. Upload it again.
    #[error("no node that is alive has the bytes of {digest} (asked {asked})")]
    Missing {
        /// What was wanted.
        digest: Digest,
        /// How many nodes were asked.
        asked: usize,
    },
    /// Fewer nodes than wished could keep it.
    #[error("{kept} of {wanted} nodes could keep {digest}: {reason}")]
    TooFew {
        /// What was to be kept.
        digest: Digest,
        /// How many keep it.
        kept: usize,
        /// How many should.
        wanted: usize,
        /// What the last one said.
        reason: Box<str>,
    },
}

impl Blobs {
    /// Blobs of the cluster that `transport` and `live` see.
    #[must_use]
    pub fn new(transport: TransportHandle, live: watch::Receiver<Arc<LiveSet>>) -> Self {
        Self { transport, live }
    }

    /// Fetches a blob from any node that is alive and has it, checked against its digest.
    ///
    /// # Errors
    /// [`BlobError::Missing`] when nobody has it; a later try may find a node that is back.
    pub async fn fetch(&self, digest: Digest) -> Result<Bytes, BlobError> {
        let peers = self.peers();
        for peer in &peers {
            match self.ask(peer, &BlobRequest::Get(digest)).await {
                Ok(BlobReply::Found(bytes)) if Digest::of(&bytes) == digest => {
                    return Ok(bytes.into());
                }
                Ok(BlobReply::Found(_)) => {
                    tracing::warn!(%peer, %digest, "peer sent other bytes than asked for");
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%peer, %digest, error, "blob not fetched"),
            }
        }
        Err(BlobError::Missing { digest, asked: peers.len() })
    }

    /// Has up to `copies` other nodes keep a blob, or all others when fewer are alive.
    ///
    /// # Errors
    /// [`BlobError::TooFew`] when nodes that are alive could not.
    pub async fn spread(
        &self,
        digest: Digest,
        bytes: &Bytes,
        copies: usize,
    ) -> Result<usize, BlobError> {
        let peers = self.peers();
        let wanted = copies.min(peers.len());
        let mut kept = 0;
        let mut reason: Box<str> = "".into();
        for peer in &peers {
            if kept == wanted {
                break;
            }
            match self.ask(peer, &BlobRequest::Put { digest, bytes: bytes.to_vec() }).await {
                Ok(BlobReply::Kept) => kept += 1,
                Ok(BlobReply::Failed { reason: why }) => reason = format!("{peer}: {why}").into(),
                Ok(_) => reason = format!("{peer} answered out of turn").into(),
                Err(error) => reason = error.into(),
            }
        }
        if kept == wanted {
            Ok(kept)
        } else {
            Err(BlobError::TooFew { digest, kept, wanted, reason })
        }
    }

    fn peers(&self) -> Vec<NodeId> {
        let live = self.live.borrow();
        let alive = live.members.iter().filter(|(_, member)| member.state == MemberState::Alive);
        alive.map(|(node, _)| node.clone()).filter(|node| node != self.transport.local()).collect()
    }

    async fn ask(&self, peer: &NodeId, request: &BlobRequest) -> Result<BlobReply, String> {
        let answer =
            self.transport.call(peer, Service::Blob, Class::Bulk, request, TRANSFER_DEADLINE);
        answer.await.map_err(|error| error.to_string())
    }
}

/// Answers other nodes from this node's shelf.
pub struct BlobDoor(Arc<dyn BlobShelf>);

impl BlobDoor {
    /// The door to `shelf`.
    #[must_use]
    pub fn new(shelf: Arc<dyn BlobShelf>) -> Self {
        Self(shelf)
    }
}

impl fmt::Debug for BlobDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlobDoor").finish()
    }
}

impl Serve for BlobDoor {
    fn serve(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let shelf = Arc::clone(&self.0);
        Box::pin(async move {
            let reply = match codec::decode(&body)? {
                BlobRequest::Get(digest) => match shelf.get(digest).await {
                    Some(bytes) => BlobReply::Found(bytes.into()),
                    None => BlobReply::Missing,
                },
                BlobRequest::Put { digest, bytes } => match shelf.put(digest, bytes.into()).await {
                    Ok(()) => BlobReply::Kept,
                    Err(reason) => BlobReply::Failed { reason },
                },
            };
            Ok(codec::encode(&reply)?.into())
        })
    }
}
