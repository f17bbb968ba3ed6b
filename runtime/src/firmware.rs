//! WebAssembly guests: packages, their cache, and the instances that handle messages.
//!
//! A package ([`crate::package`]) is checked and compiled once (`module`), on a machine (`vault`) as in
//! a node, found by its content (`cache`), and run as instances that are at rest between messages
//! (`instance`). What a guest writes while it handles a message is buffered (`effect`) and kept whole,
//! together with the reply, or not at all; when it is in the store, its manifest says (`keeping`). A
//! guest that traps or exceeds a limit costs its own instance and that one message. It runs inside the
//! node, or in a process of its own (`process`).
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
//! * The memory of an instance is no state: it ends with the instance.

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
mod usage;
mod vault;

use std::sync::Arc;

use odeum_actors::{Strategy, SupervisorSpec};
use odeum_cluster::lease::LeaseHandle;
use odeum_proto::{Incarnation, NodeId};

pub use abi::{Kind, detect::AbiError};
pub use bridge::{BrokerAccess, Publication, Publisher};
pub use cache::{CacheHandle, Checked, FetchError, PackageSource};
pub use chronicle::{Chronicles, GuestLog, LogBounds};
pub use coordinator::CoordinatorHandle;
pub use deeds::{Deed, Reach};
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
#[derive(Debug, Clone)]
pub struct FirmwareHandle {
    /// Its packages.
    pub cache: CacheHandle,
    /// What runs.
    pub coordinator: CoordinatorHandle,
    /// What it says and what became of it.
    pub chronicles: Chronicles,
    /// What it has not saved.
    pub keepers: Keepers,
}

/// The `FirmwareSupervisor`: the package cache, the hosts, the coordinator that starts them.
#[must_use]
pub fn firmware(parts: FirmwareParts) -> (FirmwareHandle, SupervisorSpec) {
    let FirmwareParts { node, life, engine, source, trust, ledger, activate, lease, .. } = parts;
    let FirmwareParts { grants, reach, launcher, chronicles, .. } = parts;
    let (grants, keepers) = (Arc::new(grants), Keepers::default());
    let (cache, cache_spec) = package_cache(CacheParts { engine, source, trust: Arc::new(trust) });
    let (hosts, hosts_spec) = SupervisorSpec::new("Hosts", Strategy::OneForOne).nested();
    let coordinator_parts = CoordinatorParts {
        node,
        life,
        cache: cache.clone(),
        ledger,
        activate,
        lease,
        grants,
        reach,
        launcher,
        chronicles: chronicles.clone(),
        keepers: keepers.clone(),
    };
    let (coordinator, coordinator_spec) = coordinator(coordinator_parts, hosts);
    // The coordinator is last: it starts hosts when it starts, and when it crashes it alone
    // restarts and puts the hosts in order.
    let spec = SupervisorSpec::new("FirmwareSupervisor", Strategy::RestForOne)
        .child(cache_spec)
        .child(hosts_spec)
        .child(coordinator_spec);
    (FirmwareHandle { cache, coordinator, chronicles, keepers }, spec)
}

#[cfg(test)]
mod tests;
