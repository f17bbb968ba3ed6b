//! Guests in processes of their own: what a guest does there is what it does inside a node, and what
//! becomes of the process concerns nobody else.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use odeum_proto::{
    http::{BODY_BYTES, HttpRequest},
    store::FirmwareLimits,
};
use odeum_runtime::{
    firmware::{
        Answer, Arrival, Engine, Grants, GuestFailure, GuestLog, Launcher, Module, Publisher,
        Runner, Running, Setting, Usage, Variables,
    },
    package::{Package, build},
};
use rustix::process::{Pid, Signal, kill_process};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "shared by several test binaries")]
mod support;

use support::{Cluster, PATIENCE, count, counter, name};

/// A core module that asks, sets timers and subscribes.
const WAITING: &[u8] = include_bytes!("support/waiting.wat");

const BOTH: [&str; 2] = ["task", "process"];

fn guest(guest: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests");
    fs::read(format!("{folder}/{guest}/{guest}.wasm")).expect("the guest")
}

/// The package of a guest, isolated so, with these lines in its manifest.
fn package(isolation: &str, lines: &str, file: &[u8]) -> Package {
    let folder = tempfile::tempdir().expect("a folder");
    let entry = if file.starts_with(b"\0asm") { "module.wasm" } else { "module.wat" };
    let manifest = format!(
        "name = 'guest'\nversion = '1.0.0'\nentry = '{entry}'\nisolation = '{isolation}'\n{lines}"
    );
    fs::write(folder.path().join("odeum.toml"), manifest).expect("writes");
    fs::write(folder.path().join(entry), file).expect("writes");
    build::of_folder(folder.path()).expect("a package").package
}

/// Time that a guest of these tests may compute on one message, and a tenth of what it may wait:
/// machines that run tests are busy.
const TIME: Duration = Duration::from_secs(1);

fn setting(grants: Grants) -> Setting {
    Setting {
        firmware: "guest".parse().expect("valid"),
        log: GuestLog::alone("guest".parse().expect("valid")),
        limits: FirmwareLimits { memory_bytes: 4 << 20, message_time: TIME },
        grants: Arc::new(grants),
        usage: Usage::default(),
    }
}

async fn runner_of(
    program: &str,
    isolation: &str,
    lines: &str,
    file: &[u8],
    grants: Grants,
) -> Runner {
    let engine = Engine::new().expect("an engine");
    let package = package(isolation, lines, file);
    let module = Module::compile(&engine, package.digest(), &package).await.expect("compiles");
    Runner::new(module, setting(grants), Launcher::program(program))
}

async fn runner(isolation: &str, lines: &str, file: impl AsRef<[u8]>) -> Runner {
    let program = env!("CARGO_BIN_EXE_odeum");
    runner_of(program, isolation, lines, file.as_ref(), Grants::default()).await
}

async fn started(isolation: &str, lines: &str, file: impl AsRef<[u8]>) -> Running {
    runner(isolation, lines, file).await.start(Publisher::none()).await.expect("starts")
}

struct Session(BTreeMap<&'static str, String>);

impl Variables for Session {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.get(key).map(|value| value.clone().into_bytes())
    }
}

