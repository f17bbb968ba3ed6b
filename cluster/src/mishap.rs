//! Defects to order, so that whoever checks what a cluster promises can show that each is found.
//!
//! They are of this process: every node in it has them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use odeum_proto::Revision;
use odeum_proto::session::{Change, What};

use crate::transport::lane::packet::Packet;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// A message that another node tells an entity and that wants no answer is dropped, as if it had been
    /// handled.
    Drop,
    /// Such a message comes twice.
    Double,
    /// Such a message comes behind the next one.
    Swap,
    /// A change of what is in a session is acknowledged and not made, by any replica.
    Forget,
    /// A variable that was set is left out of a watch.
    Omit,
}

impl Mishap {
    fn turn(self) -> &'static Turn {
        match self {
            Self::Drop => &DROPPED,
            Self::Double => &DOUBLED,
            Self::Swap => &SWAPPED,
            Self::Forget => &FORGOTTEN,
            Self::Omit => &OMITTED,
        }
    }
}

/// Whose turn it is to go wrong.
#[derive(Debug)]
struct Turn {
    /// That of one of so many; of none when 0.
    every: AtomicU64,
    /// Those that have come.
    came: AtomicU64,
}

static DROPPED: Turn = Turn::never();
static DOUBLED: Turn = Turn::never();
static SWAPPED: Turn = Turn::never();
static FORGOTTEN: Turn = Turn::never();
static OMITTED: Turn = Turn::never();

/// Messages that are held back until the next one for their entity has come.
static HELD: Mutex<BTreeMap<Vec<u8>, Packet>> = Mutex::new(BTreeMap::new());

impl Turn {
    const fn never() -> Self {
        Self { every: AtomicU64::new(0), came: AtomicU64::new(0) }
    }

    fn is_never(&self) -> bool {
        self.every.load(Ordering::Relaxed) == 0
    }

    /// Whether it is the turn of one that comes now.
    fn has_come(&self) -> bool {
        !self.is_never() && self.is_of(self.came.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether it is the turn of the one with that number.
    fn is_of(&self, number: u64) -> bool {
        let every = self.every.load(Ordering::Relaxed);
        every > 0 && number % every == every - 1
    }
}

/// Has one of so many go wrong. None with 0, as from the start.
pub fn one_in(mishap: Mishap, every: u64) {
    mishap.turn().every.store(every, Ordering::Relaxed);
}

/// Does to a run of messages for one entity what is to be done to those whose turn it is.
pub(crate) fn befall(entity: &[u8], run: &mut VecDeque<Packet>) {
    if [&DROPPED, &DOUBLED, &SWAPPED].into_iter().all(Turn::is_never) {
        return;
    }
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    for packet in std::mem::take(run) {
        let before = held.remove(entity);
        match before {
            _ if !matches!(packet, Packet::Tell(_)) => {
                // Nobody is asked before what was told has come.
                run.extend(before);
                run.push_back(packet);
            }
            Some(before) => run.extend([packet, before]),
            None if DROPPED.has_come() => {}
            None if DOUBLED.has_come() => run.extend([packet.clone(), packet]),
            None if SWAPPED.has_come() => {
                held.insert(entity.to_vec(), packet);
            }
            None => run.push_back(packet),
        }
    }
}

/// Whether what is at this place of the log is forgotten: the same for every replica.
pub(crate) fn is_forgotten(revision: Revision) -> bool {
    FORGOTTEN.is_of(revision.0)
}

/// Leaves out those changes whose turn it is.
pub(crate) fn omit(changes: &mut Vec<Arc<Change>>) {
    if !OMITTED.is_never() {
        changes.retain(|it| !matches!(it.what, What::Set { .. }) || !OMITTED.has_come());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_so_many_goes_wrong_and_none_as_long_as_nobody_orders_it() {
        let turn = Turn::never();
        assert!((0..10).all(|_| !turn.has_come()));
        turn.every.store(3, Ordering::Relaxed);
        let come: Vec<u64> = (0..9).filter(|_| turn.has_come()).collect();
        assert_eq!(come, [2, 5, 8]);
    }
}
