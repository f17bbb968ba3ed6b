//! Sees to the members of a group of sessions: whoever leads it makes them those of the cluster.
//! Ends sessions whose time is over, and keeps a group that seldom writes from keeping the log of
//! all. A leader whose disk is full gives up its office.
//!
//! The nodes on record in the control group are what every group follows, slowly and one step at a
//! time, each begun only when the group can finish it. A node that is about to leave is let go of
//! first. The leaders of the groups spread over the nodes: group 0 prefers the second voter by
//! name, group 1 the third, and so on around.
//!
//! [`next`] decides, from what the leader sees; [`run`] carries it out.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use odeum_proto::session::DataAction;
use odeum_proto::store::Command;
use odeum_proto::{GroupId, NodeId, limits};
use tokio::time::Instant;

use super::group::Group;
use super::group::members::VOTERS;
use super::rounds::Consistency;
use super::shared::Shared;

/// How often the leader looks, beside when the cluster changes: sessions whose time is over end so
/// much later.
const PERIOD: Duration = Duration::from_millis(250);

/// How soon it looks again while there is something to do.
const SOON: Duration = Duration::from_millis(20);

/// How long a leader is left in office before it hands over to the preferred one: longer than a
/// node needs to come back from a restart, so that a rolling restart moves each leader once.
const SETTLED: Duration = Duration::from_secs(10);

/// Time between two attempts of a leader whose disk is full to give up its office.
const FULL_PAUSE: Duration = Duration::from_secs(3);

/// How long the control group may take to confirm who belongs to the cluster.
const CONFIRM: Duration = Duration::from_secs(2);

/// One step towards the members that a group should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Sends the log to a node that has none of it.
    Add(NodeId),
    /// Gives a learner a vote.
    Promote(NodeId),
    /// Lets a node go.
    Remove(NodeId),
    /// Gives the office to another voter.
    HandOver(NodeId),
}

/// What the leader of a group sees.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    pub(super) local: NodeId,
    pub(super) voters: BTreeSet<NodeId>,
    pub(super) learners: BTreeSet<NodeId>,
    /// Members that answered lately, this node included.
    pub(super) there: BTreeSet<NodeId>,
    /// Those of them that have nearly all of the log.
    pub(super) close: BTreeSet<NodeId>,
}

/// The next step, if any is to be taken now. `wanted` are the nodes that the group should have;
/// `settled` is whether this leader has been in office for some time.
pub(super) fn next(
    number: u16,
    sight: &Sight,
    wanted: &BTreeSet<NodeId>,
    settled: bool,
) -> Option<Step> {
    let Sight { local, voters, learners, there, close } = sight;
    let members = || voters.iter().chain(learners);
    let can_spare = |node: &NodeId| {
        let others = voters.iter().filter(|other| *other != node);
        let there = others.clone().filter(|other| there.contains(*other)).count();
        !voters.contains(node) || there > others.count() / 2
    };
    // A leader that is to go gives up its office with that, so it goes last.
    let mut leaving: Vec<&NodeId> = members().filter(|node| !wanted.contains(*node)).collect();
    leaving.sort_by_key(|node| *node == local);
    if let Some(node) = leaving.into_iter().find(|node| can_spare(node)) {
        return Some(Step::Remove(node.clone()));
    }
    if let Some(node) = wanted.iter().find(|node| !members().any(|member| member == *node)) {
        return Some(Step::Add(node.clone()));
    }
    if voters.len() < VOTERS
        && let Some(node) = learners.iter().find(|node| close.contains(*node))
    {
        return Some(Step::Promote(node.clone()));
    }
    let whole = voters.iter().all(|voter| there.contains(voter));
    let preferred = voters.iter().cycle().nth(usize::from(number) + 1)?;
    (settled && whole && preferred != local && close.contains(preferred))
        .then(|| Step::HandOver(preferred.clone()))
}

