//! What becomes of the entities of shards that are on their way: they end, those of a movable kind
//! with what they have in memory, which is collected here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::frozen::Frozen;

/// Whose end is waited for.
#[derive(Debug)]
pub(super) struct Drained {
    left: watch::Sender<Left>,
    /// None when nobody collects them any more.
    frozen: Mutex<Option<Vec<Frozen>>>,
}

#[derive(Debug, Default)]
struct Left {
    entities: usize,
    /// Why one of them stays.
    refused: Option<Box<str>>,
}

impl Drained {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { left: watch::Sender::default(), frozen: Mutex::new(Some(Vec::new())) })
    }

    /// One more.
    pub(super) fn add(&self) {
        self.left.send_modify(|left| left.entities += 1);
    }

    /// One has ended.
    pub(super) fn done(&self) {
        self.left.send_modify(|left| left.entities = left.entities.saturating_sub(1));
    }

    /// One has stopped, and this is what it had. It comes back when nobody collects it.
    pub(super) fn collect(&self, frozen: Frozen) -> Result<(), Frozen> {
        match self.lock().as_mut() {
            Some(all) => {
                all.push(frozen);
                Ok(())
            }
            None => Err(frozen),
        }
    }

    /// One cannot go, and so none does.
    pub(super) fn refuse(&self, reason: Box<str>) {
        self.left.send_modify(|left| {
            left.refused.get_or_insert(reason);
        });
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// Why one of them cannot.
    pub(super) async fn all(&self) -> Result<(), Box<str>> {
        let mut left = self.left.subscribe();
        let over = left.wait_for(|left| left.entities == 0 || left.refused.is_some()).await;
        // The sender is in `self`, so the wait cannot fail.
        over.map_or(Ok(()), |left| left.refused.clone().map_or(Ok(()), Err))
    }

    /// What was collected. What comes later is its giver's.
    pub(super) fn take(&self) -> Vec<Frozen> {
        self.lock().take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Frozen>>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
