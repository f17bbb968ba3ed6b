//! Hostile guests, as text.

use odeum_proto::session::Write;

use super::{
    COUNTER,
    bench::{session, setting},
    compile,
};
use crate::firmware::{Answer, Effect, Engine, GuestFailure, GuestLimit, Instance, Publisher};

/// A module whose handler is `body`, with all imports and a scratch area.
pub(super) fn guest(body: &str) -> String {
    format!(
        r#"(module
          (import "odeum" "var_get" (func $get (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "var_set" (func $set (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "var_delete" (func $delete (param i32 i32) (result i32)))
          (import "odeum" "reply" (func $reply (param i32 i32)))
          (import "odeum" "log" (func $log (param i32 i32 i32)))
          (memory (export "memory") 2)
          (data (i32.const 0) "key")
          (func (export "odeum_alloc") (param i32) (result i32) i32.const 1024)
          (func $recurse (param i32) (result i32)
            local.get 0 i32.const 1 i32.add call $recurse i32.const 1 i32.add)
          (func $handle (export "odeum_handle") (param i32 i32) (result i32) {body}))"#
    )
}

async fn started(engine: &Engine, file: &[u8]) -> Instance {
    let module = compile(engine, "", file).await.expect("compiles");
    Instance::start(&module, &setting(), Publisher::none()).await.expect("starts")
}

async fn outcome(body: &str) -> Result<Answer, GuestFailure> {
    let engine = Engine::new().expect("an engine");
    let instance = started(&engine, guest(body).as_bytes()).await;
    instance.handle(b"message", session(&[])).await.map(|(_, answer)| answer)
}

fn done(writes: &[(&str, &str)], reply: &str) -> Answer {
    let set = |&(key, value): &(&str, &str)| Write::Set {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
    };
    Answer::Done(Effect {
        writes: writes.iter().map(set).collect(),
        reply: reply.as_bytes().to_vec(),
        deeds: Vec::new(),
    })
}

#[tokio::test]
async fn the_counter_counts_in_its_session_and_keeps_its_heap() {
    let engine = Engine::new().expect("an engine");
    let counter = started(&engine, COUNTER).await;
    let (counter, answer) = counter.handle(b"", session(&[])).await.expect("handles");
    assert_eq!(answer, done(&[("count", "1")], "1"));
    let at_41 = session(&[("count", "41")]);
    let (counter, answer) = counter.handle(b"add 9", at_41.clone()).await.expect("handles");
    assert_eq!(answer, done(&[("count", "50")], "50"));
    let (counter, answer) = counter.handle(b"get", at_41.clone()).await.expect("handles");
    assert_eq!(answer, done(&[], "41"));
    let (counter, answer) = counter.handle(b"stats", at_41.clone()).await.expect("handles");
    assert_eq!(answer, done(&[], "handled 4"));
    let (counter, answer) = counter.handle(b"jump", at_41.clone()).await.expect("handles");
    assert!(matches!(answer, Answer::Refused { code: 1, .. }), "{answer:?}");
    let trapped = counter.handle(b"trap", at_41).await.expect_err("traps");
    assert!(trapped.to_string().contains("unreachable"), "{trapped}");
    assert!(trapped.to_string().contains("odeum_handle"), "{trapped}");
}

#[tokio::test]
async fn the_example_of_the_abi_document_runs() {
    let document = include_str!("../../../wit/odeum-actor-core.md");
    let (_, rest) = document.split_once("```wat\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("an end");
    let engine = Engine::new().expect("an engine");
    let instance = started(&engine, example.as_bytes()).await;
    let (_, answer) = instance.handle(b"hello", session(&[])).await.expect("handles");
    assert_eq!(answer, done(&[("last", "hello")], "hello"));
}

#[tokio::test]
async fn what_was_written_is_read_and_the_last_write_wins() {
    let body = "(drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3)))
        (drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 2)))
        (call $reply (i32.const 64)
          (call $get (i32.const 0) (i32.const 3) (i32.const 64) (i32.const 8)))
        i32.const 0";
    assert_eq!(outcome(body).await, Ok(done(&[("key", "ke")], "ke")));
}

#[tokio::test]
async fn a_value_larger_than_its_place_only_tells_its_size() {
    let engine = Engine::new().expect("an engine");
    let body = "(i32.store8 (i32.const 64)
          (call $get (i32.const 0) (i32.const 3) (i32.const 65) (i32.const 2)))
        (call $reply (i32.const 64) (i32.const 3)) i32.const 0";
    let instance = started(&engine, guest(body).as_bytes()).await;
    let (_, answer) = instance.handle(b"", session(&[("key", "abc")])).await.expect("handles");
    assert_eq!(answer, done(&[], "\u{3}\0\0"));
}

#[tokio::test]
async fn a_refusal_drops_what_was_written() {
    let body = "(drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3)))
        (call $reply (i32.const 0) (i32.const 3)) i32.const 7";
    assert_eq!(outcome(body).await, Ok(Answer::Refused { code: 7, reason: "key".into() }));
}

#[tokio::test]
async fn a_bad_name_is_an_error_code_and_not_the_end() {
    let body = "(if (i32.eq (i32.const -2)
          (call $set (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 3)))
        (then (call $reply (i32.const 0) (i32.const 3)))) i32.const 0";
    assert_eq!(outcome(body).await, Ok(done(&[], "key")));
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_time_and_delays_nobody() {
    let engine = Engine::new().expect("an engine");
    let looping = started(&engine, guest("(loop br 0) i32.const 0").as_bytes()).await;
    let mut counter = started(&engine, COUNTER).await;
    // One thread for both: without preemption the counter would wait for the end of the loop.
    let looping = looping.handle(b"", session(&[]));
    tokio::pin!(looping);
    let mut counted = 0;
    let ended = loop {
        tokio::select! {
            ended = &mut looping => break ended,
            handled = counter.handle(b"add 1", session(&[])) => {
                counter = handled.expect("handles").0;
                counted += 1;
                tokio::task::yield_now().await;
            }
        }
        // A cancelled message leaves no instance, so both are polled to their ends in turn.
        if counted == 3 {
            break looping.await;
        }
    };
    assert_eq!(counted, 3);
    let limit = GuestLimit::Time { allowed: setting().limits.message_time };
    assert_eq!(ended.map(|_| ()), Err(GuestFailure::Limit(limit)));
}

