//! Firmlets: what they are told, what they get back, what they publish.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use odeum_proto::call::CallRequest;

use super::bench::{Ears, compiled, session, setting, started};
use super::compile;
use super::stage::{PATIENCE, Stage, entity};
use crate::firmware::{
    Answer, Arrival, Effect, Engine, GuestFailure, GuestLimit, Instance, Publisher,
};

/// A firmlet. `$say` publishes a piece of its memory as the reply; `$code` a code as a digit pair.
pub(super) fn firmlet(exports: &str) -> String {
    format!(
        r#"(module
          (import "env" "tw_log" (func $log (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "tw_mqtt_publish" (func $publish (param i32 i32 i32 i32) (result i32)))
          (import "env" "tw_open" (func $open (param i32 i32 i32 i32) (result i32)))
          (import "env" "tw_close" (func $close (param i32) (result i32)))
          (import "env" "tw_read" (func $read (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "tw_write" (func $write (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "odeum/reply")
          (data (i32.const 16) "/dev/clock")
          (data (i32.const 32) "out/x")
          (data (i32.const 84) "\ff")
          (data (i32.const 48) "\06\00\00\00b\00a\00d\00\06\00\00\00a\00.\00t\00")
          (global $started (mut i32) (i32.const -1))
          (func $say (param i32 i32)
            (drop (call $publish (i32.const 0) (i32.const 11) (local.get 0) (local.get 1))))
          (func $code (param i32)
            (i32.store (i32.const 100) (local.get 0)) (call $say (i32.const 100) (i32.const 4)))
          {exports})"#
    )
}

/// One whose `_on_message_received` is `body`.
fn hearing(body: &str) -> String {
    firmlet(&format!(
        r#"(func (export "_start") (param i32) (global.set $started (local.get 0)))
        (func (export "_on_message_received")
          (param $topic i32) (param $tlen i32) (param $ptr i32) (param $len i32) {body})"#
    ))
}

async fn said(body: &str, manifest: &str) -> Result<Vec<u8>, GuestFailure> {
    let instance = started(&hearing(body), manifest).await?;
    let arrival = Arrival::Published { topic: "in/y", payload: b"payload" };
    match instance.handle(arrival, session(&[])).await?.1 {
        Answer::Done(Effect { reply, .. }) => Ok(reply),
        refused => panic!("{refused:?}"),
    }
}

async fn code(body: &str, manifest: &str) -> i32 {
    let reply = said(&format!("(call $code {body})"), manifest).await.expect("handles");
    i32::from_le_bytes(reply.try_into().expect("a code"))
}

#[tokio::test]
async fn it_is_initialized_with_its_name_started_and_disposed_of() {
    let ears = Ears::open();
    let text = firmlet(
        r#"(func (export "_initialize") (param i32 i32)
          (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (local.get 0) (local.get 1))))
        (func (export "_start") (param i32)
          (drop (call $log (i32.const 1) (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 4))))
        (func (export "_dispose") (param i32)
          (drop (call $log (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 10))))"#,
    );
    let instance = started(&text, "").await.expect("starts");
    let (instance, answer) = instance.handle(b"m", session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Refused { .. }), "it takes no messages: {answer:?}");
    instance.end().await;
    let logged: Vec<String> = ears.lines("guest log");
    for (line, (level, text)) in logged.iter().zip([
        ("INFO", "text=guest"),
        ("WARN", "text=out/x: /dev"),
        ("ERROR", "clock"),
    ]) {
        assert!(line.contains(level) && line.contains(text), "{logged:?}");
    }
    assert_eq!(logged.len(), 3);
}

#[tokio::test]
async fn it_is_told_topic_and_payload_and_may_reply() {
    assert_eq!(
        said("(call $say (local.get $topic) (local.get $tlen))", "").await,
        Ok(b"in/y".into())
    );
    assert_eq!(
        said("(call $say (local.get $ptr) (local.get $len))", "").await,
        Ok(b"payload".into())
    );
    assert_eq!(code("(global.get $started)", "").await, 0);
    let echo = started(&hearing("(call $say (local.get $ptr) (local.get $len))"), "").await;
    let (echo, answer) = echo.expect("starts").handle(b"", session(&[])).await.expect("handles");
    assert_eq!(answer, Answer::Done(Effect::default()));
    // Larger than what there was room for, many times over, and then small again.
    let large = vec![b'x'; 1 << 19];
    let (echo, answer) = echo.handle(&large[..], session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Done(Effect { reply, .. }) if reply == large));
    let before = echo.memory_bytes();
    let (echo, _) = echo.handle(&large[..], session(&[])).await.expect("handles");
    assert_eq!(echo.memory_bytes(), before, "room is used again");
}

#[tokio::test]
async fn what_it_is_told_lies_in_no_memory_of_its_own() {
    // An allocator that takes all memory there is when it is first used, and marks its end: what it
    // was told first must not be overwritten, and later messages lie behind what it took.
    let text = firmlet(
        r#"(global $end (mut i32) (i32.const 0))
        (func (export "_initialize") (param i32 i32)
          (global.set $end (i32.mul (memory.size) (i32.const 65536)))
          (i64.store (i32.sub (global.get $end) (i32.const 8)) (i64.const -1))
          (i64.store (i32.sub (global.get $end) (i32.const 16)) (i64.const -1))
          (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (local.get 0) (local.get 1))))
        (func (export "_start") (param i32))
        (func (export "_on_message_received")
          (param $topic i32) (param $tlen i32) (param $ptr i32) (param $len i32)
          (call $code (i32.lt_u (local.get $topic) (global.get $end))))"#,
    );
    let ears = Ears::open();
    let instance = started(&text, "").await.expect("starts");
    assert_eq!(ears.lines("text=guest").len(), 1, "{}", ears.heard());
    let (_, answer) = instance.handle(b"m", session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Done(Effect { reply, .. }) if reply == [0; 4]));
}

