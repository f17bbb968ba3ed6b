//! The lease of this node: until when what is placed on it may be active here.
//!
//! The control group grants leases ([`crate::store::state`]); nothing is taken from a node that has
//! one. So a node that is cut off from the others stops by itself, and before they start what it
//! had: no message, no peer and no operator has to reach it for that.
//!
//! | | counts the lease | from |
//! |---|---|---|
//! | this node | its length less a tenth | before it asked for the renewal |
//! | who leads | its length | after the renewal was on record |
//!
//! Both count by their own monotonic clock, which nobody can set. The tenth is for clocks that do
//! not run equally fast, and for what is at work when the time is over to be cut off.
//!
//! Whoever uses the lease asks [`LeaseHandle::holds`] with the present time, at the moment of use. A
//! process that was stopped for a while finds out then, whatever it believed before and however
//! late its timers ring.
//!
//! # Promises
//! | promise | kept by |
//! |---|---|
//! | Two nodes never have the right to the same entity at once, as long as their clocks run equally fast within 5 % and no machine is suspended (below). | `store::state::tests::leases`, `lease::tests` |
//! | A lease that is over is never taken up again: the next has a new epoch. | `store::state::tests::leases` |
//! | A pause of a second, a tenth of all packets lost or the death of the control group's leader costs no node its lease. | `tests/faults` |
//! | What a node had that died is free 3 s after its last renewal, with the default settings. | `tests/faults`, `odeum-runtime --test cluster` |
//!
//! # What it costs
//! A write to the control group per node and half second.
//!
//! # Not promised
//! * Anything about time that the clock does not count: `CLOCK_MONOTONIC` stands still while a
//!   machine is suspended, and in a virtual machine that is frozen or moved. A node that wakes
//!   up believes in its lease for as long as it had left. What it writes to the store is refused by
//!   the epochs even then.
//! * That what was begun with a lease has ended with it where it cannot be ended: a handler that
//!   does not wait for anything runs to its next await.
//!
//! Not done, and why: `CLOCK_BOOTTIME`, which counts suspension. tokio's timers and `Instant` do not
//! have it, so each use would have to read a second clock; and where nodes run nobody suspends
//! machines, while frozen virtual machines are counted by neither clock.

mod actor;
mod book;
mod holder;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::ChildSpec;
use odeum_proto::{Epoch, Incarnation, NodeId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::store::{StoreHandle, StoreTiming};

/// Shortest lease that is asked for by default. A node that has died keeps what it had for as long;
/// less than an election of the store and two renewals would cost every node its lease when the
/// leader dies.
const SHORTEST: Duration = Duration::from_secs(3);

/// How this node renews its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How long a lease is. More bears longer elections and pauses; less frees sooner what a dead
    /// node had.
    pub ttl: Duration,
    /// How often it is renewed. Less bears more, and writes more.
    pub renew_every: Duration,
    /// How long one renewal may take before the next is tried.
    pub patience: Duration,
}

impl LeaseConfig {
    /// For a store whose members wait for each other so long: an election takes six fifths of the
    /// election time at most, and a lease bears it twice.
    #[must_use]
    pub fn of(timing: StoreTiming) -> Self {
        let ttl = SHORTEST.max(timing.election * 12 / 5);
        Self { ttl, renew_every: ttl / 6, patience: ttl / 3 }
    }

    /// How long a node counts on a lease of `ttl`, from before it asked for it.
    #[must_use]
    pub fn counted(ttl: Duration) -> Duration {
        ttl - ttl / 10
    }
}

/// What this node knows of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lease {
    /// It has one.
    Held {
        /// Which one. Another one than before means that what was placed on this node may have been
        /// taken from it in between.
        epoch: Epoch,
        /// From then on it counts as over.
        until: Instant,
    },
    /// It has none.
    #[default]
    Lost,
}

impl Lease {
    /// Which lease is held at `now`, if any.
    #[must_use]
    pub fn epoch(&self, now: Instant) -> Option<Epoch> {
        match self {
            Self::Held { epoch, until } if now < *until => Some(*epoch),
            _ => None,
        }
    }

    /// Whether a lease is held at `now`.
    #[must_use]
    pub fn holds(&self, now: Instant) -> bool {
        self.epoch(now).is_some()
    }
}

/// The lease of a node, as another one sees it in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which one.
    pub epoch: Epoch,
    /// When it will be over unless it is renewed.
    pub due: Instant,
}

/// The leases that are not over, by node.
pub type Leases = BTreeMap<NodeId, Seen>;

/// Reads the lease of this node, and what this node sees of others'. Cheap to clone; valid across
/// restarts of the actor behind it.
#[derive(Debug, Clone)]
pub struct LeaseHandle {
    own: watch::Receiver<Lease>,
    all: watch::Receiver<Arc<Leases>>,
}

impl LeaseHandle {
    /// A lease that somebody else renews: for a part of a node that runs without the rest.
    #[must_use]
    pub fn of(own: watch::Receiver<Lease>) -> Self {
        Self { own, all: watch::channel(Arc::default()).1 }
    }

    /// Whether this node has a lease at `now`, which must be the present time at the moment of use.
    #[must_use]
    pub fn holds(&self, now: Instant) -> bool {
        self.own.borrow().holds(now)
    }

    /// The lease as it changes: on every renewal, and when it is over.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Lease> {
        self.own.clone()
    }

    /// The leases of all nodes, as far as this one has seen them granted.
    #[must_use]
    pub fn all(&self) -> Arc<Leases> {
        Arc::clone(&self.all.borrow())
    }
}

/// The lease of the start `incarnation` of the node `local`, and the actor that renews it: a child
/// of the `ClusterSupervisor`, before everything that needs the lease and so stopped after that.
#[must_use]
pub fn lease(
    store: StoreHandle,
    (local, incarnation): (NodeId, Incarnation),
    config: LeaseConfig,
) -> (LeaseHandle, ChildSpec) {
    actor::lease(Arc::new(actor::Registry { store, local, incarnation }), config)
}
