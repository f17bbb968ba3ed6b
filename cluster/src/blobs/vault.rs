//! Blobs as backups of the store see them.

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::{BlobOwner, Digest};

use super::{BlobError, Blobs};
use crate::store::Vault;

impl Vault for Blobs {
    fn get(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, Box<str>>> {
        let blobs = self.clone();
        Box::pin(async move { Self::get(&blobs, digest).await.map_err(said) })
    }

    fn put(
        &self,
        bytes: Bytes,
        owners: Vec<BlobOwner>,
    ) -> BoxFuture<'static, Result<(), Box<str>>> {
        let blobs = self.clone();
        Box::pin(async move {
            for owner in owners {
                Self::put(&blobs, bytes.clone(), owner).await.map_err(said)?;
            }
            Ok(())
        })
    }
}

fn said(error: BlobError) -> Box<str> {
    error.to_string().into()
}
