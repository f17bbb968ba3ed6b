//! What a node bears: guests that lie, flood and fail beside one that works.

use std::time::{Duration, Instant};

use odeum_proto::{
    call::CallError,
    limits,
    store::{FirmwarePolicy, Liveness, RestartBudget},
};
use wasmparser::{Encoding, ExternalKind, Parser, Payload, TypeRef};

use super::bench::compiled;
use super::compile;
use super::firmlets::firmlet;
use super::jobs::command;
use super::stage::{PATIENCE, Stage};
use super::{ACTOR, COUNTER};
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
    let tables = "(loop (drop (table.grow $t (ref.null func) (i32.const 100000))) br 0))
        (table $t 10 funcref) (func";
    let traps = firmlet(
        r#"(func (export "_start") (param i32))
        (func (export "_on_message_received") (param i32 i32 i32 i32) unreachable)"#,
    );
    for (name, text) in [
        ("loops", command("(loop br 0)")),
        ("recurses", command("(drop (call $recurse (i32.const 0)))")),
        ("floods", command(flood)),
        ("grows", command(bomb)),
        ("grows-tables", command(tables)),
        ("exits", command("(call $exit (i32.const 1))")),
        ("traps", traps),
    ] {
        stage.deploy(name, text.as_bytes()).await;
    }
    let exits = to_wasm(command("(call $exit (i32.const 1))").into_bytes().into()).expect("wasm");
    let lies = custom("name", b"\x01\xff\xff\xff\xff\x0f garbage");
    stage.deploy("lies", &[&exits[..], &lies, &custom("producers", &[0xff; 64])].concat()).await;
    stage.deploy("times", ACTOR).await;
    stage.until_state("traps", HostState::Running).await;
    stage.until_state("times", HostState::Running).await;
    let mut slowest = Duration::ZERO;
    for n in 1..=20 {
        let _ = stage.try_call("traps", &format!("t{n}"), "x").await;
        let timers = stage.said("times", &format!("m{n}"), "timers 1000000").await;
        assert_eq!(timers, if n == 1 { "1024" } else { "0" }, "more are not set");
        let began = Instant::now();
        assert_eq!(stage.said("counter", &format!("r{n}"), "add 1").await, n.to_string());
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < PATIENCE / 2, "{slowest:?}");
    let status = stage.status("counter").await.expect("is there");
    assert_eq!((status.state, status.restarts), (HostState::Running, 0));
}

/// The actor of the examples, in which the function behind an export is one that traps at once.
fn trapping(export: &str) -> Vec<u8> {
    let (mut imported, mut index, mut next, mut found) = (0, None, 0, None);
    for payload in Parser::new(0).parse_all(ACTOR) {
        match payload.expect("it is valid") {
            // Each of its modules counts anew.
            Payload::Version { encoding: Encoding::Module, .. } => (imported, index) = (0, None),
            Payload::ImportSection(section) => {
                let imports = section.into_imports().map(|import| import.expect("it is valid").ty);
                imported = imports.filter(|ty| matches!(ty, TypeRef::Func(_))).count();
            }
            Payload::ExportSection(section) => {
                let mut exports = section.into_iter().map(|it| it.expect("it is valid"));
                let is_it = |it: &wasmparser::Export<'_>| {
                    it.name == export && it.kind == ExternalKind::Func
                };
                index = exports.find(is_it).map(|it| it.index as usize);
            }
            Payload::CodeSectionStart { .. } => next = imported,
            Payload::CodeSectionEntry(body) => {
                if index == Some(next) {
                    found = Some(body.range());
                }
                next += 1;
            }
            _ => {}
        }
    }
    let body = found.expect("it has that export");
    let at = |place: u64| usize::try_from(place).expect("it is in memory");
    let (first, last) = (at(body.start), at(body.end) - 1);
    let mut bytes = ACTOR.to_vec();
    // No locals, `unreachable`, as many `nop` as there is room for, `end`.
    bytes[first..last].fill(0x01);
    bytes[first..first + 2].fill(0x00);
    bytes[last] = 0x0b;
    bytes
}

