//! Asks to other nodes that wait for their answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use odeum_proto::{NodeId, call::CallError, codec};
use tokio::sync::oneshot;

/// Locks over which the waiting are spread, so that lanes and askers seldom meet.
const PARTS: usize = 16;

/// The answer as it came.
pub(super) type Answer = Result<Bytes, CallError>;

struct Waiter {
    /// The generation of the lanes it was sent by.
    generation: u64,
    answer: oneshot::Sender<Answer>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Pending {
    next: AtomicU64,
    parts: [Mutex<HashMap<u64, Waiter>>; PARTS],
}

/// A place among those that wait; given up when dropped.
pub(super) struct Ticket<'a> {
    pending: &'a Pending,
    pub(super) call: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pending.with(self.call, |part| part.remove(&self.call));
    }
}

impl Pending {
    /// A number for a call or a fence.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for the answer to a call that is about to be sent by a connection.
    pub(super) fn wait(&self, generation: u64) -> (Ticket<'_>, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let call = self.number();
        self.with(call, |part| part.insert(call, Waiter { generation, answer }));
        (Ticket { pending: self, call }, receiver)
    }

    /// The call was sent again, by another connection. Whether somebody waits for it.
    pub(super) fn resent(&self, call: u64, generation: u64) -> bool {
        self.with(call, |part| match part.get_mut(&call) {
            Some(waiter) => {
                waiter.generation = generation;
                true
            }
            None => false,
        })
    }

    /// Gives an answer; one that nobody waits for is dropped.
    pub(super) fn answer(&self, call: u64, answer: Answer) {
        if let Some(waiter) = self.with(call, |part| part.remove(&call)) {
            // Who has given up hears nothing.
            let _ = waiter.answer.send(answer);
        }
    }

    /// Gives an error that came as bytes.
    pub(super) fn fail(&self, call: u64, peer: &NodeId, body: &[u8]) {
        let error = codec::decode(body).unwrap_or_else(|error| CallError::Unreachable {
            node: peer.clone(),
            reason: format!("its answer is not understood: {error}").into(),
        });
        self.answer(call, Err(error));
    }

    /// Fails what was sent by a connection that is gone.
    pub(super) fn lost(&self, peer: &NodeId, generation: u64) {
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let lost: Vec<_> =
                part.extract_if(|_, waiter| waiter.generation == generation).collect();
            drop(part);
            for (_, waiter) in lost {
                let reason = "the link was lost".into();
                let _ =
                    waiter.answer.send(Err(CallError::Unreachable { node: peer.clone(), reason }));
            }
        }
    }

    fn with<R>(&self, call: u64, f: impl FnOnce(&mut HashMap<u64, Waiter>) -> R) -> R {
        let part = usize::try_from(call % PARTS as u64).unwrap_or_default();
        match self.parts.get(part) {
            Some(part) => f(&mut part.lock().unwrap_or_else(PoisonError::into_inner)),
            None => f(&mut HashMap::new()),
        }
    }
}
