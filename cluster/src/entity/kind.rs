//! A kind: how its entities are made, and how many messages and how much idleness they may have.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use odeum_proto::{EntityId, EntityKey, EntityKind, NodeId, limits, shard::shard_of};

use super::Entity;
use super::host::{Host, KindHost};
use super::tenure::Tenure;

/// Shards of a kind by default: enough to spread over some tens of nodes, few enough that the
/// table of a hundred kinds is small.
const SHARDS: u16 = 64;

/// Messages that may wait for one entity by default, from this node; from each other node about
/// as many more are under way when it is told to pause.
const MAILBOX: usize = 1_024;

/// The key of a singleton.
pub(super) const SINGLETON: &str = "singleton";

/// What a host knows of its kind.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) kind: EntityKind,
    pub(super) shards: u16,
    pub(super) mailbox: usize,
    pub(super) idle: Option<Duration>,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) singleton: bool,
    pub(super) movable: bool,
}

impl Settings {
    pub(super) fn shard_of(&self, key: &EntityKey) -> u16 {
        shard_of(key, self.shards)
    }
}

type Build = dyn Fn(Settings, NodeId, Arc<Tenure>) -> Arc<dyn Host> + Send + Sync;

/// A sort of entity that a node can host. All nodes that host a kind must give it the same number
/// of shards: it is fixed when the first of them enters the cluster.
#[derive(Clone)]
pub struct Kind {
    settings: Settings,
    build: Arc<Build>,
}

impl Kind {
    /// A kind whose entities are made by `make`, which is called for each activation.
    pub fn new<E: Entity>(
        kind: EntityKind,
        make: impl Fn(&EntityId) -> E + Send + Sync + 'static,
    ) -> Self {
        let make = Arc::new(make);
        let build = move |settings, node, tenure| {
            let make = Arc::clone(&make);
            let host: Arc<dyn Host> =
                KindHost::new(settings, node, tenure, Box::new(move |id: &EntityId| make(id)));
            host
        };
        Self {
            settings: Settings {
                kind,
                shards: SHARDS,
                mailbox: MAILBOX,
                idle: None,
                start_timeout: Duration::from_secs(30),
                stop_timeout: Duration::from_secs(5),
                singleton: false,
                movable: false,
            },
            build: Arc::new(build),
        }
    }

    /// A kind with a single entity, which is active all the time on one of the nodes that have
    /// it, and on another when that is gone.
    pub fn singleton<E: Entity>(
        name: EntityKind,
        make: impl Fn(&EntityId) -> E + Send + Sync + 'static,
    ) -> Self {
        let mut kind = Self::new(name, make);
        kind.settings.shards = 1;
        kind.settings.singleton = true;
        kind
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &EntityKind {
        &self.settings.kind
    }

    /// Into how many shards its entities are divided, at most [`limits::SHARDS_PER_KIND`]; 64 by
    /// default. More spread them more evenly over many nodes; each costs every node some 50 bytes.
    #[must_use]
    pub fn shards(mut self, shards: NonZeroU16) -> Self {
        if !self.settings.singleton {
            self.settings.shards = shards.get().min(limits::SHARDS_PER_KIND);
        }
        self
    }

    /// How many messages may wait for one entity before its senders wait; 1,024 by default.
    #[must_use]
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.settings.mailbox = messages.max(1);
        self
    }

    /// Its entities go with what they have in memory when their shard goes to another node in good
    /// order ([`Entity::freeze`], [`Entity::thaw`]): because that node joins, or because their own is
    /// drained or stops. All nodes that host the kind must say the same.
    #[must_use]
    pub fn movable(mut self) -> Self {
        self.settings.movable = true;
        self
    }

    /// Ends an entity that has had no message for so long, to the second; never by default. A kind
    /// that says so also lets its entities be ended to move their shard to a node that joins:
    /// unless they are [`movable`](Self::movable), what they keep only in memory is gone then. A
    /// kind that is neither keeps shards with active entities where they are as long as their node
    /// is there.
    #[must_use]
    pub fn idle(mut self, after: Duration) -> Self {
        if !self.settings.singleton {
            self.settings.idle = Some(after);
        }
        self
    }

    /// How long [`Entity::activated`] may take; 30 s by default.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.settings.start_timeout = limit;
        self
    }

    /// How long the message at hand and [`Entity::passivating`] may take when the node stops; 5 s
    /// by default. Then the entity is killed.
    #[must_use]
    pub fn stop_timeout(mut self, limit: Duration) -> Self {
        self.settings.stop_timeout = limit;
        self
    }

    pub(crate) fn shard_count(&self) -> u16 {
        self.settings.shards
    }

    pub(super) fn host(&self, node: NodeId, tenure: Arc<Tenure>) -> Arc<dyn Host> {
        (self.build)(self.settings.clone(), node, tenure)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("settings", &self.settings).finish_non_exhaustive()
    }
}
