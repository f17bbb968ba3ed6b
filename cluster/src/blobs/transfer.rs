//! Moves blobs between nodes: to those that are to hold them, and from those that have them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use odeum_proto::{
    Digest, NodeId,
    blob::{BlobReply, BlobRequest},
    limits,
    store::NodeRecord,
};

use super::{
    BlobError, Blobs, blocking,
    holders::{ranked, takers},
    shelf::Purpose,
};
use crate::{
    store::BlobRecord,
    transport::{Class, Service},
};

/// The slowest transfer that is waited for, in bytes per second: below it a link is of no use.
const SLOWEST: u64 = 2 << 20;

/// What a transfer may take whatever its length: a round trip, and a disk that is busy.
const OVERHEAD: Duration = Duration::from_secs(5);

/// How long a blob of that many bytes may be on its way.
pub(super) fn transfer_deadline(size: u64) -> Duration {
    OVERHEAD + Duration::from_secs(size / SLOWEST)
}

impl Blobs {
    /// Has nodes keep it, one after the other of those that could until there are enough. Who they
    /// are.
    pub(super) async fn spread(
        &self,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<BTreeSet<NodeId>, BlobError> {
        let mut nodes = self.candidates(digest).into_iter();
        let wanted = self.inner.config.copies.min(nodes.len());
        let mut kept = BTreeSet::new();
        let mut reason: Box<str> = "no node that takes blobs is alive".into();
        while kept.len() < wanted.max(1) {
            let next: Vec<NodeId> = nodes.by_ref().take(wanted.max(1) - kept.len()).collect();
            if next.is_empty() {
                let (kept, wanted) = (kept.len(), wanted.max(1));
                return Err(BlobError::TooFew { digest, kept, wanted, reason });
            }
            let asked = next.into_iter().map(async |node| {
                let answer = self.keep_on(&node, digest, bytes.clone()).await;
                (node, answer)
            });
            for (node, answer) in futures::future::join_all(asked).await {
                match answer {
                    Ok(()) => drop(kept.insert(node)),
                    Err(why) => {
                        tracing::warn!(peer = %node, %digest, reason = why, "blob not kept");
                        reason = format!("{node}: {why}").into();
                    }
                }
            }
        }
        Ok(kept)
    }

    /// Who could hold it, in the order in which they should: who holds it already, then the others.
    fn candidates(&self, digest: Digest) -> Vec<NodeId> {
        let live = Arc::clone(&self.inner.live.borrow());
        let local = &self.inner.local;
        self.inner.store.view(|state| {
            let there = |record: &&NodeRecord| {
                let live = record.id == *local || live.is_live(&record.id);
                live && !state.leaving().contains(&record.id)
            };
            let all = takers(state.nodes().values().filter(there));
            let known = state.blobs().get(&digest);
            let holds = |record: &&NodeRecord| {
                known.is_some_and(|known| known.holders.contains(&record.id))
            };
            let (present, others): (Vec<&NodeRecord>, Vec<&NodeRecord>) =
                all.into_iter().partition(holds);
            let first = present.iter().map(|record| &record.id);
            let rest = ranked(digest, others, &present);
            first.chain(rest).cloned().collect()
        })
    }

    /// Has one node keep it.
    async fn keep_on(&self, node: &NodeId, digest: Digest, bytes: Bytes) -> Result<(), String> {
        if *node == self.inner.local {
            let put = self.on_shelf(move |shelf| shelf.put(digest, &bytes, Purpose::Held));
            return put.await.map_err(|error| error.to_string());
        }
        let deadline = transfer_deadline(bytes.len() as u64);
        let is_known = self.stat(digest).is_some_and(|known| known.holders.contains(node));
        if is_known
            && let Ok(BlobReply::Kept) =
                self.ask(node, Class::Lane, &BlobRequest::Check(digest), deadline).await
        {
            return Ok(());
        }
        match self.ask(node, Class::Bulk, &BlobRequest::Put { digest, bytes }, deadline).await? {
            BlobReply::Kept => Ok(()),
            BlobReply::Failed { reason } => Err(reason.into()),
            _ => Err("it answered out of turn".to_owned()),
        }
    }

    /// From this node's disk; a disk that fails is one that does not have it.
    pub(super) async fn if_here(&self, digest: Digest) -> Option<Bytes> {
        self.here(digest).await.unwrap_or_else(|error| {
            tracing::warn!(%digest, %error, "blob not readable here");
            None
        })
    }

    /// From this node's disk.
    pub(super) async fn here(&self, digest: Digest) -> Result<Option<Bytes>, BlobError> {
        self.on_shelf(move |shelf| shelf.get(digest)).await
    }

    /// Sees to it that this node has it on its disk as a holder.
    pub(super) async fn hold(&self, digest: Digest, sources: &[NodeId]) -> Result<(), BlobError> {
        if self.on_shelf(move |shelf| shelf.check(digest, Purpose::Held)).await? {
            return Ok(());
        }
        let bytes = self.fetch(digest, sources).await?;
        self.on_shelf(move |shelf| shelf.put(digest, &bytes, Purpose::Held)).await
    }

    /// From other nodes: from `sources`, from those the index names, then from all the others.
    pub(super) async fn fetch(
        &self,
        digest: Digest,
        sources: &[NodeId],
    ) -> Result<Bytes, BlobError> {
        let known = self.stat(digest);
        let size = known.as_ref().map_or(limits::BLOB_BYTES as u64, |known| known.size);
        let mut asked = BTreeSet::new();
        for peer in self.sources(sources, known.as_ref()) {
            if !asked.insert(peer.clone()) {
                continue;
            }
            let request = BlobRequest::Get(digest);
            match self.ask(&peer, Class::Bulk, &request, transfer_deadline(size)).await {
                Ok(BlobReply::Found(bytes)) => {
                    let content = bytes.clone();
                    if blocking(move || Ok(Digest::of(&content) == digest)).await? {
                        return Ok(bytes);
                    }
                    tracing::warn!(%peer, %digest, "peer sent other bytes than asked for");
                }
                Ok(_) => tracing::debug!(%peer, %digest, "peer does not have the blob"),
                Err(error) => tracing::debug!(%peer, %digest, error, "blob not fetched"),
            }
        }
        Err(BlobError::Missing { digest, asked: asked.len() })
    }

    /// Whom to ask: each a random one first, so that not everybody asks the same.
    fn sources(&self, first: &[NodeId], known: Option<&BlobRecord>) -> Vec<NodeId> {
        let live = Arc::clone(&self.inner.live.borrow());
        let others = |node: &&NodeId| **node != self.inner.local && live.is_live(node);
        let holders: Vec<&NodeId> =
            known.iter().flat_map(|known| &known.holders).filter(others).collect();
        let all: Vec<&NodeId> = live.live().filter(others).collect();
        let first = first.iter().filter(others);
        first.chain(turned(holders)).chain(turned(all)).cloned().collect()
    }

    pub(super) async fn ask(
        &self,
        peer: &NodeId,
        class: Class,
        request: &BlobRequest,
        deadline: Duration,
    ) -> Result<BlobReply, String> {
        let answer = self.inner.transport.call(peer, Service::Blob, class, request, deadline);
        answer.await.map_err(|error| error.to_string())
    }
}

/// The same nodes in the same order, beginning with any of them.
fn turned(mut nodes: Vec<&NodeId>) -> Vec<&NodeId> {
    let by = rand::random::<u32>() as usize % nodes.len().max(1);
    nodes.rotate_left(by);
    nodes
}