/// Looks after `group` until it ends.
pub(super) async fn run(shared: Arc<Shared>, group: Weak<Group>) {
    let mut since: Option<Instant> = None;
    let mut given_up: Option<Instant> = None;
    let mut cluster = shared.control.replicated.changes();
    let mut pause = PERIOD;
    loop {
        // Who belongs to the cluster changes seldom, and is waited for when it does. An error
        // means that the store ends, and this with it.
        let _ = tokio::time::timeout(pause, cluster.changed()).await;
        let Some(group) = group.upgrade() else { return };
        pause = PERIOD;
        group.unpin().await;
        if !group.leads() {
            since = None;
            continue;
        }
        if group.is_full() {
            // It can write nothing, and another can.
            if given_up.is_none_or(|at| at.elapsed() >= FULL_PAUSE) {
                given_up = Some(Instant::now());
                make_room(&group).await;
            }
            continue;
        }
        let since = since.get_or_insert_with(Instant::now);
        expire(&group).await;
        // Who is in the control group is for those to say who are taken in and let go.
        let GroupId::Data(number) = group.id() else { continue };
        let settled = since.elapsed() > SETTLED;
        let decide = || next(number, &group.sight(), &wanted(&shared)?, settled);
        let Some(step) = decide() else {
            // One that is new waits for its vote, and its program for that.
            pause = if group.is_growing() { SOON } else { PERIOD };
            continue;
        };
        pause = SOON;
        // Who belongs to the cluster may have changed since this replica heard of it.
        let confirmed =
            shared.barrier(&shared.control, Consistency::Linearizable, CONFIRM).await.is_ok();
        if confirmed && decide().as_ref() == Some(&step) && group.take(&step).await {
            tracing::info!(group = %group.id(), ?step, "members changed");
        }
        // Not over again at once, whether it came to something or not.
        if matches!(step, Step::HandOver(_)) {
            *since = Instant::now();
        }
    }
}

/// Gives the office of a leader whose disk is full to another, when the others are a majority
/// without it: whoever votes for the next leader writes that down, which this node cannot.
async fn make_room(group: &Group) {
    let id = group.id();
    if !can_elect(&group.sight()) {
        tracing::warn!(group = %id, "the disk is full, and too few others are there to lead");
    } else if group.hand_over(None).await {
        tracing::warn!(group = %id, "the disk is full: another node leads");
    } else {
        tracing::warn!(group = %id, "the disk is full, and no other node leads yet");
    }
}

/// Whether the voters that are there are a majority without the leader.
fn can_elect(sight: &Sight) -> bool {
    let Sight { local, voters, there, .. } = sight;
    let others = voters.iter().filter(|voter| *voter != local && there.contains(*voter)).count();
    others > voters.len() / 2
}

/// Removes the sessions whose time is over.
async fn expire(group: &Group) {
    while group.is_due() {
        let action = DataAction::Expire { max: limits::EXPIRED_PER_ENTRY };
        let command = Command::Data(action.into());
        if group.commit(command).await.is_err() {
            return;
        }
    }
}

