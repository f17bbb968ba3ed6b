//! Keeps every entity on a node that is there.
//!
//! Observe → decide → commit → act: the node that leads the group `control` watches the table,
//! the deployed firmware and the live set, lets [`planner`] decide, and commits the steps as log
//! entries. Nodes act on what they see in the log; this actor never acts itself. Two leaders at
//! once do no harm, because a step names the epoch it saw and the log refuses the later one.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own watcher: the store, the live set or the leadership changed, or time passed | none |

pub mod planner;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_proto::{
    EntityId, NodeId,
    store::{Command, Outcome},
};
use tokio::{sync::watch, time::timeout};

use self::planner::{Health, plan};
use crate::{
    membership::{LiveSet, MemberState},
    store::StoreHandle,
};

/// How long a node that the leader has never seen alive keeps its entities, counted from the day
/// the leader took office. A restarted cluster needs about two seconds to see all of itself;
/// moving everything before that would be worse than waiting.
const UNKNOWN_GRACE: Duration = Duration::from_secs(5);

/// How often the table is looked at when nothing changes: the grace ends without an event.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long one step may take to be committed. Without a majority the plan is made anew later.
const COMMIT_DEADLINE: Duration = Duration::from_secs(2);

/// The actor's spec, a child of the `ClusterSupervisor`.
#[must_use]
pub fn spec(store: StoreHandle, live: watch::Receiver<Arc<LiveSet>>, local: NodeId) -> ChildSpec {
    let (_, spec) = child("Placement", move || PlacementActor {
        store: store.clone(),
        live: live.clone(),
        local: local.clone(),
        leading_since: None,
    });
    spec
}

#[derive(Debug)]
enum PlacementMessage {
    Look,
}

struct PlacementActor {
    store: StoreHandle,
    live: watch::Receiver<Arc<LiveSet>>,
    local: NodeId,
    leading_since: Option<Instant>,
}

impl Actor for PlacementActor {
    type Message = PlacementMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let own = ctx.handle().clone();
        let mut changes = self.store.changes();
        let mut status = self.store.status_watch();
        let mut live = self.live.clone();
        ctx.spawn(async move {
            loop {
                let change = async {
                    tokio::select! {
                        changed = changes.changed() => changed.is_ok(),
                        changed = status.changed() => changed.is_ok(),
                        changed = live.changed() => changed.is_ok(),
                    }
                };
                // A closed watch means that this node is stopping; a timeout is a turn of its own.
                if timeout(LOOK_EVERY, change).await == Ok(false) {
                    return;
                }
                if own.tell(PlacementMessage::Look).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        _ctx: &mut Context<Self>,
        message: PlacementMessage,
    ) -> Result<(), ActorError> {
        match message {
            PlacementMessage::Look => self.on_look().await,
        }
        Ok(())
    }
}

impl PlacementActor {
    async fn on_look(&mut self) {
        if self.store.status().leader.as_ref() != Some(&self.local) {
            self.leading_since = None;
            return;
        }
        let since = *self.leading_since.get_or_insert_with(Instant::now);
        let grace_is_over = since.elapsed() >= UNKNOWN_GRACE;
        let live = self.live.borrow().clone();
        let steps = self.store.view(|state| {
            let health: BTreeMap<&NodeId, Health> = state
                .nodes()
                .keys()
                .map(|node| (node, health(&live, node, &self.local, grace_is_over)))
                .collect();
            let entities = state.firmware().keys().cloned().map(EntityId::firmware);
            plan(entities, state.placements(), health)
        });
        for step in steps {
            self.commit(step).await;
        }
    }

    async fn commit(&self, step: Command) {
        let text = match &step {
            Command::Place { entity, node, .. } => (entity.clone(), node.clone()),
            _ => return,
        };
        match self.store.write(step, COMMIT_DEADLINE).await {
            Ok(Outcome::Placed { epoch, .. }) => {
                tracing::info!(entity = %text.0, node = %text.1, %epoch, "entity placed");
            }
            Ok(Outcome::Refused(reason)) => {
                tracing::debug!(entity = %text.0, %reason, "placement overtaken");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(entity = %text.0, node = %text.1, %error, "placement not committed");
            }
        }
    }
}

fn health(live: &LiveSet, node: &NodeId, local: &NodeId, grace_is_over: bool) -> Health {
    if node == local {
        return Health::Alive;
    }
    match live.members.get(node).map(|member| member.state) {
        Some(MemberState::Alive | MemberState::Suspect) => Health::Alive,
        Some(MemberState::Down) => Health::Down,
        None if grace_is_over => Health::Down,
        None => Health::Unknown,
    }
}
