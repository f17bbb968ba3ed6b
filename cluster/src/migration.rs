//! Moves entities from node to node while they are at work.
//!
//! The table says what moves ([`crate::store::State::moves`]); the node that has an entity gives it
//! away, the other one takes it in, and one entry of the log switches it. What an entity has in
//! memory, and how it is stopped and goes on, only the layer above knows: it is the [`Carrier`].
//!
//! ```text
//!     A (has it)                        log                      B (takes it in)
//!     ──────────                        ───                      ───────────────
//!                                       BeginMove
//!     Prepare ─────────────────────────────────────────────────▶ makes room
//!     copies its state while it runs ───────── bulk ───────────▶ takes the pieces
//!     freezes it: what comes for it waits
//!     sends what has changed since ─────────── bulk ───────────▶ thaws it: ready to go on
//!                                       Switch: epoch + 1
//!     who waited is told where it is                             goes on
//! ```
//!
//! What the node that has it does is a machine of a few states; each outcome of a step leads on, and
//! only one entry of the log decides who has it afterwards:
//!
//! ```text
//! Preparing ─▶ Copying ⟲ ─▶ Freezing ─▶ Sending ─▶ Switching ─▶ Moved
//!     └──────────┴─────────────┴──────────┘            │ ⟲ until its outcome is known
//!                 failed │                              │ refused
//!                        ▼                              ▼
//!                   CallingOff ⟲ ──▶ Stayed ◀── Retracting ⟲
//! ```
//!
//! # What is promised
//!
//! | promise | kept by |
//! |---|---|
//! | One node has the valid epoch at any time, whatever fails and whoever dies. | `migration::model` (all orders of events with a death, a node that is cut off past its lease, and messages that are lost, at every step; two moves at once), `store::state::tests::moves` |
//! | What an entity has answered it has not forgotten after a move: it goes on with the memory that it had when it was frozen, and handles nothing between that and the switch. | `migration::model` |
//! | A move that fails before the switch costs a pause and nothing else: the entity goes on where it is. | `migration::model`, `migration::steps` |
//! | A move is never stuck: it ends when its nodes and the store are there, by the switch or without. | `migration::model` |
//! | Messages that wait are handled once, by who has the entity then. | `odeum-runtime --test migration` |
//! | All of it while a node is killed, cut off or stopped at any step. | `odeum-loadtest run move-faults` |
//!
//! # What it costs
//! Two entries of the log, the state once over the wire and what changes meanwhile once more. The
//! entity stands still for its last piece, one entry of the log and what it takes to begin there.
//!
//! # What moves how
//!
//! | what | moves | with |
//! |---|---|---|
//! | firmware of a core module whose package is movable, in the node | by itself, by these steps | all that it has in memory, and what waits for it |
//! | component, other packages, firmware in a process of its own, what may have files open | by itself, by these steps | what it has in the store, written there as a checkpoint while it is frozen; it begins anew |
//! | firmware that is idle, or serves HTTP | by itself, by these steps | nothing: there is no instance, or one for each request |
//! | job | not while it runs | |
//! | entity of a program's own kind, active and [movable](crate::entity::Kind::movable) | with its shard | what it says that it has in memory |
//! | the same, not movable | with its shard | what it has written to the store; it is made anew |
//! | the same, not active | with its shard | nothing: only the table changes |
//!
//! A shard goes as a whole and not by these steps: when a node joins, leaves, stops, is drained or used
//! again ([`crate::entity`], which also says what a crash leaves of an entity). So `odeum migrate` refuses
//! an entity of a program's own kind, and names the `odeum drain` that moves it.
//!
//! # What cannot move
//! What the layer above says of it ([`Cannot`]), and it is told in the report of the move: why an instance
//! began anew, or why it stayed. The module `firmware::travel` of `odeum-runtime` has the list.
//!
//! Not done, and why: A's last messages are not sent on by A. Those who sent them are told where the
//! entity is and send them there, with the same request ids, so nothing is forwarded twice.

mod actor;
mod carrier;
mod door;
#[cfg(feature = "testing")]
pub mod halt;
mod journal;
#[cfg(test)]
mod model;
mod source;
mod steps;
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use odeum_actors::ChildSpec;
use odeum_proto::moves::{Answer, MoveReport, Question};
use odeum_proto::{NodeId, codec};

pub use self::carrier::{Arriving, Cannot, Carrier, Copied, Departing};
use self::door::Door;
use self::journal::Journal;
use crate::router::Activations;
use crate::store::StoreHandle;
use crate::transport::{Class, Request, Service, TransportHandle};

/// What the parts of this module work with.
#[derive(Clone)]
struct Parts {
    local: NodeId,
    store: StoreHandle,
    transport: TransportHandle,
    activations: Activations,
    carrier: Arc<OnceLock<Arc<dyn Carrier>>>,
    journal: Journal,
}

/// The moves of a node. Cheap to clone.
#[derive(Clone)]
pub struct MigrationHandle(Parts);

impl std::fmt::Debug for MigrationHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrationHandle").field("node", &self.0.local).finish_non_exhaustive()
    }
}

impl MigrationHandle {
    /// Has `carrier` give away and take in what moves from and to this node. Without one nothing
    /// does. The first one counts.
    pub fn carry_with(&self, carrier: Arc<dyn Carrier>) {
        self.0.carrier.get_or_init(|| carrier);
    }

    /// The moves that began at this node lately, the oldest first.
    #[must_use]
    pub fn moves(&self) -> Vec<MoveReport> {
        self.0.journal.all()
    }

    /// The moves that began at another node lately, the oldest first; `None` when it does not say.
    pub async fn moves_of(&self, node: &NodeId, deadline: Duration) -> Option<Vec<MoveReport>> {
        if *node == self.0.local {
            return Some(self.moves());
        }
        let body = wire::join(&Question::List, &[]).ok()?;
        let (service, class) = (Service::Move, Class::Bulk);
        let request = Request { service, class, key: 0, body, deadline };
        let answer = self.0.transport.send(node, request).await.ok()?;
        match codec::decode(&answer) {
            Ok(Answer::Moves(moves)) => Some(moves),
            _ => None,
        }
    }
}

/// The handle and the actor's spec, a child of the `ClusterSupervisor`.
#[must_use]
pub fn migration(
    local: NodeId,
    store: StoreHandle,
    transport: TransportHandle,
    activations: Activations,
) -> (MigrationHandle, ChildSpec) {
    let (carrier, journal) = (Arc::default(), Journal::default());
    let parts = Parts { local, store, transport, activations, carrier, journal };
    let door = Door::new(parts.clone());
    parts.transport.services().insert(Service::Move, Arc::new(door.clone()));
    let spec = actor::migrator(parts.clone(), door);
    (MigrationHandle(parts), spec)
}
