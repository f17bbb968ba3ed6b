//! Reactors of WASI preview 1: guests of the core ABI with WASI beside it, and such as know nothing
//! of Odeum.

use std::time::Duration;

use odeum_proto::session::Write;

use super::bench::{Ears, session, started};
use super::stage::Stage;
use crate::firmware::{Answer, Effect, GuestFailure, GuestLimit, Ledger as _};

/// A reactor of the core ABI, whose handler is `body`.
fn reactor(body: &str) -> String {
    format!(
        r#"(module
          (import "odeum" "var_set" (func $set (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "reply" (func $reply (param i32 i32)))
          (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 2)
          (data (i32.const 256) "ready\n")
          (func (export "_initialize")
            (i32.store (i32.const 16) (i32.const 256)) (i32.store (i32.const 20) (i32.const 6))
            (drop (call $fd_write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 24))))
          (func (export "odeum_alloc") (param i32) (result i32) i32.const 65536)
          (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
            {body} i32.const 0))"#
    )
}

fn reply(text: &str) -> Answer {
    Answer::Done(Effect { reply: text.as_bytes().to_vec(), ..Effect::default() })
}

#[tokio::test]
async fn it_is_initialized_and_then_handles_messages_with_their_effects() {
    let ears = Ears::open();
    let body = "(drop (call $set (i32.const 256) (i32.const 5) (local.get $ptr) (local.get $len)))
        (call $reply (local.get $ptr) (local.get $len))";
    let reactor = started(&reactor(body), "").await.expect("starts");
    assert!(ears.lines("stderr").iter().any(|line| line.contains("ready")), "{}", ears.heard());
    let (reactor, answer) = reactor.handle(b"one", session(&[])).await.expect("handles");
    let set = Write::Set { key: "ready".to_owned(), value: b"one".to_vec() };
    let done =
        Answer::Done(Effect { writes: vec![set], reply: b"one".to_vec(), ..Effect::default() });
    assert_eq!(answer, done);
    let (_, answer) = reactor.handle(b"", session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Done(_)));
}

#[tokio::test]
async fn one_that_is_deployed_is_called_and_its_writes_outlive_its_traps() {
    let stage = Stage::new().await;
    let body = "(drop (call $set (i32.const 256) (i32.const 5) (local.get $ptr) (local.get $len)))
        (call $reply (local.get $ptr) (local.get $len))
        (if (i32.eq (local.get $len) (i32.const 4)) (then unreachable))";
    stage.deploy("reactor", reactor(body).as_bytes()).await;
    assert_eq!(stage.said("reactor", "r1", "one").await, "one");
    assert_eq!(stage.said("reactor", "r1", "two").await, "one", "it is the same request");
    let trapped = stage.call("reactor", "r2", "trap").await.expect_err("traps");
    assert!(trapped.to_string().contains("unreachable"), "{trapped}");
    let ready = || stage.shelf.variable(&"reactor/default".parse().expect("valid"), "ready");
    assert_eq!(ready().as_deref(), Some(&b"one"[..]), "what it wrote before it trapped is dropped");
    assert_eq!(stage.said("reactor", "r3", "three").await, "three");
    assert_eq!(ready().as_deref(), Some(&b"three"[..]));

    stage.deploy("stranger", STRANGER.as_bytes()).await;
    assert_eq!(stage.said("stranger", "r1", "add 2 40").await, "42");
    assert_eq!(stage.said("stranger", "r2", "count").await, "41");
    stage.call("stranger", "r3", "trap").await.expect_err("traps");
    assert_eq!(stage.said("stranger", "r4", "count").await, "40", "another instance has begun");
}

/// Knows nothing of Odeum.
const STRANGER: &str = r#"(module
    (global $begun (mut i32) (i32.const 0))
    (func (export "_initialize") (global.set $begun (i32.const 40)))
    (func (export "add") (param i32 i32) (result i32)
      (global.set $begun (i32.add (global.get $begun) (i32.const 1)))
      (i32.add (local.get 0) (local.get 1)))
    (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
    (func (export "count") (result i32) (global.get $begun))
    (func (export "trap") unreachable))"#;

