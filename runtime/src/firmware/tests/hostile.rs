//! What a node bears: guests that lie, flood and fail beside one that works.

use std::time::{Duration, Instant};

use odeum_proto::{call::CallError, limits};

use super::COUNTER;
use super::bench::compiled;
use super::compile;
use super::firmlets::firmlet;
use super::jobs::command;
use super::stage::{PATIENCE, Stage};
use crate::firmware::{Engine, HostState, to_wasm};

/// A section of its own, which means nothing to the engine.
fn custom(name: &str, contents: &[u8]) -> Vec<u8> {
    let body = [&[u8::try_from(name.len()).expect("short")], name.as_bytes(), contents].concat();
    let (len, mut section) = (body.len(), vec![0]);
    let mut rest = len;
    loop {
        let byte = u8::try_from(rest & 0x7f).expect("7 bits");
        rest >>= 7;
        section.push(if rest == 0 { byte } else { byte | 0x80 });
        if rest == 0 {
            break;
        }
    }
    section.extend(body);
    section
}

#[tokio::test]
async fn custom_sections_that_lie_change_nothing() {
    let plain = to_wasm(command("(call $exit (i32.const 7))").into_bytes().into()).expect("wasm");
    for section in [
        custom("name", b"\x01\xff\xff\xff\xff\x0f garbage"),
        custom("name", &[0xff; 4_096]),
        custom("producers", b"\xff\xff\xff\xff\x7f"),
        custom("dylink.0", b"\x01\x04\x80\x80\x80\x80"),
        custom("component-type:odeum:actor", b"\0asm\x0d\0\x01\0"),
        custom("", &[]),
        custom("odeum.toml", b"[capabilities]\nrandom = true"),
    ] {
        let module = compiled([&plain[..], &section].concat(), "").await;
        let ended = crate::firmware::run_job(&module, &super::bench::setting()).await;
        assert_eq!(ended.map(|(code, _)| code), Ok(7), "{section:?}");
    }
    // One whose length lies is no module.
    let engine = Engine::new().expect("an engine");
    let lying = [&plain[..], &[0, 0xff, 0xff, 0x03, 1, b'x']].concat();
    let error = compile(&engine, "", lying).await;
    assert!(error.expect_err("is refused").to_string().contains("not valid"));
}

#[tokio::test]
async fn a_giant_message_is_refused_before_the_guest_sees_it() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    assert_eq!(stage.said("counter", "r1", "add 1").await, "1");
    let giant = "x".repeat(limits::MESSAGE_BYTES + 1);
    let refused = stage.call("counter", "r2", &giant).await.expect_err("is refused");
    assert!(matches!(refused, CallError::TooLarge { .. }), "{refused}");
    assert_eq!(stage.said("counter", "r3", "stats").await, "handled 2");
}

#[tokio::test]
async fn a_node_full_of_hostile_guests_serves_the_one_that_works() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    stage.until_state("counter", HostState::Running).await;
    let flood = "(loop (call $print (i32.const 256) (i32.const 6)) br 0)";
    let bomb = "(loop (drop (memory.grow (i32.const 1))) br 0)";
    let traps = firmlet(
        r#"(func (export "_start") (param i32))
        (func (export "_on_message_received") (param i32 i32 i32 i32) unreachable)"#,
    );
    for (name, text) in [
        ("loops", command("(loop br 0)")),
        ("recurses", command("(drop (call $recurse (i32.const 0)))")),
        ("floods", command(flood)),
        ("grows", command(bomb)),
        ("exits", command("(call $exit (i32.const 1))")),
        ("traps", traps),
    ] {
        stage.deploy(name, text.as_bytes()).await;
    }
    stage.until_state("traps", HostState::Running).await;
    let mut slowest = Duration::ZERO;
    for n in 1..=20 {
        let _ = stage.try_call("traps", &format!("t{n}"), "x").await;
        let began = Instant::now();
        assert_eq!(stage.said("counter", &format!("r{n}"), "add 1").await, n.to_string());
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < PATIENCE / 2, "{slowest:?}");
    let status = stage.status("counter").await.expect("is there");
    assert_eq!((status.state, status.restarts), (HostState::Running, 0));
}
