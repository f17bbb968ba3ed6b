//! What observers of a tree see: every change in the life of its actors.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::broadcast;

use crate::policy::exit::Exit;

/// A change in the life of a supervised child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// The path of its supervisor, from the root, separated by `/`.
    pub supervisor: Arc<str>,
    /// The child's name.
    pub child: Arc<str>,
    /// What happened.
    pub change: Change,
}

/// What happened to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is being started.
    Starting,
    /// `started` returned; it handles messages.
    Ready,
    /// It ended without being asked to.
    Exited(Exit),
    /// It will be started again.
    Restarting {
        /// After this wait.
        after: Duration,
        /// How many crashes in a row that were.
        attempt: u32,
    },
    /// Its supervisor stopped it.
    Stopped(Exit),
    /// It is no longer a child.
    Removed,
    /// It was killed and still did not end; its supervisor goes on without it.
    Abandoned,
}

/// A bounded subscription to the events of a tree.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<LifecycleEvent>,
}

impl Subscription {
    pub(crate) fn new(receiver: broadcast::Receiver<LifecycleEvent>) -> Self {
        Self { receiver }
    }

    /// A subscription to a tree that has not started.
    pub(crate) fn closed() -> Self {
        let (_, receiver) = broadcast::channel(1);
        Self { receiver }
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// [`SubscriptionError::Lagged`] tells a slow observer how many events it has missed;
    /// the next call goes on with the oldest that is kept. `Closed` means that the tree
    /// ended.
    pub async fn next(&mut self) -> Result<LifecycleEvent, SubscriptionError> {
        self.receiver.recv().await.map_err(SubscriptionError::from)
    }
}

/// Why there is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubscriptionError {
    /// The observer was too slow; the next call goes on with what is kept.
    #[error("{missed} events were missed")]
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The tree ended; there will be no more events.
    #[error("the tree ended")]
    Closed,
}

impl From<broadcast::error::RecvError> for SubscriptionError {
    fn from(error: broadcast::error::RecvError) -> Self {
        match error {
            broadcast::error::RecvError::Closed => Self::Closed,
            broadcast::error::RecvError::Lagged(missed) => Self::Lagged { missed },
        }
    }
}
