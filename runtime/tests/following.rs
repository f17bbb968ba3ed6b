//! What firmware logs is told by any node of a cluster, and goes on when its node dies; and what the
//! commands that follow print of that.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod cluster;

use std::{
    fs,
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use cluster::{Cluster, PATIENCE, name};
use odeum_runtime::api::{
    client::{ApiError, LogLines},
    types::{LogLine, LogOptions},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

/// Logs each message and replies with it.
const ECHO: &[u8] = br#"(module
  (import "odeum" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 4)
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
    (call $log (i32.const 2) (local.get $ptr) (local.get $len))
    (i32.const 0)))"#;

const FOLLOW: LogOptions = LogOptions { tail: None, since: None, follow: true, after: None };

/// The next line that is not only a sign of life.
async fn next(lines: &mut LogLines, cluster: &Cluster) -> LogLine {
    loop {
        let line = timeout(PATIENCE, lines.next()).await;
        let line = line.unwrap_or_else(|_| panic!("no line in time\n{}", cluster.last_words()));
        match line.expect("the asked node is there").expect("it does not end") {
            LogLine::Progress { .. } => {}
            line => return line,
        }
    }
}

/// The next line that does not say `before` once more: a message whose answer was lost is sent
/// again, and logged again.
async fn next_after(before: &str, lines: &mut LogLines, cluster: &Cluster) -> LogLine {
    loop {
        match next(lines, cluster).await {
            LogLine::Line { text, .. } if text == before => {}
            line => return line,
        }
    }
}

/// Whether it is worth another try.
fn may_pass(error: &ApiError) -> bool {
    error.is_retryable() || error.code() == Some("deadline-exceeded")
}

