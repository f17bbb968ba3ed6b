//! Real endpoints on loopback. What the detector decides is tested in `swim/tests.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use odeum_actors::Supervisor;

use super::*;
use crate::network::{Network, network};
use crate::transport::pki::Authority;
use crate::transport::{Services, TransportConfig};

const PATIENCE: Duration = Duration::from_secs(20);

fn id(name: &str) -> NodeId {
    name.parse().expect("valid")
}

/// A node in a runtime of its own, so that it can be killed.
struct Node {
    runtime: tokio::runtime::Runtime,
    network: Network,
    root: Supervisor,
}

struct Realm {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Realm {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let authority = Authority::create(dir.path()).expect("authority");
        Self { dir, authority }
    }

    fn certs(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        self.authority.issue(&id(name), &dir).expect("certificate");
        dir
    }

    fn start(&self, name: &str, incarnation: u64) -> Node {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let certs = self.certs(name);
        let config = TransportConfig::new(id(name), Incarnation(incarnation), listen, certs);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let (network, root) = runtime.block_on(async {
            let detector = MembershipConfig::default();
            let (network, spec) =
                network(config, Services::default(), detector, "0").expect("starts");
            (network, spec.start().await.expect("starts"))
        });
        Node { runtime, network, root }
    }
}

impl Node {
    fn know(&self, peers: &[&Node]) {
        let entry =
            |p: &&Node| (p.network.transport.local().clone(), p.network.transport.local_addr());
        self.network.transport.set_peers(peers.iter().map(entry).collect());
    }

    fn state(&self, of: &str) -> Option<(Incarnation, MemberState)> {
        let live = self.network.membership.now();
        live.members.get(&id(of)).map(|member| (member.incarnation, member.state))
    }

    /// Nothing of it runs any more, and nobody is told.
    fn kill(self) {
        std::mem::forget((self.network, self.root));
        self.runtime.shutdown_background();
    }
}

fn eventually(what: &str, within: Duration, done: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

fn alive(incarnation: u64) -> Option<(Incarnation, MemberState)> {
    Some((Incarnation(incarnation), MemberState::Alive))
}

#[test]
fn a_killed_node_is_down_within_two_seconds_and_a_member_again_when_it_returns() {
    let realm = Realm::new();
    let (a, b, c) = (realm.start("a", 1), realm.start("b", 1), realm.start("c", 1));
    for node in [&a, &b, &c] {
        node.know(&[&a, &b, &c]);
    }
    for node in [&a, &b, &c] {
        eventually("all are members", PATIENCE, || {
            ["a", "b", "c"].iter().all(|of| node.state(of) == alive(1))
        });
    }
    c.kill();
    let down = |node: &Node| matches!(node.state("c"), Some((_, MemberState::Down)));
    eventually("both see it down", Duration::from_secs(2), || down(&a) && down(&b));

    // It comes back at another address, so it is the one who has to dial.
    let c = realm.start("c", 2);
    c.know(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        eventually("all are members again", PATIENCE, || {
            ["a", "b"].iter().all(|of| node.state(of) == alive(1)) && node.state("c") == alive(2)
        });
    }
}

#[test]
fn the_load_of_a_node_is_seen_by_its_peers() {
    let realm = Realm::new();
    let (a, b) = (realm.start("a", 1), realm.start("b", 1));
    a.know(&[&b]);
    b.know(&[&a]);
    a.network.membership.count_residents(|| 7);
    let (loads, own) = (b.network.membership.loads(), id("b"));
    eventually("b knows how busy a is", PATIENCE, || {
        let loads = loads.borrow();
        let of_a = loads.get(&id("a"));
        of_a.is_some_and(|load| load.entities == 7 && load.memory_bytes > 1 << 20)
            && loads.get(&own).is_some_and(|load| load.entities == 0)
    });
    b.know(&[]);
    a.kill();
    eventually("a is forgotten", PATIENCE, || !loads.borrow().contains_key(&id("a")));
}

#[test]
fn a_node_that_stops_in_order_is_down_for_the_others_at_once() {
    let realm = Realm::new();
    let (a, b) = (realm.start("a", 1), realm.start("b", 1));
    a.know(&[&b]);
    b.know(&[&a]);
    eventually("both are members", PATIENCE, || {
        a.state("b") == alive(1) && b.state("a") == alive(1)
    });
    b.runtime.block_on(b.root.shutdown());
    let down = || matches!(a.state("b"), Some((_, MemberState::Down)));
    // Before a detector can have found out by itself.
    eventually("it has left", Duration::from_secs(1), down);
}
