//! What firmware needs of the replicated store.
//!
//! A trait of its own, so that the tests of a host can give it a store that loses its majority or
//! leaves a write in doubt. In a node the [`StoreHandle`] stands behind it.

use std::time::Duration;

use futures::future::BoxFuture;
use odeum_cluster::store::{Remembered, StoreError, StoreHandle};
use odeum_proto::{
    EntityId, Epoch, Incarnation, NodeId, RequestId, Revision, SessionId,
    store::{Command, Commit, Outcome},
};
use tokio::sync::watch;

use super::plan::Wanted;

/// The replicated store as a host and the coordinator see it.
pub trait Ledger: Send + Sync + 'static {
    /// All deployed firmware, and which of it is placed on this life of `node`: nothing until the
    /// store has recorded it, because the epochs are those of the former one until then.
    fn wanted(&self, node: &NodeId, life: Incarnation) -> Vec<Wanted>;
    /// The epoch under which `entity` is placed, as far as this node knows.
    fn epoch(&self, entity: &EntityId) -> Option<Epoch>;
    /// A variable, as far as this node knows.
    fn variable(&self, session: &SessionId, key: &str) -> Option<Vec<u8>>;
    /// What is remembered of a request, as far as this node knows.
    fn remembered(&self, entity: &EntityId, request: &RequestId) -> Option<Remembered>;
    /// The revision up to which this node knows everything; moves on with every change.
    fn changes(&self) -> watch::Receiver<Revision>;
    /// Waits until this node knows everything that was acknowledged before the call.
    fn confirm(&self, deadline: Duration) -> BoxFuture<'_, Result<Revision, StoreError>>;
    /// Commits the effect of one message. After an error the outcome is unknown.
    fn commit(
        &self,
        commit: Commit,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>>;
    /// Places `entity` on `node` under a new epoch, if `epoch` is its epoch: whatever is still
    /// under way under that one is refused from then on. After an error the outcome is unknown;
    /// it is safe to repeat.
    fn renew(
        &self,
        entity: &EntityId,
        node: &NodeId,
        epoch: Epoch,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>>;
}

impl Ledger for StoreHandle {
    fn wanted(&self, node: &NodeId, life: Incarnation) -> Vec<Wanted> {
        self.view(|state| {
            let recorded = state.nodes().get(node).is_some_and(|it| it.incarnation == life);
            let placed = |spec| {
                let spec: &odeum_proto::store::FirmwareSpec = spec;
                let placement = state.placements().get(&EntityId::firmware(spec.name.clone()));
                let epoch = placement.filter(|at| recorded && at.node == *node).map(|at| at.epoch);
                Wanted { spec: spec.clone(), epoch }
            };
            state.firmware().values().map(placed).collect()
        })
    }

    fn epoch(&self, entity: &EntityId) -> Option<Epoch> {
        self.view(|state| state.placements().get(entity).map(|placement| placement.epoch))
    }

    fn variable(&self, session: &SessionId, key: &str) -> Option<Vec<u8>> {
        self.view(|state| {
            let variable = state.sessions().get(session)?.variables().get(key)?;
            Some(variable.value.clone())
        })
    }

    fn remembered(&self, entity: &EntityId, request: &RequestId) -> Option<Remembered> {
        self.view(|state| state.remembered(entity, request).cloned())
    }

    fn changes(&self) -> watch::Receiver<Revision> {
        Self::changes(self)
    }

    fn confirm(&self, deadline: Duration) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.barrier(deadline))
    }

    fn commit(
        &self,
        commit: Commit,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.write(Command::Commit(commit), deadline))
    }

    fn renew(
        &self,
        entity: &EntityId,
        node: &NodeId,
        epoch: Epoch,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        let (entity, node) = (entity.clone(), node.clone());
        Box::pin(self.write(Command::Place { entity, node, expected: Some(epoch) }, deadline))
    }
}
