//! The replica of one group on this node, as it comes and goes.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Failed` | the task that watches the replica's core | none: the actor ends |
//!
//! Requests do not pass through its mailbox: the replica has queues of its own, which batch.

use std::sync::Arc;

use odeum_actors::{Actor, ActorError, Context};
use tokio::sync::mpsc;

use super::courier::{self, Parcel};
use super::error::StoreError;
use super::group::Group;
use super::seat::Seat;
use super::shared::Shared;
use super::steward;

pub(super) struct ReplicaActor {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
}

pub(super) enum ReplicaMessage {
    Failed { error: StoreError },
}

impl ReplicaActor {
    pub(super) fn new(shared: Arc<Shared>, seat: Arc<Seat>) -> Self {
        Self { shared, seat }
    }

    async fn start(&self, parcels: mpsc::Sender<Parcel>) -> Result<Arc<Group>, StoreError> {
        let journal = self.shared.journal.borrow().clone();
        let journal = journal.ok_or_else(|| StoreError::stopped("the log is not open"))?;
        let rpc = Arc::clone(&self.shared.rpc.0);
        let replicated = Arc::clone(&self.seat.replicated);
        let (config, id, disk) = (&self.shared.config, self.seat.group, &self.shared.disk);
        let group = Group::open(config, id, &journal, disk, rpc, replicated, parcels).await?;
        let group = Arc::new(group);
        self.seat.running.send_replace(Some(Arc::clone(&group)));
        Ok(group)
    }
}

impl Actor for ReplicaActor {
    type Message = ReplicaMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let (sender, parcels) = courier::queue();
        let group = self.start(sender).await?;
        let rpc = Arc::clone(&self.shared.rpc.0);
        ctx.spawn(courier::run(Arc::clone(&self.seat), rpc, parcels));
        ctx.spawn(steward::run(Arc::clone(&self.shared), Arc::downgrade(&group)));
        let handle = ctx.handle().clone();
        ctx.spawn(async move {
            let error = group.failed().await;
            drop(group);
            // When the actor is gone already, nobody needs to know.
            let _ = handle.tell(ReplicaMessage::Failed { error }).await;
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        _ctx: &mut Context<Self>,
        message: ReplicaMessage,
    ) -> Result<(), ActorError> {
        match message {
            ReplicaMessage::Failed { error } => {
                // Who asks it from now on waits for the next one.
                self.seat.running.send_replace(None);
                Err(error.into())
            }
        }
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) {
        if let Some(group) = self.seat.running.send_replace(None) {
            group.shutdown().await;
        }
    }
}
