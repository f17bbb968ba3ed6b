//! A defect to order, so that whoever looks for lost messages can show that it finds one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::transport::lane::packet::Packet;

/// One of so many is dropped; none when 0.
static EVERY: AtomicU64 = AtomicU64::new(0);

/// Those that have come.
static CAME: AtomicU64 = AtomicU64::new(0);

/// Has every node of this process drop one of so many messages that are told to its entities by others
/// and want no answer, as if it had handled them. None with 0, as from the start.
pub fn drop_one_in(every: u64) {
    EVERY.store(every, Ordering::Relaxed);
}

/// Drops those of a run whose turn it is.
pub(super) fn befall(run: &mut VecDeque<Packet>) {
    let every = EVERY.load(Ordering::Relaxed);
    if every > 0 {
        run.retain(|packet| {
            !matches!(packet, Packet::Tell(_))
                || CAME.fetch_add(1, Ordering::Relaxed) % every != every - 1
        });
    }
}
