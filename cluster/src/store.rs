//! The replicated store: what the cluster has agreed on, and how it came to it.
//!
//! It is made of Raft groups. One, `control`, has the cluster itself: nodes, firmware, what is
//! placed where. The others, `data-0` to `data-n`, have the sessions, each those whose owner's hash
//! is its own ([`odeum_proto::shard::group_of`]); their number is fixed when the cluster is
//! founded. Each node has a replica of each group: a state machine in memory ([`state`], [`Data`])
//! with snapshots of it on disk, and a log, which is one for all groups of a process ([`wal`]).
//!
//! Sessions are used through [`SessionHandle`].
//!
//! # Promises
//! | promise | kept by (`cargo test -p odeum-cluster --lib store::`) |
//! |---|---|
//! | A write that was acknowledged is on the disks of a majority: it survives the loss of any minority of the nodes, and of the power of all of them. | `under_random_faults_no_acknowledged_write_is_lost_and_none_is_made_twice`, `whatever_fails_what_was_promised_is_kept_from_each_seed`, `what_was_reported_as_done_is_there_whenever_the_power_goes` |
//! | Every write is made once, though it is sent again over leader changes until its deadline. A request with a key of its own can be repeated by anybody and is answered again. | `a_write_is_made_once_though_its_leader_dies_and_it_is_sent_again`, `a_request_is_carried_out_once_and_answered_twice_by_whichever_node`, `whatever_fails_what_was_promised_is_kept_from_each_seed` |
//! | A [`Consistency::Linearizable`] read shows every write that was acknowledged before it, wherever either was made; so does a view after a [`barrier`](StoreHandle::barrier). | `whatever_fails_what_was_promised_is_kept_from_each_seed`, `what_one_node_writes_every_node_reads_at_once`, `a_write_at_any_node_is_seen_at_every_node_after_a_barrier` |
//! | A [`Consistency::Lease`] read does so as long as the clocks of all nodes run equally fast. | `what_one_node_writes_every_node_reads_at_once`, `whatever_fails_what_was_promised_is_kept_from_each_seed` |
//! | A transaction or an atomic batch is made whole or not at all; a refused change changes nothing and says which rule it breaks and with which value. | `transactions_move_what_they_move_whole_or_not_at_all`, `a_refused_write_names_the_rule_and_both_values_and_changes_nothing`, `every_replica_does_what_the_model_says_and_a_refused_command_does_nothing` |
//! | A watch gives every change after its revision once and in order, at any node and across restarts, or says that they are forgotten and gives the state instead. | `every_watcher_gets_every_change_once_and_in_order`, `whatever_fails_what_was_promised_is_kept_from_each_seed`, `a_watch_goes_on_from_its_revision_at_another_node_after_a_restart_by_snapshot` |
//! | A session never ends before its time to live is over, by a clock that no one can set. | `a_session_ends_after_its_time_to_live_and_never_before`, `whatever_fails_what_was_promised_is_kept_from_each_seed` |
//! | A [`Commit`](odeum_proto::session::Commit) of an entity takes effect once per request, and never after a later activation has fenced it. | `no_activation_changes_anything_after_a_later_one_was_seen` |
//! | Two nodes never hold the lease of the same entity at once, as long as the clocks of all nodes run equally fast within 5 %. | `a_node_that_is_cut_off_knows_that_its_lease_is_over_before_others_can_take_what_it_had` |
//! | Without a majority writes and linearizable reads fail by their deadline with [`StoreError::NoQuorum`], which names the group; local reads go on. | `without_a_majority_writes_fail_by_their_deadline_and_go_on_when_it_is_back` |
//! | The members of every group follow those of the cluster, one step at a time and never so that a majority is lost; leaders spread over the nodes. | `whatever_happens_to_the_cluster_no_step_loses_a_majority_and_all_end_at_what_is_wanted`, `the_steps_end_at_what_is_wanted`, `the_leaders_of_the_groups_spread_over_the_nodes` |
//! | Damaged files are refused by name and offset, never repaired by guessing; a torn tail of the log, which was never acknowledged, is cut. | `a_flipped_bit_in_the_middle_is_refused_with_file_and_offset`, `a_log_cut_at_any_byte_of_its_tail_keeps_the_records_before_the_cut` |
//! | A [backup](StoreHandle::backup) has every write that was acknowledged before it began, and comes into an empty cluster of any size and number of groups. | `a_backup_has_every_write_that_was_acknowledged_before_it_began`, `a_restored_cluster_goes_on_where_the_old_one_was` |
//! | A restore that failed half-way is gone on with by the next one; nothing is written or deployed before it is complete. | `a_restore_that_failed_is_gone_on_with_and_a_second_one_changes_nothing`, `steps_that_come_again_change_nothing` |
//! | A watch with a revision of a cluster that was restored from a backup is told that it is forgotten. | `a_watch_from_any_revision_of_the_old_cluster_is_told_to_begin_anew` |
//! | A damaged backup is refused with the offset before anything is restored; [`check_folder`] finds damage in the files of a stopped node and changes nothing. | `a_backup_with_any_other_byte_is_refused_with_the_offset`, `a_check_finds_a_flipped_byte_in_any_file_and_changes_nothing` |
//! | A [compaction](StoreHandle::compact) loses nothing. | `a_compaction_shortens_the_log_of_every_replica_and_loses_nothing` |
//! | A full disk stops this node's log until there is space, and harms nothing. | `a_full_disk_stops_writes_and_they_go_on_when_there_is_space` |
//!
//! Those that begin from seeds try `ODEUM_SEEDS` of them, or `ODEUM_SEED` alone, and print the
//! command that repeats a failure.
//!
//! # What it costs
//! * A write: a round trip to the leader of its group, one from there to a majority, and a flush
//!   of the disks of both, shared by all writes of all groups that wait at that moment.
//! * A linearizable read: a round trip to the leader and one from there to a majority, shared by
//!   all reads of a group that wait at that moment; a lease read the first of them; a local read
//!   nothing.
//! * A lease: a write per node and half second ([`crate::lease`]).
//! * Every node has everything in memory, and again in its snapshots.
//!
//! # Not promised
//! * An order between changes of different groups, and so of sessions of different owners.
//! * A local read may be behind, by how much is unknown when this node is cut off.
//! * After a [`StoreError`] a write may have happened, or may yet happen, later than what follows
//!   it. Who must know asks again with the key of the request.
//! * A leader whose disk is full gives its office to another; when too few others are there for
//!   that it keeps it, and writes fail with [`StoreError::NoSpace`] until there is space. So do
//!   those that are asked for on a node with a full disk which has led: it cannot even write
//!   down who leads now.
//! * A lost data folder is a lost replica: its node comes back under another name.

