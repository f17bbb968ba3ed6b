//! Numbers for the changes that this node asks for, so that one that is sent again is made once.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use odeum_proto::session::{ClientId, Origin};

use crate::store::StoreConfig;

/// What this node has asked of one group and not been answered.
#[derive(Debug, Default)]
pub(in crate::store) struct Origins(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    outstanding: BTreeSet<u64>,
}

impl Origins {
    /// The next number, which is outstanding until the ticket is dropped.
    pub(in crate::store) fn begin(&self, config: &StoreConfig) -> Ticket<'_> {
        let mut numbers = self.numbers();
        numbers.last += 1;
        let sequence = numbers.last;
        numbers.outstanding.insert(sequence);
        let lowest_outstanding = numbers.outstanding.first().copied().unwrap_or(sequence);
        let client = ClientId { node: config.node.clone(), incarnation: config.incarnation };
        Ticket { origins: self, origin: Origin { client, sequence, lowest_outstanding } }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One change that is asked for.
#[derive(Debug)]
pub(in crate::store) struct Ticket<'a> {
    origins: &'a Origins,
    origin: Origin,
}

impl Ticket<'_> {
    pub(in crate::store) fn origin(&self) -> Origin {
        self.origin.clone()
    }
}

impl Drop for Ticket<'_> {
    /// Answered or given up: it is not sent again.
    fn drop(&mut self) {
        self.origins.numbers().outstanding.remove(&self.origin.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_outstanding_number_is_that_of_the_oldest_ticket() {
        let origins = Origins::default();
        let config = StoreConfig::new("store".into(), "n1".parse().expect("valid"));
        let numbers = |ticket: &Ticket<'_>| {
            let origin = ticket.origin();
            (origin.sequence, origin.lowest_outstanding)
        };
        let first = origins.begin(&config);
        let second = origins.begin(&config);
        assert_eq!((numbers(&first), numbers(&second)), ((1, 1), (2, 1)));
        drop(first);
        let third = origins.begin(&config);
        assert_eq!(numbers(&third), (3, 2));
        drop((second, third));
        assert_eq!(numbers(&origins.begin(&config)), (4, 4));
    }
}
