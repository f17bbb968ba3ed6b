//! Which moves have failed, as the leader has seen it: what cannot move now is not tried again at
//! once, and what cannot move at all begins anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use odeum_proto::EntityId;
use odeum_proto::Epoch;
use odeum_proto::store::{Move, Placement};

use super::planner::Way;

/// How long an entity stays where it is after a move of it has failed.
const PAUSE: Duration = Duration::from_secs(2);

/// Moves that fail one after the other before the entity begins anew elsewhere.
const MOST: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Moves that were under way at the last look.
    under_way: BTreeMap<EntityId, Epoch>,
    failed: BTreeMap<EntityId, Failed>,
}

#[derive(Debug)]
struct Failed {
    /// The activation that did not move.
    epoch: Epoch,
    times: u32,
    last: Instant,
}

impl Attempts {
    /// The table at `now`.
    pub(super) fn look(
        &mut self,
        now: Instant,
        moves: &BTreeMap<EntityId, Move>,
        placements: &BTreeMap<EntityId, Placement>,
    ) {
        let epoch = |entity: &EntityId| placements.get(entity).map(|place| place.epoch);
        let is_under_way = |entity: &EntityId| moves.get(entity).is_some_and(Move::is_under_way);
        for (entity, moved) in std::mem::take(&mut self.under_way) {
            // One that was called off is where it was, under the same epoch.
            if !is_under_way(&entity) && epoch(&entity) == Some(moved) {
                let failed = self.failed.entry(entity).or_insert(Failed {
                    epoch: moved,
                    times: 0,
                    last: now,
                });
                (failed.times, failed.last) = (failed.times + 1, now);
            }
        }
        self.failed.retain(|entity, failed| epoch(entity) == Some(failed.epoch));
        let under_way = moves.iter().filter(|(_, made)| made.is_under_way());
        self.under_way = under_way.map(|(entity, made)| (entity.clone(), made.epoch)).collect();
    }

    /// How an entity is to go at `now`.
    pub(super) fn way(&self, now: Instant, entity: &EntityId) -> Way {
        match self.failed.get(entity) {
            None => Way::Move,
            Some(failed) if failed.times >= MOST => Way::Anew,
            Some(failed) if now.duration_since(failed.last) < PAUSE => Way::Wait,
            Some(_) => Way::Move,
        }
    }

    /// Whether something waits for its next try at `now`.
    pub(super) fn is_anything_held_back(&self, now: Instant) -> bool {
        self.failed.keys().any(|entity| self.way(now, entity) == Way::Wait)
    }
}

#[cfg(test)]
mod tests {
    use odeum_proto::Revision;

    use super::*;
    use crate::placement::fixtures::node;

    fn entity() -> EntityId {
        "firmware/e".parse().expect("valid")
    }

    type Table = (BTreeMap<EntityId, Move>, BTreeMap<EntityId, Placement>);

    fn table(is_moving: bool, epoch: u64) -> Table {
        let (from, to, epoch, began) = (node(1), node(2), Epoch(epoch), Revision(1));
        let placed = Placement { node: node(1), epoch };
        let made = Move { from, to, epoch, began, switched: None };
        let moves = is_moving.then(|| (entity(), made)).into_iter().collect();
        (moves, BTreeMap::from([(entity(), placed)]))
    }

    #[test]
    fn what_was_called_off_waits_and_after_some_times_begins_anew() {
        let (mut attempts, mut now) = (Attempts::default(), Instant::now());
        for time in 1..=MOST {
            assert_eq!(attempts.way(now, &entity()), Way::Move);
            for is_moving in [true, false] {
                let (moves, placements) = table(is_moving, 4);
                attempts.look(now, &moves, &placements);
            }
            let expected = if time < MOST { Way::Wait } else { Way::Anew };
            assert_eq!(attempts.way(now, &entity()), expected);
            assert_eq!(attempts.is_anything_held_back(now), time < MOST);
            now += PAUSE;
        }
        let (moves, placements) = table(false, 5);
        attempts.look(now, &moves, &placements);
        assert_eq!(attempts.way(now, &entity()), Way::Move, "it was placed anew");
    }
}
