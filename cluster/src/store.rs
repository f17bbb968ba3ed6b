//! The replicated store: what the cluster has agreed on, and how it came to it.

mod error;
mod folder;
mod front;
mod group;
mod raft;
mod replica;
pub mod rpc;
pub mod state;
mod status;
pub mod wal;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use odeum_proto::NodeId;

pub use error::StoreError;
pub use folder::{DataFolder, FolderError};
pub use front::StoreHandle;
pub use state::{Remembered, Session, State};
pub use status::{Health, Member, StoreStatus};

/// Where a node keeps its replica of the store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The folder of log and snapshots, `<data-dir>/store`; made if it is not there.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// Entries between two snapshots. More makes fewer snapshots, a longer log, a longer restart
    /// and more memory; a snapshot writes the whole state.
    pub snapshot_every: u64,
}

impl StoreConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(dir: PathBuf, node: NodeId) -> Self {
        Self { dir, node, snapshot_every: 20_000 }
    }
}
