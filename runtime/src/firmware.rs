//! WebAssembly guests: packages, their cache, and the instances that handle messages.
//!
//! A package ([`crate::package`]) is checked and compiled once (`module`), on a machine (`vault`) as in
//! a node, found by its content (`cache`), and run as instances that are at rest between messages
//! (`instance`). What a guest writes while it handles a message is buffered (`effect`) and kept whole,
//! together with the reply, or not at all; when it is in the store, its manifest says (`keeping`). A
//! guest that traps or exceeds a limit costs its own instance and that one message. It runs inside the
//! node, or in a process of its own (`process`).
//!
//! # Replicas
//!
//! A firmware has one replica or several. Each is an entity of its own, with its own placement,
//! epoch, sessions and remembered requests, because that is what single activation, fencing and
//! exactly-once effects are about: so everything here knows replicas
//! ([`ReplicaId`](odeum_proto::ReplicaId)) and no firmware beside them. The first has the firmware's own name (`firmware/counter`, sessions
//! `counter/…`): with one replica nothing is another than it would be without the word. The others
//! have a number behind it (`firmware/counter.2`, sessions `counter.2/…`), which nobody can deploy
//! anything under, since no [`Name`](odeum_proto::Name) has a dot.
//!
//! * **Where they are**: spread over zones and then over nodes as evenly as allows what their
//!   deployment says of labels, of nodes and of other firmware to be apart from, with the fewest moves
//!   ([`odeum_cluster::placement::planner`]); one that a lost node had comes back on another, and when
//!   there is a zone or a node with two fewer one is moved, as long as all are ready.
//! * **Who gets a message**: the one that is named (`counter.2`); else the one that its key selects,
//!   or its idempotency key, always the same, ready or not; else any that is ready
//!   ([`odeum_cluster::router::choice`]). What one guest sends to another firmware is selected by the
//!   sender, so that it stays in order. HTTP requests go to any, as they have no state.
//! * **What comes to all of them**: what is published, be it in the cluster or by a broker, comes to
//!   each replica that has subscribed. A job runs once in each.
//! * **How many**: with fewer the highest numbers end, and with more they come back to their
//!   sessions. Selection by a key moves as few keys as can be, and their sessions stay where they
//!   were; a request that is sent again across such a change may come to another replica and have
//!   its effect there, too.
//! * **Updates** reach them a few at a time: which package each runs is in the log, and who leads
//!   takes the next step when those before are ready (`node/rollout`). A version that crashes too
//!   often on any of them is undone on all.
//!
//! Not done, and why: sessions that all replicas share. Two activations that write the same variables
//! would need a commit that says what it has read, and could not keep anything in memory; who wants
//! one state has one replica, or a key.
//!
//! # Liveness
//!
//! Where a manifest has `[health] liveness`, the guest is asked between messages whether it is well,
//! if it exports something to be asked (`odeum_alive`, `odeum:actor/liveness`, a path of its HTTP);
//! of another one it is seen whether its host comes to its next message. Some failures in a row are a
//! crash like others (`host/liveness`).
//!
//! # What is promised of what a guest wrote to its sessions
//!
//! | `durability` | in the store | lost by the crash of its node | kept by `firmware/tests/durability.rs`, `tests/durability.rs` |
//! |---|---|---|---|
//! | `durable`, the default | before the reply | nothing that was replied | `what_is_durable_is_in_the_store_before_its_reply` |
//! | `checkpointed` | `checkpoint.every` (1 s) after the first write, or `checkpoint.messages` (100) | what was written since, at most that | `a_node_that_is_killed_costs_what_the_last_checkpoint_does_not_have` |
//! | `volatile` | when its activation ends in good order, or what is kept is too much for memory | all since then | `what_is_volatile_moves_with_a_node_that_stops_and_dies_with_one_that_is_killed` |
//!
//! * A trap, an update, a restart, another placement and a node that stops lose nothing in either case:
//!   the next activation begins when what the last one kept is in the store
//!   (`another_activation_elsewhere_begins_when_all_is_saved`).
//! * A session is saved as one, with the requests whose effects it has. So a request that is made again
//!   with its key has its effect once, as long as its effect is not lost; a request whose effect is lost
//!   is carried out when it is made again (`a_checkpoint_has_what_several_messages_wrote_and_the_requests_they_were`).
//! * While a checkpoint that is due cannot be written, no message is taken
//!   (`no_message_is_taken_while_a_due_checkpoint_cannot_be_written`): what may be lost stays bounded.
//! * What the store refuses in the end, for a constraint that somebody gave a variable, is lost and said
//!   (`what_the_store_refuses_is_lost_and_said_and_the_guest_begins_with_what_is_true`).
//! * Between checkpoints the API shows sessions as they were saved last.
//! * The memory of an instance is no state: it ends with the instance, or moves with it (`travel`). A
//!   guest that moves has what it wrote in the store before its next activation begins.

mod abi;
mod bridge;
mod cache;
mod chronicle;
mod coordinator;
mod crashes;
mod deeds;
mod denied;
mod effect;
mod engine;
mod error;
mod heap;
mod host;
mod instance;
mod job;
mod keeping;
mod ledger;
mod limiter;
mod module;
mod native;
mod output;
mod plan;
mod process;
mod restart;
mod runner;
mod setting;
mod status;
mod store;
mod trailer;
mod travel;
mod usage;
mod vault;

