//! What Raft writes to disk and sends to its peers, in our own words.
//!
//! The consensus library has types of its own for these. They are converted at its border, so
//! that its upgrade never changes a log on disk or a message between two versions of Odeum
//! without a golden file noticing.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::ids::{GroupId, LogTime, NodeId, Revision};
use crate::store::{Command, NodeRecord, Outcome, Refusal};

/// Where an entry is in the log of its group. Ordered as logs are compared: by term, then index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Its place, from 0.
    pub index: u64,
}

/// What a replica has promised in an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// Who was voted for in it.
    pub voted_for: NodeId,
    /// Whether a quorum granted it: this is the leader of the term.
    pub committed: bool,
}

/// Who belongs to a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The voters; two sets while the group changes from the first to the second.
    pub configs: Vec<BTreeSet<NodeId>>,
    /// Everybody who gets the log: voters and learners.
    pub nodes: BTreeSet<NodeId>,
}

/// A membership and the entry that set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMembership {
    /// The entry; `None` before the first.
    pub log_id: Option<LogId>,
    /// What it says.
    pub membership: Membership,
}

/// A command as logs have it: encoded once, by whoever asks for it, and carried as it is from
/// there to the disks and the state machines of all replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// When the leader took it, by the time of its group.
    pub at: LogTime,
    /// The encoded [`Command`].
    pub command: Bytes,
}

impl Proposal {
    /// What the command says.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no command.
    pub fn decode(&self) -> Result<Command, DecodeError> {
        codec::decode(&self.command)
    }

    /// Roughly how many bytes it has on disk and on the wire.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.command.len() + 16
    }
}

impl std::fmt::Display for Proposal {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {}", self.command.len(), self.at)
    }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A change to the state machine.
    Command(Proposal),
    /// A change to the group.
    Membership(Membership),
}

/// One entry of the log of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub id: LogId,
    /// What it says.
    pub payload: Payload,
}

/// One record of the write-ahead log that all groups of a process share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub group: GroupId,
    /// What it says about that group's log.
    pub change: Change,
}

/// What a record does to the log of its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Appends an entry.
    Entry(Entry),
    /// Replaces the vote.
    Vote(Vote),
    /// Moves the index up to which entries are known to be committed.
    Committed(Option<LogId>),
    /// Removes the entries from this index on: another leader's took their place.
    Truncate {
        /// The first index that is removed.
        from: u64,
    },
    /// Removes the entries up to this one, inclusive: a snapshot has them.
    Purge(LogId),
}

/// What a snapshot holds, in front of its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry in it; `None` for the state before the first entry.
    pub last: Option<LogId>,
    /// The membership at that point.
    pub membership: StoredMembership,
}

/// A request of one replica to another of its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaftRequest {
    /// The leader's entries; none of them for a heartbeat.
    Append {
        /// The leader's vote.
        vote: Vote,
        /// The entry before the first of `entries`.
        previous: Option<LogId>,
        /// The entries.
        entries: Vec<Entry>,
        /// Up to where the leader knows entries to be committed.
        committed: Option<LogId>,
    },
    /// A candidate asks for a vote.
    Vote(Ballot),
    /// A follower asks whether it would get a vote.
    PreVote(Ballot),
    /// A snapshot, for a follower that is too far behind for entries.
    Snapshot {
        /// The leader's vote.
        vote: Vote,
        /// What the snapshot holds.
        meta: SnapshotMeta,
        /// The encoded state.
        state: Bytes,
    },
    /// The leader gives its office to a voter, which stands for election at once.
    Transfer {
        /// The leader's vote.
        vote: Vote,
        /// Who is to lead.
        to: NodeId,
        /// The leader's last entry, which the new one must have.
        last: Option<LogId>,
    },
}

/// A request for a vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The vote that is asked for.
    pub vote: Vote,
    /// The candidate's last entry.
    pub last: Option<LogId>,
    /// Whether the leader asked for this election.
    pub transfer: bool,
}

/// The answer to a [`RaftRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaftReply {
    /// All entries are on this replica's disk.
    Appended,
    /// The entries up to this one are on this replica's disk.
    AppendedUpTo(Option<LogId>),
    /// The entry before the first is missing or another one here.
    Conflict,
    /// The sender is behind: this replica follows a higher vote.
    HigherVote(Vote),
    /// The answer to a ballot.
    Ballot {
        /// This replica's vote.
        vote: Vote,
        /// Its last entry.
        last: Option<LogId>,
        /// Whether the vote was granted.
        granted: bool,
    },
    /// The snapshot was installed, or refused when this vote is higher than the sender's.
    Snapshot {
        /// This replica's vote.
        vote: Vote,
    },
    /// The replica does not run, and why.
    Stopped {
        /// What stopped it.
        reason: Box<str>,
    },
    /// The transfer was taken note of, or refused because this replica is not as the leader
    /// thought.
    Transfer {
        /// Whether it was.
        taken: bool,
    },
}

/// A request on its way to the leader of its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// What is left of the deadline. Relative, because clocks differ between machines.
    pub remaining: Duration,
    /// What the leader shall do.
    pub request: StoreRequest,
}

/// What only a leader can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreRequest {
    /// Commit and apply a command of a group without sessions.
    Write(Command),
    /// Commit and apply encoded commands, each by itself, in their order.
    Propose(Vec<Bytes>),
    /// Say up to where a reader must have applied the log to see every acknowledged write.
    Barrier,
    /// As `Barrier`, on the word of a lease: faster, and right while clocks run alike.
    LeaseBarrier,
    /// Take a node into the group.
    Admit(NodeRecord),
    /// Let a node go from a group that keeps no record of nodes.
    Release {
        /// The node.
        node: NodeId,
    },
    /// Make a snapshot and remove what it has from the log: of whichever replica is asked.
    Compact,
}

/// The answer to a [`Forward`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreReply {
    /// The command was committed and applied.
    Written {
        /// What it came to.
        outcome: Outcome,
        /// Its place in the log, also when it changed nothing.
        at: Revision,
    },
    /// What the first of the commands came to, in their order, and their places in the log. When
    /// these are not all, the effect of the others is unknown.
    Proposed(Vec<(Outcome, Revision)>),
    /// Every acknowledged write is at or before this revision.
    Barrier(Revision),
    /// The node is a member.
    Admitted,
    /// The node was not taken in.
    NotAdmitted(Refusal),
    /// The node is no member any more.
    Released,
    /// This replica does not lead; this one does, as far as it knows. Nothing was done.
    NotLeader {
        /// The leader.
        leader: Option<NodeId>,
    },
    /// The replica lost its leadership or its majority on the way. The effect is unknown.
    Unknown {
        /// What happened.
        reason: Box<str>,
    },
    /// The leader's disk is full. Nothing was done.
    NoSpace,
    /// The replica does not run.
    Stopped {
        /// What stopped it.
        reason: Box<str>,
    },
    /// The log is as short as it can be.
    Compacted(Compacted),
}

/// What became of the log of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Entries that its log had.
    pub entries_before: u64,
    /// Entries that it has.
    pub entries_after: u64,
    /// Bytes of its snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the log of all groups of its node. What is removed from it leaves the disk with the
    /// last of what is in the same file.
    pub log_bytes: u64,
}
