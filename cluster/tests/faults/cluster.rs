//! Three node processes, what must hold of them after every fault, and how they are brought to
//! it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use odeum_cluster::transport::pki::Authority;
use tempfile::TempDir;

use super::netns::Net;
use super::node::Node;
use super::process::{Sight, Start};
use super::relay::{Path, Relay};
use super::traffic::{self, Tally};

/// How long anything without a promised time may take on a machine that does other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// How soon a cluster must be whole after a fault has ended.
pub(crate) const WHOLE: Duration = Duration::from_secs(10);

/// Most memory of a node, in bytes, whatever happens to it. An idle one has a tenth; the rest is
/// the sum of the bounds of its queues towards three peers at their worst.
const MOST_MEMORY: u64 = 512 << 20;

/// How late an answer may come on a machine that does other work.
const OVERDUE: Duration = Duration::from_secs(2);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tests measure time: they run one after the other, so that they do not disturb each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Looks until `found` has something.
pub(crate) fn until<T>(
    within: Duration,
    mut found: impl FnMut() -> Option<T>,
    complaint: impl FnOnce() -> String,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < within, "not within {within:?}: {}", complaint());
        thread::sleep(LOOK_EVERY);
    }
}

/// Where the nodes of a cluster live.
enum Place {
    /// On loopback.
    Here,
    /// Each in a network namespace of its own.
    Apart(Net),
}

/// Node processes with one authority. Each has every kind of entity and its own traffic.
pub(crate) struct Cluster {
    // In this order: processes end before the network they are in goes.
    nodes: Vec<Node>,
    relays: Vec<(String, Relay)>,
    place: Place,
    folder: TempDir,
    authority: Authority,
    journals: Vec<PathBuf>,
    /// How long some node was stopped: its own answers may be late by as much.
    stopped: Duration,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Three nodes on loopback, whole.
    pub(crate) fn here() -> Self {
        Self::of_three(Place::Here, None)
    }

    /// Three nodes in network namespaces, whole; `None` where that cannot be had.
    pub(crate) fn apart() -> Option<Self> {
        Some(Self::of_three(Place::Apart(Net::of(&["n1", "n2", "n3"])?), None))
    }

    /// As [`apart`](Self::apart), with all packets going by paths of this kind.
    pub(crate) fn apart_by(path: Path) -> Option<Self> {
        Some(Self::of_three(Place::Apart(Net::of(&["n1", "n2", "n3"])?), Some(path)))
    }

