//! Defects to order, so that whoever checks what a cluster promises can show that each is found.
//!
//! They are of this process: every node in it has them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use odeum_proto::session::{Change, What};
use odeum_proto::{NodeId, Revision};

use crate::transport::lane::packet::Packet;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// A message that another node tells an entity and that wants no answer is dropped, as if it had been
    /// handled.
    Drop,
    /// Such a message comes twice.
    Double,
    /// Such a message comes behind the next one that the same node sends to the same entity; the last one
    /// is held until another comes, if one does.
    Swap,
    /// What operations on a session change is acknowledged and not made, by any replica. What firmware
    /// commits is made, and so is all that concerns sessions as a whole: that one is created, renewed or
    /// deleted, or gets another time to live.
    Forget,
    /// A variable that was set is left out of a watch.
    Omit,
}

impl Mishap {
    fn turn(self) -> &'static Turn {
        match self {
            Self::Drop => &TOLD.dropped,
            Self::Double => &TOLD.doubled,
            Self::Swap => &TOLD.swapped,
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

static TOLD: Told = Told::unharmed();
static FORGOTTEN: Turn = Turn::never();
static OMITTED: Turn = Turn::never();

/// What becomes of messages for entities.
#[derive(Debug)]
struct Told {
    dropped: Turn,
    doubled: Turn,
    swapped: Turn,
    /// Those that are held back until the next one has come, by sender and entity: messages of several
    /// senders have no order that could be another.
    held: Mutex<BTreeMap<(NodeId, Vec<u8>), Packet>>,
}

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

impl Told {
    const fn unharmed() -> Self {
        Self {
            dropped: Turn::never(),
            doubled: Turn::never(),
            swapped: Turn::never(),
            held: Mutex::new(BTreeMap::new()),
        }
    }

    fn befall(&self, sender: &NodeId, entity: &[u8], run: &mut VecDeque<Packet>) {
        if [&self.dropped, &self.doubled, &self.swapped].into_iter().all(Turn::is_never) {
            return;
        }
        let whose = (sender.clone(), entity.to_vec());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for packet in std::mem::take(run) {
            let before = held.remove(&whose);
            match before {
                _ if !matches!(packet, Packet::Tell(_)) => {
                    // Nobody is asked before what was told has come.
                    run.extend(before);
                    run.push_back(packet);
                }
                Some(before) => run.extend([packet, before]),
                None if self.dropped.has_come() => {}
                None if self.doubled.has_come() => run.extend([packet.clone(), packet]),
                None if self.swapped.has_come() => {
                    held.insert(whose.clone(), packet);
                }
                None => run.push_back(packet),
            }
        }
    }
}

/// Has one of so many go wrong. None with 0, as from the start.
pub fn one_in(mishap: Mishap, every: u64) {
    mishap.turn().every.store(every, Ordering::Relaxed);
}

/// Does to a run of messages of one node for one entity what is to be done to those whose turn it is.
pub(crate) fn befall(sender: &NodeId, entity: &[u8], run: &mut VecDeque<Packet>) {
    TOLD.befall(sender, entity, run);
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
    use bytes::{Bytes, BytesMut};
    use odeum_proto::Epoch;

    use super::*;
    use crate::transport::lane::packet::put_tell;

    const ENTITY: &str = "k/e";

    fn tell(number: u64) -> Packet {
        let mut bytes = BytesMut::new();
        put_tell(&mut bytes, Epoch(1), ENTITY, &number).expect("fits");
        Packet::decode(&mut bytes).expect("valid").expect("whole")
    }

    /// What becomes of messages when each second one is to go wrong in a way.
    fn harmed(choose: impl FnOnce(&Told) -> &Turn) -> Told {
        let told = Told::unharmed();
        choose(&told).every.store(2, Ordering::Relaxed);
        told
    }

    /// What comes of a run from a node.
    fn come(told: &Told, sender: &str, run: impl IntoIterator<Item = Packet>) -> VecDeque<Packet> {
        let mut run = run.into_iter().collect();
        told.befall(&sender.parse().expect("valid"), ENTITY.as_bytes(), &mut run);
        run
    }

    #[test]
    fn every_so_many_messages_one_is_dropped() {
        let told = harmed(|told| &told.dropped);
        assert_eq!(come(&told, "a", [1, 2, 3, 4].map(tell)), [1, 3].map(tell));
    }

    #[test]
    fn every_so_many_messages_one_is_doubled() {
        let told = harmed(|told| &told.doubled);
        assert_eq!(come(&told, "a", [1, 2, 3, 4].map(tell)), [1, 2, 2, 3, 4, 4].map(tell));
    }

    #[test]
    fn every_so_many_messages_one_comes_behind_the_next_of_its_sender() {
        let told = harmed(|told| &told.swapped);
        assert_eq!(come(&told, "a", [1, 2, 3, 4].map(tell)), [1, 3, 2, 4].map(tell));
        // The last one is held until another comes, which is none of another node.
        assert!(come(&told, "a", [tell(5)]).is_empty());
        assert_eq!(come(&told, "b", [tell(6)]), [tell(6)]);
        assert_eq!(come(&told, "a", [tell(7)]), [7, 5].map(tell));
    }

    #[test]
    fn nothing_that_wants_an_answer_goes_wrong_or_overtakes_what_is_held() {
        let fence = || Packet::Fence { call: 1, entity: Bytes::from_static(ENTITY.as_bytes()) };
        let told = harmed(|told| &told.swapped);
        let run = [tell(1), tell(2), fence(), fence(), tell(3)];
        assert_eq!(come(&told, "a", run), [tell(1), tell(2), fence(), fence(), tell(3)]);
    }

    #[test]
    fn one_of_so_many_goes_wrong_and_none_as_long_as_nobody_orders_it() {
        let turn = Turn::never();
        assert!((0..10).all(|_| !turn.has_come()));
        turn.every.store(3, Ordering::Relaxed);
        let come: Vec<u64> = (0..9).filter(|_| turn.has_come()).collect();
        assert_eq!(come, [2, 5, 8]);
    }
}