fn session(variables: &[(&'static str, &str)]) -> Arc<dyn Variables> {
    Arc::new(Session(variables.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()))
}

/// Hears what this thread logs, until it is dropped.
struct Ears {
    heard: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

#[derive(Clone)]
struct Ear(Arc<Mutex<Vec<u8>>>);

impl MakeWriter<'_> for Ear {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl io::Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ears {
    fn open() -> Self {
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::INFO)
            .with_writer(Ear(Arc::clone(&heard)))
            .finish();
        Self { heard, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines of the guest: their levels, words and fields.
    fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().expect("not poisoned");
        let text = String::from_utf8(heard.clone()).expect("text");
        // Without the spans of the engine, which are those of the process that it runs in.
        let line = |line: &str| {
            let (level, said) =
                (line.split_whitespace().next()?, line.split_once("odeum::guest")?.1);
            Some(format!("{level}{said}"))
        };
        text.lines().filter_map(line).collect()
    }
}

/// A module whose handler is `body`, with all imports and a scratch area.
fn handler(body: &str) -> String {
    format!(
        r#"(module
          (import "odeum" "var_get" (func $get (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "var_set" (func $set (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "reply" (func $reply (param i32 i32)))
          (import "odeum" "log" (func $log (param i32 i32 i32)))
          (memory (export "memory") 8)
          (data (i32.const 0) "key")
          (func (export "odeum_alloc") (param i32) (result i32) i32.const 1024)
          (func $recurse (param i32) (result i32)
            local.get 0 i32.const 1 i32.add call $recurse i32.const 1 i32.add)
          (func $handle (export "odeum_handle") (param i32 i32) (result i32) {body}))"#
    )
}

/// A command whose `_start` is `body`.
fn command(body: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_open" (func $path_open
            (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 2)
          (data (i32.const 256) "hello\n")
          (data (i32.const 288) "file.txt")
          (func $print (param $at i32) (param $len i32)
            (i32.store (i32.const 16) (local.get $at))
            (i32.store (i32.const 20) (local.get $len))
            (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
          (func (export "_start") {body}))"#
    )
}

#[tokio::test]
async fn a_guest_is_asked_whether_it_is_well_wherever_it_runs() {
    let probe = Arrival::Probed { within: TIME };
    for isolation in BOTH {
        let actor = started(isolation, "", guest("actor-component")).await;
        let (actor, answer) = actor.handle(probe, session(&[])).await.expect("answers");
        assert!(matches!(answer, Answer::Done(_)), "{isolation}: {answer:?}");
        let (actor, _) = actor.handle(b"sick tired", session(&[])).await.expect("handles");
        let (actor, answer) = actor.handle(probe, session(&[])).await.expect("answers");
        let Answer::Refused { reason, .. } = answer else { panic!("{isolation}: {answer:?}") };
        assert_eq!(&*reason, "tired", "{isolation}");
        let (actor, _) = actor.handle(b"sick spin", session(&[])).await.expect("handles");
        let failure = actor.handle(probe, session(&[])).await.map(|_| ()).expect_err("is ended");
        assert!(matches!(failure, GuestFailure::Limit(_)), "{isolation}: {failure}");
        // One that exports nothing to be asked is well.
        let counter = started(isolation, "", guest("counter")).await;
        let (_, answer) = counter.handle(probe, session(&[])).await.expect("answers");
        assert!(matches!(answer, Answer::Done(_)), "{isolation}: {answer:?}");
    }
}

#[tokio::test]
async fn the_same_guest_says_the_same_in_both() {
    let mut said: Vec<Vec<Result<Answer, GuestFailure>>> = Vec::new();
    for isolation in BOTH {
        let mut guest = Some(started(isolation, "", counter()).await);
        let mut answers = Vec::new();
        for message in ["", "add 9", "get", "stats", "jump", "trap"] {
            let present = guest.take().expect("it is there");
            assert_eq!(present.pid().is_some(), isolation == "process");
            let variables = session(&[("count", "41")]);
            let handled = present.handle(message.as_bytes(), variables).await;
            answers.push(handled.map(|(next, answer)| {
                assert!(next.memory_bytes() > 0);
                guest = Some(next);
                answer
            }));
        }
        said.push(answers);
    }
    assert_eq!(said[0], said[1]);
    assert!(said[0][5].is_err(), "{:?}", said[0]);
}

#[tokio::test]
async fn every_limit_ends_it_with_the_same_words_in_both() {
    for (lines, body) in [
        ("", "(loop br 0) i32.const 0"),
        ("", "(drop (call $recurse (i32.const 0))) i32.const 0"),
        (
            "",
            "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable)) i32.const 0",
        ),
        (
            "[limits]\ntable-elements = 1000",
            "(if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))
             (then unreachable)) i32.const 0) (table $t 10 funcref) (func",
        ),
        ("[limits]\nfuel = 1000", "(loop br 0) i32.const 0"),
        ("[limits]\nstack = '64 KiB'", "(drop (call $recurse (i32.const 0))) i32.const 0"),
        ("[limits]\noutput = '1 KiB'", "(call $reply (i32.const 0) (i32.const 2000)) i32.const 0"),
        (
            "",
            "(drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 262145))) i32.const 0",
        ),
        (
            "",
            "(loop (drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 1))) br 0)
             i32.const 0",
        ),
        ("", "(call $reply (i32.const -1) (i32.const 3)) i32.const 0"),
        ("", "unreachable"),
    ] {
        let mut ends = Vec::new();
        for isolation in BOTH {
            let guest = started(isolation, lines, handler(body)).await;
            ends.push(guest.handle(b"", session(&[])).await.expect_err("it ends"));
        }
        assert_eq!(ends[0], ends[1], "{body}");
    }
}

#[tokio::test]
async fn what_a_start_needs_more_than_it_is_given_is_told_by_the_start() {
    let large = "(module (memory (export \"memory\") 100)
        (func (export \"odeum_alloc\") (param i32) (result i32) i32.const 0)
        (func (export \"odeum_handle\") (param i32 i32) (result i32) i32.const 0))";
    let folder = "[capabilities]\nfolders = [{ guest = '/d', host = '/etc' }]";
    let reactor = "(module (memory (export \"memory\") 1) (func (export \"_initialize\")))";
    for (lines, text) in [("", large), (folder, reactor)] {
        let mut ends = Vec::new();
        for isolation in BOTH {
            let lines = if text == reactor {
                format!("abi = 'wasi-reactor'\n{lines}")
            } else {
                lines.to_owned()
            };
            let start = runner(isolation, &lines, text).await.start(Publisher::none()).await;
            ends.push(start.expect_err("it does not start"));
        }
        assert_eq!(ends[0], ends[1]);
    }
}

#[tokio::test]
async fn what_is_logged_and_denied_is_logged_by_the_node_in_the_same_words() {
    let mut heard = Vec::new();
    for isolation in BOTH {
        let ears = Ears::open();
        let body = "(call $log (i32.const 1) (i32.const 0) (i32.const 3)) i32.const 0";
        let logs = started(isolation, "", handler(body)).await;
        logs.handle(b"", session(&[])).await.expect("handles");
        let actor = started(isolation, "", guest("actor-component")).await;
        actor.handle(b"now", session(&[])).await.expect("handles");
        let print = command("(call $print (i32.const 256) (i32.const 6))");
        runner(isolation, "", print).await.run_job(|_| ()).await.expect("ends");
        heard.push(ears.heard());
    }
    assert_eq!(heard[0], heard[1]);
    assert!(heard[0].iter().any(|line| line.contains("`clock = true`")), "{heard:?}");
    assert!(heard[0].iter().any(|line| line.contains("text=hello")), "{heard:?}");
}

#[tokio::test]
async fn an_actor_does_the_same_to_others_in_both() {
    let lines = "[capabilities]\nmessages = ['other']\npublish = ['a/*']\nsubscribe = ['b']";
    let mut said = Vec::new();
    for isolation in BOTH {
        let mut actor = started(isolation, lines, guest("actor-component")).await;
        let mut answers = Vec::new();
        for message in [
            "add 1",
            "tell other hello",
            "ask other name",
            "after 5 done",
            "publish a/b x",
            "subscribe b",
            "refuse",
        ] {
            let handled = actor.handle(message.as_bytes(), session(&[("count", "41")])).await;
            let (next, answer) = handled.expect("handles");
            actor = next;
            answers.push(answer);
        }
        let arrival = Arrival::Answered { number: 1, outcome: Ok(b"me") };
        let (actor, answer) = actor.handle(arrival, session(&[])).await.expect("handles");
        answers.push(answer);
        actor.end().await;
        said.push(answers);
    }
    assert_eq!(said[0], said[1]);
}

#[tokio::test]
async fn a_core_module_does_the_same_to_others_in_both() {
    let lines = "[capabilities]\nmessages = ['slow']\npublish = ['news']\nsubscribe = ['news']";
    let mut said = Vec::new();
    for isolation in BOTH {
        let mut waiting = started(isolation, lines, WAITING).await;
        let mut answers = Vec::new();
        for arrival in [
            Arrival::from(b"ask"),
            Arrival::from(b"publish"),
            Arrival::Answered { number: 1, outcome: Ok(b"me") },
            Arrival::Answered { number: 2, outcome: Err("nobody") },
            Arrival::TimedOut { number: 9 },
            Arrival::Published { topic: "news", payload: b"slow" },
            Arrival::from(b"get"),
        ] {
            let (next, answer) = waiting.handle(arrival, session(&[])).await.expect("handles");
            waiting = next;
            answers.push(answer);
        }
        waiting.end().await;
        said.push(answers);
    }
    assert_eq!(said[0], said[1]);
    let Some(Answer::Done(effect)) = said[0].last() else { panic!("{:?}", said[0]) };
    assert_eq!(effect.reply, b"1111");
    let Answer::Done(effect) = &said[0][0] else { panic!("{:?}", said[0]) };
    assert_eq!(effect.deeds.len(), 10);
}

#[tokio::test]
async fn what_a_firmlet_publishes_goes_to_the_broker_before_its_answer() {
    let firmlet = r#"(module
        (import "env" "tw_mqtt_publish" (func $publish (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "odeum/reply")
        (data (i32.const 32) "out/x")
        (func (export "_start") (param i32))
        (func (export "_on_message_received") (param i32 i32 i32 i32)
          (drop (call $publish (i32.const 32) (i32.const 5) (local.get 2) (local.get 3)))
          (drop (call $publish (i32.const 0) (i32.const 11) (local.get 2) (local.get 3)))))"#;
    let lines = "[capabilities.mqtt]\npublish = ['out/+']";
    for isolation in BOTH {
        let (publisher, mut published) = Publisher::queue(8);
        let firmlet = runner(isolation, lines, firmlet).await.start(publisher).await;
        let handled = firmlet.expect("starts").handle(b"payload", session(&[])).await;
        let (_, answer) = handled.expect("handles");
        assert!(matches!(answer, Answer::Done(effect) if effect.reply == b"payload"));
        let publication = published.try_recv().expect("it is there already");
        assert_eq!((&*publication.topic, &*publication.payload), ("out/x", &b"payload"[..]));
    }
}

#[tokio::test]
async fn a_job_ends_in_both_with_its_code_its_trap_or_its_limit() {
    for (lines, body) in [
        ("", "(call $exit (i32.const 7))"),
        ("", ""),
        ("", "unreachable"),
        ("[limits]\nmessage-time = '50ms'", "(loop br 0)"),
    ] {
        let mut ends = Vec::new();
        for isolation in BOTH {
            let runner = runner(isolation, lines, command(body)).await;
            let mut begun = None;
            ends.push(runner.run_job(|pid| begun = Some(pid)).await);
            let pid = begun.expect("it has begun");
            assert_eq!(pid.is_some(), isolation == "process");
        }
        assert_eq!(ends[0], ends[1], "{body}");
    }
    for isolation in BOTH {
        let runner = runner(isolation, "", guest("command-component")).await;
        assert_eq!(runner.run_job(|_| ()).await.map(|(code, _)| code), Ok(0));
    }
}

fn request(method: &str, path: &str, body: &[u8]) -> HttpRequest {
    HttpRequest {
        method: method.to_owned(),
        authority: "here:1".to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: body.to_vec(),
    }
}

#[tokio::test]
async fn bodies_of_many_pages_go_to_a_server_and_come_back_in_both() {
    let body = vec![b'x'; BODY_BYTES];
    for isolation in BOTH {
        let server = runner(isolation, "", guest("http-component")).await.server().await;
        let answer = server.expect("it starts").serve(request("POST", "/pipe", &body)).await;
        let answer = answer.expect("answers");
        assert!(answer.body == body, "{isolation}: {} bytes", answer.body.len());
    }
}

#[tokio::test]
async fn a_server_answers_several_requests_at_once_and_a_trap_costs_one_of_them() {
    for isolation in BOTH {
        let server = runner(isolation, "", guest("http-component")).await.server().await;
        let server = server.expect("it starts");
        let pid = server.pid();
        let large = vec![b'x'; 8 << 10];
        let echo = |number: usize| {
            let (server, large) = (server.clone(), large.clone());
            async move {
                let body = [number.to_string().as_bytes(), &large].concat();
                let answer = server.serve(request("POST", "/echo", &body)).await.expect("answers");
                assert_eq!((answer.status, answer.body), (200, body));
            }
        };
        let trap = async {
            let trapped = server.serve(request("GET", "/trap", b"")).await;
            assert!(matches!(trapped, Err(GuestFailure::Trapped { .. })), "{trapped:?}");
        };
        tokio::join!(trap, futures::future::join_all((0..8).map(echo)));
        echo(99).await;
        assert_eq!(server.pid(), pid);
    }
}

#[tokio::test]
async fn a_process_reaches_whom_its_manifest_names_also_by_name() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for host in ["127.0.0.1", "localhost"] {
        let path = format!("/get?{host}:{port}");
        let denied = runner("process", "", guest("http-component")).await.server().await;
        let answer = denied.expect("it starts").serve(request("GET", &path, b"")).await;
        assert_eq!(answer.expect("answers").status, 502, "nobody is named");
        let lines = format!("[capabilities]\nhttp = ['{host}:{port}']");
        let granted = runner("process", &lines, guest("http-component")).await.server().await;
        let granted = granted.expect("it starts");
        let peer = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 4_096]).await.expect("a request");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npong";
            stream.write_all(answer).await.expect("writes");
            stream.shutdown().await.expect("ends");
        };
        let (answer, ()) = tokio::join!(granted.serve(request("GET", &path, b"")), peer);
        let answer = answer.expect("answers");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"pong"[..]), "{host}");
    }
}

#[tokio::test]
async fn folders_are_those_of_the_manifest_and_to_be_read_unless_it_says_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = folder.path().to_str().expect("text");
    let grants = Grants { folders: vec![host.parse().expect("a path")], ..Grants::default() };
    let write = "(call $exit (call $path_open (i32.const 3) (i32.const 0) (i32.const 288)
        (i32.const 8) (i32.const 9) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))";
    let read_only = format!("[capabilities]\nfolders = [{{ guest = '/data', host = '{host}' }}]");
    let writable = read_only.replace(" }]", ", read-only = false }]");
    let program = env!("CARGO_BIN_EXE_odeum");
    for (lines, is_allowed) in [(read_only, false), (writable, true)] {
        let text = command(write);
        let job = runner_of(program, "process", &lines, text.as_bytes(), grants.clone()).await;
        let (code, _) = job.run_job(|_| ()).await.expect("ends");
        assert_eq!(code == 0, is_allowed);
        assert_eq!(folder.path().join("file.txt").exists(), is_allowed);
    }
}

