//! Publishes how the groups are doing, for whoever watches without asking, and starts this node's
//! replicas of the groups of sessions as it hears of them.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Observe` | its own timer | none; each status is published when it has changed |
//! | `Founded` | the task that waits for it | none |

use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context, Supervisor};

use super::replica::ReplicaActor;
use super::shared::Shared;
use super::status::StoreStatus;

/// How often the groups are looked at: often enough that a lost majority is seen at once by a
/// person, seldom enough to cost nothing.
const PERIOD: Duration = Duration::from_millis(200);

pub(super) struct StoreActor {
    shared: Arc<Shared>,
    replicas: Supervisor,
}

#[derive(Debug)]
pub(super) enum StoreMessage {
    Observe,
    Founded,
}

impl StoreActor {
    pub(super) fn new(shared: Arc<Shared>, replicas: Supervisor) -> Self {
        Self { shared, replicas }
    }
}

impl Actor for StoreActor {
    type Message = StoreMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        self.start_replicas().await?;
        let mut changes = self.shared.control.replicated.changes();
        let (shared, handle) = (Arc::clone(&self.shared), ctx.handle().clone());
        ctx.spawn(async move {
            let founded = changes.wait_for(|_| shared.groups().is_some()).await.is_ok();
            if founded {
                // When the actor is gone already, nobody needs to know.
                let _ = handle.tell(StoreMessage::Founded).await;
            }
        });
        ctx.tell_every(PERIOD, || StoreMessage::Observe);
        self.on_observe();
        Ok(())
    }

    async fn handle(
        &mut self,
        _ctx: &mut Context<Self>,
        message: StoreMessage,
    ) -> Result<(), ActorError> {
        match message {
            StoreMessage::Observe => self.on_observe(),
            StoreMessage::Founded => self.start_replicas().await?,
        }
        Ok(())
    }
}

impl StoreActor {
    async fn start_replicas(&self) -> Result<(), ActorError> {
        for group in self.shared.known_groups() {
            let seat = self.shared.seat(group);
            if seat.running.borrow().is_some() {
                continue;
            }
            let shared = Arc::clone(&self.shared);
            let (_, spec) = odeum_actors::child(format!("Replica {group}"), move || {
                ReplicaActor::new(Arc::clone(&shared), Arc::clone(&seat))
            });
            self.replicas.add(super::patient(spec)).await?;
        }
        Ok(())
    }

    fn on_observe(&self) {
        for seat in self.shared.seats() {
            let now = seat.look();
            seat.status.send_if_modified(|before| {
                log_change(before, &now);
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }
}

fn log_change(before: &StoreStatus, now: &StoreStatus) {
    let group = now.group;
    if before.leader != now.leader {
        match &now.leader {
            Some(leader) => tracing::info!(%group, %leader, term = now.term, "leader changed"),
            None => tracing::warn!(%group, term = now.term, "leader lost"),
        }
    }
    if before.health != now.health {
        tracing::info!(%group, before = ?before.health, now = ?now.health, "health changed");
    }
}