#[tokio::test]
async fn one_that_knows_nothing_of_odeum_is_called_by_name() {
    let mut stranger = started(STRANGER, "").await.expect("starts");
    for (message, said) in [
        (&b"add 2 40"[..], reply("42")),
        (b"add -1 4294967295", reply("-2")),
        (b"half 3", reply("1.5")),
        (b"count", reply("42")),
        (
            b"add 1",
            Answer::Refused { code: 1, reason: "`add` takes 2 numbers, 1 were given".into() },
        ),
        (
            b"add 1 x",
            Answer::Refused { code: 1, reason: "\"x\" is no i32, which `add` takes".into() },
        ),
    ] {
        let (next, answer) = stranger.handle(message, session(&[])).await.expect("handles");
        assert_eq!(answer, said);
        stranger = next;
    }
    let (stranger, answer) = stranger.handle(b"nope", session(&[])).await.expect("handles");
    let Answer::Refused { reason, .. } = answer else { panic!("{answer:?}") };
    assert!(reason.contains("there are _initialize, add, half, count, trap"), "{reason}");
    let (stranger, answer) = stranger.handle(b"\xff", session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Refused { .. }));
    let failure = stranger.handle(b"trap", session(&[])).await.expect_err("traps");
    assert!(failure.to_string().contains("unreachable"), "{failure}");
}

#[tokio::test]
async fn one_that_exits_is_gone() {
    let reactor = started(&reactor("(call $exit (i32.const 5))"), "").await.expect("starts");
    let failure = reactor.handle(b"m", session(&[])).await.expect_err("exits");
    assert!(matches!(failure, GuestFailure::Exited { code: 5, .. }), "{failure}");
}

#[tokio::test]
async fn one_that_loops_or_waits_is_ended() {
    let looping = started(&reactor("(loop br 0)"), "").await.expect("starts");
    let failure = looping.handle(b"m", session(&[])).await.expect_err("is ended");
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Time { .. })), "{failure}");
    let sleep = "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.store (i32.const 1040)
        (i32.const 1)) (i64.store (i32.const 1048) (i64.const 1000000000000))
        (drop (call $poll (i32.const 1024) (i32.const 1100) (i32.const 1) (i32.const 1200)))";
    let sleeping = started(&reactor(sleep), "").await.expect("starts");
    let failure = sleeping.handle(b"m", session(&[])).await.expect_err("is ended");
    let limit = GuestLimit::Waiting { allowed: Duration::from_secs(2) };
    assert_eq!(failure, GuestFailure::Limit(limit));
}

#[tokio::test]
async fn an_endless_initialize_is_ended() {
    let text = STRANGER.replace("(global.set $begun (i32.const 40))", "(loop br 0)");
    let failure = started(&text, "").await.expect_err("is ended");
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Time { .. })), "{failure}");
}

/// Was built for another host, with bindings that name exports with their types.
const TYPED: &str = r#"(module
    (import "elsewhere" "paint" (func $paint (param i32)))
    (import "canonical_abi" "resource_new_value" (func $new (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get"
      (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1025))
    (global $freed (mut i32) (i32.const 0))
    (func (export "_initialize"))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "echo: func(text: string) -> string") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))
      (i32.const 16))
    (func (export "cabi_post_echo") (param i32)
      (global.set $freed (i32.add (global.get $freed) (local.get 0))))
    (func (export "second: func(texts: list<string>) -> string") (param i32 i32) (result i32)
      (i32.add (local.get 0) (i32.const 8)))
    (func (export "keep: func(text: string) -> tuple<handle<value>, s32>") (param i32 i32)
      (result i32)
      (i32.store (i32.const 16) (call $new (local.get 1))) (i32.store (i32.const 20) (i32.const -2))
      (i32.const 16))
    (func (export "far: func() -> string") (result i32) (i32.const -4))
    (func (export "freed") (result i32) (global.get $freed))
    (func (export "random") (result i32) (call $random (i32.const 0) (i32.const 4)))
    (func (export "paint") (call $paint (i32.const 1))))"#;

const TRAP: &str = "missing-imports = 'trap'";

