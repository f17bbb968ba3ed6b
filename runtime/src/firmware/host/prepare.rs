//! What must hold before a host begins: the lease, the package, the entity's sessions.

use odeum_cluster::store::StoreError;
use odeum_proto::{
    Epoch,
    call::CallError,
    session::{DataOutcome, SessionRefusal},
};
use tokio::time::Instant;

use super::{HostParts, PREPARE_PAUSES, STORE_DEADLINE, Stands};
use crate::firmware::{error::CacheError, module::Module, status::HostState};

impl HostParts {
    /// Returns when the node has its lease.
    async fn leased(&self) {
        let mut lease = self.lease.watch();
        if lease.wait_for(|lease| lease.holds(Instant::now())).await.is_err() {
            // Nobody renews it any more: the node ends, and this with it.
            std::future::pending::<()>().await;
        }
    }

    /// The module, once the node has its lease, it is here and this activation has taken over the
    /// entity's sessions; `None` when a later one has them.
    pub(super) async fn prepared(&self) -> Result<Option<Module>, CacheError> {
        self.leased().await;
        let (mut pause, longest) = PREPARE_PAUSES;
        loop {
            let reason = match self.cache.load(self.spec.digest).await {
                Ok(module) => match self.begun(&module).await {
                    Ok(true) => return Ok(Some(module)),
                    Ok(false) => return Ok(None),
                    Err(reason) => reason,
                },
                Err(error) if error.is_retryable() => error.to_string(),
                Err(error) => return Err(error),
            };
            tracing::warn!(entity = %self.entity, reason, "firmware waits");
            self.facts.erred(HostState::Starting, reason);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// As [`Self::take_over`], once what earlier activations have not saved yet is in the store.
    async fn begun(&self, module: &Module) -> Result<bool, String> {
        self.keeper.begin(module.manifest());
        if !self.keeper.is_durable() {
            // Of one that came by a move all is in the store: it came when that was so.
            if !self.arrived.is_there() {
                self.reach.handed_over(self.replica.clone(), self.epoch).await;
            }
            self.keepers.hold(self.replica.clone(), &self.keeper);
        }
        self.take_over().await
    }

    /// Whether the entity's sessions are this activation's now, and no later one's; then this node
    /// knows all that was written to them before.
    ///
    /// What came by a move need not fence its former activation, which spares it a commit while it
    /// stands still: that one was at rest with all that it wrote in the store when it was sent, and
    /// writes nothing under its epoch any more, whatever becomes of the move and of its node.
    ///
    /// # Errors
    /// Why that is not known yet.
    async fn take_over(&self) -> Result<bool, String> {
        let said = |error: StoreError| error.to_string();
        // All that was written to them before stands before that in the log.
        let behind_all = match self.arrived.saved_at() {
            Some(saved_at) => Some(saved_at),
            None => {
                let fenced = self.ledger.fence(&self.entity, self.epoch, STORE_DEADLINE).await;
                match fenced.map_err(said)? {
                    DataOutcome::Refused(SessionRefusal::StaleEpoch { .. }) => return Ok(false),
                    // A full group has room again some day.
                    DataOutcome::Refused(refusal) => return Err(refusal.to_string()),
                    DataOutcome::Applied { revision } => Some(revision),
                    _ => None,
                }
            }
        };
        if behind_all.is_some_and(|revision| self.ledger.shows(&self.entity, revision)) {
            return Ok(true);
        }
        let seen = self.ledger.confirm(&self.entity, STORE_DEADLINE).await.map_err(said)?;
        Ok(is_present(self.epoch, seen))
    }

    /// Returns when nothing can be committed under this epoch any more, and this node knows it.
    pub(super) async fn fenced(&self) {
        let mut changes = self.ledger.changes();
        let (mut pause, longest) = PREPARE_PAUSES;
        // A refusal is as good: somebody else has placed it anew, or it is gone.
        while let Err(error) =
            self.ledger.renew(&self.entity, &self.node, self.epoch, STORE_DEADLINE).await
        {
            tracing::warn!(entity = %self.entity, epoch = %self.epoch, %error, "firmware waits");
            self.facts.erred(HostState::Starting, error.to_string());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        // Before that the next host would begin under the same one.
        while self.ledger.epoch(&self.entity) == Some(self.epoch) && changes.changed().await.is_ok()
        {
        }
    }

    /// Why there is no instance to give a message to.
    pub(super) fn not_ready(&self, stands: &Stands) -> CallError {
        let entity = self.entity.clone();
        match stands {
            Stands::Job => {
                CallError::Refused { entity, reason: "it is a job and takes no messages".into() }
            }
            Stands::Failed => CallError::Unavailable { entity, reason: "it failed".into() },
            Stands::Away | Stands::Ready(_) | Stands::Asleep(_) | Stands::Http(_) => {
                CallError::Unavailable { entity, reason: "it is starting".into() }
            }
        }
    }

    pub(super) fn erred(&self, error: &dyn std::error::Error) {
        tracing::warn!(entity = %self.entity, epoch = %self.epoch, %error, "firmware crashed");
        self.facts.crashed(error.to_string());
    }
}

/// Whether an activation is the present one when the last one that its sessions have seen is `seen`:
/// an earlier one while it has come by a move and written nothing yet.
pub(super) fn is_present(epoch: Epoch, seen: Option<Epoch>) -> bool {
    seen.is_some_and(|seen| seen <= epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activation_is_the_present_one_until_a_later_one_was_seen() {
        let epoch = Epoch(7);
        for (seen, present) in [(6, true), (7, true), (8, false)] {
            assert_eq!(is_present(epoch, Some(Epoch(seen))), present);
        }
        // It was forgotten, and by whom is not known any more.
        assert!(!is_present(epoch, None));
    }
}
