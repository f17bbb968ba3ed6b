//! Who belongs to the group: nodes are taken in and let go one at a time, by the leader.
//!
//! A step is only begun when the group can finish it. A change of voters needs a majority of the
//! old ones and of the new ones; begun without the latter, it would stop all writes until enough
//! nodes are back.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use odeum_proto::log::StoreReply;
use odeum_proto::store::{Command, NodeRecord, Outcome, Refusal};
use odeum_proto::{NodeId, Revision};
use openraft::async_runtime::WatchReceiver as _;
use openraft::{ChangeMembers, Instant as _};

use super::{Group, WriteError, not_written, written};
use crate::store::raft::Metrics;
use crate::store::steward::{Sight, Step};

/// Most voters of a group: five survive the loss of two, and every further one makes each write
/// slower. Nodes beyond are learners: they have all data and vote on nothing.
pub(in crate::store) const VOTERS: usize = 5;

/// How long a step may take: round trips and fsyncs of a majority, on a busy machine.
const STEP: Duration = Duration::from_secs(5);

/// Who is so many entries behind or fewer has the log, for the purpose of voting or leading: what
/// a busy group writes within some round trips.
const CLOSE: u64 = 1_000;

/// A member that answered the leader within this time is there: five heartbeats, and longer
/// than a pause that evicts nobody.
const THERE: Duration = Duration::from_secs(2);

/// How long the next leader may take to be elected when this one gives up its office: some round
/// trips and an fsync, on a busy machine.
const HAND_OVER: Duration = Duration::from_secs(2);

impl Group {
    /// Takes a node in: on record first, which may be refused, then as a learner until it has
    /// caught up, then as a voter. Every step finds itself done when it is repeated.
    pub(super) async fn admit(&self, record: NodeRecord) -> StoreReply {
        let _one_by_one = self.changing.lock().await;
        let node = record.id.clone();
        match self.commit(Command::PutNode(record)).await {
            Ok((Outcome::Refused(refusal), _)) => return StoreReply::NotAdmitted(refusal),
            Ok(_) => {}
            Err(reply) => return reply,
        }
        match self.add(node).await {
            Ok(()) => StoreReply::Admitted,
            Err(error) => not_written(error),
        }
    }

    /// Replaces the record of a member. One that was removed and does not know it yet must not put
    /// itself on record again: that is for [`admit`](Self::admit).
    pub(super) async fn renew(&self, record: NodeRecord) -> StoreReply {
        let members = self.members();
        if !members.voters.contains(&record.id) && !members.learners.contains(&record.id) {
            let outcome = Outcome::Refused(Refusal::UnknownNode { node: record.id });
            return StoreReply::Written { outcome, at: Revision::default() };
        }
        written(self.commit(Command::PutNode(record)).await)
    }

    async fn add(&self, node: NodeId) -> Result<(), WriteError> {
        let members = self.members();
        if members.voters.contains(&node) {
            return Ok(());
        }
        if !members.learners.contains(&node) || members.voters.len() < VOTERS {
            let added = self.raft.add_learner(node.clone(), (), true).await?;
            self.has_matched(&node, added.log_id.index()).await;
        }
        if members.voters.len() < VOTERS {
            self.promote(&node).await?;
        }
        Ok(())
    }

    async fn promote(&self, node: &NodeId) -> Result<(), WriteError> {
        let index = self.give_vote(node).await?;
        self.has_matched(node, index).await;
        Ok(())
    }

    /// Where in the log it stands that `node` has a vote.
    async fn give_vote(&self, node: &NodeId) -> Result<u64, WriteError> {
        let add = ChangeMembers::AddVoterIds(BTreeSet::from([node.clone()]));
        let changed = self.raft.change_membership(add, true).await?;
        Ok(changed.log_id.index())
    }