    fn of_three(place: Place, path: Option<Path>) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("odeum-faults-").tempdir().expect("a folder");
        let authority = Authority::create(&folder.path().join("authority")).expect("an authority");
        let mut cluster = Self {
            nodes: Vec::new(),
            relays: Vec::new(),
            place,
            folder,
            authority,
            journals: Vec::new(),
            stopped: Duration::ZERO,
            _alone: alone,
        };
        for name in ["n1", "n2", "n3"] {
            if let Some(path) = &path {
                cluster.add_relay(name, path.clone());
            }
            cluster.start(name);
        }
        cluster.whole_since(Instant::now(), PATIENCE);
        let all = ["n1", "n2", "n3"].map(str::to_owned).into();
        cluster.sees("n1", "served by all", PATIENCE, |sight| sight.homes == all);
        cluster
    }

    fn add_relay(&mut self, name: &str, path: Path) {
        let net = match &self.place {
            Place::Here => None,
            Place::Apart(net) => Some(net),
        };
        self.relays.push((name.to_owned(), Relay::start(net, path)));
    }

    /// Starts a node, new or again on its data, and waits until it is a member.
    pub(crate) fn start(&mut self, name: &str) {
        let at = |part: &str| self.folder.path().join(format!("{name}.{part}"));
        let lives = self.journals.iter().filter(|path| path.starts_with(at("journals"))).count();
        let certs = self.certs(name);
        std::fs::create_dir_all(at("journals")).expect("a folder");
        let journal = at("journals").join(lives.to_string());
        self.journals.push(journal.clone());
        let relay = self.relays.iter().find(|(of, _)| of == name).map(|(_, relay)| relay);
        let binary = std::env::current_exe().expect("this binary");
        let (command, listen) = match &self.place {
            Place::Here => (Command::new(binary), SocketAddr::from(([127, 0, 0, 1], 0))),
            Place::Apart(net) => (net.command(name, &binary), net.addr(name)),
        };
        let start = Start {
            name: name.to_owned(),
            listen,
            advertise: relay.map(Relay::addr),
            join: self.nodes.first().map(|node| node.start.advertise.unwrap_or(node.addr)),
            data: at("data"),
            certs,
            journal,
        };
        if let Some(relay) = relay {
            relay.lead_to(listen);
        }
        self.nodes.push(Node::start(command, start, at(&format!("log.{lives}"))));
    }

    /// The certificates of a node, made if need be.
    pub(crate) fn certs(&self, name: &str) -> PathBuf {
        let certs = self.folder.path().join(format!("{name}.certs"));
        if !certs.exists() {
            self.authority.issue(&name.parse().expect("a name"), &certs).expect("a certificate");
        }
        certs
    }

    /// The folder of the authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("authority")
    }

    /// The network it is in.
    pub(crate) fn net(&self) -> &Net {
        match &self.place {
            Place::Apart(net) => net,
            Place::Here => panic!("it is on loopback"),
        }
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name() == name).expect("it runs")
    }

    /// The nodes that run.
    pub(crate) fn nodes(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// What a node sees.
    pub(crate) fn see(&mut self, name: &str) -> Sight {
        self.node(name).ask("see")
    }

    /// Ends a node's process without a word, and checks it first: nobody can later.
    pub(crate) fn kill(&mut self, name: &str) {
        let at = self.nodes.iter().position(|node| node.name() == name).expect("it runs");
        let mut node = self.nodes.remove(at);
        check(&mut node);
    }

    /// Stops a node's process for a time. It knows nothing of it.
    pub(crate) fn pause(&mut self, name: &str, time: Duration, meanwhile: impl FnOnce(&mut Self)) {
        let since = Instant::now();
        self.node(name).signal(rustix::process::Signal::STOP);
        meanwhile(self);
        thread::sleep(time.saturating_sub(since.elapsed()));
        self.node(name).signal(rustix::process::Signal::CONT);
        let stopped = since.elapsed();
        println!("{name} was stopped for {stopped:?}");
        self.stopped = self.stopped.max(stopped);
    }

    /// Waits until what a node sees is as wanted.
    pub(crate) fn sees(
        &mut self,
        name: &str,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Sight) -> bool,
    ) {
        let start = Instant::now();
        loop {
            let sight = self.see(name);
            if wanted(&sight) {
                return;
            }
            assert!(start.elapsed() < within, "{name}: not {what} within {within:?}: {sight:?}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until the cluster is whole: every node sees every other alive, has a link to it and
    /// its control plane, follows the same leader, and every sender on every node has had an
    /// answer of its entity since `fault`, the end of the fault.
    pub(crate) fn whole_since(&mut self, fault: Instant, within: Duration) {
        loop {
            let lacking = self.lacking(fault);
            let Some(lacking) = lacking else { return };
            let elapsed = fault.elapsed();
            assert!(elapsed < within, "not whole after {elapsed:?}: {lacking}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until every sender of these nodes has had an answer that it asked for after now.
    pub(crate) fn goes_on(&mut self, names: &[&str], within: Duration) {
        let now = Instant::now();
        for name in names {
            let since = |sight: &Sight| sight.stalest < now.elapsed();
            self.sees(name, "served", within, since);
        }
    }

    /// Brings a fault about so many times that is no reason to evict anybody: nobody is evicted.
    pub(crate) fn evicts_nobody(&mut self, times: usize, mut fault: impl FnMut(&mut Self)) {
        for time in 1..=times {
            let before = self.downs();
            fault(self);
            self.whole_since(Instant::now(), WHOLE);
            let after = self.downs();
            assert_eq!(after, before, "time {time} of {times}: nodes went down");
        }
    }

    /// Who was seen going down how often, by each node.
    fn downs(&mut self) -> Vec<BTreeMap<String, u64>> {
        self.nodes.iter_mut().map(|node| node.ask::<Sight>("see").downs).collect()
    }

    /// What a cluster lacks to be whole.
    fn lacking(&mut self, fault: Instant) -> Option<String> {
        let names: Vec<String> = self.nodes.iter().map(|node| node.name().to_owned()).collect();
        let mut leader = None;
        for node in &mut self.nodes {
            let name = node.name().to_owned();
            let sight: Sight = node.ask("see");
            let others = || names.iter().filter(|other| **other != name);
            let whole = names.iter().all(|other| sight.alive.contains(other))
                && others().all(|o| sight.links.contains(o) && sight.called.contains(o))
                && sight.leader.is_some()
                && (leader.is_none() || leader == sight.leader)
                && sight.stalest < fault.elapsed();
            if !whole {
                return Some(format!("{name} sees {sight:?} where {leader:?} leads"));
            }
            leader = sight.leader;
        }
        None
    }

    /// Ends the traffic and checks everything: the processes, what they logged, their memory, and
    /// every message. A node that was given up and lived is no exception: it handles nothing after
    /// its lease is over.
    pub(crate) fn reckon(mut self) {
        let mut sum = 0;
        for node in &mut self.nodes {
            let tally @ Tally { answered, wrong, overdue, .. } = node.settle();
            assert!(answered > 0 && wrong == 0, "{}: {tally:?}", node.name());
            assert!(overdue < OVERDUE + self.stopped, "{}: a hang: {tally:?}", node.name());
            sum += answered + tally.told;
            check(node);
        }
        let count = traffic::reckon(&self.journals);
        println!("{count} messages handled; {sum} sent by those who are left");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.nodes.iter().for_each(|node| eprintln!("{}", node.last_words()));
        }
    }
}

/// A node runs, did not panic, and never had too much memory.
fn check(node: &mut Node) {
    assert!(node.is_running(), "{} ended", node.name());
    let log = node.log();
    let panic = log.lines().find(|line| line.contains("panicked at"));
    assert!(panic.is_none(), "{}: {panic:?}", node.name());
    let most = node.most_memory();
    assert!(most < MOST_MEMORY, "{} had {most} bytes", node.name());
}
