//! Network namespaces for tests of faults: one for each node, joined by a bridge in one more, the
//! hub. Packets between them are dropped by nftables, and their links are cut at the bridge.
//!
//! Nothing of the machine's own network is touched: all interfaces are inside the namespaces and
//! go with them. It takes root, `ip` and `nft`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::builder::CLUSTER_PORT;

/// The networks that this process has made: it may have several at a time.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Why the system did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A command failed. Without the rights of root, or the kernel's part in it, all do.
    #[error("{command}: {said}")]
    Command {
        /// The command.
        command: String,
        /// What it, or the system, said.
        said: String,
    },
    /// There is no such node in the network, or there are more than it has addresses for.
    #[error("the network has no place for node {node}")]
    NoSuchNode {
        /// The name.
        node: String,
    },
}

/// A network of namespaces, which ends when it is dropped.
#[derive(Debug)]
pub struct Net {
    name: String,
    nodes: Vec<String>,
}

impl Net {
    /// One namespace for each node, whose names have `prefix` before them, and a hub. What is left
    /// of networks of that prefix whose processes were killed is removed first.
    ///
    /// # Errors
    /// [`NetError`]; nothing is left then.
    pub fn create(prefix: &str, nodes: &[&str]) -> Result<Self, NetError> {
        remove_leftovers(prefix);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{count}", std::process::id());
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        let net = Self { name, nodes };
        net.make()?;
        Ok(net)
    }

    fn make(&self) -> Result<(), NetError> {
        let hub = self.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "hub", "type", "bridge"])?;
        ip(&["-n", &hub, "addr", "add", &format!("{}/24", Self::hub_addr()), "dev", "hub"])?;
        ip(&["-n", &hub, "link", "set", "hub", "up"])?;
        for node in &self.nodes {
            let ns = self.namespace(node);
            ip(&["netns", "add", &ns])?;
            let ends = ["link", "add", "cable", "netns", &ns, "type", "veth", "peer"];
            ip(&[&ends[..], &["name", node, "netns", &hub]].concat())?;
            ip(&["-n", &hub, "link", "set", node, "master", "hub", "up"])?;
            let own = format!("{}/24", self.addr(node)?.ip());
            ip(&["-n", &ns, "addr", "add", &own, "dev", "cable"])?;
            ip(&["-n", &ns, "link", "set", "cable", "up"])?;
            ip(&["-n", &ns, "link", "set", "lo", "up"])?;
            self.nft(node, "add table inet faults")?;
            let chain = "{ type filter hook input priority 0; policy accept; }";
            self.nft(node, &format!("add chain inet faults input {chain}"))?;
        }
        Ok(())
    }

    /// The namespace of the bridge, as seen by `setns`.
    #[must_use]
    pub fn hub_file(&self) -> String {
        format!("/run/netns/{}", self.hub())
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.name)
    }

    /// Where a node listens.
    ///
    /// # Errors
    /// [`NetError::NoSuchNode`].
    pub fn addr(&self, node: &str) -> Result<SocketAddr, NetError> {
        let at = self.nodes.iter().position(|other| other == node);
        let number = at.and_then(|at| u8::try_from(at + 1).ok());
        let ip = number.and_then(address);
        let ip = ip.ok_or_else(|| NetError::NoSuchNode { node: node.to_owned() })?;
        Ok(SocketAddr::from((ip, CLUSTER_PORT)))
    }

    /// Where the hub is.
    #[must_use]
    pub fn hub_addr() -> Ipv4Addr {
        Ipv4Addr::from(FIRST)
    }

    /// A command that runs `program` where a node is. It becomes that program.
    #[must_use]
    pub fn command(&self, node: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(node)]).arg(program);
        command
    }

    /// Drops what `from` sends to `to`, silently.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn block(&self, from: &str, to: &str) -> Result<(), NetError> {
        let rule = format!("add rule inet faults input ip saddr {} drop", self.addr(from)?.ip());
        self.nft(to, &rule)
    }

    /// Drops so many of a hundred packets to every node, at random.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn lose(&self, percent: u8) -> Result<(), NetError> {
        self.nodes.iter().try_for_each(|node| {
            let chance = format!("meta l4proto udp numgen random mod 100 < {percent} drop");
            self.nft(node, &format!("add rule inet faults input {chance}"))
        })
    }

    /// Nothing is dropped any more.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn heal(&self) -> Result<(), NetError> {
        self.nodes.iter().try_for_each(|node| self.nft(node, "flush chain inet faults input"))
    }

    /// Pulls a node's cable, or plugs it in.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn plug(&self, node: &str, plugged: bool) -> Result<(), NetError> {
        let state = if plugged { "up" } else { "down" };
        ip(&["-n", &self.hub(), "link", "set", node, state])
    }

    fn nft(&self, node: &str, rule: &str) -> Result<(), NetError> {
        run(Command::new("ip").args(["netns", "exec", &self.namespace(node), "nft", rule]))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let nodes = self.nodes.iter().map(|node| self.namespace(node));
        for name in nodes.chain([self.hub()]) {
            // Of one that could not be made there is nothing to remove.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

/// Of the hub; the nodes have those behind it.
const FIRST: [u8; 4] = [10, 83, 0, 100];

fn address(number: u8) -> Option<Ipv4Addr> {
    let [a, b, c, first] = FIRST;
    // The last one is the broadcast address.
    let last = first.checked_add(number).filter(|last| *last < u8::MAX)?;
    Some(Ipv4Addr::new(a, b, c, last))
}

fn ip(arguments: &[&str]) -> Result<(), NetError> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<(), NetError> {
    let said = match command.output() {
        Ok(Output { status, .. }) if status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(NetError::Command { command: format!("{command:?}"), said })
}

/// Removes the namespaces of processes that were killed.
fn remove_leftovers(prefix: &str) {
    let Ok(namespaces) = fs::read_dir("/run/netns") else { return };
    for name in namespaces.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let owner = name.strip_prefix(prefix).and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another process may be doing the same.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}
