//! What firmware logs is told by any node of a cluster, and goes on when its node dies.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod cluster;

use std::time::{Duration, Instant};

use cluster::{Cluster, PATIENCE, name};
use odeum_runtime::api::{
    client::{ApiError, LogLines},
    types::{LogLine, LogOptions},
};
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

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