#[tokio::test]
async fn a_process_inherits_what_its_guest_is_given_and_nothing_else() {
    let ears = Ears::open();
    let grants = Grants { environment: vec!["PATH".parse().expect("valid")], ..Grants::default() };
    let body = "(drop (call $env (i32.const 1024) (i32.const 3072)))
        (call $print (i32.const 3072) (i32.const 5))";
    let lines = "[capabilities]\nenvironment = ['PATH']";
    let program = env!("CARGO_BIN_EXE_odeum");
    let job = runner_of(program, "process", lines, command(body).as_bytes(), grants).await;
    job.run_job(|_| ()).await.expect("ends");
    assert!(ears.heard().iter().any(|line| line.contains("PATH=")), "{:?}", ears.heard());

    let open = fs::File::open(env!("CARGO_MANIFEST_DIR")).expect("opens");
    // As a careless library leaves it: open over the start of another program.
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).expect("sets");
    let guest = started("process", "", counter()).await;
    let proc = format!("/proc/{}", guest.pid().expect("a process"));
    assert_eq!(fs::read(format!("{proc}/environ")).expect("reads"), b"");
    for entry in fs::read_dir(format!("{proc}/fd")).expect("lists") {
        let target = fs::read_link(entry.expect("an entry").path()).expect("a link");
        let target = target.to_string_lossy();
        let kinds = ["socket:", "anon_inode:", "/memfd:odeum-module", "pipe:"];
        assert!(kinds.iter().any(|kind| target.starts_with(kind)), "{target}");
    }
    let limits = fs::read_to_string(format!("{proc}/limits")).expect("reads");
    let of = |what: &str| {
        let line = limits.lines().find(|line| line.starts_with(what)).expect("a limit");
        line[what.len()..].split_whitespace().next().expect("a number").to_owned()
    };
    assert_eq!(of("Max core file size"), "0");
    assert_ne!(of("Max data size"), "unlimited");
    drop(open);
}

