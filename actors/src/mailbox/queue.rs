//! The queue of a mailbox: two lanes, a bound, an overflow policy. Pure.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// What happens to a message that finds the mailbox full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The sender waits for space.
    #[default]
    Wait,
    /// The sender gets its message back in [`TellError::Full`](crate::TellError::Full).
    Reject,
    /// The oldest waiting message is dropped, and recorded as a dead letter.
    DropOldest,
}

/// What became of a pushed message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Push<M> {
    /// It is in the queue.
    Accepted,
    /// It is in the queue, and this one fell out.
    Evicted(M),
    /// The queue is full.
    Full(M),
}

/// Control messages overtake normal ones; inside a lane the order is kept.
#[derive(Debug)]
pub(crate) struct Queue<M> {
    control: VecDeque<M>,
    normal: VecDeque<M>,
    capacity: usize,
    overflow: Overflow,
}

impl<M> Queue<M> {
    pub(crate) fn new(capacity: usize, overflow: Overflow) -> Self {
        Self { control: VecDeque::new(), normal: VecDeque::new(), capacity, overflow }
    }

    pub(crate) fn configure(&mut self, capacity: Option<usize>, overflow: Option<Overflow>) {
        if let Some(capacity) = capacity {
            self.capacity = capacity.max(1);
        }
        if let Some(overflow) = overflow {
            self.overflow = overflow;
        }
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub(crate) fn push(&mut self, message: M) -> Push<M> {
        if self.normal.len() < self.capacity {
            self.normal.push_back(message);
            return Push::Accepted;
        }
        if self.overflow == Overflow::DropOldest
            && let Some(oldest) = self.normal.pop_front()
        {
            self.normal.push_back(message);
            return Push::Evicted(oldest);
        }
        Push::Full(message)
    }

    /// Moves as many messages into the queue as fit, in their order, and leaves the rest. With
    /// `DropOldest` all fit; what falls out of the front is returned.
    pub(crate) fn push_many(&mut self, messages: &mut VecDeque<M>) -> VecDeque<M> {
        let room = self.capacity.saturating_sub(self.normal.len());
        if messages.len() <= room {
            self.normal.append(messages);
        } else if self.overflow != Overflow::DropOldest {
            self.normal.extend(messages.drain(..room));
        } else {
            self.normal.append(messages);
            let kept = self.normal.split_off(self.normal.len() - self.capacity);
            return std::mem::replace(&mut self.normal, kept);
        }
        VecDeque::new()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.normal.len() >= self.capacity
    }

    /// The control lane has its own bound of the same size, so that a full mailbox can
    /// still be controlled, and never evicts.
    pub(crate) fn push_control(&mut self, message: M) -> Push<M> {
        if self.control.len() < self.capacity {
            self.control.push_back(message);
            Push::Accepted
        } else {
            Push::Full(message)
        }
    }

    /// For notes of which there are only so many (one per child and state, or `prefetch` per
    /// incarnation of a pool's worker), hence no bound.
    pub(crate) fn push_note(&mut self, message: M) {
        self.control.push_back(message);
    }

    pub(crate) fn pop(&mut self) -> Option<M> {
        self.control.pop_front().or_else(|| self.normal.pop_front())
    }

    pub(crate) fn len(&self) -> usize {
        self.control.len() + self.normal.len()
    }

    /// Empties both lanes, control first.
    pub(crate) fn take(&mut self) -> VecDeque<M> {
        let mut all = std::mem::take(&mut self.control);
        all.append(&mut self.normal);
        self.normal = VecDeque::new();
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Nothing is lost or doubled, each lane keeps its order, control goes first, and
        /// no lane is longer than its bound.
        #[test]
        fn a_queue_keeps_its_order_and_its_bound(
            capacity in 1usize..8,
            overflow in prop_oneof![
                Just(Overflow::Wait), Just(Overflow::Reject), Just(Overflow::DropOldest)
            ],
            operations in prop::collection::vec(0u8..5, 0..200),
        ) {
            let mut queue = Queue::new(capacity, overflow);
            let (mut control, mut normal) = (VecDeque::new(), VecDeque::new());
            for (message, operation) in operations.into_iter().enumerate() {
                match operation {
                    0 => match queue.push_control(message) {
                        Push::Accepted => control.push_back(message),
                        Push::Full(back) => {
                            prop_assert_eq!(back, message);
                            prop_assert_eq!(control.len(), capacity);
                        }
                        Push::Evicted(_) => prop_assert!(false, "control is never evicted"),
                    },
                    1 | 2 => match queue.push(message) {
                        Push::Accepted => normal.push_back(message),
                        Push::Evicted(oldest) => {
                            prop_assert_eq!(overflow, Overflow::DropOldest);
                            prop_assert_eq!(normal.pop_front(), Some(oldest));
                            normal.push_back(message);
                        }
                        Push::Full(back) => {
                            prop_assert_eq!(back, message);
                            prop_assert!(overflow != Overflow::DropOldest);
                            prop_assert_eq!(normal.len(), capacity);
                        }
                    },
                    3 => {
                        let room = capacity - normal.len();
                        let mut batch: VecDeque<_> = [message; 3].into();
                        let evicted = queue.push_many(&mut batch);
                        if overflow == Overflow::DropOldest {
                            prop_assert!(batch.is_empty());
                            normal.extend([message; 3]);
                            for oldest in evicted {
                                prop_assert_eq!(normal.pop_front(), Some(oldest));
                            }
                        } else {
                            prop_assert!(evicted.is_empty());
                            prop_assert_eq!(batch.len(), 3 - room.min(3));
                            normal.extend(vec![message; 3 - batch.len()]);
                        }
                    }
                    _ => {
                        let expected = control.pop_front().or_else(|| normal.pop_front());
                        prop_assert_eq!(queue.pop(), expected);
                    }
                }
                prop_assert!(control.len() <= capacity && normal.len() <= capacity);
                prop_assert_eq!(queue.len(), control.len() + normal.len());
            }
            control.append(&mut normal);
            prop_assert_eq!(queue.take(), control);
        }
    }
}
