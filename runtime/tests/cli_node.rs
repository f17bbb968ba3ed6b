//! One real node, started and used from the command line as a person would.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

const COUNTER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/counter/counter.wasm");

fn odeum() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odeum"));
    // What the machine that runs the tests has set must not decide their outcome.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ODEUM_") || text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    command
}

/// A node that is killed when the test ends, however it ends.
struct Node {
    process: Child,
    url: String,
    log: PathBuf,
}

impl Node {
    /// Starts a node on `folder` and waits until it takes requests.
    fn start(folder: &Path) -> Self {
        let (data, log) = (folder.join("data"), folder.join("log"));
        let ports = data.join("ports.json");
        // Left by an earlier life of the node.
        let _ = std::fs::remove_file(&ports);
        let process = up(&data, "127.0.0.1:0")
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("the node starts");
        let mut node = Self { process, url: String::new(), log };
        node.url = node.until("its address", || {
            let text = std::fs::read(&ports).ok()?;
            let ports: Value = serde_json::from_slice(&text).ok()?;
            Some(format!("http://{}", ports["api"].as_str()?))
        });
        let url = node.url.clone();
        node.until("a leader", || {
            let status = json(odeum().args(["get", "nodes", "-o", "json", "--api-url", &url]));
            (status.as_ref()?[0]["role"] == "leader").then_some(())
        });
        node
    }

    /// Looks until `found` has something, for a bounded time.
    fn until<T>(&mut self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            let ended = self.process.try_wait().expect("the process is ours");
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(ended.is_none(), "the node ended ({ended:?}):\n{}", log());
            assert!(start.elapsed() < PATIENCE, "no {what} in time:\n{}", log());
            sleep(Duration::from_millis(20));
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = odeum();
        command.args(arguments).args(["--api-url", &self.url]).output().expect("runs")
    }

    /// Runs a command that must succeed, and gives what it printed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        assert!(output.status.success(), "{arguments:?}: {}\n{log}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command that must fail with 1 and one line, and gives that line.
    fn refused(&self, arguments: &[&str]) -> String {
        complaint(&self.run(arguments))
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    fn ended(mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("the process is ours") {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `odeum up` on `data`, alone.
fn up(data: &Path, api: &str) -> Command {
    let mut command = odeum();
    command.args(["up", "--dev", "--node", "n1", "--cluster", "127.0.0.1:0", "--api", api]);
    command.arg("--data-dir").arg(data).stdout(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(command: &mut Command) -> Option<Value> {
    serde_json::from_slice(&command.output().ok()?.stdout).ok()
}

fn complaint(output: &Output) -> String {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    let last = line.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "{line}");
    last.to_owned()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_guest_is_run_called_looked_at_and_deleted() {
    let folder = folder();
    let node = Node::start(folder.path());

    assert!(node.done(&["run", COUNTER]).contains("odeum call counter"));
    assert_eq!(node.done(&["call", "counter"]), "1\n");
    assert_eq!(node.done(&["call", "counter", "add 2"]), "3\n");
    for replayed in [false, true] {
        let answer = node.done(&["call", "counter", "add 4", "--request-id", "mine", "-o", "json"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(
            (&answer["reply"]["value"], &answer["replayed"]),
            (&"7".into(), &replayed.into())
        );
        assert_eq!((&answer["node"], &answer["request"]), (&"n1".into(), &"mine".into()));
    }
    assert_eq!(node.done(&["call", "counter", "--session", "alice"]), "1\n");

    let firmware = node.done(&["get", "firmware"]);
    assert!(firmware.contains("counter") && firmware.contains("running"), "{firmware}");
    let sessions = node.done(&["get", "sessions"]);
    assert!(sessions.contains("counter/alice"), "{sessions}");
    let session = node.done(&["get", "sessions", "counter/alice"]);
    assert!(session.lines().any(|row| row.starts_with("count ")), "{session}");
    let tree = node.done(&["get", "actors", "--tree"]);
    assert!(tree.contains("├─") && tree.contains("counter"), "{tree}");
    assert!(node.done(&["get", "nodes"]).contains("leader"));

    node.done(&["delete", "session", "counter/alice"]);
    assert!(node.refused(&["get", "sessions", "counter/alice"]).contains("counter/alice"));
    node.done(&["delete", "firmware", "counter"]);
    assert!(node.refused(&["call", "counter"]).contains("counter"));
    assert!(node.refused(&["delete", "firmware", "counter"]).contains("counter"));

    node.signal("TERM");
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn a_guest_that_misbehaves_costs_one_message_and_the_count_goes_on() {
    let folder = folder();
    let node = Node::start(folder.path());
    node.done(&["run", COUNTER, "--memory", "16MiB", "--time", "250ms"]);
    assert_eq!(node.done(&["call", "counter"]), "1\n");
    for (count, (message, word)) in
        [("trap", "trapped"), ("spin", "limit"), ("eat", "")].into_iter().enumerate()
    {
        let line = node.refused(&["call", "counter", message]);
        assert!(line.contains(word), "{message}: {line}");
        assert_eq!(node.done(&["call", "counter"]), format!("{}\n", count + 2), "{message}");
    }
    assert!(node.refused(&["call", "counter", "dance"]).contains("refused"));
}

#[test]
fn what_is_no_firmware_is_refused_by_name_and_harms_nothing() {
    let folder = folder();
    let node = Node::start(folder.path());
    let guest = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("the file is written");
        path.display().to_string()
    };
    let cases = [
        (guest("text.wasm", b"hello, this is no module"), "WebAssembly"),
        (guest("empty.wasm", b"\0asm\x01\0\0\0"), "export"),
        (guest("torn.wasm", &std::fs::read(COUNTER).expect("a guest")[..900]), "valid"),
        (guest("nothing.wasm", b""), "empty"),
    ];
    for (path, word) in &cases {
        let line = node.refused(&["run", path]);
        assert!(line.contains(word), "{path}: {line}");
    }
    assert!(!node.done(&["get", "firmware"]).contains("text"));
    node.done(&["run", COUNTER]);
    assert_eq!(node.done(&["call", "counter"]), "1\n");
}

#[test]
fn a_count_that_was_acknowledged_survives_the_kill_of_its_node() {
    let folder = folder();
    let node = Node::start(folder.path());
    node.done(&["run", COUNTER]);
    assert_eq!(node.done(&["call", "counter", "add 41"]), "41\n");
    node.signal("KILL");
    assert_eq!(node.ended(), None);

    let node = Node::start(folder.path());
    assert_eq!(node.done(&["call", "counter", "--deadline", "30s"]), "42\n");
}

#[test]
fn a_port_in_use_and_a_folder_in_use_are_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = listener.local_addr().expect("bound").to_string();
    let folder = folder();
    let data = folder.path().join("data");
    let line = complaint(&up(&data, &taken).output().expect("runs"));
    assert!(line.contains(&taken) && line.contains("in use"), "{line}");

    let node = Node::start(folder.path());
    let line = complaint(&up(&data, "127.0.0.1:0").output().expect("runs"));
    assert!(line.contains("data"), "{line}");
    assert!(node.done(&["get", "nodes"]).contains("n1"), "the first goes on");
}
