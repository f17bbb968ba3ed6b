//! The network of a test: [`odeum_cluster::netns`], whose failures are the test's.
//!
//! Where it cannot be made, tests that need it say so and end well, unless [`REQUIRE`] is set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use odeum_cluster::netns;

/// When it is set, a test that cannot have namespaces fails.
const REQUIRE: &str = "ODEUM_REQUIRE_NETNS";

/// Before the names of all our namespaces; the process that made one follows.
const PREFIX: &str = "odeum-faults";

/// A network of namespaces, which ends when it is dropped.
pub(crate) struct Net(netns::Net);

impl Net {
    /// One namespace for each node and a hub; `None`, and a word on it, where it cannot be had.
    pub(crate) fn of(nodes: &[&str]) -> Option<Self> {
        match netns::Net::create(PREFIX, nodes) {
            Ok(net) => Some(Self(net)),
            Err(error) => {
                let required = std::env::var_os(REQUIRE).is_some();
                assert!(!required, "{REQUIRE} is set, but: {error}");
                eprintln!("skipped: it needs network namespaces, but: {error}");
                None
            }
        }
    }

    /// The namespace of the bridge, as seen by `setns`.
    pub(crate) fn hub_file(&self) -> String {
        self.0.hub_file()
    }

    /// Where a node listens.
    pub(crate) fn addr(&self, node: &str) -> SocketAddr {
        self.0.addr(node).expect("a node of this net")
    }

    /// Where the hub is.
    pub(crate) fn hub_addr() -> Ipv4Addr {
        netns::Net::hub_addr()
    }

    /// A command that runs `program` where a node is. It becomes that program.
    pub(crate) fn command(&self, node: &str, program: &Path) -> Command {
        self.0.command(node, program)
    }

    /// Drops what `from` sends to `to`, silently.
    pub(crate) fn block(&self, from: &str, to: &str) {
        self.0.block(from, to).expect("a rule");
    }

    /// Drops so many of a hundred packets to every node, at random.
    pub(crate) fn lose(&self, percent: u8) {
        self.0.lose(percent).expect("a rule");
    }

    /// Nothing is dropped any more.
    pub(crate) fn heal(&self) {
        self.0.heal().expect("no rules");
    }

    /// Pulls a node's cable, or plugs it in.
    pub(crate) fn plug(&self, node: &str, plugged: bool) {
        self.0.plug(node, plugged).expect("a cable");
    }
}