#[tokio::test]
async fn texts_go_through_the_memory_of_a_guest_and_come_back() {
    let mut typed = started(TYPED, TRAP).await.expect("starts");
    let refused = |reason: &str| Answer::Refused { code: 1, reason: reason.into() };
    for (message, said) in [
        (r#"echo "a b\n""#, reply("a b\n")),
        (r#" echo  "" "#, reply("")),
        (r#"second ["x", "y z"]"#, reply("y z")),
        (r#"keep "four""#, reply("4 -2")),
        ("freed", reply("32")),
        ("echo 1", refused("`echo` takes 2 numbers, 1 were given")),
        (r#"freed "x""#, refused("`freed` takes 0 numbers, 2 were given")),
    ] {
        let (next, answer) = typed.handle(message.as_bytes(), session(&[])).await.expect("handles");
        assert_eq!(answer, said, "{message}");
        typed = next;
    }
    let (typed, answer) = typed.handle(b"echo \"open", session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    let failure = typed.handle(b"far", session(&[])).await.expect_err("there is no such text");
    assert!(failure.to_string().contains("outside of its memory"), "{failure}");
    let stranger = started(STRANGER, "").await.expect("starts");
    let (_, answer) = stranger.handle(br#"add "x""#, session(&[])).await.expect("handles");
    let Answer::Refused { reason, .. } = answer else { panic!("{answer:?}") };
    assert!(reason.contains("`cabi_realloc: (i32, i32, i32, i32) -> i32`"), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_called_is_refused_however_long_it_is_and_the_guest_goes_on() {
    let mut stranger = started(STRANGER, "").await.expect("starts");
    // Written as text that can be printed it is more than a guest may reply.
    let long = "\u{1}".repeat(300_000);
    for message in [long.clone(), format!("add 1 {long}")] {
        let handled = stranger.handle(message.as_bytes(), session(&[])).await;
        let (next, answer) = handled.expect("it goes on");
        assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
        stranger = next;
    }
    let (_, answer) = stranger.handle(b"add 2 40", session(&[])).await.expect("handles");
    assert_eq!(answer, reply("42"));
}

#[tokio::test]
async fn a_function_that_there_is_not_ends_the_guest_that_calls_it_and_names_itself() {
    let typed = started(TYPED, TRAP).await.expect("starts");
    let (typed, answer) = typed.handle(b"random", session(&[])).await.expect("handles");
    assert_eq!(answer, reply("76"), "what is denied is an error of WASI all the same");
    let failure = typed.handle(b"paint", session(&[])).await.expect_err("traps").to_string();
    assert!(failure.contains("the import elsewhere.paint, which nothing here has"), "{failure}");
}

#[tokio::test]
async fn a_function_that_there_is_not_is_named_in_short_however_long_its_name_is() {
    let [module, name, caller] = ["x", "y", "z"].map(|letter| letter.repeat(50_000));
    let text = TYPED
        .replace("elsewhere", &module)
        .replace(r#""paint" (func"#, &format!(r#""{name}" (func"#))
        .replace(r#"(func (export "paint")"#, &format!(r#"(func ${caller} (export "paint")"#));
    let typed = started(&text, TRAP).await.expect("starts");
    let failure = typed.handle(b"paint", session(&[])).await.expect_err("traps").to_string();
    assert!(failure.contains(".yyy") && failure.contains("which nothing here has"), "{failure}");
    assert!(failure.len() < 3_000, "{} bytes", failure.len());
}

#[tokio::test]
async fn a_place_for_a_text_is_neither_nowhere_nor_outside_of_the_memory() {
    const AT: &str = "(i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8))";
    for at in ["0", "-4", "65534"] {
        let text = TYPED.replace(AT, &format!("(i32.const {at})"));
        for message in [&br#"echo "abc""#[..], br#"second ["abc", "d"]"#] {
            let typed = started(&text, TRAP).await.expect("starts");
            let failure = typed.handle(message, session(&[])).await.expect_err("is ended");
            let said = format!("`cabi_realloc` was asked for 3 bytes and gave {at}, which is not");
            assert!(failure.to_string().contains(&said), "{failure}");
        }
    }
}
