//! Entities that have stopped with what they had in memory, and go on where their shard is next.
//!
//! What decides that is the epoch: an entity goes on under the epoch under which it was stopped, or
//! under the one that follows it in the table, and under no other. Whoever has entities stopped and
//! lets them go on where they are after all has the table give their shard another epoch before, so
//! that what was sent elsewhere goes on nowhere.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use odeum_proto::handover::FrozenEntity;
use odeum_proto::{EntityId, Epoch, NodeId};
use tokio::time::Instant;

use super::Path;
use super::window::Window;
use crate::store::KindState;

/// Most that may wait to go on, of one kind on one node, in bytes.
const WAITING_BYTES: usize = 512 << 20;

/// What an entity weighs besides its state, in bytes, roughly.
const OVERHEAD: usize = 256;

/// An entity that has stopped.
pub(super) struct Frozen {
    pub(super) path: Path,
    pub(super) shard: u16,
    pub(super) state: Bytes,
    pub(super) window: Option<Box<Window>>,
}

impl Frozen {
    /// How many bytes it has.
    pub(super) fn weight(&self) -> usize {
        OVERHEAD + self.state.len() + self.window.as_ref().map_or(0, |window| window.weight())
    }

    /// As it is sent.
    pub(super) fn to_wire(&self, epoch: Epoch) -> FrozenEntity {
        FrozenEntity {
            key: self.path.id.key().clone(),
            epoch,
            state: self.state.to_vec(),
            answered: self
                .window
                .as_ref()
                .map(|it| it.to_wire(&mut 0, usize::MAX))
                .unwrap_or_default(),
        }
    }

    /// As it was sent.
    pub(super) fn of_wire(id: EntityId, shard: u16, entity: FrozenEntity) -> Self {
        let answered = Some(entity.answered).filter(|answered| !answered.is_empty());
        let window = answered.map(|answered| {
            let mut window = Box::<Window>::default();
            window.extend(answered, Instant::now());
            window
        });
        Self { path: Path::new(id), shard, state: entity.state.into(), window }
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} bytes", self.path, self.state.len())
    }
}

/// One that waits.
#[derive(Debug)]
struct Waiting {
    /// Under which it was stopped.
    epoch: Epoch,
    frozen: Frozen,
}

/// What becomes of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on here.
    Here,
    /// That is not known yet.
    Open,
    /// It goes on elsewhere, or not at all.
    Gone,
}

impl Waiting {
    fn fate(&self, row: &KindState, node: &NodeId) -> Fate {
        let shard = self.frozen.shard;
        let Some(place) = row.shard(shard) else { return Fate::Gone };
        let is_own = place.node == *node;
        match place.epoch.cmp(&self.epoch) {
            // This node is behind.
            Ordering::Less => Fate::Open,
            Ordering::Equal if is_own => Fate::Here,
            Ordering::Equal => Fate::Open,
            Ordering::Greater if is_own && row.epoch_before(shard) == Some(self.epoch) => {
                Fate::Here
            }
            Ordering::Greater => Fate::Gone,
        }
    }
}

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("so many of its entities are on their way there that they have {WAITING_BYTES} bytes")]
pub(super) struct TooMuch;

/// Those of one kind that wait on this node.
#[derive(Debug)]
pub(super) struct FrozenEntities {
    node: NodeId,
    waiting: Mutex<HashMap<Arc<str>, Waiting>>,
}

