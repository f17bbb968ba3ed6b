//! When the leases of all nodes are over, by the clock of this node. Pure.
//!
//! Every node keeps one, not only the leader: who comes into office has seen the renewals before.

use std::collections::BTreeMap;

use odeum_proto::{Epoch, NodeId, Revision};
use tokio::time::Instant;

use super::{Leases, Seen};
use crate::store::Renewal;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book(BTreeMap<NodeId, Row>);

#[derive(Debug)]
struct Row {
    epoch: Epoch,
    renewed: Revision,
    due: Instant,
}

/// A lease in the log.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    pub(super) renewal: Renewal,
    /// A time at which the renewal was on record here; any later one will do.
    pub(super) seen: Instant,
}

/// A lease whose time is over and which is not renewed, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    pub(super) renewed: Revision,
}

impl Book {
    /// Takes down what the log says. A renewal that is known keeps the time it was first seen at.
    pub(super) fn look(&mut self, leased: Vec<Entry>) {
        let mut before = std::mem::take(&mut self.0);
        for Entry { node, epoch, renewal, seen } in leased {
            let known = before.remove(&node);
            let known = known.filter(|row| row.epoch == epoch && row.renewed == renewal.at);
            let new = || Row { epoch, renewed: renewal.at, due: seen + renewal.ttl };
            self.0.insert(node, known.unwrap_or_else(new));
        }
    }

    /// The leases whose time is over.
    pub(super) fn over(&self, now: Instant) -> Vec<Over> {
        let over = self.0.iter().filter(|(_, row)| row.due <= now);
        over.map(|(node, row)| Over { node: node.clone(), epoch: row.epoch, renewed: row.renewed })
            .collect()
    }

    /// When the next one's is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|row| row.due).min()
    }

    pub(super) fn leases(&self) -> Leases {
        let seen = |row: &Row| Seen { epoch: row.epoch, due: row.due };
        self.0.iter().map(|(node, row)| (node.clone(), seen(row))).collect()
    }
}
