//! Carries out the moves that begin at this node, one task each.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own watcher: the store changed | none |
//! | `Ended` | its own task: a move from here is over, however | none |

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, ChildSpec, Context, Handle, child};
use odeum_proto::EntityId;
use odeum_proto::store::Move;

use super::Parts;
use super::door::Door;
use super::source::Giving;

/// Shortest time between two looks at the store, which may change with every message.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Moves from this node at the same time; others wait. Each holds a piece of state or two in memory.
const AT_ONCE: usize = 32;

/// The actor's spec, a child of the `ClusterSupervisor`.
pub(super) fn migrator(parts: Parts, door: Door) -> ChildSpec {
    let (_, spec) = child("Migrator", move || Migrator {
        parts: parts.clone(),
        door: door.clone(),
        carried: BTreeSet::new(),
    });
    spec
}

#[derive(Debug)]
enum MigratorMessage {
    Look,
    Ended { entity: EntityId },
}

struct Migrator {
    parts: Parts,
    door: Door,
    /// What is on its way from here.
    carried: BTreeSet<EntityId>,
}

impl Actor for Migrator {
    type Message = MigratorMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let (own, mut changes) = (ctx.handle().clone(), self.parts.store.changes());
        ctx.spawn(async move {
            // A closed watch means that this node is stopping.
            while own.tell(MigratorMessage::Look).await.is_ok() && changes.changed().await.is_ok() {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: MigratorMessage,
    ) -> Result<(), ActorError> {
        if let MigratorMessage::Ended { entity } = message {
            self.carried.remove(&entity);
        }
        self.door.look();
        self.on_look(ctx);
        Ok(())
    }
}

impl Migrator {
    fn on_look(&mut self, ctx: &mut Context<Self>) {
        let Some(carrier) = self.parts.carrier.get().cloned() else { return };
        let room = AT_ONCE.saturating_sub(self.carried.len());
        let begins: Vec<(EntityId, Move)> = self.parts.store.view(|state| {
            let is_new = |(entity, made): &(&EntityId, &Move)| {
                made.is_under_way()
                    && made.from == self.parts.local
                    && !self.carried.contains(*entity)
            };
            let new = state.moves().iter().filter(is_new).take(room);
            new.map(|(entity, made)| (entity.clone(), made.clone())).collect()
        });
        for (entity, made) in begins {
            self.carried.insert(entity.clone());
            let entry = self.parts.journal.begin(&entity, &made);
            let told = Told { own: ctx.handle().clone(), entity: entity.clone() };
            let (parts, carrier) = (self.parts.clone(), Arc::clone(&carrier));
            ctx.spawn(async move {
                let _told = told;
                let carrier = carrier.as_ref();
                Giving { parts: &parts, carrier, entity, made, entry }.carry().await;
            });
        }
    }
}

/// Tells the actor that a move is over, also when its task was ended.
struct Told {
    own: Handle<MigratorMessage>,
    entity: EntityId,
}

impl Drop for Told {
    fn drop(&mut self) {
        // An actor that is not there any more begins with none.
        let _ = self.own.tell_control(MigratorMessage::Ended { entity: self.entity.clone() });
    }
}