/// Has the firmware log a line, asked through `via`.
async fn say(cluster: &Cluster, via: &str, text: &str) {
    let start = Instant::now();
    loop {
        match cluster.call(via, "echo", text, Duration::from_secs(5)).await {
            Ok(_) => return,
            Err(error) if start.elapsed() < PATIENCE && may_pass(&error) => {}
            Err(error) => panic!("{text}: {error}\n{}", cluster.last_words()),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// A line's text and node.
fn told(line: LogLine) -> (String, String) {
    match line {
        LogLine::Line { text, node, .. } => (text, node.to_string()),
        other => panic!("no line: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_followed_at_another_node_over_a_restart_and_the_death_of_the_node() {
    let mut cluster = Cluster::of(3, &[]).await;
    let host = cluster.deploy("n2", "echo", ECHO.to_vec()).await;
    let asked = cluster.other_than(&host);
    say(&cluster, &asked, "before").await;

    let mut lines = cluster.api(&asked).logs(&name("echo"), &FOLLOW).await.expect("lines");
    assert_eq!(told(next(&mut lines, &cluster).await), ("before".to_owned(), host.clone()));
    say(&cluster, &asked, "while").await;
    let line = next_after("before", &mut lines, &cluster).await;
    assert_eq!(told(line), ("while".to_owned(), host.clone()));

    let before = cluster.summary(&asked, "echo").await.epoch;
    let api = cluster.api(&asked);
    let restarted = async || api.restart_firmware(&name("echo")).await.ok();
    cluster.until("a restart", PATIENCE, restarted).await;
    say(&cluster, &asked, "restarted").await;
    assert_eq!(told(next_after("while", &mut lines, &cluster).await).0, "restarted");
    assert!(cluster.summary(&asked, "echo").await.epoch > before);

    cluster.kill(std::slice::from_ref(&host));
    let moved = next_after("restarted", &mut lines, &cluster).await;
    let LogLine::Moved { node: heir, .. } = moved else { panic!("{moved:?}") };
    assert_ne!(heir.to_string(), host);
    say(&cluster, &asked, "after").await;
    assert_eq!(told(next(&mut lines, &cluster).await), ("after".to_owned(), heir.to_string()));

    // Each survivor tells the events of all.
    for via in cluster.ids() {
        let events = cluster.api(&via).events(&name("echo")).await.expect("events");
        let started = events.iter().any(|it| it.event == "running" && it.node == heir);
        assert!(started, "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_a_node_that_ran_it_before_are_among_those_of_the_present_one() {
    let cluster = Cluster::of(3, &[]).await;
    let former = cluster.deploy("n2", "echo", ECHO.to_vec()).await;
    let asked = cluster.other_than(&former);
    say(&cluster, &asked, "first").await;
    // It loses its lease and lives on.
    cluster.signal(&former, Signal::STOP);
    let api = cluster.api(&asked);
    let present = cluster
        .until("another node to run it", 2 * PATIENCE, async || {
            let node = api.firmware_of(&name("echo")).await.ok()?.node?.to_string();
            (node != former).then_some(node)
        })
        .await;
    say(&cluster, &asked, "second").await;
    cluster.signal(&former, Signal::CONT);
    let said = [("first".to_owned(), former), ("second".to_owned(), present)];
    cluster
        .until("the lines of both nodes", PATIENCE, async || {
            let mut lines = api.logs(&name("echo"), &LogOptions::default()).await.ok()?;
            let mut all = Vec::new();
            while let Some(line) = lines.next().await.ok()? {
                // A message whose answer was lost is sent again, and logged again.
                let line = told(line);
                if all.last() != Some(&line) {
                    all.push(line);
                }
            }
            (all == said).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_too_slowly_is_told_how_many_lines_it_missed() {
    let cluster = Cluster::of(1, &[("ODEUM_FIRMWARE__LOG_LINES", "4")]).await;
    cluster.deploy("n1", "echo", ECHO.to_vec()).await;
    let api = cluster.api("n1");
    say(&cluster, "n1", "first").await;
    let mut lines = api.logs(&name("echo"), &FOLLOW).await.expect("lines");
    let first = next(&mut lines, &cluster).await;
    let LogLine::Line { cursor, .. } = first else { panic!("{first:?}") };
    drop(lines);
    for number in 0..10 {
        say(&cluster, "n1", &number.to_string()).await;
    }
    let options = LogOptions { after: Some(cursor.into()), ..LogOptions::default() };
    let mut lines = api.logs(&name("echo"), &options).await.expect("lines");
    let mut all = Vec::new();
    while let Some(line) = lines.next().await.expect("a line") {
        all.push(line);
    }
    // A message whose answer was lost was logged more than once.
    assert!(matches!(all[0], LogLine::Missed { lines: 6.., .. }), "{all:?}");
    let texts: Vec<String> = all.drain(1..).map(|line| told(line).0).collect();
    assert_eq!((texts.len(), texts[3].as_str()), (4, "9"), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_ends_when_the_firmware_is_deleted() {
    let cluster = Cluster::of(1, &[]).await;
    cluster.deploy("n1", "echo", ECHO.to_vec()).await;
    let api = cluster.api("n1");
    let mut lines = api.logs(&name("echo"), &FOLLOW).await.expect("lines");
    api.delete_firmware(&name("echo")).await.expect("deleted");
    let end = next(&mut lines, &cluster).await;
    assert!(matches!(&end, LogLine::End { reason } if reason.contains("deleted")), "{end:?}");
    assert!(lines.next().await.expect("no error").is_none());
}

/// A command that goes on until somebody ends it. It is killed when the test ends.
struct Follower {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(cluster: &Cluster, via: &str, arguments: &[&str]) -> Self {
        // Who starts tests in the background may have them ignore SIGINT, and so their children.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_odeum")]);
        command.args(arguments).args(["--api-url", cluster.api(via).url().as_str()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().expect("the command starts");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, lines }
    }

    /// Reads up to the line that has `text` in it.
    async fn until(&mut self, text: &str, cluster: &Cluster) {
        let mut before = Vec::new();
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| {
                panic!("no {text:?} behind {before:?}\n{}", cluster.last_words())
            });
            match line.expect("text").expect("it goes on") {
                line if line.contains(text) => return,
                line => before.push(line),
            }
        }
    }

    /// What a person does with Ctrl-C.
    fn interrupt(&self) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), Signal::INT).expect("it runs");
    }

    /// How it ends, within `patience`, with what it said beside its lines.
    async fn end(mut self, patience: Duration) -> (ExitStatus, String) {
        let status = timeout(patience, self.process.wait()).await.expect("it ends").expect("ours");
        let (mut said, mut stderr) = (String::new(), self.process.stderr.take().expect("piped"));
        stderr.read_to_string(&mut said).await.expect("text");
        (status, said)
    }
}

/// Both commands, which have printed what there was before.
async fn followers(cluster: &Cluster, via: &str) -> [Follower; 2] {
    let mut logs = Follower::start(cluster, via, &["logs", "echo", "-f"]);
    logs.until("before", cluster).await;
    let mut events = Follower::start(cluster, via, &["get", "events", "echo", "-f"]);
    events.until("  running ", cluster).await;
    [logs, events]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_follow_print_what_comes_until_ctrl_c() {
    let cluster = Cluster::of(1, &[]).await;
    cluster.deploy("n1", "echo", ECHO.to_vec()).await;
    say(&cluster, "n1", "before").await;
    let [mut logs, mut events] = followers(&cluster, "n1").await;
    say(&cluster, "n1", "while").await;
    logs.until("while", &cluster).await;
    cluster.api("n1").restart_firmware(&name("echo")).await.expect("is restarted");
    events.until("  running ", &cluster).await;
    for follower in [logs, events] {
        follower.interrupt();
        let (status, said) = follower.end(PATIENCE).await;
        assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{said}");
        assert!(!said.contains("error"), "{said}");
    }
}

/// A port that nobody is given who asks for any, so that it is still free when its node is back; 0 where
/// there is none.
fn own_port() -> u16 {
    let given = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = given.split_whitespace().next().and_then(|first| first.parse().ok());
    let own = 10_000_u16..first.unwrap_or(32_768);
    // Tests of other folders that run beside this one begin to look elsewhere.
    let begin = usize::try_from(std::process::id() % 10_000).expect("it is small");
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    own.clone().skip(begin).chain(own).find(is_free).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_follow_go_on_when_their_node_is_back_until_the_firmware_is_deleted() {
    let mut cluster = Cluster::empty(&[]).await;
    let api = format!("127.0.0.1:{}", own_port());
    cluster.start_with("n1", None, &["--api", &api]).await;
    cluster.whole().await;
    cluster.deploy("n1", "echo", ECHO.to_vec()).await;
    say(&cluster, "n1", "before").await;
    let [mut logs, mut events] = followers(&cluster, "n1").await;
    let api = cluster.api("n1").url().clone();
    let api = format!("127.0.0.1:{}", api.port().expect("a port"));
    cluster.kill(&["n1".to_owned()]);
    cluster.start_with("n1", None, &["--api", &api]).await;
    cluster.running("n1", "echo").await;
    say(&cluster, "n1", "after").await;
    logs.until("after", &cluster).await;
    events.until("  running ", &cluster).await;
    cluster.api("n1").delete_firmware(&name("echo")).await.expect("is deleted");
    for follower in [logs, events] {
        let (status, said) = follower.end(PATIENCE).await;
        assert!(status.success(), "{said}");
        assert!(said.trim_end().ends_with("echo is deleted"), "{said}");
    }
}

/// Longer than a node that has gone is looked for: a minute.
const GONE_FOR_GOOD: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_follow_end_with_an_error_when_their_node_is_gone_for_good() {
    let mut cluster = Cluster::of(1, &[]).await;
    cluster.deploy("n1", "echo", ECHO.to_vec()).await;
    say(&cluster, "n1", "before").await;
    let followers = followers(&cluster, "n1").await;
    assert_eq!(cluster.stop("n1").await, Some(0));
    for follower in followers {
        let (status, said) = follower.end(GONE_FOR_GOOD).await;
        assert_eq!(status.code(), Some(1), "{said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: no node answers at "), "{said}");
    }
}
