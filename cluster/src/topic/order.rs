//! The place of each publisher's messages of a topic: what came late, and what is missing. Pure.

use std::collections::HashMap;

use odeum_proto::{Incarnation, NodeId};

/// How far the messages of one publisher have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    life: Incarnation,
    row: u64,
    number: u64,
}

/// The messages of one topic, by publisher.
#[derive(Debug, Default)]
pub(super) struct Order(HashMap<NodeId, Mark>);

impl Order {
    /// Takes note of a message: how many before it are missing, or `None` when it came too late
    /// and must not be delivered any more.
    ///
    /// The first of a row, which this node may be in the middle of, misses nothing.
    pub(super) fn take(
        &mut self,
        from: &NodeId,
        (life, row, number): (Incarnation, u64, u64),
    ) -> Option<u64> {
        let mark = Mark { life, row, number };
        let Some(before) = self.0.get_mut(from) else {
            self.0.insert(from.clone(), mark);
            return Some(0);
        };
        if mark <= *before {
            return None;
        }
        let same_row = (before.life, before.row) == (life, row);
        let missing = if same_row { number - before.number - 1 } else { 0 };
        *before = mark;
        Some(missing)
    }

    /// Forgets a publisher that has left.
    pub(super) fn forget(&mut self, from: &NodeId) {
        self.0.remove(from);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node() -> NodeId {
        "n1".parse().expect("valid")
    }

    proptest! {
        #[test]
        fn what_is_lost_is_counted_and_what_is_late_is_not_delivered(
            numbers in proptest::collection::vec(1_u64..60, 1..100),
        ) {
            let mut order = Order::default();
            let (mut delivered, mut missing) = (Vec::new(), 0);
            for number in numbers {
                if let Some(before) = order.take(&node(), (Incarnation(1), 1, number)) {
                    missing += before;
                    delivered.push(number);
                }
            }
            let [first, .., last] = delivered[..] else {
                prop_assert_eq!(missing, 0);
                return Ok(());
            };
            prop_assert!(delivered.is_sorted_by(|a, b| a < b), "{:?}", delivered);
            prop_assert_eq!(delivered.len() as u64 + missing, last - first + 1);
        }
    }

    #[test]
    fn a_new_life_or_row_begins_anew_and_the_old_one_is_over() {
        let mut order = Order::default();
        let mut take = |life, row, number| order.take(&node(), (Incarnation(life), row, number));
        assert_eq!(take(1, 1, 7), Some(0));
        assert_eq!(take(1, 2, 1), Some(0));
        assert_eq!(take(1, 1, 8), None);
        assert_eq!(take(1, 2, 4), Some(2));
        assert_eq!(take(2, 1, 1), Some(0));
        assert_eq!(take(1, 3, 1), None);
    }
}
