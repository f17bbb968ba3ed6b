//! Guests that came from other nodes and wait for the switch.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use odeum_cluster::entity::window::Window;
use odeum_proto::{EntityId, Epoch, Revision};

use super::{Carried, Inbox};
use crate::firmware::{instance::Instance, setting::Setting};

/// A guest that could go on.
pub(in crate::firmware) struct Thawed {
    /// With all that it had in memory, when that came with it.
    pub(in crate::firmware) instance: Option<Instance>,
    /// What that waits for.
    pub(in crate::firmware) carried: Carried,
    /// What it runs with.
    pub(in crate::firmware) setting: Setting,
    /// What is to be given to it first.
    pub(in crate::firmware) inbox: Inbox,
    /// What it has answered.
    pub(in crate::firmware) answers: Window,
}

/// Those of a node, by the activations that they were. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::firmware) struct Arrivals(Arc<Mutex<HashMap<(EntityId, Epoch), Thawed>>>);

impl Arrivals {
    pub(super) fn put(&self, entity: &EntityId, epoch: Epoch, thawed: Thawed) {
        self.lock().insert((entity.clone(), epoch), thawed);
    }

    pub(in crate::firmware) fn take(&self, entity: &EntityId, epoch: Epoch) -> Option<Thawed> {
        self.lock().remove(&(entity.clone(), epoch))
    }

    /// It is changed by single steps, so a panic while it was held did no harm.
    fn lock(&self) -> MutexGuard<'_, HashMap<(EntityId, Epoch), Thawed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The guest that a host begins with, when it came from another node: for its first start alone.
#[derive(Clone, Default)]
pub(in crate::firmware) struct Arrived(Arc<Mutex<Option<Thawed>>>);

impl Arrived {
    pub(in crate::firmware) fn of(thawed: Option<Thawed>) -> Self {
        Self(Arc::new(Mutex::new(thawed)))
    }

    pub(in crate::firmware) fn take(&self) -> Option<Thawed> {
        self.lock().take()
    }

    /// Whether it came and has not begun yet.
    pub(in crate::firmware) fn is_there(&self) -> bool {
        self.lock().is_some()
    }

    /// A change of its sessions' group that was made after all that it wrote where it was; `None`
    /// when that is not known, or it has begun.
    pub(in crate::firmware) fn saved_at(&self) -> Option<Revision> {
        self.lock().as_ref()?.inbox.saved_at
    }

    fn lock(&self) -> MutexGuard<'_, Option<Thawed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what a guest has in memory was sent to another node, which may go on with it: known to
/// all starts of its host under one epoch. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::firmware) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub(in crate::firmware) fn set(&self, sent: bool) {
        self.0.store(sent, Ordering::Release);
    }

    pub(in crate::firmware) fn is(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
