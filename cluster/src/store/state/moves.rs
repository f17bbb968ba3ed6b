//! Moves of entities: what the log says of them.
//!
//! | | the entity is | ended by |
//! |---|---|---|
//! | begun | where it was | the switch, the calling off, and whatever gives it another epoch |
//! | switched | on the node that took it in, under a new epoch | whatever gives it another epoch |
//!
//! Each step names the activation that moves. Of two steps that come late or twice the second finds
//! what the first has done or is refused, so who did not hear the outcome of one asks again.

use std::collections::BTreeMap;

use odeum_proto::store::{Move, Placement, Refusal};
use odeum_proto::{EntityId, Epoch, NodeId, Revision};

use super::State;

impl State {
    /// The moves that have begun; of those that are over the last of each entity, while it is under
    /// the epoch that it got by it.
    #[must_use]
    pub fn moves(&self) -> &BTreeMap<EntityId, Move> {
        &self.moves
    }

    /// The activation whose state `entity` has under `epoch`, when it came by a move.
    #[must_use]
    pub fn moved_from(&self, entity: &EntityId, epoch: Epoch) -> Option<Epoch> {
        let made = self.moves.get(entity).filter(|made| made.switched == Some(epoch));
        made.map(|made| made.epoch)
    }

    /// Whether anything changed by it: not when it moves there already.
    pub(super) fn begin_move(
        &mut self,
        revision: Revision,
        entity: &EntityId,
        to: &NodeId,
        expected: Epoch,
    ) -> Result<bool, Refusal> {
        let placement = self.placements.get(entity);
        let placement = placement.ok_or_else(|| Refusal::NotDeployed { entity: entity.clone() })?;
        let (from, is) = (placement.node.clone(), placement.epoch);
        if is != expected {
            return Err(stale(entity, Some(is), expected));
        }
        if let Some(made) = self.moves.get(entity).filter(|made| made.is_under_way()) {
            let to_there = made.to == *to;
            let moving = Refusal::Moving { entity: entity.clone(), to: made.to.clone() };
            return if to_there { Ok(false) } else { Err(moving) };
        }
        if from == *to {
            return Err(Refusal::AlreadyThere { entity: entity.clone(), node: from });
        }
        self.check_takes(to)?;
        let made = Move { from, to: to.clone(), epoch: expected, began: revision, switched: None };
        self.moves.insert(entity.clone(), made);
        Ok(true)
    }

    /// The new epoch, and whether anything changed by it: not when it was switched before.
    pub(super) fn switch(
        &mut self,
        entity: &EntityId,
        to: &NodeId,
        expected: Epoch,
    ) -> Result<(Epoch, bool), Refusal> {
        let not_moving = || Refusal::NotMoving { entity: entity.clone() };
        let is = self.placements.get(entity).map(|placement| placement.epoch);
        let made = self.moves.get(entity).filter(|it| it.epoch == expected && it.to == *to);
        if let Some(epoch) = made.and_then(|made| made.switched).filter(|it| Some(*it) == is) {
            return Ok((epoch, false));
        }
        if is != Some(expected) {
            return Err(stale(entity, is, expected));
        }
        made.ok_or_else(not_moving)?;
        self.check_takes(to)?;
        let epoch = self.last_epoch.next();
        self.last_epoch = epoch;
        self.placements.insert(entity.clone(), Placement { node: to.clone(), epoch });
        if let Some(made) = self.moves.get_mut(entity) {
            made.switched = Some(epoch);
        }
        Ok((epoch, true))
    }

    /// Whether anything changed by it: not when it does not move.
    pub(super) fn call_off(&mut self, entity: &EntityId, expected: Epoch) -> Result<bool, Refusal> {
        let is = self.placements.get(entity).map(|placement| placement.epoch);
        if is != Some(expected) {
            return Err(stale(entity, is, expected));
        }
        let ends = self.moves.get(entity).is_some_and(|it| it.epoch == expected);
        if ends {
            self.moves.remove(entity);
        }
        Ok(ends)
    }

    /// Whether an entity can be put on `node`.
    fn check_takes(&self, node: &NodeId) -> Result<(), Refusal> {
        if !self.nodes.contains_key(node) {
            return Err(Refusal::UnknownNode { node: node.clone() });
        }
        self.check_lease(node)
    }
}

fn stale(entity: &EntityId, is: Option<Epoch>, claimed: Epoch) -> Refusal {
    Refusal::StaleEpoch { entity: entity.clone(), is, claimed: Some(claimed) }
}
