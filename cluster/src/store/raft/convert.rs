//! Between openraft's types and those on our disks and wires.

use odeum_proto::log as ours;
use openraft::EntryPayload;
use openraft::alias::{LeaderIdOf, SnapshotMetaOf};
use openraft::raft::{VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId as _;

use super::{Entry, LogId, StoredMembership, Types, Vote};

type Membership = openraft::Membership<odeum_proto::NodeId, ()>;
type LeaderId = LeaderIdOf<Types>;

pub(super) fn log_id_to(id: &LogId) -> ours::LogId {
    ours::LogId { term: id.committed_leader_id().term, index: id.index() }
}

pub(super) fn log_id_from(id: ours::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub(super) fn vote_to(vote: &Vote) -> ours::Vote {
    ours::Vote {
        term: vote.leader_id.term,
        voted_for: vote.leader_id.voted_for.clone(),
        committed: vote.committed,
    }
}

pub(super) fn vote_from(vote: ours::Vote) -> Vote {
    let leader_id = LeaderId::new(vote.term, vote.voted_for);
    Vote { leader_id, committed: vote.committed }
}

fn membership_to(membership: &Membership) -> ours::Membership {
    ours::Membership {
        configs: membership.get_joint_config().clone(),
        nodes: membership.nodes().map(|(id, ())| id.clone()).collect(),
    }
}

fn membership_from(membership: ours::Membership) -> Membership {
    Membership::new_with_defaults(membership.configs, membership.nodes)
}

pub(super) fn stored_membership_to(stored: &StoredMembership) -> ours::StoredMembership {
    ours::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to),
        membership: membership_to(stored.membership()),
    }
}

pub(super) fn stored_membership_from(stored: ours::StoredMembership) -> StoredMembership {
    StoredMembership::new(stored.log_id.map(log_id_from), membership_from(stored.membership))
}

pub(super) fn entry_to(entry: &Entry) -> ours::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => ours::Payload::Blank,
        EntryPayload::Normal(proposal) => ours::Payload::Command(proposal.clone()),
        EntryPayload::Membership(membership) => {
            ours::Payload::Membership(membership_to(membership))
        }
    };
    ours::Entry { id: log_id_to(&entry.log_id), payload }
}

pub(super) fn entry_from(entry: ours::Entry) -> Entry {
    let payload = match entry.payload {
        ours::Payload::Blank => EntryPayload::Blank,
        ours::Payload::Command(proposal) => EntryPayload::Normal(proposal),
        ours::Payload::Membership(membership) => {
            EntryPayload::Membership(membership_from(membership))
        }
    };
    Entry { log_id: log_id_from(entry.id), payload }
}

pub(super) fn meta_to(meta: &SnapshotMetaOf<Types>) -> ours::SnapshotMeta {
    ours::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(log_id_to),
        membership: stored_membership_to(&meta.last_membership),
    }
}

pub(super) fn meta_from(meta: ours::SnapshotMeta) -> SnapshotMetaOf<Types> {
    SnapshotMetaOf::<Types> {
        last_log_id: meta.last.map(log_id_from),
        last_membership: stored_membership_from(meta.membership),
    }
}

pub(super) fn ballot_to(request: &VoteRequest<Types>) -> ours::Ballot {
    ours::Ballot {
        vote: vote_to(&request.vote),
        last: request.last_log_id.as_ref().map(log_id_to),
        transfer: request.leadership_transfer,
    }
}

pub(super) fn ballot_from(ballot: ours::Ballot) -> VoteRequest<Types> {
    let mut request = VoteRequest::new(vote_from(ballot.vote), ballot.last.map(log_id_from));
    request.leadership_transfer = ballot.transfer;
    request
}

pub(super) fn ballot_reply_to(response: &VoteResponse<Types>) -> ours::RaftReply {
    ours::RaftReply::Ballot {
        vote: vote_to(&response.vote),
        last: response.last_log_id.as_ref().map(log_id_to),
        granted: response.vote_granted,
    }
}
