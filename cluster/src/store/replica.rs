//! The replica of one group on this node, as it comes and goes.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Failed` | the task that watches the replica's core | none: the actor ends and is restarted |
//!
//! Requests do not pass through its mailbox: the replica has queues of its own, which batch.

use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context};

use super::error::StoreError;
use super::front::Shared;
use super::group::Group;

/// How long a replica that was left by a crash of its actor may take to let go of its files: its
/// running requests end first, and each of them has a deadline.
const LETTING_GO: Duration = Duration::from_secs(10);

pub(super) struct ReplicaActor {
    shared: Arc<Shared>,
}

pub(super) enum ReplicaMessage {
    Failed { error: StoreError },
}

impl ReplicaActor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Actor for ReplicaActor {
    type Message = ReplicaMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let group = self.shared.start().await?;
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
            ReplicaMessage::Failed { error } => Err(error.into()),
        }
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) {
        if let Err(error) = self.shared.stop().await {
            tracing::warn!(group = %self.shared.group, error = %error, "replica left its files open");
        }
    }
}

impl Shared {
    /// Starts the replica, after what may be left of an earlier one has ended.
    pub(super) async fn start(&self) -> Result<Arc<Group>, StoreError> {
        self.stop().await?;
        let rpc = Arc::clone(&self.rpc.0);
        let replicated = Arc::clone(&self.replicated);
        let group = Arc::new(Group::open(&self.config, self.group, rpc, replicated).await?);
        self.running.send_replace(Some(Arc::clone(&group)));
        Ok(group)
    }

    /// Ends the replica and waits until its files are closed.
    pub(super) async fn stop(&self) -> Result<(), StoreError> {
        let Some(group) = self.running.send_replace(None) else { return Ok(()) };
        group.shutdown().await;
        let ended = group.ended();
        drop(group);
        tokio::time::timeout(LETTING_GO, ended)
            .await
            .map_err(|_| StoreError::stopped("an earlier replica still holds the log"))
    }
}
