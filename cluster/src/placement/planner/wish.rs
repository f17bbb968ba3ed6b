//! What a deployment asks of the nodes that its replicas are on.

use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::{
    EntityId, Label, Name, NodeId,
    store::{FirmwarePolicy, NodeRecord},
};

/// A replica of a deployed firmware that wants a node.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// It.
    pub entity: EntityId,
    /// The nodes that may have it; all when there are none.
    pub nodes: &'a BTreeSet<NodeId>,
    /// Labels that the node must have, with these values.
    pub labels: &'a BTreeMap<Label, Label>,
}

/// Why a node may not have a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Its deployment names others.
    NotNamed,
    /// It has not the labels.
    Labels,
}

impl<'a> Wish<'a> {
    /// That of a replica with that policy.
    #[must_use]
    pub fn of(entity: EntityId, policy: &'a FirmwarePolicy) -> Self {
        Self { entity, nodes: &policy.nodes, labels: &policy.labels }
    }
}

impl Wish<'_> {
    /// Whether a node of that record can run it.
    #[must_use]
    pub fn fits(&self, record: &NodeRecord) -> bool {
        self.unfit(record).is_none()
    }

    /// Why a node of that record cannot run it.
    #[must_use]
    pub fn unfit(&self, record: &NodeRecord) -> Option<Unfit> {
        if !self.nodes.is_empty() && !self.nodes.contains(&record.id) {
            return Some(Unfit::NotNamed);
        }
        let has = |(label, value): (&Label, &Label)| record.labels.get(label) == Some(value);
        (!self.labels.iter().all(has)).then_some(Unfit::Labels)
    }
}

/// Which firmware is not put beside which while another node can have it: what one says of another
/// holds for both, whichever is placed first.
#[derive(Debug, Clone, Default)]
pub struct Apart<'a>(BTreeMap<&'a Name, BTreeSet<&'a Name>>);

impl<'a> Apart<'a> {
    /// What all deployments say.
    #[must_use]
    pub fn of(said: impl IntoIterator<Item = (&'a Name, &'a BTreeSet<Name>)>) -> Self {
        let mut both: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (one, others) in said {
            // Replicas of one firmware are spread in any case.
            for other in others.iter().filter(|other| *other != one) {
                both.entry(one).or_default().insert(other);
                both.entry(other).or_default().insert(one);
            }
        }
        Self(both)
    }

    /// Those that `firmware` is to be apart from, by name.
    pub fn from(&self, firmware: &Name) -> impl Iterator<Item = &'a Name> + use<'_, 'a> {
        self.0.get(firmware).into_iter().flatten().copied()
    }
}
