//! A node is emptied: for a while, by an operator, or because it stops.

use std::time::{Duration, Instant};

use odeum_proto::NodeId;
use odeum_proto::store::{Command, NodeRecord};
use tokio::time::timeout;

use super::{DepartureHandle, LOOK_EVERY, LOOK_PAUSE, LeaveError};
use crate::lease::LeaseHandle;
use crate::placement::{planner::Wish, wishes};
use crate::store::{Health, State};

/// How long it may take until others know that this node stops.
const CLOSING: Duration = Duration::from_secs(2);

impl DepartureHandle {
    /// Has everything on `node` move to others, and nothing more be placed on it, until it is
    /// [used again](Self::use_again). It stays a member with its vote. Returns when it is empty.
    ///
    /// # Errors
    /// [`LeaveError`]; after [`LeaveError::NotEmpty`] it goes on.
    pub async fn drain(&self, node: &NodeId, patience: Duration) -> Result<(), LeaveError> {
        let begin = Instant::now();
        self.mark(draining(node, true), patience).await?;
        if self.is_empty(node, begin, patience).await {
            return Ok(());
        }
        let (firmware, shards) = self.store.view(|state| holdings(state, node));
        let (node, waited) = (node.clone(), patience);
        Err(LeaveError::NotEmpty { node, firmware, shards, waited })
    }

    /// Lets things be placed on `node` again after it was drained.
    ///
    /// # Errors
    /// [`LeaveError::Unknown`], [`LeaveError::Store`].
    pub async fn use_again(&self, node: &NodeId, deadline: Duration) -> Result<(), LeaveError> {
        self.mark(draining(node, false), deadline).await
    }

    /// Before this node stops: has its firmware move to others while it still runs. Does not wait
    /// when nobody can take it.
    pub async fn give_away(&self, lease: &LeaseHandle, patience: Duration) {
        let epoch = lease.watch().borrow().epoch(tokio::time::Instant::now());
        let is_led = self.store.status().health == Health::Good;
        let Some(epoch) = epoch.filter(|_| is_led) else { return };
        if self.store.view(|state| holdings(state, &self.local)) == (0, 0) {
            return;
        }
        let begin = Instant::now();
        let close = Command::CloseLease { node: self.local.clone(), epoch };
        match self.store.write(close, CLOSING.min(patience)).await {
            Ok(_) => {
                self.is_empty(&self.local, begin, patience).await;
            }
            Err(error) => tracing::debug!(%error, "nothing is given away before the end"),
        }
    }

    /// Whether `node` is empty in time.
    async fn is_empty(&self, node: &NodeId, begin: Instant, patience: Duration) -> bool {
        let left = || patience.saturating_sub(begin.elapsed());
        let mut changes = self.store.changes();
        loop {
            if self.store.view(|state| holdings(state, node)) == (0, 0) {
                return true;
            }
            if left().is_zero() {
                return false;
            }
            // Either way the loop looks again; not at once, for a busy store changes all the time.
            tokio::time::sleep(left().min(LOOK_PAUSE)).await;
            let _ = timeout(left().min(LOOK_EVERY), changes.changed()).await;
        }
    }
}

fn draining(node: &NodeId, draining: bool) -> Command {
    Command::SetDraining { node: node.clone(), draining }
}

/// How many firmware and how many shards are on `node` that others could take now.
fn holdings(state: &State, node: &NodeId) -> (usize, usize) {
    let takes = |other: &&NodeRecord| {
        other.id != *node
            && other.capacity > 0
            && state.is_leased(&other.id)
            && !state.is_closing(&other.id)
            && !state.leaving().contains(&other.id)
            && !state.draining().contains(&other.id)
    };
    let takers: Vec<_> = state.nodes().values().filter(takes).collect();
    let is_on_it = |wish: &Wish<'_>| {
        state.placements().get(&wish.entity).is_some_and(|place| place.node == *node)
    };
    let fits = |wish: &Wish<'_>| takers.iter().any(|taker| wish.fits(taker));
    let wishes = wishes(state, None).into_iter();
    let firmware = wishes.filter(|wish| is_on_it(wish) && fits(wish)).count();
    let hosted = state
        .kinds()
        .iter()
        .filter(|(kind, _)| takers.iter().any(|taker| taker.kinds.contains_key(*kind)));
    (firmware, hosted.map(|(_, row)| row.shards_of(node).count()).sum())
}
