//! How a group is doing, as one of its replicas sees it. Pure: the numbers come from elsewhere.

use std::time::Duration;

use odeum_proto::{GroupId, NodeId, Revision};

/// How long a group may be without a sign of a leader before it is called `NoQuorum`: twice the
/// longest time an election takes to begin (see `raft.rs`), with some room for a second round.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether a group can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The replica does not run on this node.
    Stopped,
    /// This node belongs to no group yet.
    NotMember,
    /// A leader is being elected, or has just been lost.
    Electing,
    /// There is a leader with a majority.
    Good,
    /// No majority is in sight: writes fail, local reads go on.
    NoQuorum,
    /// This node's disk is full; its log waits for space.
    NoSpace,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Whether it votes; a learner only follows. While one set of voters takes the place of another,
    /// who is in both does: of each set a majority is needed then.
    pub voter: bool,
    /// How far its log is known to match the leader's. Only the leader knows.
    pub matched: Option<u64>,
}

/// What one replica knows about its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// The group.
    pub group: GroupId,
    /// This node.
    pub node: NodeId,
    /// Who leads, as far as this replica knows.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// Index of the last entry in the log.
    pub last_log: Option<u64>,
    /// The last applied entry.
    pub applied: Option<Revision>,
    /// The last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that was removed from the log.
    pub purged: Option<u64>,
    /// The members, by name.
    pub members: Vec<Member>,
    /// Whether one set of voters is taking the place of another.
    pub changing: bool,
    /// Whether it can write.
    pub health: Health,
}

impl StoreStatus {
    /// The status of a replica that does not run.
    #[must_use]
    pub fn stopped(group: GroupId, node: NodeId) -> Self {
        Self {
            group,
            node,
            leader: None,
            term: 0,
            last_log: None,
            applied: None,
            snapshot: None,
            purged: None,
            members: Vec::new(),
            changing: false,
            health: Health::Stopped,
        }
    }

    /// Whether this node leads the group.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader.as_ref() == Some(&self.node)
    }
}

/// Signs of life that decide about a group's health.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signs {
    pub(super) running: bool,
    pub(super) member: bool,
    pub(super) disk_full: bool,
    /// Whether any leader is known, this node included.
    pub(super) leader_known: bool,
    /// Time since a leader was heard of: since a majority answered this node, if it leads, since
    /// the leader's last message otherwise.
    pub(super) silence: Duration,
}

/// What the signs mean.
pub(super) fn health(signs: Signs) -> Health {
    if !signs.running {
        return Health::Stopped;
    }
    if !signs.member {
        return Health::NotMember;
    }
    if signs.disk_full {
        return Health::NoSpace;
    }
    match (signs.silence > PATIENCE, signs.leader_known) {
        (true, _) => Health::NoQuorum,
        (false, true) => Health::Good,
        (false, false) => Health::Electing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Signs = Signs {
        running: true,
        member: true,
        disk_full: false,
        leader_known: true,
        silence: Duration::ZERO,
    };

    #[test]
    fn a_silent_group_has_no_quorum_whoever_is_remembered_as_its_leader() {
        let silence = PATIENCE + Duration::from_millis(1);
        assert_eq!(health(Signs { silence, ..GOOD }), Health::NoQuorum);
        assert_eq!(health(Signs { silence, leader_known: false, ..GOOD }), Health::NoQuorum);
        assert_eq!(health(GOOD), Health::Good);
        assert_eq!(health(Signs { leader_known: false, ..GOOD }), Health::Electing);
    }

    #[test]
    fn what_is_wrong_with_this_node_comes_before_what_it_sees_of_the_group() {
        let silence = PATIENCE * 2;
        assert_eq!(health(Signs { disk_full: true, silence, ..GOOD }), Health::NoSpace);
        assert_eq!(health(Signs { member: false, silence, ..GOOD }), Health::NotMember);
        assert_eq!(health(Signs { running: false, silence, ..GOOD }), Health::Stopped);
    }
}
