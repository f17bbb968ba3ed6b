//! Bad input: a real node or command says in one line what is wrong, where, and what to do about
//! it, exits with the right code, and harms nothing else.
//!
//! Flags, settings and files that are wrong on the command line alone are in `cli.rs`.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
};

use odeum_cluster::transport::{self, Services, TransportConfig, pki::Authority};
use odeum_proto::{Incarnation, wire::WireVersion};
use process::{COUNTER, Node, Up, folder};

/// Checks that all `words` are in `line`.
fn says(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

/// An authority in `dir` and the folders of certificates for `nodes`, in their order.
fn certificates<const N: usize>(dir: &Path, nodes: [&str; N]) -> [PathBuf; N] {
    let authority = Authority::create(dir).expect("an authority");
    nodes.map(|node| {
        let folder = dir.join(node);
        authority.issue(&node.parse().expect("a name"), &folder).expect("a certificate");
        folder
    })
}

/// Where each record of a segment of the log begins, and what it holds.
fn records(segment: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let (of_file, of_record) = (24, 20);
    let mut next = of_file;
    std::iter::from_fn(move || {
        let record = segment[next..].strip_prefix(b"Odw1")?;
        let begin = next;
        next += of_record + u32::from_le_bytes(*record.first_chunk()?) as usize;
        Some((begin, begin + of_record))
    })
}

#[test]
fn what_is_no_firmware_is_refused_by_name_and_harms_nothing() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    let guest = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("the file is written");
        path.display().to_string()
    };
    let cases = [
        (guest("text.wasm", b"hello, this is no module"), "WebAssembly"),
        (guest("empty.wasm", b"\0asm\x01\0\0\0"), "export"),
        (guest("torn.wasm", &fs::read(COUNTER).expect("a guest")[..900]), "valid"),
        (guest("nothing.wasm", b""), "empty"),
    ];
    for (path, word) in &cases {
        let name = Path::new(path).file_stem().and_then(|stem| stem.to_str()).expect("a name");
        says(&node.refused(&["run", path]), &[word, name]);
    }
    assert_eq!(node.done(&["get", "firmware", "-o", "json"]).trim(), "[]");
    node.done(&["run", COUNTER]);
    assert_eq!(node.done(&["call", "counter"]), "1\n");
}

/// Two guests on one node, with tight limits; the first is sent `message`, and must be refused
/// with `words` while the second answers.
fn misbehave(message: &str, words: &[&str]) {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    for name in ["victim", "neighbour"] {
        let limits = ["--name", name, "--memory", "16MiB", "--time", "250ms"];
        node.done(&[&["run", COUNTER], &limits[..]].concat());
        assert_eq!(node.done(&["call", name]), "1\n");
    }
    let line = std::thread::scope(|scope| {
        let refused = scope.spawn(|| node.refused(&["call", "victim", message]));
        assert_eq!(node.done(&["call", "neighbour"]), "2\n", "during it");
        refused.join().expect("refused")
    });
    says(&line, words);
    assert_eq!(node.done(&["call", "neighbour"]), "3\n", "after it");
    assert_eq!(node.done(&["call", "victim"]), "2\n", "itself, restarted");
}

#[test]
fn a_guest_in_an_endless_loop_meets_its_time_limit_and_its_neighbour_answers() {
    misbehave("spin", &["victim", "limit", "longer than 250ms"]);
}

#[test]
fn a_guest_that_eats_memory_meets_its_limit_and_its_neighbour_answers() {
    misbehave("eat", &["victim", "limit", "at most 16777216", "memory"]);
}

#[test]
fn an_api_port_in_use_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = listener.local_addr().expect("bound").to_string();
    let folder = folder();
    let line = Up::n1(folder.path()).and(&["--api", &taken]).refused();
    says(&line, &[&taken, "in use", "--api"]);
}

#[test]
fn a_cluster_port_in_use_is_named() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let taken = socket.local_addr().expect("bound").to_string();
    let folder = folder();
    let line = Up::n1(folder.path()).and(&["--cluster", &taken]).refused();
    says(&line, &[&taken, "udp", "in use", "--cluster"]);
}

#[test]
fn the_ports_of_a_running_node_are_in_use_and_it_goes_on() {
    let (one, other) = (folder(), folder());
    let node = Up::n1(one.path()).start();
    let cluster = node.cluster_addr();
    for (flag, taken) in [("--api", node.api_addr()), ("--cluster", &cluster)] {
        says(&Up::n1(other.path()).and(&[flag, taken]).refused(), &[taken, "in use"]);
    }
    says(&node.done(&["get", "nodes"]), &["n1", "leader"]);
}

#[test]
fn a_folder_in_use_is_refused_with_the_process_that_uses_it() {
    let folder = folder();
    let up = Up::n1(folder.path());
    let node = up.start();
    let data = up.data.display().to_string();
    says(&up.refused(), &[&data, "in use", &node.pid().to_string(), "--data-dir"]);
    says(&node.done(&["get", "nodes"]), &["n1", "leader"]);
}

#[test]
fn the_folder_of_another_node_is_refused_and_stays_as_it_was() {
    let folder = folder();
    let up = Up::n1(folder.path());
    up.start().kill();
    let kept = |name: &str| fs::read(up.data.join(name)).expect("a file");
    let before = kept("node.toml");
    let line = Up { node: "n2".to_owned(), ..up.clone() }.refused();
    says(&line, &[&up.data.display().to_string(), "n1", "n2", "--data-dir"]);
    assert_eq!(kept("node.toml"), before);
    up.start();
}

