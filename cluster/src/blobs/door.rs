//! Answers other nodes from this node's shelf.

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::{
    NodeId,
    blob::{BlobReply, BlobRequest},
    codec,
};

use super::{BlobError, Blobs, shelf::Purpose};
use crate::transport::{Serve, ServeError};

/// The door to this node's blobs.
#[derive(Debug)]
pub(crate) struct BlobDoor(pub(crate) Blobs);

impl Serve for BlobDoor {
    fn serve(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let blobs = self.0.clone();
        Box::pin(async move {
            let request = codec::decode(&body)?;
            // A large one need not be in memory twice while it is written.
            drop(body);
            let reply = answer(&blobs, request).await.unwrap_or_else(|error| {
                tracing::warn!(peer = %from, %error, "blob request failed");
                BlobReply::Failed { reason: error.to_string().into() }
            });
            Ok(codec::encode(&reply)?.into())
        })
    }
}

async fn answer(blobs: &Blobs, request: BlobRequest) -> Result<BlobReply, BlobError> {
    let found = match request {
        BlobRequest::Get(digest) => blobs.here(digest).await?.map(BlobReply::Found),
        BlobRequest::Check(digest) => {
            let found = blobs.on_shelf(move |shelf| shelf.check(digest, Purpose::Held)).await?;
            found.then_some(BlobReply::Kept)
        }
        BlobRequest::Put { digest, bytes } => {
            blobs.on_shelf(move |shelf| shelf.put(digest, &bytes, Purpose::Held)).await?;
            Some(BlobReply::Kept)
        }
        BlobRequest::Hold { digest, sources } => {
            blobs.hold(digest, &sources).await?;
            Some(BlobReply::Kept)
        }
    };
    Ok(found.unwrap_or(BlobReply::Missing))
}
