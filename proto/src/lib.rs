//! Odeum's ids, limits, codec and wire types: all that crosses a wire or reaches a disk.
//!
//! A type lives here when its bytes leave the process, and only then. What those bytes are is
//! pinned per wire version by the golden files in `proto/tests/golden/`; a change that alters
//! them needs a new [`wire::MAJOR`] or an additive migration.
//!
//! Bytes from outside never panic and never allocate by their own word: every decode goes
//! through [`codec`], which is bounded by [`limits`].

pub mod backup;
pub mod blob;
pub mod call;
pub mod chronicle;
pub mod codec;
pub mod handover;
pub mod http;
pub mod ids;
pub mod join;
pub mod limits;
pub mod load;
pub mod log;
pub mod moves;
pub mod report;
pub mod restart;
pub mod session;
pub mod shard;
pub mod store;
pub mod topic;
pub mod wire;

pub use ids::{
    BackupId, BlobOwner, ClusterId, Digest, DiskId, EntityId, EntityKey, EntityKind, Epoch,
    GroupId, IdError, Incarnation, Label, LogTime, Name, NodeId, Recipient, ReplicaId, RequestId,
    Revision, SessionId, TopicName,
};
