//! Consensus: openraft on our log, our snapshots and our network.
//!
//! openraft is an alpha, pinned exactly, and stays in this folder. What it puts on a disk or a
//! wire is converted to `odeum_proto::log` first.
//!
//! # Timing
//! A heartbeat every 300 ms. A follower stands for election 1.05 to 1.26 s after the last sign of
//! its leader: when the leader's lease of 630 ms is over and another 420 to 630 ms have passed.
//! Writes work again some fsyncs later: under 2 s after a `kill -9`, and a leader that was silent
//! for less than a second is never replaced. That is deliberate: on a busy machine with two cores
//! beside a build, scheduling gaps of 300 ms are common, and an election for nothing costs more
//! than a later failover. For machines that are not shared, 50 ms and 300 ms replace a leader in
//! a third of a second.
//!
//! What bounds the way between two nodes is the heartbeat: openraft itself takes no answer to one
//! that comes after the interval, whatever the network here would wait for. Over a longer way the
//! followers still hear their leader, so it leads on; but it never hears that they do, so every
//! read barrier fails, and nobody can join. So the interval is three round trips of 100 ms: one
//! for a heartbeat, two more for a packet that is missed and sent again. Nothing else waits for
//! it: entries, commits and barriers are sent at once. A vote has 420 ms, four round trips.
//! [`StoreTiming`] is for longer ways.
//!
//! Pre-vote is on: a node that returns asks first whether it could win and so does not depose a
//! healthy leader. A restarted leader does not resume its leadership: the commit index is written
//! lazily, so it may be behind what it had acknowledged, until it is elected and has committed an
//! entry of its own.

mod convert;
mod log;
mod machine;
mod network;
mod pipeline;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use odeum_proto::NodeId;
use odeum_proto::log::Proposal;
use odeum_proto::store::Outcome;
use openraft::{Config, SnapshotPolicy};

pub(super) use log::Log;
pub(super) use machine::{Machine, Replicated};
pub(super) use network::{Network, serve};
pub(super) use snapshot::SnapshotFile;

use super::StoreTiming;

openraft::declare_raft_types!(
    /// What openraft is made of here.
    pub(super) Types:
        D = Proposal,
        R = Outcome,
        NodeId = NodeId,
        Node = (),
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>,
);

pub(super) type Raft = openraft::Raft<Types, Machine>;
pub(super) type LogId = openraft::alias::LogIdOf<Types>;
pub(super) type Vote = openraft::alias::VoteOf<Types>;
pub(super) type Entry = openraft::alias::EntryOf<Types>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(super) type Metrics = openraft::RaftMetrics<Types>;

/// Entries that are kept behind a snapshot, so that a follower that was away for a moment gets
/// entries and not everything: the most that a busy group writes in half a second.
const KEPT_BEHIND_SNAPSHOT: u64 = 10_000;

/// Milliseconds for a snapshot's way: 256 MiB at 10 MB/s.
const SNAPSHOT_MS: u64 = 30_000;

/// openraft's settings for `group`.
///
/// # Errors
/// What openraft does not accept.
pub(super) fn config(
    group: String,
    snapshot_every: u64,
    timing: StoreTiming,
) -> Result<Arc<Config>, openraft::ConfigError> {
    let config = Config {
        cluster_name: group,
        heartbeat_interval: millis(timing.heartbeat),
        // The longest is a leader's lease, too, and a follower waits for both, one after the other.
        election_timeout_min: millis(timing.election * 2 / 5),
        election_timeout_max: millis(timing.election * 3 / 5),
        install_snapshot_timeout: SNAPSHOT_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
        max_in_snapshot_log_to_keep: KEPT_BEHIND_SNAPSHOT.min(snapshot_every),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // A follower that restarts is behind by the time its leader waits here.
        backoff: "50ms 100ms 200ms ...500ms".into(),
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
