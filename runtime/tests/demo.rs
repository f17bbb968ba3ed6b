//! `odeum demo` as a person runs it: the real binary with its node processes.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// For what must happen soon, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(20);

/// The demo, with its temporary folders inside `temp`.
fn demo(temp: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odeum"));
    // What is compiled must not stay, either.
    command.arg("demo").env("TMPDIR", temp.path()).env("XDG_CACHE_HOME", temp.path());
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Processes with `path` somewhere on their command line: the nodes of a demo name their folders.
fn processes_naming(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("an ASCII path");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(path) {
            found.push(line);
        }
    }
    found
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not happen");
        sleep(Duration::from_millis(20));
    }
}

fn assert_nothing_left(temp: &TempDir) {
    assert_eq!(processes_naming(temp.path()), Vec::<String>::new());
    let files: Vec<_> = fs::read_dir(temp.path()).expect("the folder").flatten().collect();
    assert!(files.is_empty(), "left behind: {files:?}");
}

/// Reads the story until its third act: three nodes run, and messages flow.
fn until_messages_flow(demo: &mut Child) {
    let mut lines = BufReader::new(demo.stdout.as_mut().expect("piped")).lines();
    let reached = lines.any(|line| line.expect("text").starts_with("3. "));
    assert!(reached, "the demo ended before its third act");
}

fn signal(demo: &Child, signal: Signal) {
    let pid = Pid::from_raw(demo.id().try_into().expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("the demo runs");
}

fn words(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}\n{err}")
}

#[test]
fn the_demo_loses_no_count_doubles_none_and_leaves_nothing_behind() {
    let temp = TempDir::new().expect("a folder");
    let elsewhere = TempDir::new().expect("a folder");
    let json = elsewhere.path().join("demo.json");
    let output = demo(&temp).arg("--json").arg(&json).output().expect("it starts");
    assert!(output.status.success(), "{}: {}", output.status, words(&output));
    assert_nothing_left(&temp);

    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    let run = &report["runs"][0];
    assert_eq!((&run["lost"], &run["doubled"]), (&0.into(), &0.into()), "{run}");
    assert_eq!(run["acknowledged"], run["count"], "{run}");
    // To both other nodes, back, and off a node that is drained.
    assert_eq!(run["moves"], 4, "{run}");
    let story = String::from_utf8_lossy(&output.stdout);
    assert!(!story.contains('\u{1b}'), "no colour in a pipe: {story}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let temp = TempDir::new().expect("a folder");
        let mut demo = demo(&temp).spawn().expect("it starts");
        until_messages_flow(&mut demo);
        assert!(!processes_naming(temp.path()).is_empty());
        signal(&demo, sent);
        let mut status = None;
        eventually("the end of the demo", || {
            status = demo.try_wait().expect("a child");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(code));
        assert_nothing_left(&temp);
    }
}

#[test]
fn the_nodes_of_a_killed_demo_end_by_themselves() {
    let temp = TempDir::new().expect("a folder");
    let mut demo = demo(&temp).spawn().expect("it starts");
    until_messages_flow(&mut demo);
    demo.kill().expect("it runs");
    demo.wait().expect("a child");
    eventually("the end of the nodes", || processes_naming(temp.path()).is_empty());
}