use std::sync::Arc;

use odeum_actors::{Strategy, SupervisorSpec};
use odeum_cluster::{lease::LeaseHandle, migration::Carrier};
use odeum_proto::{Incarnation, NodeId};

pub use abi::{Kind, detect::AbiError};
pub use bridge::{BrokerAccess, Publication, Publisher};
pub use cache::{CacheHandle, Checked, FetchError, PackageSource};
pub use chronicle::{Chronicles, GuestLog, LogBounds};
pub use coordinator::CoordinatorHandle;
pub use deeds::{Deed, GUEST_TOPICS, Message, Reach};
pub use effect::{Answer, Effect, Variables};
pub use engine::{Engine, TICK};
pub use error::{CacheError, EngineError, GuestFailure, GuestLimit, Hint, PackageError};
pub use host::{Activate, HostHandle};
pub use instance::{Arrival, Instance};
pub use job::run as run_job;
pub use keeping::Keepers;
pub use ledger::Ledger;
pub use module::{Module, to_wasm, validate};
pub use plan::Wanted;
pub use process::{Attempt, Launcher, prove_sandbox, serve_host};
pub use runner::{Runner, Running, Server};
pub use setting::{Grants, Setting};
pub use status::{FirmwareStatus, HostState, JOB_SESSION};
pub use usage::Usage;
pub use vault::{Cleared, Kept, Vault, VaultError};

use crate::package::trust::Trust;
use cache::{CacheParts, package_cache};
use coordinator::{CoordinatorParts, coordinator};
use travel::{Arrivals, CarrierParts, FirmwareCarrier};

/// What a node's firmware works with.
#[derive(Clone)]
pub struct FirmwareParts {
    /// This node.
    pub node: NodeId,
    /// This start of it.
    pub life: Incarnation,
    /// Compiles and interrupts guests.
    pub engine: Engine,
    /// Where packages come from.
    pub source: Arc<dyn PackageSource>,
    /// Which of them are taken.
    pub trust: Trust,
    /// Says what should run here, and keeps what guests write.
    pub ledger: Arc<dyn Ledger>,
    /// Is told what does run here.
    pub activate: Arc<dyn Activate>,
    /// Until when any of it may run here.
    pub lease: LeaseHandle,
    /// What the node gives to guests whose packages ask for it.
    pub grants: Grants,
    /// The cluster as guests reach it.
    pub reach: Arc<dyn Reach>,
    /// Starts the processes of guests that have one of their own.
    pub launcher: Launcher,
    /// Keeps what they say and what becomes of them.
    pub chronicles: Chronicles,
}

impl std::fmt::Debug for FirmwareParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirmwareParts").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The firmware of a node. Cheap to clone.
#[derive(Clone)]
pub struct FirmwareHandle {
    /// Its packages.
    pub cache: CacheHandle,
    /// What runs.
    pub coordinator: CoordinatorHandle,
    /// What it says and what became of it.
    pub chronicles: Chronicles,
    /// What it has not saved.
    pub keepers: Keepers,
    /// Gives it to other nodes, and takes it from them.
    pub carrier: Arc<dyn Carrier>,
}

impl std::fmt::Debug for FirmwareHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirmwareHandle").finish_non_exhaustive()
    }
}

/// The `FirmwareSupervisor`: the package cache, the hosts, the coordinator that starts them.
#[must_use]
pub fn firmware(parts: FirmwareParts) -> (FirmwareHandle, SupervisorSpec) {
    let FirmwareParts { node, life, engine, source, trust, ledger, activate, lease, .. } = parts;
    let FirmwareParts { grants, reach, launcher, chronicles, .. } = parts;
    let (grants, keepers) = (Arc::new(grants), Keepers::default());
    let cache_parts = CacheParts { engine, source: Arc::clone(&source), trust: Arc::new(trust) };
    let (cache, cache_spec) = package_cache(cache_parts);
    let arrivals = Arrivals::default();
    let (hosts, hosts_spec) = SupervisorSpec::new("Hosts", Strategy::OneForOne).nested();
    let coordinator_parts = CoordinatorParts {
        node: node.clone(),
        life,
        cache: cache.clone(),
        ledger: Arc::clone(&ledger),
        activate,
        lease,
        grants: Arc::clone(&grants),
        reach,
        launcher,
        chronicles: chronicles.clone(),
        keepers: keepers.clone(),
        arrivals: arrivals.clone(),
    };
    let (coordinator, coordinator_spec) = coordinator(coordinator_parts, hosts);
    // The coordinator is last: it starts hosts when it starts, and when it crashes it alone
    // restarts and puts the hosts in order.
    let spec = SupervisorSpec::new("FirmwareSupervisor", Strategy::RestForOne)
        .child(cache_spec)
        .child(hosts_spec)
        .child(coordinator_spec);
    let carrier = FirmwareCarrier::new(CarrierParts {
        node,
        life,
        coordinator: coordinator.clone(),
        cache: cache.clone(),
        source,
        ledger,
        grants,
        chronicles: chronicles.clone(),
        arrivals,
    });
    let carrier = Arc::new(carrier);
    (FirmwareHandle { cache, coordinator, chronicles, keepers, carrier }, spec)
}

#[cfg(test)]
mod tests;
