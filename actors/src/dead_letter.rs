//! Messages that nobody handled: kept as short records, so that lost work can be explained.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::sync::lock;

/// Records kept; older ones are only counted. Enough to explain an incident, and bounded.
const KEPT: usize = 256;

/// Why messages were not handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// They waited in the mailbox when the actor ended.
    ActorEnded,
    /// The mailbox was full and its policy drops the oldest.
    Evicted,
}

/// Messages of one actor that were lost at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose they were.
    pub actor: Arc<str>,
    /// Their type.
    pub message: &'static str,
    /// How many.
    pub count: usize,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Instant,
}

/// The dead letters of a tree.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    kept: Mutex<(VecDeque<DeadLetter>, u64)>,
}

impl DeadLetters {
    pub(crate) fn record<M>(&self, actor: &Arc<str>, count: usize, cause: Cause) {
        if count == 0 {
            return;
        }
        let letter = DeadLetter {
            actor: Arc::clone(actor),
            message: std::any::type_name::<M>(),
            count,
            cause,
            at: crate::sync::now(),
        };
        let mut kept = lock(&self.kept);
        if kept.0.len() == KEPT {
            kept.0.pop_front();
        }
        kept.0.push_back(letter);
        kept.1 = kept.1.saturating_add(count as u64);
    }

    pub(crate) fn list(&self) -> Vec<DeadLetter> {
        lock(&self.kept).0.iter().cloned().collect()
    }

    pub(crate) fn total(&self) -> u64 {
        lock(&self.kept).1
    }
}