/// The nodes that every group should have; `None` before this node knows the cluster.
fn wanted(shared: &Shared) -> Option<BTreeSet<NodeId>> {
    let wanted: BTreeSet<NodeId> = shared.control.replicated.view(|state| {
        state.nodes().keys().filter(|node| !state.leaving().contains(*node)).cloned().collect()
    });
    (!wanted.is_empty()).then_some(wanted)
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(n: usize) -> NodeId {
        format!("n{n}").parse().expect("valid")
    }

    fn nodes(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<NodeId> {
        numbers.into_iter().map(node).collect()
    }

    /// A group of `voters` that are all well, led by the first.
    fn well(voters: usize) -> Sight {
        let voters = nodes(1..=voters);
        Sight {
            local: node(1),
            learners: BTreeSet::new(),
            there: voters.clone(),
            close: voters.clone(),
            voters,
        }
    }

    #[test]
    fn a_node_of_the_cluster_is_added_then_gets_a_vote_while_there_are_few() {
        let sight = well(1);
        assert_eq!(next(0, &sight, &nodes(1..=2), false), Some(Step::Add(node(2))));
        let mut sight = Sight { learners: nodes([2]), ..sight };
        assert_eq!(next(0, &sight, &nodes(1..=2), false), None, "it has nothing yet");
        sight.close.insert(node(2));
        assert_eq!(next(0, &sight, &nodes(1..=2), false), Some(Step::Promote(node(2))));
        let full = Sight { learners: nodes([6]), close: nodes(1..=6), ..well(5) };
        assert_eq!(next(0, &full, &nodes(1..=6), false), None);
    }

    #[test]
    fn a_voter_goes_only_when_the_others_are_a_majority_without_it() {
        let mut sight = well(3);
        assert_eq!(next(0, &sight, &nodes(1..=2), false), Some(Step::Remove(node(3))));
        sight.there.remove(&node(2));
        assert_eq!(next(0, &sight, &nodes(1..=2), false), None);
        assert_eq!(next(0, &well(3), &nodes(2..=3), false), Some(Step::Remove(node(1))), "itself");
        assert_eq!(next(0, &well(1), &nodes(2..=2), false), Some(Step::Add(node(2))));
    }

    #[test]
    fn leaders_of_settled_groups_spread_over_the_voters() {
        let led = |number| next(number, &well(3), &nodes(1..=3), true);
        assert_eq!(led(0), Some(Step::HandOver(node(2))));
        assert_eq!(led(1), Some(Step::HandOver(node(3))));
        assert_eq!(led(2), None, "it is led as it should be");
        assert_eq!(next(0, &well(3), &nodes(1..=3), false), None, "not at once");
        let mut broken = well(3);
        broken.there.remove(&node(3));
        assert_eq!(next(0, &broken, &nodes(1..=3), true), None, "not while a voter is away");
    }

    #[test]
    fn a_leader_with_a_full_disk_goes_only_when_the_others_can_elect_without_it() {
        // (voters, of them there besides the leader, whether they can)
        for (voters, there, can) in [
            (1, 0, false),
            (2, 1, false),
            (3, 1, false),
            (3, 2, true),
            (4, 2, false),
            (4, 3, true),
            (5, 2, false),
            (5, 3, true),
        ] {
            let sight = Sight { there: nodes(1..=1 + there), ..well(voters) };
            assert_eq!(can_elect(&sight), can, "{there} of {voters}");
        }
    }

    proptest! {
        /// Whatever the group and the cluster look like, the steps come to an end with the members
        /// that are wanted, and no step loses the majority.
        #[test]
        fn the_steps_end_at_what_is_wanted(
            voters in proptest::collection::btree_set(1..9_usize, 1..6),
            learners in proptest::collection::btree_set(1..9_usize, 0..4),
            wanted in proptest::collection::btree_set(1..9_usize, 1..9),
            number in 0..4_u16,
        ) {
            let (voters, wanted) = (nodes(voters), nodes(wanted));
            let learners = &nodes(learners) - &voters;
            let leader = voters.first().cloned().expect("one at least");
            let all = nodes(1..9);
            let mut sight = Sight {
                local: leader, voters, learners, there: all.clone(), close: all,
            };
            for _ in 0..64 {
                match next(number, &sight, &wanted, true) {
                    None => break,
                    Some(Step::Add(node)) => {
                        prop_assert!(sight.learners.insert(node));
                    }
                    Some(Step::Promote(node)) => {
                        prop_assert!(sight.learners.remove(&node) && sight.voters.insert(node));
                    }
                    Some(Step::Remove(node)) => {
                        prop_assert!(sight.voters.remove(&node) || sight.learners.remove(&node));
                        prop_assert!(!sight.voters.is_empty());
                        if node == sight.local {
                            sight.local = sight.voters.first().cloned().expect("one at least");
                        }
                    }
                    Some(Step::HandOver(node)) => sight.local = node,
                }
            }
            prop_assert_eq!(next(number, &sight, &wanted, true), None);
            let members: BTreeSet<NodeId> = sight.voters.union(&sight.learners).cloned().collect();
            prop_assert_eq!(members, wanted);
        }
    }
}
