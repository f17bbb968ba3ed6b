//! The groups of the store, as this node sees them.

use odeum_cluster::store::{Health, StoreStatus};

use super::{super::millis, NodeFacade};
use crate::api::types::{GroupHealth, GroupReport, MemberReport, StoreReport};

impl NodeFacade {
    pub(super) fn store_report(&self) -> StoreReport {
        let mut groups: Vec<_> =
            self.store.statuses().into_iter().map(|status| self.group_report(status)).collect();
        groups.sort_by_key(|report| report.group);
        StoreReport { node: self.record.id.clone(), groups }
    }

    fn group_report(&self, status: StoreStatus) -> GroupReport {
        let members = status.members.into_iter().map(|member| MemberReport {
            node: member.node,
            voter: member.voter,
            matched: member.matched,
        });
        GroupReport {
            group: status.group,
            health: match status.health {
                Health::Good => GroupHealth::Good,
                Health::Electing => GroupHealth::Electing,
                Health::NoQuorum => GroupHealth::NoQuorum,
                Health::NoSpace => GroupHealth::NoSpace,
                Health::NotMember => GroupHealth::NotMember,
                Health::Stopped => GroupHealth::Stopped,
            },
            leader: status.leader,
            term: status.term,
            members: members.collect(),
            last_log: status.last_log,
            applied: status.applied,
            snapshot: status.snapshot,
            purged: status.purged,
            leader_heard_ms: self.store.silence_of(status.group).map(millis),
        }
    }
}