mod backup;
mod check;
mod compact;
mod courier;
mod data;
mod disk;
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
mod seeds;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{ChildSpec, Intensity, Shutdown, Strategy, SupervisorSpec, child};
use odeum_proto::{Incarnation, NodeId};

pub use backup::{
    Backup, BackupError, BackupFile, RestoreReport, Survey, Vault, survey as survey_backup,
};
pub use check::{FileReport, FolderReport, Found, check_folder};
pub use compact::ReplicaCompacted;
pub use data::{
    Compacted, Data, Past, Remembered, Session, Snapshot as DataSnapshot, Variable, Watched,
};
pub use error::StoreError;
pub use folder::{DataFolder, FolderError};
pub use front::StoreHandle;
pub use rounds::Consistency;
pub use sessions::{SessionError, SessionHandle, Watch, WatchEvent};
pub use state::{BlobIndex, BlobRecord, KindState, NodeLease, Renewal, Restored, State};
pub use status::{Health, Member, StoreStatus};

use disk::{Disk, System};
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
    /// How long its members wait for each other.
    pub timing: StoreTiming,
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
            snapshot_every: 100_000,
            groups: Self::GROUPS,
            timing: StoreTiming::default(),
        }
    }
}

/// How long the members of a group wait for each other. The same on all nodes; a replica does not
/// start when two fifths of the election time are not longer than a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTiming {
    /// How often a leader tells its followers that it leads, and how long their answer may take.
    /// At least three round trips between the two nodes that are farthest apart: below one, no
    /// barrier ever succeeds. More bears longer ways, and less silence of a leader; less sends
    /// more.
    pub heartbeat: Duration,
    /// How long a leader is silent, at least, before a follower stands for election; each adds up
    /// to a fifth of it by chance, so that they seldom stand at once. Three fifths of it are a
    /// leader's lease, two fifths the longest that an answer to a candidate may take. More bears
    /// longer pauses of a leader without an election; less fails over sooner.
    pub election: Duration,
}

impl Default for StoreTiming {
    /// For nodes up to 100 ms from each other and back; 1.3 s until a dead leader is replaced.
    fn default() -> Self {
        Self { heartbeat: Duration::from_millis(300), election: Duration::from_millis(1_050) }
    }
}

/// This node's part of the store: a handle to it and the supervisor that runs it.
///
/// The handle is valid at once and across restarts of what is behind it. Peers are asked through
/// `rpc`; the answers to their questions are given by [`StoreHandle::answer_raft`] and
/// [`StoreHandle::answer_forward`].
#[must_use]
pub fn store(config: StoreConfig, rpc: Arc<dyn Rpc>) -> (StoreHandle, SupervisorSpec) {
    store_on(System::shared(), config, rpc)
}

/// As [`store`], with its files on `disk`.
fn store_on(
    disk: Arc<dyn Disk>,
    config: StoreConfig,
    rpc: Arc<dyn Rpc>,
) -> (StoreHandle, SupervisorSpec) {
    let handle = StoreHandle::new(config, disk, rpc);
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
