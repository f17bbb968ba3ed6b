//! The replicated store: what the cluster has agreed on, and how it came to it.
//!
//! One Raft group for now, `control`; everything takes a [`GroupId`], so
//! that sessions can move to groups of their own. Each node has a replica of it: a log on disk
//! ([`wal`]), a state machine in memory ([`state`]) and snapshots of it on disk.
//!
//! # Promises
//! * A write that was acknowledged is on the disks of a majority. It survives the loss of any
//!   minority of the nodes, and of the power of all of them.
//! * Every write is safe to send twice, and is sent again over leader changes until its deadline.
//!   A [`Commit`](odeum_proto::store::Commit) takes effect once per request and only under the
//!   current epoch of its entity.
//! * After [`StoreHandle::write`] this node's [`view`](StoreHandle::view) shows the write; after
//!   [`StoreHandle::barrier`] it shows every write that was acknowledged anywhere before.
//! * Without a majority writes and barriers fail by their deadline with
//!   [`StoreError::NoQuorum`], and looks at the local state go on.
//! * Damaged files are refused by name and offset, never repaired by guessing; a torn tail of the
//!   log, which was never acknowledged, is cut.
//! * A full disk stops this node's log until there is space, and harms nothing.
//!
//! # Not promised
//! * A view without a barrier may be behind, by how much is unknown when this node is cut off.
//! * After an error a write may have happened, or may yet happen, later than what follows it.
//! * A leader whose disk is full keeps leading: writes fail with [`StoreError::NoSpace`] until
//!   there is space or the node is stopped.
//! * A lost data folder is a lost replica: its node comes back under another name.

mod data;
mod error;
mod folder;
mod front;
mod group;
mod journal;
mod link;
mod lock;
mod observer;
mod raft;
mod replica;
mod rounds;
pub mod rpc;
mod seat;
mod sessions;
mod shared;
pub mod state;
mod status;
mod steward;
pub mod wal;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{ChildSpec, Intensity, Shutdown, Strategy, SupervisorSpec, child};
use odeum_proto::{Incarnation, NodeId};

pub use data::{
    Compacted, Data, Past, Remembered, Session, Snapshot as DataSnapshot, Variable, Watched,
};
pub use error::StoreError;
pub use folder::{DataFolder, FolderError};
pub use front::StoreHandle;
pub use rounds::Consistency;
pub use sessions::{SessionError, SessionHandle, Watch, WatchEvent};
pub use state::{KindState, State};
pub use status::{Health, Member, StoreStatus};

use journal::JournalActor;
use observer::StoreActor;
use replica::ReplicaActor;
use rpc::Rpc;

/// How long a replica may take to read its files: 1 GiB of log and snapshots on a slow disk.
const REPLAY: Duration = Duration::from_secs(120);

/// How long a replica may take to end: its log is written and its files are closed.
const CLOSING: Duration = Duration::from_secs(15);

/// Where a node keeps its replica of the store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The folder of log and snapshots, `<data-dir>/store`; made if it is not there.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// Which of its starts this is: what it asks of the store is numbered anew with each.
    pub incarnation: Incarnation,
    /// Entries between two snapshots. More makes fewer snapshots, a longer log, a longer restart
    /// and more memory; a snapshot writes the whole state.
    pub snapshot_every: u64,
    /// Into how many groups the sessions of a cluster are divided that this node founds; the
    /// number stays for good, and a node that joins has the cluster's. More spreads the work of
    /// leading over more nodes and cores; each costs a heartbeat. 0 keeps sessions in the group of
    /// everything else.
    pub groups: u16,
}

impl StoreConfig {
    /// The usual number of groups of sessions: enough that two of three nodes lead some.
    pub const GROUPS: u16 = 2;

    /// The usual settings.
    #[must_use]
    pub fn new(dir: PathBuf, node: NodeId) -> Self {
        Self {
            dir,
            node,
            incarnation: Incarnation(1),
            snapshot_every: 20_000,
            groups: Self::GROUPS,
        }
    }
}

/// This node's part of the store: a handle to it and the supervisor that runs it.
///
/// The handle is valid at once and across restarts of what is behind it. Peers are asked through
/// `rpc`; the answers to their questions are given by [`StoreHandle::answer_raft`] and
/// [`StoreHandle::answer_forward`].
#[must_use]
pub fn store(config: StoreConfig, rpc: Arc<dyn Rpc>) -> (StoreHandle, SupervisorSpec) {
    let handle = StoreHandle::new(config, rpc);
    let journal = {
        let shared = Arc::clone(&handle.shared);
        child("Log", move || JournalActor::new(Arc::clone(&shared))).1
    };
    let control = {
        let shared = Arc::clone(&handle.shared);
        let control = Arc::clone(&shared.control);
        let name = format!("Replica {}", control.group);
        child(name, move || ReplicaActor::new(Arc::clone(&shared), Arc::clone(&control))).1
    };
    // A replica cannot be started again alone: see `journal.rs`.
    let (replicas, replicas_spec) = SupervisorSpec::new("Replicas", Strategy::OneForOne)
        .intensity(Intensity::new(0, Duration::from_secs(1)))
        .nested();
    let front = {
        let shared = Arc::clone(&handle.shared);
        child("Store", move || StoreActor::new(Arc::clone(&shared), replicas.clone())).1
    };
    let spec = SupervisorSpec::new("StoreSupervisor", Strategy::OneForAll)
        .child(patient(journal))
        .child(patient(control))
        .child(replicas_spec)
        .child(patient(front));
    (handle, spec)
}

/// With the time that large files and slow disks take.
fn patient(spec: ChildSpec) -> ChildSpec {
    spec.start_timeout(REPLAY).shutdown(Shutdown::Timeout(CLOSING))
}
