//! Remote calls between real processes: this test's binary starts itself again for each node.
//!
//! In one process they would prove nothing: ractor's registry and process groups are global.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use odeum_cluster::membership::MembershipConfig;
use odeum_cluster::network::network;
use odeum_cluster::transport::pki::Authority;
use odeum_cluster::transport::{Services, TransportConfig};
use odeum_proto::{Incarnation, NodeId};

const PATIENCE: Duration = Duration::from_secs(30);

/// Set for the processes that are nodes: `name incarnation listen certs`.
const NODE: &str = "ODEUM_TEST_NODE";

fn id(name: &str) -> NodeId {
    name.parse().expect("valid")
}

/// A node as a process, told on its input what to do and answering on its output.
struct Node {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    name: &'static str,
    addr: SocketAddr,
}

impl Node {
    fn start(certs: &Path, name: &'static str, incarnation: u64, listen: &str) -> Self {
        let certs = certs.join(name);
        let mut process = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "the_process_of_a_node", "--nocapture", "--ignored"])
            .env(NODE, format!("{name} {incarnation} {listen} {}", certs.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Self { process, input, output, name, addr };
        node.addr = node.read().parse().expect("an address");
        node
    }

    /// The next answer, past what the test harness prints.
    fn read(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(
                self.output.read_line(&mut line).expect("readable"),
                0,
                "{} ended",
                self.name
            );
            if let Some((_, answer)) = line.split_once("> ") {
                return answer.trim().to_owned();
            }
        }
    }

    fn tell(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("listens");
        self.read()
    }

    fn know(&mut self, peers: &[(&str, SocketAddr)]) {
        let peers: Vec<_> = peers.iter().map(|(name, addr)| format!("{name}={addr}")).collect();
        assert_eq!(self.tell(&format!("know {}", peers.join(" "))), "ok");
    }

    /// Asks until `peer` answers with this start of it.
    fn reaches(&mut self, peer: &str, incarnation: u64) {
        let start = Instant::now();
        let expected = format!("{peer} {incarnation} 9.9.9");
        loop {
            let answer = self.tell(&format!("ask {peer}"));
            if answer == expected {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{} asked {peer}: {answer}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL; it may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn authority(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let authority = Authority::create(dir.path()).expect("authority");
    for name in names {
        authority.issue(&id(name), &dir.path().join(name)).expect("certificate");
    }
    dir
}

#[test]
fn every_node_can_call_every_other_by_the_control_plane() {
    let certs = authority(&["a", "b", "c"]);
    let mut nodes: Vec<_> =
        ["a", "b", "c"].map(|name| Node::start(certs.path(), name, 1, "127.0.0.1:0")).into();
    let book: Vec<_> = nodes.iter().map(|node| (node.name, node.addr)).collect();
    for node in &mut nodes {
        node.know(&book);
    }
    for node in &mut nodes {
        for peer in
            ["a", "b", "c"].into_iter().filter(|peer| *peer != node.name).collect::<Vec<_>>()
        {
            node.reaches(peer, 1);
        }
    }
}

#[test]
fn a_node_that_was_killed_and_returns_can_be_called_again() {
    let certs = authority(&["a", "b"]);
    let mut a = Node::start(certs.path(), "a", 1, "127.0.0.1:0");
    let mut b = Node::start(certs.path(), "b", 1, "127.0.0.1:0");
    let book = [("a", a.addr), ("b", b.addr)];
    a.know(&book);
    b.know(&book);
    a.reaches("b", 1);
    b.reaches("a", 1);
    for incarnation in 2..4 {
        let listen = b.addr.to_string();
        drop(b);
        b = Node::start(certs.path(), "b", incarnation, &listen);
        b.know(&book);
        a.reaches("b", incarnation);
        b.reaches("a", 1);
    }
}

#[test]
fn a_link_that_is_made_anew_gets_a_session_again() {
    let certs = authority(&["a", "b"]);
    let mut a = Node::start(certs.path(), "a", 1, "127.0.0.1:0");
    let mut b = Node::start(certs.path(), "b", 1, "127.0.0.1:0");
    let book = [("a", a.addr), ("b", b.addr)];
    a.know(&book);
    b.know(&book);
    for _ in 0..3 {
        a.reaches("b", 1);
        b.reaches("a", 1);
        // Closes the link; the other side, which still wants it, dials.
        a.know(&[]);
        a.know(&book);
    }
    a.reaches("b", 1);
    b.reaches("a", 1);
}

/// Not a test: the process of one node, started by the tests above.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn the_process_of_a_node() {
    let Ok(node) = std::env::var(NODE) else { return };
    let mut words = node.splitn(4, ' ').map(str::to_owned);
    let mut next = || words.next().expect("four words");
    let (name, incarnation) = (next(), Incarnation(next().parse().expect("a number")));
    let listen = next().parse().expect("an address");
    let config = TransportConfig::new(id(&name), incarnation, listen, next());
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let (network, _root) = runtime.block_on(async {
        let detector = MembershipConfig::default();
        let (network, spec) =
            network(config, Services::default(), detector, "9.9.9").expect("binds");
        let root = spec.start().await.expect("starts");
        (network, root)
    });
    println!("> {}", network.transport.local_addr());
    for line in std::io::stdin().lines() {
        let line = line.expect("readable");
        let answer = match line.split_once(' ') {
            Some(("know", peers)) => {
                let peers: BTreeMap<NodeId, SocketAddr> = peers
                    .split(' ')
                    .filter_map(|peer| peer.split_once('='))
                    .map(|(name, addr)| (id(name), addr.parse().expect("an address")))
                    .collect();
                network.transport.set_peers(peers);
                "ok".to_owned()
            }
            Some(("ask", peer)) => {
                let peer = id(peer);
                let asked = network.control_plane.ask_info(&peer, Duration::from_secs(1));
                match runtime.block_on(asked) {
                    Ok(info) => format!("{} {} {}", info.node, info.incarnation, info.version),
                    Err(error) => error.to_string(),
                }
            }
            _ => "what?".to_owned(),
        };
        println!("> {answer}");
    }
}