#[tokio::test]
async fn one_with_an_allocator_is_asked_for_room() {
    let text = hearing("(call $say (local.get $ptr) (local.get $len))").replace(
        "(global $started",
        r#"(global $used (mut i32) (i32.const 0))
        (func (export "malloc") (param i32) (result i32)
          (global.set $used (i32.add (global.get $used) (i32.const 1))) (i32.const 4096))
        (func (export "free") (param i32)
          (global.set $used (i32.sub (global.get $used) (i32.const 1))))
        (global $started"#,
    );
    let instance = started(&text, "").await.expect("starts");
    let before = instance.memory_bytes();
    let (instance, answer) = instance.handle(b"hello", session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Done(Effect { reply, .. }) if reply == b"hello"));
    assert_eq!(instance.memory_bytes(), before);
    // One that lies is ended.
    let text = text.replace("(i32.const 4096)", "(i32.const 65535)");
    let failure = started(&text, "").await.expect("starts").handle(b"hello", session(&[])).await;
    assert!(failure.expect_err("traps").to_string().contains("no room"));
}

#[tokio::test]
async fn one_that_is_deployed_is_called_under_the_topic_that_the_call_names() {
    let stage = Stage::new().await;
    let text = hearing(
        "(if (i32.eqz (local.get $len)) (then unreachable))
        (if (i32.eq (local.get $len) (i32.const 1))
          (then (call $say (local.get $topic) (local.get $tlen)))
          (else (call $say (local.get $ptr) (local.get $len))))",
    );
    stage.deploy("lamp", text.as_bytes()).await;
    assert_eq!(stage.said("lamp", "r1", "hello").await, "hello");
    assert_eq!(stage.said("lamp", "r2", "?").await, "odeum/call");
    let call = CallRequest {
        entity: entity("lamp"),
        request: "r3".parse().expect("valid"),
        session: Some("lamps/1/set".into()),
        body: b"?".to_vec(),
        remaining: PATIENCE,
    };
    let reply = stage.deliver(call).await.expect("replies");
    assert_eq!(reply.body, b"lamps/1/set");
    let trapped = stage.call("lamp", "r4", "").await.expect_err("traps");
    assert!(trapped.to_string().contains("unreachable"), "{trapped}");
    assert_eq!(stage.said("lamp", "r5", "again").await, "again");
}

const CLOCK: &str = "[capabilities]\nclock = true";

