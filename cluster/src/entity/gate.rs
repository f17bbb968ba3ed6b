//! What keeps messages from a shard's entities for a while: the shard is on its way to another
//! node, or this node has not yet seen that it owns it.
//!
//! Messages behind a gate keep their order. Delivery holds the gates for reading and closing one
//! holds them for writing, so that once a gate is closed nothing is still on its way past it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use odeum_proto::Epoch;

use super::envelope::Source;
use crate::transport::lane::Packet;

/// Why a gate is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The shard is on its way.
    Moving,
    /// Others know of a placement with this epoch, which this node has not seen.
    Unseen(Epoch),
}

/// A closed gate.
pub(super) struct Gate {
    pub(super) why: Why,
    since: Instant,
    late: Mutex<Vec<(Source, Packet)>>,
}

impl Gate {
    pub(super) fn new(why: Why) -> Self {
        Self { why, since: Instant::now(), late: Mutex::default() }
    }

    /// How long it has been closed.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Keeps messages.
    pub(super) fn keep(&self, from: &Source, packets: &mut VecDeque<Packet>) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.extend(packets.drain(..).map(|packet| (from.clone(), packet)));
    }

    /// What it kept.
    pub(super) fn open(self) -> Vec<(Source, Packet)> {
        self.late.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The closed gates of a kind, by shard.
#[derive(Default)]
pub(super) struct Gates(RwLock<HashMap<u16, Gate>>);

impl Gates {
    /// To look whether one is closed, and to deliver while it is not.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, HashMap<u16, Gate>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To close and to open.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, HashMap<u16, Gate>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
