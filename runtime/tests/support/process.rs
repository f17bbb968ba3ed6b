//! Nodes as real processes, and what they and the commands beside them say.
//!
//! No process outlives its test: each is killed when its [`Node`] is dropped, and stops by itself
//! when its standard input ends, which is also so when the test is killed.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The guest that counts.
pub(crate) const COUNTER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/counter/counter.wasm");

/// An empty folder of the test.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The binary, without what the machine that runs the tests has set: that must not decide.
pub(crate) fn odeum(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odeum"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ODEUM_") || text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    // Compiled modules are shared by the tests, and kept from the user's.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks that a command failed with `code` and said so in exactly one line, its last, and gives
/// that line. Lines before it can only be those of a node's log.
pub(crate) fn complaint(output: &Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "one line says what is wrong:\n{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "the error is the last word:\n{said}");
    last.to_owned()
}

/// What a new node is told.
#[derive(Debug, Clone)]
pub(crate) struct Up {
    /// Its name.
    pub(crate) node: String,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// By which place it joins, when it is started by `odeum join`.
    pub(crate) join: Option<String>,
    /// Further arguments; `--dev` when there are none about certificates.
    pub(crate) more: Vec<String>,
}

impl Up {
    /// A node called `n1` with its data in `folder/data`.
    pub(crate) fn n1(folder: &Path) -> Self {
        let (data, more) = (folder.join("data"), vec!["--dev".to_owned()]);
        Self { node: "n1".to_owned(), data, join: None, more }
    }

    /// A node with a certificate in `certs` and its data beside it.
    pub(crate) fn with_certs(node: &str, certs: &Path) -> Self {
        // The guests of the tests are bare modules.
        let unsigned = "--allow-unsigned".to_owned();
        let more = vec!["--certs".to_owned(), certs.display().to_string(), unsigned];
        Self { node: node.to_owned(), data: certs.with_extension("data"), join: None, more }
    }

    /// Started by `odeum join`.
    #[must_use]
    pub(crate) fn joining(self, place: &str) -> Self {
        Self { join: Some(place.to_owned()), ..self }
    }

    /// With further arguments; a flag that is given twice counts as its last.
    #[must_use]
    pub(crate) fn and(mut self, more: &[&str]) -> Self {
        self.more.extend(more.iter().map(|argument| (*argument).to_owned()));
        self
    }

    fn spawn(&self, log: &Path) -> Child {
        let any = "127.0.0.1:0";
        let start: &[&str] = match &self.join {
            Some(place) => &["join", place],
            None => &["up"],
        };
        let mut command = odeum(start);
        command.args(["--exit-with-stdin", "--node", &self.node]);
        for flag in ["--api", "--cluster"] {
            if !self.more.iter().any(|given| given == flag) {
                command.args([flag, any]);
            }
        }
        command.arg("--data-dir").arg(&self.data).args(&self.more);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(File::create(log).expect("a log")).spawn().expect("the node starts")
    }

    /// Starts a node that cannot run, waits for its end, and gives its one line of complaint.
    pub(crate) fn refused(&self) -> String {
        let folder = folder();
        let log = folder.path().join("log");
        let mut node = Node { process: self.spawn(&log), url: String::new(), log };
        let status = node.wait();
        let output =
            Output { status, stdout: Vec::new(), stderr: fs::read(&node.log).expect("a log") };
        complaint(&output, 1)
    }

    /// Starts the node and waits for nothing: it can be killed at any moment of its start.
    pub(crate) fn begin(&self) -> Node {
        let log = self.data.with_extension("log");
        // Left by an earlier life of the node.
        let _ = fs::remove_file(self.data.join("ports.json"));
        Node { process: self.spawn(&log), url: String::new(), log }
    }

    /// Starts the node and waits until it takes requests as a member of its cluster.
    pub(crate) fn start(&self) -> Node {
        let ports = self.data.join("ports.json");
        let mut node = self.begin();
        node.url = node.until("its address", || {
            let ports: Value = serde_json::from_slice(&fs::read(&ports).ok()?).ok()?;
            Some(format!("http://{}", ports["api"].as_str()?))
        });
        let url = node.url.clone();
        node.until("a leader among its nodes", || {
            let nodes = json(&mut odeum(&["get", "nodes", "-o", "json", "--api-url", &url]))?;
            nodes.as_array()?.iter().any(|node| node["role"] == "leader").then_some(())
        });
        // Last of all: before it, the data folder may not say yet which cluster this is.
        let log = node.log.clone();
        node.until("word that it is up", || {
            fs::read_to_string(&log).ok()?.contains("node is up").then_some(())
        });
        node
    }
}

/// A node that is killed when the test ends, however it ends.
pub(crate) struct Node {
    process: Child,
    url: String,
    log: PathBuf,
}

impl Node {
    /// Looks until `found` has something, for a bounded time.
    pub(crate) fn until<T>(&mut self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            let ended = self.process.try_wait().expect("the process is ours");
            assert!(ended.is_none(), "the node ended ({ended:?}):\n{}", self.log());
            assert!(start.elapsed() < PATIENCE, "no {what} in time:\n{}", self.log());
            sleep(LOOK_EVERY);
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            // Unlike `Child::wait`, this leaves standard input open: the node ends by itself.
            if let Some(status) = self.process.try_wait().expect("the process is ours") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            sleep(LOOK_EVERY);
        }
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where it listens for other nodes.
    pub(crate) fn cluster_addr(&self) -> String {
        let nodes = self.done(&["get", "nodes", "-o", "json"]);
        let nodes: Value = serde_json::from_str(&nodes).expect("JSON");
        nodes[0]["cluster_addr"].as_str().expect("an address").to_owned()
    }

    /// Where its API listens, `HOST:PORT`.
    pub(crate) fn api_addr(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Runs a client command against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        odeum(arguments).args(["--api-url", &self.url]).output().expect("runs")
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.log());
        text(&output.stdout)
    }

    /// Runs a command that must fail with 1 and one line, and gives that line.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        complaint(&self.run(arguments), 1)
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for its end and gives its exit code, if no signal ended it.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.wait().code()
    }

    /// Stops it as a power failure would.
    pub(crate) fn kill(self) {
        self.signal("KILL");
        assert_eq!(self.ended(), None);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn json(command: &mut Command) -> Option<Value> {
    serde_json::from_slice(&command.output().ok()?.stdout).ok()
}
