//! The parts of `vs all`: which commands they are, and whose versions matter.

use clap::ValueEnum;

use super::versions;
use crate::vs::{erlang, etcd, redis};

/// One command that gives a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// `vs ractor`
    Ractor,
    /// `vs bare-quinn`
    BareQuinn,
    /// `vs ractor_cluster`
    #[value(name = "ractor_cluster")]
    RactorCluster,
    /// `vs erlang`
    Erlang,
    /// `vs etcd`
    Etcd,
    /// `vs redis`
    Redis,
    /// `vs bare-wasmtime`
    BareWasmtime,
    /// `run entities`
    Entities,
    /// `run store`
    Store,
    /// `run migration`
    Migration,
    /// `run generator`
    Generator,
}

impl Part {
    /// Whether the peer is another program, which is installed or not.
    pub(super) fn takes_install(self) -> bool {
        matches!(self, Self::Erlang | Self::Etcd | Self::Redis)
    }

    /// Whether its processes are given CPUs.
    pub(super) fn takes_cpus(self) -> bool {
        matches!(self, Self::BareQuinn | Self::RactorCluster | Self::Erlang)
    }

    /// Whether its processes can be given another number of threads.
    pub(super) fn takes_threads(self) -> bool {
        self.takes_cpus() || matches!(self, Self::Etcd | Self::Redis)
    }

    /// The words that it is on the command line.
    pub(super) fn words(self) -> [&'static str; 2] {
        match self {
            Self::Ractor => ["vs", "ractor"],
            Self::BareQuinn => ["vs", "bare-quinn"],
            Self::RactorCluster => ["vs", "ractor_cluster"],
            Self::Erlang => ["vs", "erlang"],
            Self::Etcd => ["vs", "etcd"],
            Self::Redis => ["vs", "redis"],
            Self::BareWasmtime => ["vs", "bare-wasmtime"],
            Self::Entities => ["run", "entities"],
            Self::Store => ["run", "store"],
            Self::Migration => ["run", "migration"],
            Self::Generator => ["run", "generator"],
        }
    }

    /// What is measured, in a sentence.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Ractor => "Our actors against raw ractor actors, in one process.",
            Self::BareQuinn => {
                "Our nodes against QUIC with batched frames and nothing above it: two processes on \
                 loopback, mutual TLS 1.3."
            }
            Self::RactorCluster => {
                "Our nodes against ractor's own cluster: two processes on loopback, mutual TLS 1.3."
            }
            Self::Erlang => {
                "Our nodes against Erlang/OTP's distribution: two processes on loopback, mutual TLS \
                 1.3."
            }
            Self::Etcd => {
                "Our replicated store against etcd's: three members each, on one disk, each write on \
                 the disks of two before it is acknowledged."
            }
            Self::Redis => {
                "Our replicated store, three nodes, against one Redis server that is not replicated. \
                 Both have each write on disk before it is acknowledged."
            }
            Self::BareWasmtime => {
                "Our firmware hosts against wasmtime with the same settings and nothing above it; \
                 some rows are held to a budget."
            }
            Self::Entities => {
                "A million names of entities, a hundred thousand of them in memory on one node, beside \
                 raw ractor actors or a budget."
            }
            Self::Store => {
                "A million variables in three nodes that are all killed, and a session with a thousand \
                 watchers, held to budgets."
            }
            Self::Migration => {
                "Guests that move between three nodes while they are called, a node that is drained, \
                 and one that is killed, held to budgets."
            }
            Self::Generator => {
                "The generator of load tests beside a bare loop of the same client, and how exact its \
                 sends are."
            }
        }
    }

    /// Whom or what it is beside, with versions; `None` where that is a budget alone, or not installed.
    pub(super) async fn peer(self) -> Option<String> {
        let locked = |name| versions::locked(name).map(|version| format!("{name} {version}"));
        match self {
            Self::Ractor | Self::Entities => locked("ractor"),
            Self::BareQuinn => locked("quinn"),
            Self::RactorCluster => locked("ractor_cluster"),
            Self::BareWasmtime => locked("wasmtime"),
            Self::Erlang => erlang::version().await.map(|version| format!("Erlang/OTP {version}")),
            Self::Etcd => etcd::version().await.map(|version| format!("etcd {version}")),
            Self::Redis => redis::version().await.map(|version| format!("Redis {version}")),
            Self::Store | Self::Migration | Self::Generator => None,
        }
    }
}