/// Waits until it has crashed, and gives the error.
async fn crashed(stage: &Stage, name: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = stage.status(name).await.expect("it is there");
        match status.last_error {
            Some(error) => return error.to_string(),
            None => assert!(Instant::now() < end, "{name} does not crash: {:?}", status.state),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_trap_in_any_export_costs_that_guest_alone() {
    let pause = Duration::from_millis(1);
    let restarts = RestartBudget {
        first_pause: pause,
        longest_pause: pause,
        max_restarts: 3,
        ..RestartBudget::default()
    };
    let stage = Stage::with(restarts.clone()).await;
    stage.deploy("counter", COUNTER).await;
    let mut count = 0;
    let mut next = async |after: &str| {
        count += 1;
        let said = stage.said("counter", &format!("r{count}"), "add 1").await;
        assert_eq!(said, count.to_string(), "after {after}");
    };
    next("nothing").await;

    let core = |more: &str, alloc: &str| {
        format!(
            r#"(module (memory (export "memory") 1) {more}
              (func (export "odeum_alloc") (param i32) (result i32) {alloc})
              (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#
        )
    };
    let start = core("(func $begin unreachable) (start $begin)", "i32.const 8");
    let initialize = core(r#"(func (export "_initialize") unreachable)"#, "i32.const 8");
    let on_start = trapping("odeum:actor/guest@1.0.0#on-start");
    // Those that trap as they begin come to nothing.
    for (name, file) in [
        ("start-section", start.as_bytes()),
        ("initialize", initialize.as_bytes()),
        ("on-start", &on_start),
    ] {
        stage.deploy(name, file).await;
        let failed = stage.until_state(name, HostState::Failed).await;
        let error = failed.last_error.expect("an error");
        assert!(error.contains("unreachable"), "{name}: {error}");
        next(name).await;
    }

    // Of these each message, or timer, costs an instance.
    stage.deploy("alloc", core("", "unreachable").as_bytes()).await;
    let trapped = stage.call("alloc", "r1", "m").await.expect_err("traps");
    assert!(matches!(trapped, CallError::Trapped { .. }), "{trapped}");
    assert_eq!(stage.said("alloc", "r2", "").await, "", "it needs no room for nothing");
    next("odeum_alloc").await;
    stage.deploy("on-timer", &trapping("odeum:actor/guest@1.0.0#on-timer")).await;
    stage.said("on-timer", "r1", "after 1 x").await;
    assert!(crashed(&stage, "on-timer").await.contains("unreachable"));
    assert_eq!(stage.said("on-timer", "r2", "name").await, "on-timer");
    next("on-timer").await;

    // One that traps as it is ended has ended all the same.
    let on_stop = trapping("odeum:actor/guest@1.0.0#on-stop");
    stage.deploy("on-stop", &on_stop).await;
    assert_eq!(stage.said("on-stop", "r1", "add 1").await, "1");
    stage.place("on-stop", "n2");
    let end = Instant::now() + PATIENCE;
    while stage.status("on-stop").await.is_some() {
        assert!(Instant::now() < end, "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.place("on-stop", "n1");
    assert_eq!(stage.said("on-stop", "r2", "add 1").await, "2");
    next("on-stop").await;

    // And one that traps when it is asked how it is is not well.
    let liveness = Liveness {
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(500),
        failures: 3,
        path: None,
    };
    let policy = FirmwarePolicy { restarts, liveness: Some(liveness), ..FirmwarePolicy::default() };
    *stage.policy.lock().expect("not poisoned") = policy;
    let alive = core(r#"(func (export "odeum_alive") (result i32) unreachable)"#, "i32.const 8");
    let of_actor = trapping("odeum:actor/liveness@1.0.0#alive");
    for (name, file) in [("alive", alive.as_bytes()), ("alive-actor", &of_actor)] {
        stage.deploy(name, file).await;
        let failed = stage.until_state(name, HostState::Failed).await;
        let error = failed.last_error.expect("an error");
        assert!(error.contains("unreachable"), "{name}: {error}");
        next(name).await;
    }
    let status = stage.status("counter").await.expect("is there");
    assert_eq!((status.state, status.restarts), (HostState::Running, 0));
}