#[tokio::test]
async fn the_clock_is_denied_with_the_line_that_allows_it_and_tells_dotnet_ticks() {
    let open = "(call $open (i32.const 16) (i32.const 10) (i32.const 0) (i32.const 0))";
    let ears = Ears::open();
    assert_eq!(code(open, "").await, -32);
    assert!(ears.heard().contains("write `clock = true` under `[capabilities]`"));
    assert_eq!(code(open, CLOCK).await, 1);
    let read = format!(
        "(drop (call $read {open} (i32.const 200) (i32.const 64) (i32.const 8) (i32.const 0)))
        (call $say (i32.const 200) (i32.const 8))"
    );
    let reply = said(&read, CLOCK).await.expect("reads");
    let ticks = u64::from_le_bytes(reply.try_into().expect("8 bytes"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let seconds = ticks / 10_000_000 - 62_135_596_800;
    assert!(now.abs_diff(seconds) < 60, "{seconds} is not about {now}");
}

#[tokio::test]
async fn every_import_gives_the_codes_of_its_document() {
    let opened = "(call $open (i32.const 16) (i32.const 10) (i32.const 0) (i32.const 0))";
    for (call, expected) in [
        ("(call $log (i32.const 2) (i32.const -1) (i32.const 9) (i32.const 0) (i32.const 1))", -2),
        ("(call $open (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 0))", -31),
        ("(call $open (i32.const 16) (i32.const 10) (i32.const 7) (i32.const 0))", -20),
        ("(call $open (i32.const 16) (i32.const 10) (i32.const 1) (i32.const 0))", -32),
        ("(call $open (i32.const -1) (i32.const 10) (i32.const 0) (i32.const 0))", -2),
        ("(call $close (i32.const 9))", -20),
        (&format!("(call $close {opened})"), 0),
        (
            &format!(
                "(call $read {opened} (i32.const 200) (i32.const 4) (i32.const 8) (i32.const 0))"
            ),
            -21,
        ),
        (
            &format!(
                "(call $read {opened} (i32.const 200) (i32.const 4) (i32.const -1) (i32.const 0))"
            ),
            -21,
        ),
        (
            &format!(
                "(call $read {opened} (i32.const 200) (i32.const 8) (i32.const 8) (i32.const 1))"
            ),
            -20,
        ),
        (
            &format!(
                "(call $read {opened} (i32.const -4) (i32.const 8) (i32.const 8) (i32.const 0))"
            ),
            -2,
        ),
        (
            &format!(
                "(call $read {opened} (i32.const 200) (i32.const 64) (i32.const 64) (i32.const 0))"
            ),
            8,
        ),
        (
            &format!(
                "(call $write {opened} (i32.const 200) (i32.const 8) (i32.const 8) (i32.const 0))"
            ),
            -32,
        ),
        ("(call $open (i32.const 84) (i32.const 1) (i32.const 0) (i32.const 0))", -22),
        ("(call $publish (i32.const 84) (i32.const 1) (i32.const 0) (i32.const 0))", -22),
        ("(call $publish (i32.const 32) (i32.const 0) (i32.const 0) (i32.const 0))", -20),
        ("(call $publish (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 1))", -32),
        ("(call $publish (i32.const 32) (i32.const 5) (i32.const 0) (i32.const -1))", -2),
    ] {
        assert_eq!(code(call, CLOCK).await, expected, "{call}");
    }
    let granted = format!("{CLOCK}\n[capabilities.mqtt]\npublish = ['out/+']");
    let publish = "(call $publish (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 1))";
    assert_eq!(code(publish, &granted).await, -10, "there is no broker");
}

#[tokio::test]
async fn one_that_aborts_says_why() {
    let body = "(call $abort (i32.const 52) (i32.const 62) (i32.const 7) (i32.const 3))";
    let failure = said(body, "").await.expect_err("aborts").to_string();
    assert!(failure.starts_with("it ended itself: bad (a.t:7:3)"), "{failure}");
    let body = "(call $abort (i32.const 0) (i32.const -1) (i32.const 7) (i32.const 3))";
    let failure = said(body, "").await.expect_err("aborts").to_string();
    assert!(failure.starts_with("it ended itself: abort"), "{failure}");
}

#[tokio::test]
async fn traps_and_endless_loops_in_every_export_cost_one_instance() {
    let exports = |initialize: &str, start: &str, dispose: &str, message: &str| {
        firmlet(&format!(
            r#"(func (export "_initialize") (param i32 i32) {initialize})
            (func (export "_start") (param i32) {start})
            (func (export "_dispose") (param i32) {dispose})
            (func (export "_on_message_received") (param i32 i32 i32 i32) {message})"#
        ))
    };
    for bad in ["unreachable", "(loop br 0)"] {
        for text in [exports(bad, "", "", ""), exports("", bad, "", "")] {
            let failure = started(&text, "").await.expect_err("does not start");
            let is_limit = matches!(failure, GuestFailure::Limit(GuestLimit::Time { .. }));
            assert!(is_limit == bad.contains("loop"), "{failure}");
        }
        let instance = started(&exports("", "", bad, bad), "").await.expect("starts");
        instance.handle(b"m", session(&[])).await.expect_err("is ended");
        let instance = started(&exports("", "", bad, ""), "").await.expect("starts");
        let (instance, _) = instance.handle(b"m", session(&[])).await.expect("handles");
        tokio::time::timeout(Duration::from_secs(20), instance.end()).await.expect("ends");
    }
}

#[tokio::test]
async fn an_export_of_another_type_and_an_import_that_does_not_exist_are_refused() {
    let engine = Engine::new().expect("an engine");
    for (text, told) in [
        (
            firmlet(
                r#"(func (export "_start") (param i32))
                (func (export "_on_message_received") (param i32))"#,
            ),
            "the module's export `_on_message_received` is (i32), expected (i32, i32, i32, i32)",
        ),
        (
            firmlet(r#"(func (export "_start") (param i32))"#)
                .replace("\"tw_write\"", "\"tw_reboot\""),
            "env.tw_reboot",
        ),
        (
            firmlet(r#"(func (export "_start") (param i32))"#).replace(r#"(export "memory")"#, ""),
            "the module does not export `memory`",
        ),
    ] {
        let error = compile(&engine, "", text).await.expect_err("is refused");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn what_it_publishes_on_one_message_is_bounded() {
    let flood = "(local $n i32) (local $code i32) (loop
        (local.set $code (call $publish (i32.const 0) (i32.const 11) (i32.const 0) (i32.const 60000)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if 0 (i32.and (i32.eqz (local.get $code)) (i32.lt_u (local.get $n) (i32.const 100)))))
        (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.add (local.get $n) (i32.const 0))))";
    let reply = said(flood, "[limits]\noutput = '256 KiB'").await.expect("handles");
    assert_eq!(reply.len(), 60_000);
    let module = compiled(hearing("(loop br 0)"), "").await;
    let instance = Instance::start(&module, &setting(), Publisher::none()).await.expect("starts");
    instance.handle(b"m", session(&[])).await.expect_err("is ended");
}