impl FrozenEntities {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, waiting: Mutex::default() }
    }

    /// Keeps some that were stopped elsewhere, each under an epoch.
    ///
    /// # Errors
    /// [`TooMuch`]: none of them is kept.
    pub(super) fn put(&self, entities: Vec<(Epoch, Frozen)>) -> Result<(), TooMuch> {
        let mut all = self.lock();
        let waits: usize = all.values().map(|waiting| waiting.frozen.weight()).sum();
        let comes: usize = entities.iter().map(|(_, frozen)| frozen.weight()).sum();
        if waits + comes > WAITING_BYTES {
            return Err(TooMuch);
        }
        let waiting = |(epoch, frozen): (Epoch, Frozen)| {
            (Arc::clone(&frozen.path.text), Waiting { epoch, frozen })
        };
        all.extend(entities.into_iter().map(waiting));
        Ok(())
    }

    /// Keeps one that this node had in memory before, which is never too much.
    pub(super) fn put_back(&self, epoch: Epoch, frozen: Frozen) {
        self.lock().insert(Arc::clone(&frozen.path.text), Waiting { epoch, frozen });
    }

    /// What an entity had, if it goes on here. It is kept until that [has gone
    /// well](Self::went_on).
    pub(super) fn state_of(&self, path: &str, row: &KindState) -> Option<Bytes> {
        let all = self.lock();
        let waiting = all.get(path)?;
        let is_here = waiting.fate(row, &self.node) == Fate::Here;
        is_here.then(|| waiting.frozen.state.clone())
    }

    /// An entity goes on here: what it has answered.
    pub(super) fn went_on(&self, path: &str) -> Option<Box<Window>> {
        self.lock().remove(path)?.frozen.window
    }

    /// Those that go on here. Who goes on elsewhere is forgotten.
    pub(super) fn sift(&self, row: &KindState) -> Vec<Path> {
        let mut here = Vec::new();
        self.lock().retain(|_, waiting| match waiting.fate(row, &self.node) {
            Fate::Here => {
                here.push(waiting.frozen.path.clone());
                true
            }
            fate => fate == Fate::Open,
        });
        here
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use odeum_proto::store::Placement;

    use super::*;

    fn node(name: &str) -> NodeId {
        name.parse().expect("valid")
    }

    /// A kind of one shard that was at these nodes under these epochs, the last of them now.
    fn row(course: &[(&str, u64)]) -> KindState {
        let mut row = KindState::new(1);
        for (name, epoch) in course {
            row.put(0, Placement { node: node(name), epoch: Epoch(*epoch) });
        }
        row
    }

    fn stopped() -> Frozen {
        let path = Path::new("note/k".parse().expect("valid"));
        let mut window = Box::<Window>::default();
        window.put(&"r".parse().expect("valid"), b"reply", Instant::now());
        Frozen { path, shard: 0, state: Bytes::from_static(b"state"), window: Some(window) }
    }

    /// What a node has that was given an entity stopped under the epoch 3: its state, if it goes on
    /// there, and whether it is kept.
    fn at(name: &str, course: &[(&str, u64)]) -> (bool, bool) {
        let entities = FrozenEntities::new(node(name));
        entities.put(vec![(Epoch(3), stopped())]).expect("there is room");
        let row = row(course);
        let goes_on = entities.state_of("note/k", &row).is_some();
        assert_eq!(goes_on, !entities.sift(&row).is_empty());
        (goes_on, entities.went_on("note/k").is_some())
    }

    #[test]
    fn an_entity_goes_on_where_its_shard_is_next_and_nowhere_else() {
        let before = [("a", 3)];
        assert_eq!((at("a", &before), at("b", &before)), ((true, true), (false, true)));
        let switched = [("a", 3), ("b", 4)];
        assert_eq!((at("a", &switched), at("b", &switched)), ((false, false), (true, true)));
    }

    #[test]
    fn what_was_sent_to_a_node_goes_on_nowhere_once_it_went_on_where_it_was() {
        let retracted = [("a", 3), ("a", 4)];
        assert_eq!((at("a", &retracted), at("b", &retracted)), ((true, true), (false, false)));
        let lost_later = [("a", 3), ("a", 4), ("b", 5)];
        assert_eq!((at("a", &lost_later), at("b", &lost_later)), ((false, false), (false, false)));
    }

    #[test]
    fn a_node_that_is_behind_keeps_what_comes() {
        assert_eq!(at("b", &[("c", 2)]), (false, true));
    }

    #[test]
    fn what_is_sent_is_what_comes() {
        let sent = stopped().to_wire(Epoch(3));
        let came = Frozen::of_wire("note/k".parse().expect("valid"), 0, sent.clone());
        assert_eq!(came.to_wire(Epoch(3)), sent);
    }
}
