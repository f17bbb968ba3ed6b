//! What goes with a guest that moves with its memory and is not in it: what it waits for.
//!
//! Times are what is left of them when it is frozen, so that no clock is compared with another node's
//! and a move makes them longer by what it takes. An ask is made again where the guest goes on,
//! as the same request: whoever has carried it out answers it again and does not carry it out again.

use std::time::Duration;

use bytes::Bytes;
use odeum_proto::call::CallRequest;
use serde::{Deserialize, Serialize};

/// Most bytes of the messages of its asks, and as many of answers that have come, that go with a guest.
/// They are in the last piece of its memory, for which it stands still.
pub(in crate::firmware) const CARRIED_BYTES: usize = 4 << 20;

/// What an instance waits for, and what has come meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::firmware) struct Carried {
    /// The last number that was given to a timer or an ask.
    pub(in crate::firmware) last: u64,
    /// How long it has lived.
    pub(in crate::firmware) age: Duration,
    /// Its timers, and what is left of each.
    pub(in crate::firmware) timers: Vec<(u64, Duration)>,
    /// Its asks.
    pub(in crate::firmware) asks: Vec<Asked>,
    /// Outcomes that it has not been told yet.
    pub(in crate::firmware) answers: Vec<(u64, Result<Bytes, Box<str>>)>,
    /// What it is subscribed to.
    pub(in crate::firmware) topics: Vec<String>,
}

/// An ask that waits for its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::firmware) struct Asked {
    /// What the outcome is told by.
    pub(in crate::firmware) number: u64,
    /// The message, with what is left of its time.
    pub(in crate::firmware) call: CallRequest,
    /// Whether any replica may have it.
    pub(in crate::firmware) is_spread: bool,
}

impl Carried {
    /// The numbers of the asks whose outcome it has not been told.
    pub(in crate::firmware) fn expected(&self) -> impl Iterator<Item = u64> {
        let asks = self.asks.iter().map(|ask| ask.number);
        asks.chain(self.answers.iter().map(|(number, _)| *number))
    }
}