#[test]
fn the_folder_of_another_cluster_does_not_join_and_stays_as_it_was() {
    let folder = folder();
    let [n1, n2] = certificates(&folder.path().join("ca"), ["n1", "n2"]);
    let (one, other) = (Up::with_certs("n1", &n1), Up::with_certs("n2", &n2));
    let cluster = |node: &Node| {
        let log = node.log();
        let (_, after) = log.split_once("cluster=").expect("its cluster");
        after.split_whitespace().next().expect("a name").to_owned()
    };
    let member = one.start();
    let alone = other.start();
    let (theirs, ours) = (cluster(&member), cluster(&alone));
    alone.kill();

    let line = other.clone().and(&["--join", &member.cluster_addr()]).refused();
    says(&line, &[&other.data.display().to_string(), &theirs, &ours, "--data-dir"]);
    let nodes = member.done(&["get", "nodes"]);
    assert!(!nodes.contains("n2"), "{nodes}");
    assert_eq!(cluster(&other.start()), ours, "it is still in its own");
}

/// A folder in which a node wrote some log and was killed, and its newest segment.
fn killed(folder: &Path) -> (Up, PathBuf) {
    let up = Up::n1(folder);
    let node = up.start();
    node.done(&["run", COUNTER]);
    for count in 1..=5 {
        assert_eq!(node.done(&["call", "counter"]), format!("{count}\n"));
    }
    node.kill();
    let files = fs::read_dir(up.data.join("store/wal")).expect("the log");
    let files = files.map(|entry| entry.expect("an entry").path());
    let segment = files.filter(|file| file.extension().is_some_and(|end| end == "wal")).max();
    (up, segment.expect("a segment"))
}

#[test]
fn a_log_that_is_damaged_in_the_middle_is_refused_with_file_and_offset() {
    let folder = folder();
    let (up, segment) = killed(folder.path());
    let mut bytes = fs::read(&segment).expect("the segment");
    // Behind the records the file has room for more.
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("records");
    let is_behind = |(_, payload): &(usize, usize)| *payload > end / 2;
    let (offset, middle) = records(&bytes).find(is_behind).expect("a record");
    bytes[middle] ^= 1;
    fs::write(&segment, &bytes).expect("damaged");

    let line = up.refused();
    let place = format!("damaged at byte {offset}:");
    says(&line, &[&segment.display().to_string(), "checksum", &place, "restore"]);
    assert_eq!(fs::read(&segment).expect("the segment"), bytes, "nothing is repaired by guessing");

    bytes[middle] ^= 1;
    fs::write(&segment, &bytes).expect("restored");
    assert_eq!(up.start().done(&["call", "counter", "--deadline", "30s"]), "6\n");
}

#[test]
fn a_torn_tail_is_cut_and_every_acknowledged_count_is_there() {
    let folder = folder();
    let (up, segment) = killed(folder.path());
    let mut bytes = fs::read(&segment).expect("the segment");
    // The beginning of a record that was being written when the power went.
    let record = bytes[24..].to_vec();
    bytes.extend_from_slice(&record[..30]);
    fs::write(&segment, &bytes).expect("torn");

    let node = up.start();
    assert_eq!(node.done(&["call", "counter", "--deadline", "30s"]), "6\n");
    says(&node.log(), &["torn tail", &segment.display().to_string()]);
}

#[test]
fn a_certificate_of_another_authority_does_not_join() {
    let folder = folder();
    let [n1] = certificates(&folder.path().join("ours"), ["n1"]);
    let [n2] = certificates(&folder.path().join("theirs"), ["n2"]);
    let member = Up::with_certs("n1", &n1).start();
    let place = member.cluster_addr();
    let line = Up::with_certs("n2", &n2).and(&["--join", &place]).refused();
    says(&line, &[&place, "certificate", "authority"]);
    let nodes = member.done(&["get", "nodes"]);
    assert!(nodes.contains("leader") && !nodes.contains("n2"), "{nodes}");
}

#[test]
fn a_node_of_another_wire_version_is_not_joined_and_both_versions_are_named() {
    let folder = folder();
    let [n1, n2] = certificates(&folder.path().join("ca"), ["n1", "n2"]);
    let ours = WireVersion::CURRENT;
    let theirs = WireVersion { major: ours.major + 1, ..ours };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = TransportConfig {
        version: theirs,
        ..TransportConfig::new("n1".parse().expect("a name"), Incarnation(1), listen, n1)
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (place, _rogue) = runtime.block_on(async {
        let (transport, spec) = transport::start(config, Services::default()).expect("listens");
        (transport.local_addr().to_string(), spec.start().await.expect("starts"))
    });
    let line = Up::with_certs("n2", &n2).and(&["--join", &place]).refused();
    says(&line, &[&place, "wire version", &ours.to_string(), &theirs.to_string()]);
}

#[test]
fn a_certificate_for_another_node_is_refused_with_both_names() {
    let folder = folder();
    let [n1] = certificates(&folder.path().join("ca"), ["n1"]);
    let line = Up::with_certs("n2", &n1).refused();
    says(&line, &[&n1.display().to_string(), "n1", "n2"]);
}

#[test]
fn a_place_to_join_by_that_is_no_address_is_named() {
    let folder = folder();
    let [n1] = certificates(&folder.path().join("ca"), ["n1"]);
    let line = Up::with_certs("n1", &n1).and(&["--join", "nowhere"]).refused();
    says(&line, &["nowhere", "HOST:PORT"]);
}