#[test]
fn a_process_can_do_nothing_that_a_guest_without_grants_is_not_given() {
    let output = Command::new(env!("CARGO_BIN_EXE_odeum"))
        .args(["host", "--check", "-o", "json"])
        .output()
        .expect("runs");
    let attempts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let attempts = attempts.as_array().expect("a list");
    assert!(attempts.len() >= 10, "{attempts:?}");
    let table = Command::new(env!("CARGO_BIN_EXE_odeum")).args(["host", "--check"]).output();
    let notes = String::from_utf8(table.expect("runs").stderr).expect("text");
    if notes.trim().is_empty() {
        for attempt in attempts {
            assert_eq!(attempt["denied"], true, "{attempt}");
        }
        assert_eq!(output.status.code(), Some(0));
    } else {
        // What this kernel lacks is told, and then it may be told as allowed.
        assert!(notes.contains("not denied"), "{notes}");
    }
}

#[test]
fn a_host_that_no_node_started_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_odeum")).arg("host").output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("started by a node"), "{said}");
    let help = Command::new(env!("CARGO_BIN_EXE_odeum")).arg("--help").output().expect("runs");
    assert!(!String::from_utf8(help.stdout).expect("text").contains("  host "));
}

/// A program that says `script` instead of what a host says.
fn impostor(folder: &Path, number: usize, script: &str) -> String {
    let path = folder.join(format!("impostor-{number}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permits");
    path.to_str().expect("text").to_owned()
}

#[tokio::test]
async fn hostile_bytes_of_a_process_end_it_with_what_was_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let hello = r"printf '\003\000\000\000\000\002\001' >&0";
    let stay = "exec sleep 60";
    for (number, (script, said)) in [
        (format!(r"printf '\377\377\377\377' >&0; {stay}"), "a frame of 4294967295 bytes"),
        (format!(r"printf '\003\000\000\000\377\377\377' >&0; {stay}"), "not a valid"),
        (format!(r"printf '\003\000\000\000\000\143\001' >&0; {stay}"), "speaks version 99"),
        (format!("{hello}; {hello}; {stay}"), "who it is, twice"),
        // A variable without a message; an outcome of nothing.
        (format!(r"{hello}; printf '\003\000\000\000\003\001k' >&0; {stay}"), "without a message"),
        (format!(r"{hello}; printf '\003\000\000\000\006\007\003' >&0; {stay}"), "an outcome, unasked"),
        // Ready before it was told what to run, and with more memory than there may be.
        (format!(r"printf '\003\000\000\000\001\001\000' >&0; {stay}"), "ready, unasked"),
        (
            format!(r"{hello}; printf '\013\000\000\000\001\375\377\377\377\377\377\377\377\177\000' >&0; {stay}"),
            "bytes of memory",
        ),
        // A publication that no manifest allows.
        (format!(r"{hello}; printf '\004\000\000\000\004\001a\000' >&0; {stay}"), "may not use"),
        ("echo it hurts >&2; exit 3".to_owned(), "it exited with code 3; its last words: it hurts"),
        (format!("{hello}; kill -SEGV $$"), "signal 11"),
    ]
    .into_iter()
    .enumerate()
    {
        let program = impostor(folder.path(), number, &script);
        let runner = runner_of(&program, "process", "", &counter(), Grants::default()).await;
        let failure = runner.start(Publisher::none()).await.expect_err("it is no host");
        assert!(failure.to_string().contains(said), "{script}: {failure}");
    }
    let nothing = folder.path().join("nothing");
    let nothing = nothing.to_str().expect("text");
    let runner = runner_of(nothing, "process", "", &counter(), Grants::default()).await;
    let failure = runner.start(Publisher::none()).await.expect_err("there is none");
    assert!(failure.to_string().contains("cannot be started"), "{failure}");
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it runs");
}

