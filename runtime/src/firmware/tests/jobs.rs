//! Commands of WASI preview 1: what they get of the world, what becomes of their end, and that none
//! harms its node.

use std::{fs, time::Duration};

use super::bench::{Ears, granting, ran, setting};
use super::stage::Stage;
use crate::firmware::{Grants, GuestFailure, GuestLimit, Hint, HostState};

/// A command whose `_start` is `body`, with what it may need of WASI. `$print` writes a piece of
/// memory to the standard output.
pub(super) fn command(body: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read"
            (func $fd_read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_open" (func $path_open
            (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_prestat_get"
            (func $prestat (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "clock_time_get"
            (func $clock (param i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 2)
          (data (i32.const 256) "hello\n")
          (data (i32.const 288) "file.txt")
          (func $print (param $at i32) (param $len i32)
            (i32.store (i32.const 16) (local.get $at))
            (i32.store (i32.const 20) (local.get $len))
            (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
          (func $recurse (param i32) (result i32)
            local.get 0 i32.const 1 i32.add call $recurse i32.const 1 i32.add)
          (func (export "_start") {body}))"#
    )
}

async fn ended(body: &str, manifest: &str) -> Result<(i32, Hint), GuestFailure> {
    ran(command(body), manifest, &setting()).await
}

#[tokio::test]
async fn what_it_prints_is_in_the_log_by_lines_and_its_exit_code_is_known() {
    let ears = Ears::open();
    let body = "(call $print (i32.const 256) (i32.const 6))
        (call $print (i32.const 256) (i32.const 3)) (call $exit (i32.const 7))";
    assert_eq!(ended(body, "").await.map(|(code, _)| code), Ok(7));
    let lines = ears.lines("guest log");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("stdout") && lines[0].contains("text=hello"), "{lines:?}");
    assert!(lines[1].contains("text=hel"), "{lines:?}");
    assert_eq!(ended("", "").await.map(|(code, _)| code), Ok(0));
}

#[tokio::test]
async fn it_gets_the_arguments_and_the_environment_of_its_manifest() {
    let ears = Ears::open();
    // Both are zero-terminated, one behind the other.
    let body = "(drop (call $args (i32.const 1024) (i32.const 2048)))
        (drop (call $env (i32.const 1024) (i32.const 3072)))
        (call $print (i32.const 2048) (i32.const 15)) (call $print (i32.const 3072) (i32.const 8))";
    ended(body, "args = ['--fast', '1']\n[environment]\nMODE = 'dry'").await.expect("ends");
    let heard = ears.heard();
    assert!(heard.contains("guest\\0--fast\\0") || heard.contains("guest\0--fast\0"), "{heard:?}");
    assert!(heard.contains("MODE=dry"), "{heard:?}");
}

#[tokio::test]
async fn a_variable_of_the_node_needs_the_word_of_both() {
    let manifest = "[capabilities]\nenvironment = ['PATH']";
    let failure = ended("", manifest).await.expect_err("is not granted").to_string();
    assert!(failure.contains("the variable PATH"), "{failure}");
    assert!(failure.contains("`packages.environment`"), "{failure}");
    let grants = Grants { environment: vec!["PATH".parse().expect("valid")], ..Grants::default() };
    let ears = Ears::open();
    let body = "(drop (call $env (i32.const 1024) (i32.const 3072)))
        (call $print (i32.const 3072) (i32.const 5))";
    ran(command(body), manifest, &granting(grants)).await.expect("ends");
    assert!(ears.heard().contains("PATH="), "{}", ears.heard());
}

/// Reads `file.txt` of the first folder and prints it; its exit code is the error.
const READ: &str = "(local $error i32)
    (local.set $error (call $path_open (i32.const 3) (i32.const 0) (i32.const 288) (i32.const 8)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (if (local.get $error) (then (call $exit (local.get $error))))
    (i32.store (i32.const 72) (i32.const 512)) (i32.store (i32.const 76) (i32.const 64))
    (drop (call $fd_read (i32.load (i32.const 64)) (i32.const 72) (i32.const 1) (i32.const 80)))
    (call $print (i32.const 512) (i32.load (i32.const 80)))";

/// Makes `file.txt` in the first folder; its exit code is the error.
const WRITE: &str = "(call $exit (call $path_open (i32.const 3) (i32.const 0) (i32.const 288)
    (i32.const 8) (i32.const 9) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))";

#[tokio::test]
async fn it_sees_the_folders_that_its_manifest_asks_for_and_its_node_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file.txt"), "contents\n").expect("writes");
    let host = folder.path().to_str().expect("text");
    let given = Grants { folders: vec![host.parse().expect("a path")], ..Grants::default() };
    let read = format!("[capabilities]\nfolders = [{{ guest = '/data', host = '{host}' }}]");
    let ears = Ears::open();
    let setting = granting(given);
    let ended = ran(command(READ), &read, &setting).await;
    assert_eq!(ended.map(|(code, _)| code), Ok(0));
    assert!(ears.heard().contains("text=contents"), "{}", ears.heard());
    // To be written needs a word of its own.
    fs::remove_file(folder.path().join("file.txt")).expect("removes");
    let (code, _) = ran(command(WRITE), &read, &setting).await.expect("ends");
    assert_ne!(code, 0);
    assert!(!folder.path().join("file.txt").exists());
    let write = read.replace(" }]", ", read-only = false }]");
    assert_eq!(ran(command(WRITE), &write, &setting).await.map(|(code, _)| code), Ok(0));
    assert!(folder.path().join("file.txt").exists());
}

#[tokio::test]
async fn a_folder_that_the_node_does_not_give_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).expect("a folder");
    // A link that leads out of what is given is not what is given.
    std::os::unix::fs::symlink("/etc", inside.join("link")).expect("links");
    let given = Grants {
        folders: vec![inside.to_str().expect("text").parse().expect("a path")],
        ..Grants::default()
    };
    for host in [folder.path().to_path_buf(), inside.join("link"), "/etc".into()] {
        let host = host.to_str().expect("text");
        let manifest = format!("[capabilities]\nfolders = [{{ guest = '/d', host = '{host}' }}]");
        let ended = ran(command(READ), &manifest, &granting(given.clone())).await;
        let failure = ended.expect_err("is refused").to_string();
        assert!(failure.contains(&format!("the folder {host}")), "{failure}");
        assert!(failure.contains("`packages.folders`"), "{failure}");
    }
}

#[tokio::test]
async fn what_is_not_granted_is_denied_with_the_line_that_would_allow_it() {
    let ears = Ears::open();
    let random = "(call $exit (call $random (i32.const 512) (i32.const 8)))";
    assert_eq!(ended(random, "").await.map(|(code, _)| code), Ok(76));
    assert!(ears.heard().contains("write `random = true` under `[capabilities]`"));
    let granted = ended(random, "[capabilities]\nrandom = true").await;
    assert_eq!(granted.map(|(code, _)| code), Ok(0));
    // A clock that is not granted stands still.
    let clock = "(drop (call $clock (i32.const 0) (i64.const 1) (i32.const 512)))
        (call $exit (i32.eqz (i64.eqz (i64.load (i32.const 512)))))";
    assert_eq!(ended(clock, "").await.map(|(code, _)| code), Ok(0));
    let granted = ended(clock, "[capabilities]\nclock = true").await;
    assert_eq!(granted.map(|(code, _)| code), Ok(1));
    let folders = "(drop (call $prestat (i32.const 3) (i32.const 512))) (call $exit (i32.const 1))";
    let (_, hint) = ended(folders, "").await.expect("ends");
    assert!(hint.to_string().contains("`folders = ["), "{hint}");
}

#[tokio::test]
async fn a_denial_in_a_loop_is_said_a_few_times() {
    let ears = Ears::open();
    let body = "(local $n i32) (loop
        (drop (call $random (i32.const 512) (i32.const 8)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $n) (i32.const 100000))))";
    ended(body, "").await.expect("ends");
    assert_eq!(ears.lines("denied").len(), 16);
}

