//! Guests of the other ABIs that can move: a firmlet goes on with what its host keeps beside it, and
//! nothing that has run at a reactor's beginning runs again.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{moved, started, tell};
use crate::firmware::{Engine, Instance, Module, tests::compile};

/// Counts its messages and adds up their lengths. `o` opens the clock and reads 4 of its 8 bytes, `r`
/// reads 4 more. The reply says how many there were, where this one lay, how long all were, what
/// came of the last read, and what was read.
const FIRMLET: &str = r#"(module
  (import "env" "tw_mqtt_publish" (func $publish (param i32 i32 i32 i32) (result i32)))
  (import "env" "tw_open" (func $open (param i32 i32 i32 i32) (result i32)))
  (import "env" "tw_read" (func $read (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "odeum/reply")
  (data (i32.const 16) "/dev/clock")
  (global $count (mut i32) (i32.const 0))
  (global $clock (mut i32) (i32.const 0))
  (func (export "_initialize") (param i32 i32)
    (global.set $count (i32.add (global.get $count) (i32.const 100))))
  (func (export "_start") (param i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1000))))
  (func (export "_on_message_received")
    (param $topic i32) (param $tlen i32) (param $ptr i32) (param $len i32) (local $what i32)
    (local.set $what (i32.load8_u (local.get $ptr)))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (if (i32.eq (local.get $what) (i32.const 111)) (then (global.set $clock
      (call $open (i32.const 16) (i32.const 10) (i32.const 0) (i32.const 0)))))
    (if (i32.or (i32.eq (local.get $what) (i32.const 111)) (i32.eq (local.get $what) (i32.const 114)))
      (then (i32.store (i32.const 44) (call $read (global.get $clock)
        (i32.const 48) (i32.const 4) (i32.const 4) (i32.const 0)))))
    (i32.store (i32.const 32) (global.get $count))
    (i32.store (i32.const 36) (local.get $ptr))
    (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (local.get $len)))
    (drop (call $publish (i32.const 0) (i32.const 11) (i32.const 32) (i32.const 20)))))"#;

/// Counts in its memory and in a global from what `_initialize` puts there; its reply is both.
const REACTOR: &str = r#"(module
  (import "odeum" "reply" (func $reply (param i32 i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (func (export "_initialize")
    (global.set $count (i32.add (global.get $count) (i32.const 100)))
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1000))))
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "odeum_handle") (param i32) (param $len i32) (result i32)
    (drop (call $yield))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (local.get $len)))
    (i32.store (i32.const 20) (global.get $count))
    (call $reply (i32.const 16) (i32.const 8))
    (i32.const 0)))"#;

/// A reactor that knows nothing of Odeum, and has no memory at all.
const STRANGER: &str = r#"(module
  (global $count (mut i64) (i64.const 0))
  (func (export "_initialize") (global.set $count (i64.add (global.get $count) (i64.const 40))))
  (func (export "next") (result i64)
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (global.get $count)))"#;

async fn compiled(manifest: &str, text: &str) -> Module {
    let engine = Engine::new().expect("an engine");
    compile(&engine, manifest, text).await.expect("it is well")
}

/// What a firmlet has replied: its numbers, and what it read.
fn numbers(reply: &[u8]) -> ([u32; 4], [u8; 4]) {
    let at = |n: usize| u32::from_le_bytes(reply[4 * n..4 * n + 4].try_into().expect("4 bytes"));
    ([at(0), at(1), at(2), at(3)], reply[16..20].try_into().expect("4 bytes"))
}

#[tokio::test]
async fn a_firmlet_goes_on_with_its_memory_its_open_files_and_the_room_for_what_it_is_told() {
    let module = compiled("[capabilities]\nclock = true", FIRMLET).await;
    let large = "x".repeat(200_000);
    let told = async |instance: Instance, message: &str| {
        let (instance, reply) = tell(instance, message).await;
        (instance, numbers(&reply))
    };
    let (stays, _) = told(started(&module).await, "o").await;
    let (moves, (_, first)) = told(started(&module).await, "o").await;
    // While it is at work, with a message for which there was no room yet.
    let moves = moved(&module, moves, &["a", &large]).await;
    let (stays, _) = told(stays, "a").await;
    let (stays, _) = told(stays, &large).await;
    let (stays, (expected, _)) = told(stays, "r").await;
    let (moves, (got, second)) = told(moves, "r").await;
    assert_eq!(got, expected);
    assert_eq!((got[0], got[3]), (1_104, 4), "it did not begin again, and its file is open");
    // Both halves are of one time, though one was read before it moved and the other one behind.
    let ticks = u64::from_le_bytes([first, second].concat().try_into().expect("8 bytes"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let seconds = (ticks / 10_000_000).saturating_sub(62_135_596_800);
    assert!(now.abs_diff(seconds) < 600, "{seconds} is not about {now}");

    let before = moves.memory_bytes();
    assert_eq!(before, stays.memory_bytes());
    let (stays, (expected, _)) = told(stays, &large).await;
    let (moves, (got, _)) = told(moved(&module, moves, &[]).await, &large).await;
    assert_eq!(got, expected);
    assert_eq!(
        (moves.memory_bytes(), stays.memory_bytes()),
        (before, before),
        "room is used again"
    );
}

#[tokio::test]
async fn a_reactor_goes_on_with_its_memory_and_is_not_initialized_again() {
    let module = compiled("", REACTOR).await;
    let (mut stays, mut moves) = (started(&module).await, started(&module).await);
    for (between, message) in [(&[][..], "a"), (&["bb", ""], "ccc"), (&["d"], "")] {
        for between in between {
            (stays, _) = tell(stays, between).await;
        }
        moves = moved(&module, moves, between).await;
        let (expected, got);
        (stays, expected) = tell(stays, message).await;
        (moves, got) = tell(moves, message).await;
        assert_eq!(got, expected, "{message}");
    }
    let (_, last) = tell(moves, "eeee").await;
    let at = |n: usize| u32::from_le_bytes(last[4 * n..4 * n + 4].try_into().expect("4 bytes"));
    assert_eq!([at(0), at(1)], [1_011, 107], "what it was told, and how often");
}

#[tokio::test]
async fn a_reactor_that_knows_nothing_of_odeum_goes_on_with_its_globals() {
    let module = compiled("", STRANGER).await;
    let (first, said) = tell(started(&module).await, "next").await;
    assert_eq!(said, b"41");
    let (second, said) = tell(moved(&module, first, &["next", "next"]).await, "next").await;
    assert_eq!(said, b"44");
    let (_, said) = tell(moved(&module, second, &[]).await, "next").await;
    assert_eq!(said, b"45");
}