/// Whether a process is there, or its remains that nobody has taken away.
fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn until_gone(pid: u32) {
    let start = Instant::now();
    while is_there(pid) {
        assert!(start.elapsed() < PATIENCE, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_process_that_is_killed_at_work_costs_that_message_and_is_taken_away() {
    let guest =
        started("process", "[limits]\nmessage-time = '20s'", handler("(loop br 0) i32.const 0"))
            .await;
    let pid = guest.pid().expect("a process");
    let handled = guest.handle(b"", session(&[]));
    let killed = async {
        // It is at work as soon as it is scheduled; killed before, the message fails as well.
        kill(pid);
    };
    let (handled, ()) = tokio::join!(handled, killed);
    let failure = handled.expect_err("it was killed");
    assert!(failure.to_string().contains("signal 9"), "{failure}");
    until_gone(pid).await;
    // One that nobody needs any more goes, too.
    let guest = started("process", "", counter()).await;
    let pid = guest.pid().expect("a process");
    drop(guest);
    until_gone(pid).await;
}

/// Deploys the counter as a package with a process of its own; that process.
async fn deploy(cluster: &Cluster, firmware: &str, lines: &str) -> u32 {
    let package = package("process", lines, &counter()).file().to_vec();
    cluster.deploy("n1", firmware, package).await;
    pid(cluster, firmware).await.expect("a process")
}

async fn pid(cluster: &Cluster, firmware: &str) -> Option<u32> {
    cluster.api("n1").firmware_of(&name(firmware)).await.ok()?.pid
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_process_costs_its_firmware_one_restart_and_nobody_else_anything() {
    let cluster = Cluster::of(1, &[("ODEUM_FIRMWARE__RESTART_PAUSE", "10ms")]).await;
    cluster.deploy("n1", "inside", counter()).await;
    let first = deploy(&cluster, "apart", "").await;
    let other = deploy(&cluster, "other", "").await;
    assert_ne!(first, cluster.pid("n1"));
    for firmware in ["inside", "apart", "other"] {
        assert_eq!(cluster.number("n1", firmware, "add 5").await, 5);
    }
    let at = Instant::now();
    kill(first);
    let second = cluster
        .until("another process", PATIENCE, async || {
            pid(&cluster, "apart").await.filter(|pid| *pid != first)
        })
        .await;
    println!("running again {:?} after the kill", at.elapsed());
    until_gone(first).await;
    assert!(is_there(second));
    // What it had acknowledged is in the store; the others did not notice.
    for firmware in ["inside", "apart", "other"] {
        assert_eq!(cluster.number("n1", firmware, "add 1").await, 6);
    }
    let summary = cluster.summary("n1", "apart").await;
    assert_eq!(summary.restarts, Some(1));
    assert!(summary.last_error.expect("an error").contains("signal 9"));
    for firmware in ["inside", "other"] {
        assert_eq!(cluster.summary("n1", firmware).await.restarts, Some(0));
    }
    assert_eq!(pid(&cluster, "other").await, Some(other));
    // A call at work is answered with what happened, and the next one works again.
    let spin = cluster.call("n1", "apart", "spin", PATIENCE);
    let killed = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        kill(second);
    };
    let (answer, ()) = tokio::join!(spin, killed);
    let error = answer.expect_err("it was killed").to_string();
    assert!(error.contains("host process failed"), "{error}");
    assert_eq!(cluster.number("n1", "apart", "add 1").await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_process_is_killed_serves_again() {
    let cluster = Cluster::of(1, &[("ODEUM_FIRMWARE__RESTART_PAUSE", "10ms")]).await;
    let package = package("process", "", &guest("http-component")).file().to_vec();
    cluster.deploy("n1", "server", package).await;
    let first = pid(&cluster, "server").await.expect("a process");
    let ports = fs::read(cluster.data("n1").join("ports.json")).expect("ports");
    let ports: serde_json::Value = serde_json::from_slice(&ports).expect("JSON");
    let url = format!("http://{}/f/server/echo", ports["api"].as_str().expect("an address"));
    let http = reqwest::Client::new();
    let echo = async || {
        let answer = http.post(&url).body("hello").send().await.ok()?;
        (answer.status() == 200).then_some(answer.text().await.ok()?)
    };
    assert_eq!(echo().await.as_deref(), Some("hello"));
    kill(first);
    cluster
        .until("another process", PATIENCE, async || {
            pid(&cluster, "server").await.filter(|pid| *pid != first)
        })
        .await;
    assert_eq!(echo().await.as_deref(), Some("hello"));
    assert_eq!(cluster.summary("n1", "server").await.restarts, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_outlives_its_node() {
    let mut cluster = Cluster::of(1, &[]).await;
    let (resting, busy) = (
        deploy(&cluster, "resting", "").await,
        deploy(&cluster, "busy", "[limits]\nmessage-time = '20s'").await,
    );
    let answer = cluster.call("n1", "resting", "add 2", PATIENCE).await.expect("answers");
    assert_eq!(count(&answer), 2);
    let spins = cluster.api("n1");
    let spinning = tokio::spawn(async move {
        let _ = spins.call(&name("busy"), b"spin".to_vec(), &Default::default()).await;
    });
    cluster.kill(&["n1".to_owned()]);
    until_gone(resting).await;
    until_gone(busy).await;
    spinning.abort();
    // In good order, too.
    cluster.start("n1", None).await;
    cluster.running("n1", "resting").await;
    let again =
        cluster.until("its process", PATIENCE, async || pid(&cluster, "resting").await).await;
    assert_eq!(cluster.stop("n1").await, Some(0));
    assert!(!is_there(again));
}