#[tokio::test]
async fn a_flood_of_output_costs_a_bounded_log() {
    let ears = Ears::open();
    let body = "(local $n i32) (loop
        (call $print (i32.const 256) (i32.const 6))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $n) (i32.const 20000))))";
    ended(body, "").await.expect("ends");
    let (logged, dropped) = (ears.lines("guest log").len(), ears.lines("dropped").len());
    assert!(logged <= 10 * 256 && dropped >= 1, "{logged} {dropped}");
}

#[tokio::test]
async fn hostile_commands_end_by_their_limits() {
    let timed = "[limits]\nmessage-time = '100ms'";
    let loops = ended("(loop br 0)", timed).await;
    let time = GuestLimit::Time { allowed: Duration::from_millis(100) };
    assert_eq!(loops, Err(GuestFailure::Limit(time)));
    let recursion = ended("(drop (call $recurse (i32.const 0)))", "").await;
    let recursion = recursion.expect_err("traps").to_string();
    assert!(recursion.starts_with("call stack exhausted"), "{recursion}");
    let bomb = "(loop (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
        br 0)";
    let failure = ended(bomb, "").await.expect_err("is refused");
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Memory { .. })), "{failure}");
    let lies = "(call $exit (call $fd_write (i32.const 1) (i32.const -4) (i32.const -1)
        (i32.const 24)))";
    // A pointer outside of its memory is an error or a trap, and nothing else.
    match ended(lies, "").await {
        Ok((code, _)) => assert_ne!(code, 0),
        Err(failure) => assert!(matches!(failure, GuestFailure::Trapped { .. }), "{failure}"),
    }
}

