//! Network namespaces: one for each node, joined by a bridge in one more, the hub. Packets between
//! them are dropped by nftables, and their links are cut at the bridge.
//!
//! Nothing of the machine's own network is touched: all interfaces are inside the namespaces and
//! go with them. Where they cannot be made, tests that need them say so and end well, unless
//! [`REQUIRE`] is set.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// When it is set, a test that cannot have namespaces fails.
const REQUIRE: &str = "ODEUM_REQUIRE_NETNS";

/// Before the names of all our namespaces; the process that made one follows.
const PREFIX: &str = "odeum-faults";

/// Where nodes listen.
const PORT: u16 = 7071;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network of namespaces, which ends when it is dropped.
pub(crate) struct Net {
    name: String,
    nodes: Vec<String>,
}

impl Net {
    /// One namespace for each node and a hub; `None`, and a word on it, where it cannot be had.
    pub(crate) fn of(nodes: &[&str]) -> Option<Self> {
        remove_leftovers();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{count}", std::process::id());
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        let net = Self { name, nodes };
        match net.make() {
            Ok(()) => Some(net),
            Err(error) => {
                let required = std::env::var_os(REQUIRE).is_some();
                assert!(!required, "{REQUIRE} is set, but: {error}");
                eprintln!("skipped: it needs network namespaces, but: {error}");
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        let hub = self.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "hub", "type", "bridge"])?;
        ip(&["-n", &hub, "addr", "add", &format!("{}/24", address(0)), "dev", "hub"])?;
        ip(&["-n", &hub, "link", "set", "hub", "up"])?;
        for node in &self.nodes {
            let ns = self.namespace(node);
            ip(&["netns", "add", &ns])?;
            let ends = ["link", "add", "cable", "netns", &ns, "type", "veth", "peer"];
            ip(&[&ends[..], &["name", node, "netns", &hub]].concat())?;
            ip(&["-n", &hub, "link", "set", node, "master", "hub", "up"])?;
            let own = format!("{}/24", self.addr(node).ip());
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
    pub(crate) fn hub_file(&self) -> String {
        format!("/run/netns/{}", self.hub())
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.name)
    }

    /// Where a node listens.
    pub(crate) fn addr(&self, node: &str) -> SocketAddr {
        let at = self.nodes.iter().position(|other| other == node).expect("a node of this net");
        SocketAddr::from((address(u8::try_from(at + 1).expect("few")), PORT))
    }

    /// Where the hub is.
    pub(crate) fn hub_addr() -> Ipv4Addr {
        address(0)
    }

    /// A command that runs `program` where a node is. It becomes that program.
    pub(crate) fn command(&self, node: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(node)]).arg(program);
        command
    }

    /// Drops what `from` sends to `to`, silently.
    pub(crate) fn block(&self, from: &str, to: &str) {
        let rule = format!("add rule inet faults input ip saddr {} drop", self.addr(from).ip());
        self.nft(to, &rule).expect("a rule");
    }

    /// Drops so many of a hundred packets to every node, at random.
    pub(crate) fn lose(&self, percent: u8) {
        for node in &self.nodes {
            let chance = format!("meta l4proto udp numgen random mod 100 < {percent} drop");
            self.nft(node, &format!("add rule inet faults input {chance}")).expect("a rule");
        }
    }

    /// Nothing is dropped any more.
    pub(crate) fn heal(&self) {
        for node in &self.nodes {
            self.nft(node, "flush chain inet faults input").expect("no rules");
        }
    }

    /// Pulls a node's cable, or plugs it in.
    pub(crate) fn plug(&self, node: &str, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        ip(&["-n", &self.hub(), "link", "set", node, state]).expect("a cable");
    }

    fn nft(&self, node: &str, rule: &str) -> Result<(), String> {
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

/// The hub is number 0.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 83, 0, 100 + number)
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{command:?}: {said}"))
        }
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Removes the namespaces of tests that were killed.
fn remove_leftovers() {
    let Ok(namespaces) = fs::read_dir("/run/netns") else { return };
    for name in namespaces.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another test may be doing the same.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}