    /// Returns when `node` has the log up to `index`, so that it knows of its own admission, or
    /// when this replica leads no more. openraft calls a learner up to date when it is within
    /// thousands of entries, which a new node is with none.
    async fn has_matched(&self, node: &NodeId, index: u64) {
        let mut metrics = self.raft.metrics();
        loop {
            let waits = match &metrics.borrow_watched().replication {
                Some(replication) => {
                    let matched = replication.get(node).and_then(|matched| matched.as_ref());
                    matched.is_none_or(|matched| matched.index() < index)
                }
                None => false,
            };
            if !waits || metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lets a node go: its vote first, so that the rest is a majority without it, then its
    /// record. A leader that is to go gives its office to another first, which does the rest.
    /// Refused when the others are no majority.
    pub(super) async fn expel(&self, node: NodeId) -> StoreReply {
        let _one_by_one = self.changing.lock().await;
        if let Err(reply) = self.let_go(&node).await {
            return reply;
        }
        let removed = self.commit(Command::RemoveNode { node }).await;
        self.fill_up().await;
        written(removed)
    }

    /// As [`expel`](Self::expel), of a group that keeps no record of nodes.
    pub(super) async fn release(&self, node: NodeId) -> StoreReply {
        let _one_by_one = self.changing.lock().await;
        match self.let_go(&node).await {
            Ok(()) => StoreReply::Released,
            Err(reply) => reply,
        }
    }

    /// Out of the group, and an error with the answer when it stays for now.
    async fn let_go(&self, node: &NodeId) -> Result<(), StoreReply> {
        let offers = || StoreReply::Unknown { reason: "it gives its office to another".into() };
        // Whoever lost its office since it was asked, or gives it away, hears of nobody, and must not
        // judge by that.
        let cannot_judge = || match self.leads() {
            false => Some(StoreReply::NotLeader { leader: self.leader() }),
            true => self.offers_office().then(offers),
        };
        if let Some(reply) = cannot_judge() {
            return Err(reply);
        }
        if let Err(refusal) = self.can_spare(node).await {
            let outcome = Outcome::Refused(refusal);
            let refused = || StoreReply::Written { outcome, at: Revision::default() };
            return Err(cannot_judge().unwrap_or_else(refused));
        }
        if *node == self.node {
            if self.hand_over(None).await {
                return Err(StoreReply::NotLeader { leader: self.leader() });
            }
            if self.offers_office() {
                return Err(offers());
            }
        }
        let members = self.members();
        let gone = || BTreeSet::from([node.clone()]);
        let change = if members.voters.contains(node) {
            ChangeMembers::RemoveVoters(gone())
        } else if members.learners.contains(node) {
            ChangeMembers::RemoveNodes(gone())
        } else {
            return Ok(());
        };
        self.raft.change_membership(change, false).await.map(drop).map_err(not_written)
    }

    /// Whether a member waits for its vote.
    pub(in crate::store) fn is_growing(&self) -> bool {
        let members = self.members();
        members.voters.len() < VOTERS && !members.learners.is_empty()
    }

    /// Whether this node votes, or is a member of a group that has all the voters it can have.
    pub(in crate::store) fn is_settled(&self) -> bool {
        let members = self.members();
        let learns = members.learners.contains(&self.node);
        members.voters.contains(&self.node) || (learns && members.voters.len() >= VOTERS)
    }

    /// Carries out one step towards the members that the group should have; whether it was done
    /// in time.
    pub(in crate::store) async fn take(&self, step: &Step) -> bool {
        let group = self.id;
        let taken = async {
            let _one_by_one = self.changing.lock().await;
            let done = match step {
                Step::Add(node) => self.raft.add_learner(node.clone(), (), false).await.map(drop),
                // Nobody waits for its answer here: it may be gone before it gives it.
                Step::Promote(node) => self.give_vote(node).await.map(drop),
                Step::Remove(node) => return self.let_go(node).await.is_ok(),
                Step::HandOver(node) => return self.hand_over(Some(node)).await,
            };
            done.inspect_err(|error| tracing::debug!(%group, ?step, %error, "members not changed"))
                .is_ok()
        };
        // One without a majority holds up nobody who wants to do without somebody else.
        tokio::time::timeout(STEP, taken).await.unwrap_or(false)
    }

    /// What the leader of the group sees of its members.
    pub(in crate::store) fn sight(&self) -> Sight {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Members { voters, learners } = Members::of(&metrics);
        let last = metrics.last_log_index.unwrap_or_default();
        let has_all = |node: &&NodeId| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(*node)?.as_ref());
            *node == &self.node || matched.is_some_and(|at| at.index() + CLOSE >= last)
        };
        let all = || voters.iter().chain(&learners);
        let there: BTreeSet<NodeId> =
            all().filter(|node| self.is_there(&metrics, node)).cloned().collect();
        let close = there.iter().filter(has_all).cloned().collect();
        Sight { local: self.node.clone(), voters, learners, there, close }
    }

    /// Whether the others can do without `node`. A leader that has just taken office waits for
    /// their first answers.
    async fn can_spare(&self, node: &NodeId) -> Result<(), Refusal> {
        let mut metrics = self.raft.metrics();
        let verdict = async {
            loop {
                let checked = {
                    let metrics = metrics.borrow_watched();
                    let members = Members::of(&metrics);
                    members.can_spare(node, |voter| self.is_there(&metrics, voter))
                };
                let Err(refusal) = checked else { return Ok(()) };
                let end = tokio::time::timeout(THERE, metrics.changed()).await;
                if !matches!(end, Ok(Ok(()))) {
                    return Err(refusal);
                }
            }
        };
        match tokio::time::timeout(THERE, verdict).await {
            Ok(verdict) => verdict,
            Err(_) => {
                let metrics = metrics.borrow_watched();
                Members::of(&metrics).can_spare(node, |voter| self.is_there(&metrics, voter))
            }
        }
    }