#[tokio::test]
async fn a_table_bomb_is_refused_with_both_sizes() {
    let bomb = r#"(module (table $t 1 funcref) (memory (export "memory") 1)
        (func (export "_start") (loop
          (if (i32.eq (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1))
            (then unreachable)) br 0)))"#;
    let failure = ran(bomb, "[limits]\ntable-elements = 50000", &setting()).await;
    let failure = failure.expect_err("is refused");
    let GuestFailure::Limit(GuestLimit::Table { asked, allowed }) = failure else {
        panic!("{failure}")
    };
    assert!(allowed == 50_000 && asked > allowed, "{asked}");
}

/// Sleeps for a thousand seconds.
const SLEEP: &str = "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.store (i32.const 1040)
    (i32.const 1)) (i64.store (i32.const 1048) (i64.const 1000000000000))
    (drop (call $poll (i32.const 1024) (i32.const 1100) (i32.const 1) (i32.const 1200)))";

#[tokio::test]
async fn one_that_sleeps_holds_no_thread_and_can_be_ended() {
    // One thread: were it held, nothing here would go on.
    let asleep = command(SLEEP);
    let setting = setting();
    let job = ran(&asleep, "", &setting);
    let ended = tokio::time::timeout(Duration::from_millis(300), job).await;
    assert!(ended.is_err(), "it ended: {ended:?}");
}

#[tokio::test]
async fn a_job_that_completed_says_so_and_does_not_run_again_under_the_next_epoch() {
    let ears = Ears::open();
    let stage = Stage::new().await;
    let body = "(call $print (i32.const 256) (i32.const 6))";
    stage.deploy("once", command(body).as_bytes()).await;
    let status = stage.until_state("once", HostState::Completed { code: 0 }).await;
    assert_eq!(status.restarts, 0);
    let refused = stage.call("once", "r1", "hello").await.expect_err("takes no messages");
    assert!(refused.to_string().contains("is a job"), "{refused}");
    let epoch = stage.place("once", "n1");
    let ends = std::time::Instant::now() + super::stage::PATIENCE;
    while stage
        .status("once")
        .await
        .is_none_or(|it| it.epoch != epoch || it.state != HostState::Completed { code: 0 })
    {
        assert!(std::time::Instant::now() < ends, "not completed under {epoch}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ears.lines("text=hello").len(), 1, "{}", ears.heard());
}

#[tokio::test]
async fn a_job_that_fails_is_started_again_until_it_is_given_up() {
    let restarts = odeum_proto::store::RestartBudget {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(1),
        max_restarts: 3,
        ..Default::default()
    };
    let stage = Stage::with(restarts).await;
    stage.deploy("broken", command("(call $exit (i32.const 3))").as_bytes()).await;
    let status = stage.until_state("broken", HostState::Failed).await;
    let error = status.last_error.expect("an error");
    assert!(error.contains("it exited with code 3"), "{error}");
}

#[tokio::test]
async fn a_job_that_runs_forever_delays_nobody_and_ends_when_it_is_removed() {
    let stage = Stage::new().await;
    stage.deploy("forever", command("(loop br 0)").as_bytes()).await;
    stage.deploy("counter", super::COUNTER).await;
    stage.until_state("forever", HostState::Running).await;
    for n in 1..=5 {
        assert_eq!(stage.said("counter", &format!("r{n}"), "add 1").await, n.to_string());
    }
    stage.place("forever", "n2");
    let ends = std::time::Instant::now() + super::stage::PATIENCE;
    while stage.status("forever").await.is_some() {
        assert!(std::time::Instant::now() < ends, "it still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
