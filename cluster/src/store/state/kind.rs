//! A kind of entities that are placed by shard: its row of the table.

use std::collections::BTreeSet;

use odeum_proto::store::{Placement, Refusal, ShardMove};
use odeum_proto::{EntityKind, Epoch, NodeId, limits};
use serde::{Deserialize, Serialize};

use super::{State, at_most};

/// Where the shards of a kind are. Their number never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Row", into = "Row")]
pub struct KindState {
    places: Vec<Option<Place>>,
}

/// Where a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    now: Placement,
    /// The epoch before this one, whoever had the shard then.
    before: Option<Epoch>,
}

impl KindState {
    /// A kind of which no shard is placed.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self { places: vec![None; usize::from(shards)] }
    }

    /// How many shards it has.
    #[must_use]
    pub fn shards(&self) -> u16 {
        // At most `limits::SHARDS_PER_KIND`.
        u16::try_from(self.places.len()).unwrap_or(u16::MAX)
    }

    /// Where a shard is; `None` when it is not placed or there is no such shard.
    #[must_use]
    pub fn shard(&self, shard: u16) -> Option<&Placement> {
        Some(&self.places.get(usize::from(shard))?.as_ref()?.now)
    }

    /// The epoch that a shard had before its present one.
    #[must_use]
    pub fn epoch_before(&self, shard: u16) -> Option<Epoch> {
        self.places.get(usize::from(shard))?.as_ref()?.before
    }

    /// Every shard, in order, and where it is.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Option<&Placement>)> {
        (0..).zip(self.places.iter().map(|place| Some(&place.as_ref()?.now)))
    }

    /// The shards of `node`, in order, each with its epoch.
    pub fn shards_of(&self, node: &NodeId) -> impl Iterator<Item = (u16, Epoch)> {
        self.iter().filter_map(move |(shard, place)| {
            place.filter(|place| place.node == *node).map(|place| (shard, place.epoch))
        })
    }

    /// Puts a shard where it belongs from now on, if there is such a shard.
    pub(crate) fn put(&mut self, shard: u16, placement: Placement) {
        if let Some(place) = self.places.get_mut(usize::from(shard)) {
            let before = place.take().map(|place| place.now.epoch);
            *place = Some(Place { now: placement, before });
        }
    }
}

/// A kind in a snapshot: each node's name once.
#[derive(Serialize, Deserialize)]
struct Row {
    nodes: Vec<NodeId>,
    /// Per shard its node's place in `nodes`, from 1, its epoch, and the one before; 0 where there is
    /// none.
    shards: Vec<(u16, Epoch, Epoch)>,
}

impl From<KindState> for Row {
    fn from(kind: KindState) -> Self {
        let mut nodes: Vec<NodeId> =
            kind.places.iter().flatten().map(|place| place.now.node.clone()).collect();
        nodes.sort();
        nodes.dedup();
        let number = |node: &NodeId| {
            let at = nodes.binary_search(node).unwrap_or_default();
            // There are no more nodes than shards.
            u16::try_from(at + 1).unwrap_or_default()
        };
        let cell = |place: &Option<Place>| match place {
            Some(Place { now, before }) => {
                (number(&now.node), now.epoch, before.unwrap_or_default())
            }
            None => (0, Epoch::default(), Epoch::default()),
        };
        Self { shards: kind.places.iter().map(cell).collect(), nodes }
    }
}

impl TryFrom<Row> for KindState {
    type Error = &'static str;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        if !(1..=usize::from(limits::SHARDS_PER_KIND)).contains(&row.shards.len()) {
            return Err("a kind with an impossible number of shards");
        }
        let place = |(number, epoch, before)| match usize::from(number).checked_sub(1) {
            None => Ok(None),
            Some(at) => {
                let node = row.nodes.get(at).ok_or("a shard on a node that is not listed")?;
                let now = Placement { node: node.clone(), epoch };
                let before = Some(before).filter(|before| *before != Epoch::default());
                Ok(Some(Place { now, before }))
            }
        };
        let places = row.shards.iter().copied().map(place).collect::<Result<_, Self::Error>>()?;
        Ok(Self { places })
    }
}

impl State {
    /// Whether a kind may have so many shards, given the number it has already.
    ///
    /// # Errors
    /// [`Refusal::ShardNumber`] or [`Refusal::OtherShards`], with both numbers.
    pub fn check_kind(&self, kind: &EntityKind, claimed: u16) -> Result<(), Refusal> {
        let named = || kind.clone();
        let firmware = kind.as_str() == EntityKind::FIRMWARE;
        let limit = if firmware { 0 } else { limits::SHARDS_PER_KIND };
        if !(1..=limit).contains(&claimed) {
            return Err(Refusal::ShardNumber { kind: named(), got: claimed, limit });
        }
        match self.kinds.get(kind).map(KindState::shards) {
            Some(is) if is != claimed => Err(Refusal::OtherShards { kind: named(), is, claimed }),
            _ => Ok(()),
        }
    }

    /// Carries out the moves whose expectation holds. Their new epoch, and which they are.
    pub(super) fn place_shards(
        &mut self,
        kind: &EntityKind,
        moves: &[ShardMove],
    ) -> Result<(Epoch, Vec<u16>), Refusal> {
        let named = || kind.clone();
        at_most("shards in one command", moves.len(), usize::from(limits::SHARDS_PER_KIND))?;
        // A node that is about to stop may still keep what it has.
        let stays = |step: &ShardMove| {
            let row = self.kinds.get(kind);
            let place = row.and_then(|row| row.shard(step.shard));
            place.is_some_and(|place| place.node == step.node)
        };
        let without_lease = moves.iter().find_map(|step| match self.check_lease(&step.node) {
            Err(Refusal::Closing { .. }) if stays(step) => None,
            checked => checked.err(),
        });
        let row = self.kinds.get_mut(kind).ok_or_else(|| Refusal::UnknownKind { kind: named() })?;
        for step in moves {
            if !self.nodes.contains_key(&step.node) {
                return Err(Refusal::UnknownNode { node: step.node.clone() });
            }
            if step.shard >= row.shards() {
                let (shards, shard) = (row.shards(), step.shard);
                return Err(Refusal::UnknownShard { kind: named(), shards, shard });
            }
        }
        if let Some(refusal) = without_lease {
            return Err(refusal);
        }
        let epoch = self.last_epoch.next();
        let mut placed = Vec::new();
        // One step per shard, so that none is based on another of the same command, which would
        // make it something else when it is sent again.
        let mut seen = BTreeSet::new();
        for step in moves {
            let first = seen.insert(step.shard);
            if first && row.shard(step.shard).map(|place| place.epoch) == step.expected {
                row.put(step.shard, Placement { node: step.node.clone(), epoch });
                placed.push(step.shard);
            }
        }
        if placed.is_empty() {
            return Err(Refusal::StaleShards { kind: named() });
        }
        self.last_epoch = epoch;
        Ok((epoch, placed))
    }
}