    fn is_there(&self, metrics: &Metrics, node: &NodeId) -> bool {
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(node)?.as_ref());
        *node == self.node || heard.is_some_and(|at| at.into_inner().elapsed() < THERE)
    }

    /// Whether this leader hears of `node`.
    #[cfg(test)]
    pub(in crate::store) fn reaches(&self, node: &NodeId) -> bool {
        self.is_there(&self.raft.metrics().borrow_watched(), node)
    }

    /// Gives the office to `heir`, or to the voter that has most of the log, and says whether
    /// another leads.
    pub(in crate::store) async fn hand_over(&self, heir: Option<&NodeId>) -> bool {
        let fittest = || {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let matched = |node: &NodeId| metrics.replication.as_ref()?.get(node).cloned()?;
            Members::of(&metrics)
                .voters
                .into_iter()
                .filter(|voter| *voter != self.node && self.is_there(&metrics, voter))
                .max_by_key(matched)
        };
        let Some(next) = heir.cloned().or_else(fittest) else { return false };
        self.offered.fetch_max(self.term_now(), Ordering::Relaxed);
        if self.raft.trigger().transfer_leader(next).await.is_err() {
            return false;
        }
        let changed = self.leader_changed(Some(&self.node));
        tokio::time::timeout(HAND_OVER, changed).await.is_ok()
    }

    /// Whether this leader has offered its office and nobody has taken it: it sends no heartbeats
    /// from then on and writes nothing, until an election ends that.
    fn offers_office(&self) -> bool {
        self.leads() && self.offered.load(Ordering::Relaxed) == self.term_now()
    }

    pub(super) fn term_now(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    /// Makes voters of learners while there are too few. What fails is tried again when the next
    /// node goes; till then the group is as safe as it was.
    async fn fill_up(&self) {
        loop {
            let next = {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                let members = Members::of(&metrics);
                let there = |node: &&NodeId| self.is_there(&metrics, node);
                let full = members.voters.len() >= VOTERS;
                members.learners.iter().find(there).filter(|_| !full).cloned()
            };
            let Some(next) = next else { return };
            if let Err(error) = self.promote(&next).await {
                tracing::warn!(group = %self.id, node = %next, %error, "learner not made a voter");
                return;
            }
        }
    }

    fn members(&self) -> Members {
        Members::of(&self.raft.metrics().borrow_watched())
    }
}

/// The members of a group.
struct Members {
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
}

impl Members {
    fn of(metrics: &Metrics) -> Self {
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let learners = membership.nodes().map(|(node, ())| node.clone());
        let learners = learners.filter(|node| !voters.contains(node)).collect();
        Self { voters, learners }
    }

    /// Whether the voters without `node` that are `there` are a majority of the voters without
    /// it. A learner can always be spared.
    fn can_spare(&self, node: &NodeId, there: impl Fn(&NodeId) -> bool) -> Result<(), Refusal> {
        if !self.voters.contains(node) {
            return Ok(());
        }
        let others = self.voters.iter().filter(|voter| *voter != node);
        let there = others.clone().filter(|voter| there(voter)).count();
        let others = others.count();
        if there > others / 2 {
            return Ok(());
        }
        let node = node.clone();
        Err(Refusal::LosesQuorum { node, others: others as u64, there: there as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_goes_only_when_the_others_are_a_majority_without_it() {
        let node = |n: usize| format!("n{n}").parse::<NodeId>().expect("valid");
        let members = |voters: usize| Members {
            voters: (1..=voters).map(node).collect(),
            learners: BTreeSet::from([node(9)]),
        };
        // (voters, of them there besides the first one, whether the first one may go)
        let cases = [
            (1, 0, false),
            (2, 1, true),
            (2, 0, false),
            (3, 2, true),
            (3, 1, false),
            (4, 2, true),
            (4, 1, false),
            (5, 3, true),
            (5, 2, false),
        ];
        for (voters, there, may) in cases {
            let is_there = |voter: &NodeId| (2..2 + there).map(node).any(|n| n == *voter);
            let checked = members(voters).can_spare(&node(1), is_there);
            assert_eq!(checked.is_ok(), may, "{there} of {voters}: {checked:?}");
            assert_eq!(members(voters).can_spare(&node(9), is_there), Ok(()), "a learner");
        }
    }
}
