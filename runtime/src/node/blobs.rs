//! The cluster's blobs in the API's words.

use odeum_cluster::blobs::Blobs;
use odeum_proto::{Digest, NodeId};

use crate::api::types::{BlobPage, BlobSummary, BlobUsage};

/// At most `limit` blobs behind `after`, as the node called `node` knows them.
pub(super) fn page(blobs: &Blobs, node: &NodeId, limit: usize, after: Option<Digest>) -> BlobPage {
    let mut listed = blobs.list(after, limit.saturating_add(1));
    let more = listed.len() > limit;
    listed.truncate(limit);
    let next = listed.last().filter(|_| more).map(|(digest, _)| *digest);
    let summaries = listed.into_iter().map(|(digest, record)| BlobSummary {
        digest,
        size: record.size,
        holders: record.holders.into_iter().collect(),
        owners: record.owners.into_iter().collect(),
    });
    let usage = blobs.usage();
    BlobPage {
        node: node.clone(),
        here: BlobUsage {
            files: usage.blobs,
            bytes: usage.bytes,
            copies_bytes: usage.spare,
            quota_bytes: usage.quota,
            damaged: usage.damaged,
        },
        blobs: summaries.collect(),
        next,
    }
}
