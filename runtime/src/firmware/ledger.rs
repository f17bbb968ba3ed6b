//! What firmware needs of the replicated store.
//!
//! A trait of its own, so that the tests of a host can give it a store that loses its majority or
//! leaves a write in doubt. In a node the [`StoreHandle`] stands behind it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use odeum_cluster::store::{Consistency, Remembered, State, StoreError, StoreHandle};
use odeum_proto::{
    Digest, EntityId, Epoch, Incarnation, Name, NodeId, ReplicaId, RequestId, Revision, SessionId,
    session::{Commit, DataAction, DataOutcome},
    store::{Command, FirmwareSpec, Outcome, Placement},
};
use tokio::sync::watch;

use super::plan::Wanted;

/// The replicated store as a host and the coordinator see it.
pub trait Ledger: Send + Sync + 'static {
    /// All replicas of deployed firmware, and which of them are placed on this life of `node`: nothing until the
    /// store has recorded it, because the epochs are those of the former one until then.
    fn wanted(&self, node: &NodeId, life: Incarnation) -> Vec<Wanted>;
    /// One of them; `None` when it is not deployed.
    fn wanted_of(&self, replica: &ReplicaId, node: &NodeId, life: Incarnation) -> Option<Wanted>;
    /// The last change of anything that [`wanted`](Self::wanted) depends on.
    fn layout(&self) -> Revision;
    /// Where `entity` is, as far as this node knows.
    fn placement(&self, entity: &EntityId) -> Option<Placement>;
    /// The epoch under which `entity` is placed, as far as this node knows.
    fn epoch(&self, entity: &EntityId) -> Option<Epoch> {
        self.placement(entity).map(|placement| placement.epoch)
    }
    /// The activation whose state `entity` goes on with under `epoch`, when it came by a move.
    fn moved_from(&self, entity: &EntityId, epoch: Epoch) -> Option<Epoch>;
    /// A variable, as far as this node knows.
    fn variable(&self, session: &SessionId, key: &str) -> Option<Vec<u8>>;
    /// What is remembered of a request, as far as this node knows.
    fn remembered(&self, entity: &EntityId, request: &RequestId) -> Option<Remembered>;
    /// Moves on with every change of what is deployed and where.
    fn changes(&self) -> watch::Receiver<Revision>;
    /// Takes over the sessions of `entity` for its activation `epoch`: none before it changes them
    /// from now on, and this node knows what they all have changed. A later one refuses it.
    fn fence(
        &self,
        entity: &EntityId,
        epoch: Epoch,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<DataOutcome, StoreError>>;
    /// Waits until this node knows everything about the sessions of `entity` that was acknowledged
    /// before the call; the last activation that has taken them over or written to them.
    fn confirm(
        &self,
        entity: &EntityId,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Option<Epoch>, StoreError>>;
    /// The last change that this node knows of where the sessions of `entity` are.
    fn known(&self, entity: &EntityId) -> Option<Revision>;
    /// Whether this node knows that change of the sessions of `entity`.
    fn shows(&self, entity: &EntityId, revision: Revision) -> bool {
        self.known(entity).is_some_and(|at| at >= revision)
    }
    /// Commits the effect of one message. After an error the outcome is unknown.
    fn commit(
        &self,
        commit: Commit,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<DataOutcome, StoreError>>;
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
    /// Brings back what was deployed as `name` before the package `failed`; safe to repeat.
    fn roll_back(
        &self,
        name: &Name,
        failed: Digest,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>>;
    /// The package `kept` has stood the test on `replica`; safe to repeat.
    fn settle(
        &self,
        replica: &ReplicaId,
        kept: Digest,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>>;
}

/// A replica as a life of a node sees it.
fn wanted(
    state: &State,
    replica: ReplicaId,
    spec: &Arc<FirmwareSpec>,
    (node, life): (&NodeId, Incarnation),
) -> Wanted {
    let recorded = state.nodes().get(node).is_some_and(|it| it.incarnation == life);
    let placement = state.placements().get(&replica.entity());
    let epoch = placement.filter(|at| recorded && at.node == *node).map(|at| at.epoch);
    let former = state.former_of(&replica).map(|former| former.digest);
    Wanted { replica, spec: Arc::clone(spec), epoch, former }
}

impl Ledger for StoreHandle {
    fn wanted(&self, node: &NodeId, life: Incarnation) -> Vec<Wanted> {
        self.view(|state| {
            let placed = |(replica, spec)| wanted(state, replica, spec, (node, life));
            state.replicas().map(placed).collect()
        })
    }

    fn wanted_of(&self, replica: &ReplicaId, node: &NodeId, life: Incarnation) -> Option<Wanted> {
        self.view(|state| {
            let spec = state.spec_of(replica)?;
            Some(wanted(state, replica.clone(), spec, (node, life)))
        })
    }

    fn layout(&self) -> Revision {
        self.view(State::layout)
    }

    fn placement(&self, entity: &EntityId) -> Option<Placement> {
        self.view(|state| state.placements().get(entity).cloned())
    }

    fn moved_from(&self, entity: &EntityId, epoch: Epoch) -> Option<Epoch> {
        self.view(|state| state.moved_from(entity, epoch))
    }

    fn variable(&self, session: &SessionId, key: &str) -> Option<Vec<u8>> {
        self.view_data(self.group_of(session).ok()?, |data| {
            let variable = data.sessions().get(session)?.variables().get(key)?;
            Some(variable.value().plain())
        })
    }

    fn remembered(&self, entity: &EntityId, request: &RequestId) -> Option<Remembered> {
        let group = self.group_of_entity(entity).ok()?;
        self.view_data(group, |data| data.remembered(entity, request).cloned())
    }

    fn changes(&self) -> watch::Receiver<Revision> {
        Self::changes(self)
    }

    fn fence(
        &self,
        entity: &EntityId,
        epoch: Epoch,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<DataOutcome, StoreError>> {
        let entity = entity.clone();
        let born = |replica: ReplicaId| self.view(|state| state.born(replica.firmware()));
        let born = entity.replica().and_then(born).unwrap_or_default();
        Box::pin(async move {
            let group = self.group_of_entity(&entity)?;
            self.write_data(group, DataAction::Fence { entity, epoch, born }, deadline).await
        })
    }

    fn confirm(
        &self,
        entity: &EntityId,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Option<Epoch>, StoreError>> {
        let (store, entity) = (self.clone(), entity.clone());
        Box::pin(async move {
            let group = store.group_of_entity(&entity)?;
            store.barrier_of(group, Consistency::Linearizable, deadline).await?;
            Ok(store.view_data(group, |data| data.epoch(&entity)))
        })
    }

    fn known(&self, entity: &EntityId) -> Option<Revision> {
        let group = self.group_of_entity(entity).ok()?;
        Some(self.view_at(group, |_, at| at))
    }

    fn commit(
        &self,
        commit: Commit,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<DataOutcome, StoreError>> {
        Box::pin(async move {
            let group = self.group_of_entity(&commit.entity)?;
            self.write_data(group, DataAction::Commit(commit), deadline).await
        })
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

    fn roll_back(
        &self,
        name: &Name,
        failed: Digest,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.write(Command::RollBack { name: name.clone(), failed }, deadline))
    }

    fn settle(
        &self,
        replica: &ReplicaId,
        kept: Digest,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.write(Command::Settle { replica: replica.clone(), kept }, deadline))
    }
}
