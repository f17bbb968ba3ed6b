//! What a cluster keeps while its nodes, its network and its peers misbehave. Each node is a
//! process; entities on all of them are told and asked numbered things by senders on all of them
//! the whole time.
//!
//! After every fault: no node panicked or ended, none had more memory than its bounds allow, the
//! cluster was whole again within 10 s, no entity was told anything twice or out of order, and no
//! ask went without an answer or an error at its deadline. Order is kept by each life of an entity,
//! and from one life to the next unless a node was given up that lived.
//!
//! | fault | made by | test |
//! |---|---|---|
//! | kill -9 | the signal | `processes` |
//! | a process that stops for a second, and for four | SIGSTOP, SIGCONT | `processes` |
//! | an entity that does not keep up | the entity | `processes` |
//! | partitions: full, of one node's sending, of one direction between two | nftables | `networks` |
//! | a tenth of all packets lost, 50 ms of delay each way, other order | nftables, [`relay`] | `networks` |
//! | a link that flaps every second | a bridge's port | `networks` |
//! | a certificate of another authority, an expired one | [`rogue`] | `hostile` |
//! | garbage on every class of stream, in datagrams, before the introduction | [`rogue`] | `hostile` |
//! | 100,000 streams | [`rogue`] | `hostile` |
//! | gossip about 60,000 nodes that are not there | [`rogue`] | `hostile` |
//! | a peer that asks and does not read | [`rogue`] | `hostile` |
//!
//! The tests of networks need root and nftables; without them they say so and end well, unless
//! `ODEUM_REQUIRE_NETNS` is set.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what a failed test shows")]

mod cluster;
mod hostile;
mod netns;
mod networks;
mod node;
mod process;
mod processes;
mod relay;
mod rogue;
mod traffic;

use cluster::PATIENCE;
