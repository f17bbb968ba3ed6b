//! The queue of one subscription: bounded; when it is full the oldest message gives way and is
//! counted, so that a slow subscriber holds up nobody and knows what it missed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// Most bytes that wait, whatever their number: a subscriber that stands still must not cost more.
const RING_BYTES: usize = 16 << 20;

/// What comes out of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A message.
    Message(Bytes),
    /// So many messages were missed here.
    Missed(u64),
}

#[derive(Debug)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    /// Missed before the first of `items`.
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Ring {
    inner: Mutex<Inner>,
    messages: usize,
}

impl Ring {
    /// An empty queue for `messages`, at least one.
    pub(super) fn new(messages: usize) -> Self {
        let inner =
            Inner { items: VecDeque::new(), bytes: 0, missed: 0, closed: false, waker: None };
        Self { inner: Mutex::new(inner), messages: messages.max(1) }
    }

    pub(super) fn push(&self, item: Item) {
        let mut inner = self.lock();
        inner.bytes += bytes(&item);
        match (inner.items.back_mut(), &item) {
            // Two gaps in a row are one.
            (Some(Item::Missed(before)), Item::Missed(more)) => {
                *before = before.saturating_add(*more)
            }
            _ => inner.items.push_back(item),
        }
        while inner.items.len() > self.messages
            || (inner.bytes > RING_BYTES && inner.items.len() > 1)
        {
            let oldest = inner.items.pop_front();
            inner.bytes -= oldest.as_ref().map_or(0, bytes);
            // A peer may claim any number.
            inner.missed = inner.missed.saturating_add(match oldest {
                Some(Item::Missed(missed)) => missed,
                Some(Item::Message(_)) => 1,
                None => 0,
            });
        }
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next item; `None` once the queue is closed and empty.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let mut inner = self.lock();
        let missed = std::mem::take(&mut inner.missed);
        if missed > 0 {
            return Poll::Ready(Some(Item::Missed(missed)));
        }
        if let Some(item) = inner.items.pop_front() {
            inner.bytes -= bytes(&item);
            return Poll::Ready(Some(item));
        }
        if inner.closed {
            return Poll::Ready(None);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(item: &Item) -> usize {
    match item {
        Item::Message(body) => body.len(),
        Item::Missed(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;
    use proptest::prelude::*;

    use super::*;

    fn next(ring: &Ring) -> Poll<Option<Item>> {
        ring.poll_next(&mut Context::from_waker(noop_waker_ref()))
    }

    fn message(n: u64) -> Item {
        Item::Message(Bytes::copy_from_slice(&n.to_le_bytes()))
    }

    proptest! {
        #[test]
        fn every_message_is_delivered_in_order_or_counted_as_missed(
            bound in 1_usize..9,
            steps in proptest::collection::vec(prop_oneof![
                3 => Just(Some(0_u64)), 1 => (1_u64..4).prop_map(Some), 3 => Just(None)
            ], 0..100),
        ) {
            let ring = Ring::new(bound);
            // What the subscriber has accounted for, and what was pushed.
            let (mut seen, mut pushed) = (0_u64, 0_u64);
            let take = |seen: &mut u64| match next(&ring) {
                Poll::Ready(Some(Item::Missed(missed))) => *seen += missed,
                Poll::Ready(Some(item)) => {
                    assert_eq!(item, message(*seen));
                    *seen += 1;
                }
                other => assert_eq!(other, Poll::Pending),
            };
            for step in steps {
                match step {
                    Some(0) => {
                        ring.push(message(pushed));
                        pushed += 1;
                    }
                    Some(missed) => {
                        ring.push(Item::Missed(missed));
                        pushed += missed;
                    }
                    None => take(&mut seen),
                }
                prop_assert!(ring.lock().items.len() <= bound);
            }
            for _ in 0..=2 * bound {
                take(&mut seen);
            }
            prop_assert_eq!(seen, pushed);
        }
    }

    #[test]
    fn large_messages_are_bounded_by_their_bytes() {
        let ring = Ring::new(1_000);
        let large = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..20 {
            ring.push(Item::Message(large.clone()));
        }
        assert_eq!(next(&ring), Poll::Ready(Some(Item::Missed(4))));
        assert_eq!(ring.lock().bytes, RING_BYTES);
    }

    #[test]
    fn what_was_queued_before_the_end_is_still_delivered() {
        let ring = Ring::new(8);
        ring.push(message(0));
        ring.close();
        assert_eq!(next(&ring), Poll::Ready(Some(message(0))));
        assert_eq!(next(&ring), Poll::Ready(None));
    }
}
