//! The leases of nodes.
//!
//! What is placed on a node may be active there while the node has a lease, and nothing is taken
//! from it before that is over: the node may be cut off and know nothing of it. The node counts its
//! lease from before it asked for it, and so knows first that it is over ([`crate::lease`]).
//! Whoever leads counts from when this log has shown it the last renewal, which is later, and then
//! says so in the log: [`EndLease`](odeum_proto::store::Command::EndLease) names the renewal that
//! was seen, and means nothing once there is another. So two leaders at once, one that has just
//! come and one whose clock stood still end no lease early, and no clock is in the state.
//!
//! A lease that is over is over for good. The next one has a new epoch, and with it everything
//! that is placed on the node: a plan that was made when nobody had a lease there is refused then,
//! and what was placed there all the while is known by that epoch. As long as a node that had a
//! lease has none, nothing is placed on it.
//!
//! Source: Gray, Cheriton 1989, "Leases: an efficient fault-tolerant mechanism for distributed file
//! cache consistency".
//!
//! Not done, and why: ends by the time of the log, as sessions have them. That time stands still
//! while nobody leads, so what a dead leader had would wait for the election and its whole lease
//! after that.

use std::time::Duration;

use odeum_proto::store::{Outcome, Refusal};
use odeum_proto::{Epoch, Incarnation, NodeId, Revision, limits};
use serde::{Deserialize, Serialize};

use super::{State, too_much};

/// The last lease of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLease {
    /// The start of the node that has it.
    pub incarnation: Incarnation,
    /// Which lease it is.
    pub epoch: Epoch,
    /// The last renewal of it, and for how long; `None` when it is over.
    pub renewed: Option<Renewal>,
    /// Whether the node is about to stop, so that nothing more is placed on it.
    pub closing: bool,
}

/// A renewal of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Which one: its place in history.
    pub at: Revision,
    /// How long nothing may be taken from the node after this was seen.
    pub ttl: Duration,
}

impl State {
    /// The last lease of a node, which may be over; `None` when it never had one.
    #[must_use]
    pub fn lease(&self, node: &NodeId) -> Option<&NodeLease> {
        self.leases.get(node)
    }

    /// The nodes that have a lease, each with its epoch and its last renewal; also those that were
    /// removed and may not know it.
    pub fn leased(&self) -> impl Iterator<Item = (&NodeId, Epoch, Renewal)> {
        let has = |(node, lease): (_, &NodeLease)| Some((node, lease.epoch, lease.renewed?));
        self.leases.iter().filter_map(has)
    }

    /// Whether a node has a lease.
    #[must_use]
    pub fn is_leased(&self, node: &NodeId) -> bool {
        self.leases.get(node).is_some_and(|lease| lease.renewed.is_some())
    }

    /// Whether a node that has a lease is about to stop.
    #[must_use]
    pub fn is_closing(&self, node: &NodeId) -> bool {
        self.leases.get(node).is_some_and(|lease| lease.renewed.is_some() && lease.closing)
    }

    pub(super) fn renew_lease(
        &mut self,
        revision: Revision,
        node: &NodeId,
        incarnation: Incarnation,
        ttl: Duration,
    ) -> Result<Outcome, Refusal> {
        let named = || node.clone();
        let record = self.nodes.get(node).ok_or_else(|| Refusal::UnknownNode { node: named() })?;
        let (is, claimed) = (record.incarnation, incarnation);
        if is != claimed {
            return Err(Refusal::OtherIncarnation { node: named(), is, claimed });
        }
        if ttl > limits::LEASE_TTL {
            let (got, limit) = (millis(ttl), millis(limits::LEASE_TTL));
            return Err(too_much("milliseconds of a lease", got, limit));
        }
        let current = self.leases.get_mut(node).filter(|lease| lease.incarnation == incarnation);
        if let Some(NodeLease { epoch, renewed: Some(renewed), .. }) = current {
            // Never shorter than what its node counts on already.
            *renewed = Renewal { at: revision, ttl: ttl.max(renewed.ttl) };
            return Ok(Outcome::Leased { revision, epoch: *epoch });
        }
        let epoch = self.last_epoch.next();
        self.last_epoch = epoch;
        for (entity, place) in &mut self.placements {
            if place.node == *node {
                place.epoch = epoch;
                self.moves.remove(entity);
            }
        }
        self.put_shards_anew(node, epoch);
        let renewed = Some(Renewal { at: revision, ttl });
        self.leases.insert(named(), NodeLease { incarnation, epoch, renewed, closing: false });
        self.layout = revision;
        Ok(Outcome::Leased { revision, epoch })
    }

    /// Whether anything changed by it.
    pub(super) fn end_lease(
        &mut self,
        node: &NodeId,
        epoch: Epoch,
        renewed: Option<Revision>,
    ) -> bool {
        let Some(lease) = self.leases.get_mut(node).filter(|lease| lease.epoch == epoch) else {
            return false;
        };
        let meant = |last: &mut Renewal| renewed.is_none_or(|renewed| renewed == last.at);
        let changed = lease.renewed.take_if(meant).is_some();
        self.forget_lease(node);
        changed
    }

    /// Whether anything changed by it.
    pub(super) fn close_lease(&mut self, node: &NodeId, epoch: Epoch) -> bool {
        let lease = self.leases.get_mut(node).filter(|lease| lease.epoch == epoch);
        lease.is_some_and(|lease| !std::mem::replace(&mut lease.closing, true))
    }

    /// A node has started again: whatever had the lease before has ended.
    pub(super) fn end_former_lease(&mut self, node: &NodeId, incarnation: Incarnation) {
        if let Some(lease) = self.leases.get_mut(node).filter(|it| it.incarnation < incarnation) {
            lease.renewed = None;
        }
    }

    /// Of a node that was removed nothing is kept but a lease that it may still count on.
    pub(super) fn forget_lease(&mut self, node: &NodeId) {
        if !self.nodes.contains_key(node) && !self.is_leased(node) {
            self.leases.remove(node);
        }
    }

    /// Nothing is placed on a node that lost its lease or is about to stop. One that never had a
    /// lease is on its way in.
    pub(super) fn check_lease(&self, node: &NodeId) -> Result<(), Refusal> {
        match self.leases.get(node) {
            Some(lease) if lease.renewed.is_none() => Err(Refusal::NoLease { node: node.clone() }),
            Some(lease) if lease.closing => Err(Refusal::Closing { node: node.clone() }),
            _ => Ok(()),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
