//! What a group knows of the entities whose commits it takes: their epochs, for fencing, and the
//! requests they carried out.
//!
//! Placement is another group's matter, so the highest epoch that was seen here stands for the
//! current one. A new activation writes a fence before it serves; after that nothing of an
//! earlier one is taken. One that goes on with what another had in memory need not: that one had
//! come to rest with all that it wrote acknowledged, and writes nothing any more. Of an entity that is forgotten only its name stays, at an epoch that none
//! of its activations had. When there are too many such names, the one with the lowest epoch goes,
//! which then is the floor: an entity that is not known needs a higher one.

use std::sync::Arc;

use odeum_proto::session::{DataOutcome, Quota, SessionRefusal};
use odeum_proto::{EntityId, Epoch, Revision, limits};
use serde::{Deserialize, Serialize};

use super::Data;
use super::draft::at_most;
use super::variable::Stamp;
use super::window::Window;

/// What an entity costs in a snapshot beside its name and window: three lengths, two epochs, a flag.
const ENTITY_OVERHEAD: u64 = 28;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entity {
    pub(super) epoch: Epoch,
    /// The last epoch before the entity came to be, under whatever activation.
    pub(super) born: Epoch,
    /// Whether it is no more.
    pub(super) gone: bool,
    pub(super) window: Window,
}

impl Entity {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, born: Epoch::default(), gone: false, window: Window::default() }
    }

    /// What it counts against the group's quota.
    pub(super) fn bytes(&self, id: &EntityId) -> u64 {
        empty_bytes(id) + self.window.bytes()
    }
}

/// What an entity without a remembered request counts.
pub(super) fn empty_bytes(id: &EntityId) -> u64 {
    (id.kind().as_str().len() + id.key().as_str().len()) as u64 + ENTITY_OVERHEAD
}

impl Data {
    pub(super) fn fence(
        &mut self,
        revision: Revision,
        id: &EntityId,
        epoch: Epoch,
        born: Epoch,
    ) -> Result<DataOutcome, SessionRefusal> {
        self.check_epoch(id, epoch)?;
        let new = self.reserve_entity(id)?;
        let stamp = Stamp { revision, at: self.state.now };
        self.scope(stamp, new).check_growth(0, 0)?;
        let entity = self.entity(id, epoch);
        if entity.born < born {
            entity.born = born;
            let former = std::mem::take(&mut entity.window);
            self.index.bytes -= former.bytes();
            self.index.note_window(id, false);
        }
        Ok(DataOutcome::Applied { revision })
    }

    pub(super) fn forget(
        &mut self,
        revision: Revision,
        id: &EntityId,
        epoch: Epoch,
    ) -> DataOutcome {
        // A later activation is another entity of that name; it was not meant.
        if self.epoch(id).is_some_and(|is| is <= epoch) {
            let entity = self.entity(id, epoch.next());
            entity.gone = true;
            let former = std::mem::take(&mut entity.window);
            self.index.bytes -= former.bytes();
            self.index.note_window(id, false);
        }
        DataOutcome::Applied { revision }
    }

    /// Fencing: what speaks for an entity must not be of an earlier epoch than the highest seen.
    pub(super) fn check_epoch(&self, id: &EntityId, claimed: Epoch) -> Result<(), SessionRefusal> {
        let stale = |is| SessionRefusal::StaleEpoch { entity: id.clone(), is, claimed };
        match self.epoch(id) {
            Some(is) if claimed < is => Err(stale(is)),
            None if claimed <= self.state.floor => Err(stale(self.state.floor)),
            _ => Ok(()),
        }
    }

    /// What one more entity counts, if `id` would be one.
    pub(super) fn reserve_entity(&self, id: &EntityId) -> Result<u64, SessionRefusal> {
        if self.state.entities.contains_key(id) {
            return Ok(0);
        }
        if self.first_gone().is_none() {
            at_most(Quota::Entities, "", self.state.entities.len() + 1, limits::ENTITIES)?;
        }
        Ok(empty_bytes(id))
    }

    /// The entity that has been gone the longest, when there are as many as there may be.
    fn first_gone(&self) -> Option<&EntityId> {
        let entities = &self.state.entities;
        if entities.len() < limits::ENTITIES {
            return None;
        }
        let gone = entities.iter().filter(|(_, entity)| entity.gone);
        gone.min_by_key(|(_, entity)| entity.epoch).map(|(id, _)| id)
    }

    /// The entity, which is at `epoch` from here on.
    pub(super) fn entity(&mut self, id: &EntityId, epoch: Epoch) -> &mut Entity {
        if !self.state.entities.contains_key(id)
            && let Some(first) = self.first_gone().cloned()
            && let Some(gone) = self.state.entities.remove(&first)
        {
            self.index.bytes -= gone.bytes(&first);
            // Its activations were all before the epoch it was left at.
            self.state.floor = self.state.floor.max(Epoch(gone.epoch.0.saturating_sub(1)));
        }
        let bytes = &mut self.index.bytes;
        let entity = self.state.entities.entry(id.clone()).or_insert_with(|| {
            *bytes += empty_bytes(id);
            Arc::new(Entity::new(epoch))
        });
        let entity = Arc::make_mut(entity);
        entity.epoch = epoch;
        entity.gone = false;
        entity
    }
}