#[tokio::test]
async fn an_endless_start_ends_at_its_time() {
    let engine = Engine::new().expect("an engine");
    for start in
        ["(func $s (loop br 0)) (start $s)", r#"(func (export "odeum_start") (loop br 0))"#]
    {
        let text = guest("i32.const 0");
        let text = format!("{} {start})", text.trim_end_matches(')').to_owned() + ")");
        let module = compile(&engine, "", text).await.expect("compiles");
        let started = Instance::start(&module, &setting(), Publisher::none()).await;
        let failure = started.expect_err("does not start");
        assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Time { .. })), "{failure}");
    }
}

#[tokio::test]
async fn a_memory_bomb_is_refused_with_both_sizes() {
    let body =
        "(loop (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) br 0)
        i32.const 0";
    let failure = outcome(body).await.expect_err("is refused");
    let GuestFailure::Limit(GuestLimit::Memory { asked, allowed }) = failure else {
        panic!("{failure}")
    };
    assert_eq!(allowed, 4 << 20);
    assert!(asked > allowed && asked <= allowed + (1 << 20), "{asked}");
}

#[tokio::test]
async fn a_module_that_begins_with_too_much_memory_does_not_start() {
    let engine = Engine::new().expect("an engine");
    let text = guest("i32.const 0").replace(r#"(export "memory") 2"#, r#"(export "memory") 65"#);
    let module = compile(&engine, "", text).await.expect("compiles");
    let started = Instance::start(&module, &setting(), Publisher::none()).await;
    let failure = started.expect_err("does not start");
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Memory { .. })), "{failure}");
}

#[tokio::test]
async fn endless_recursion_traps() {
    let failure = outcome("i32.const 0 call $recurse").await.expect_err("traps");
    let GuestFailure::Trapped { reason, frames } = failure else { panic!("{failure}") };
    assert_eq!(&*reason, "call stack exhausted");
    assert_eq!(frames.first().map(|frame| &**frame), Some("recurse"));
}

#[tokio::test]
async fn a_giant_reply_is_refused() {
    let body = "(drop (memory.grow (i32.const 20)))
        (call $reply (i32.const 0) (i32.const 1048577)) i32.const 0";
    let limit = GuestLimit::Reply { got: (1 << 20) + 1, allowed: 1 << 20 };
    assert_eq!(outcome(body).await, Err(GuestFailure::Limit(limit)));
}

#[tokio::test]
async fn too_many_writes_are_refused() {
    let body =
        "(loop (drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3))) br 0)
        i32.const 0";
    assert_eq!(
        outcome(body).await,
        Err(GuestFailure::Limit(GuestLimit::Writes { allowed: 1_024 }))
    );
}

#[tokio::test]
async fn too_many_bytes_are_refused() {
    let body = "(drop (memory.grow (i32.const 8)))
        (loop (drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 262144))) br 0)
        i32.const 0";
    let failure = outcome(body).await.expect_err("is refused");
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::CommitBytes { .. })), "{failure}");
    let body = "(drop (memory.grow (i32.const 8)))
        (drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 262145))) i32.const 0";
    let failure = outcome(body).await.expect_err("is refused");
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Variable { .. })), "{failure}");
}

#[tokio::test]
async fn a_pointer_outside_of_memory_traps() {
    let failure = outcome("(call $reply (i32.const -4) (i32.const 8)) i32.const 0").await;
    let said = failure.expect_err("traps").to_string();
    assert!(said.starts_with("`odeum.reply` was given 8 bytes at 4294967292"), "{said}");
    assert!(said.ends_with("in handle"), "{said}");
}

#[tokio::test]
async fn an_allocator_that_lies_traps() {
    let engine = Engine::new().expect("an engine");
    for place in ["i32.const 0", "i32.const -1", "i32.const 131070"] {
        let text = guest("i32.const 0").replace("i32.const 1024", place);
        let instance = started(&engine, text.as_bytes()).await;
        let failure = instance.handle(b"message", session(&[])).await.expect_err("traps");
        assert!(failure.to_string().contains("odeum_alloc"), "{failure}");
    }
}

#[tokio::test]
async fn a_flood_of_log_lines_ends_with_the_time_and_nothing_else() {
    let body = "(loop (call $log (i32.const 2) (i32.const 0) (i32.const 65536)) br 0) i32.const 0";
    let failure = outcome(body).await.expect_err("ends");
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Time { .. })), "{failure}");
}
