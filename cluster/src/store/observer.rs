//! Publishes how the group is doing, for whoever watches without asking.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Observe` | its own timer | none; the status is published when it has changed |

use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context};

use super::front::{Shared, StoreHandle};
use super::status::StoreStatus;

/// How often the group is looked at: often enough that a lost majority is seen at once by a
/// person, seldom enough to cost nothing.
const PERIOD: Duration = Duration::from_millis(200);

pub(super) struct StoreActor {
    store: StoreHandle,
}

pub(super) enum StoreMessage {
    Observe,
}

impl StoreActor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { store: StoreHandle { shared } }
    }
}

impl Actor for StoreActor {
    type Message = StoreMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
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
        }
        Ok(())
    }
}

impl StoreActor {
    fn on_observe(&self) {
        let now = self.store.status();
        self.store.shared.status.send_if_modified(|before| {
            log_change(before, &now);
            let changed = *before != now;
            *before = now;
            changed
        });
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
