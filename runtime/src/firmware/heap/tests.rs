//! What leaves one instance is in the other one, after every step and however often it was copied
//! before.

mod kinds;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use odeum_proto::{ReplicaId, store::FirmwareLimits};
use proptest::prelude::*;

use super::{
    HeapError, Packed,
    pages::{Copying, PAGE, SLICE},
    piece::Piece,
    written::Written,
};
use crate::firmware::{
    Answer, Engine, GuestLog, Instance, Module, Setting, Usage, Variables, setting::Grants,
    tests::compile, travel::Carried,
};

/// Two memories, globals of every type, a table that changes, a segment that is dropped, and a
/// start function that must not run again. A message is a list of steps; the reply is a sum over
/// all of it.
const STATE: &str = r#"(module
  (import "odeum" "reply" (func $reply (param i32 i32)))
  (type $op (func (param i32) (result i32)))
  (memory (export "memory") 2)
  (memory $second 1)
  (global $count (mut i64) (i64.const 5))
  (global $ratio (mut f64) (f64.const 0.5))
  (global $wide (mut v128) (v128.const i32x4 1 2 3 4))
  (global $last (mut funcref) (ref.func $add))
  (table $ops 2 funcref)
  (elem $kinds funcref (ref.func $add) (ref.func $double))
  (data $words "abcd")
  (data (i32.const 100) "initial data that a guest may clear")
  (start $begin)
  (func $begin (global.set $count (i64.const 100)))
  (func $add (type $op) (i32.add (local.get 0) (i32.const 1)))
  (func $double (type $op) (i32.mul (local.get 0) (i32.const 2)))
  (func $step (param $what i32)
    (if (i32.eq (local.get $what) (i32.const 1)) (then
      (table.init $ops $kinds (i32.const 0) (i32.const 0) (i32.const 2))
      (elem.drop $kinds)))
    (if (i32.eq (local.get $what) (i32.const 2)) (then
      (memory.init $words (i32.const 8) (i32.const 0) (i32.const 4))
      (data.drop $words)))
    (if (i32.eq (local.get $what) (i32.const 3)) (then
      (drop (memory.grow (i32.const 1)))
      (drop (table.grow $ops (global.get $last) (i32.const 1)))))
    (if (i32.eq (local.get $what) (i32.const 4)) (then
      (memory.fill (i32.const 96) (i32.const 0) (i32.const 64))))
    (if (i32.eq (local.get $what) (i32.const 5)) (then
      (global.set $last (ref.func $double))
      (global.set $ratio (f64.mul (global.get $ratio) (f64.const 1.5)))
      (global.set $wide (i32x4.add (global.get $wide) (global.get $wide)))))
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (i32.store8 (i32.add (i32.const 20000) (i32.wrap_i64 (global.get $count))) (local.get $what))
    (i64.store $second (i32.const 64) (global.get $count)))
  (func $sum (result i64) (local $at i32) (local $sum i64)
    (loop $next
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31))
        (i64.load8_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 30000))))
    (local.set $sum (i64.xor (local.get $sum) (global.get $count)))
    (local.set $sum (i64.xor (local.get $sum) (i64.load $second (i32.const 64))))
    (local.set $sum (i64.xor (local.get $sum) (i64.reinterpret_f64 (global.get $ratio))))
    (local.set $sum (i64.xor (local.get $sum) (i64x2.extract_lane 1 (global.get $wide))))
    (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (memory.size))))
    (if (i32.eqz (ref.is_null (table.get $ops (i32.const 0)))) (then
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u
        (call_indirect $ops (type $op) (i32.const 21)
          (i32.sub (table.size $ops) (i32.const 1))))))))
    (local.get $sum))
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $ptr) (local.get $len)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $ptr) (local.get $end)))
      (call $step (i32.sub (i32.load8_u (local.get $ptr)) (i32.const 48)))
      (local.set $ptr (i32.add (local.get $ptr) (i32.const 1)))
      (br $next)))
    (memory.fill (i32.const 1024) (i32.const 0) (i32.const 64))
    (i64.store (i32.const 40000) (call $sum))
    (call $reply (i32.const 40000) (i32.const 8))
    (i32.const 0)))"#;

struct Nothing;

impl Variables for Nothing {
    fn get(&self, _key: &str) -> Option<Vec<u8>> {
        None
    }
}

fn setting() -> Setting {
    let firmware: ReplicaId = "guest".parse().expect("valid");
    Setting {
        log: GuestLog::alone(firmware.clone()),
        firmware,
        limits: FirmwareLimits { memory_bytes: 8 << 20, message_time: Duration::from_secs(5) },
        grants: Arc::new(Grants::default()),
        usage: Usage::default(),
    }
}

async fn tell(instance: Instance, steps: &str) -> (Instance, Vec<u8>) {
    let handled = instance.handle(steps.as_bytes(), Arc::new(Nothing)).await;
    let (instance, answer) = handled.expect("it is well");
    match answer {
        Answer::Done(effect) => (instance, effect.reply),
        other @ Answer::Refused { .. } => panic!("{other:?}"),
    }
}

async fn started(module: &Module) -> Instance {
    let publisher = crate::firmware::Publisher::none();
    Instance::start(module, &setting(), publisher).await.expect("it starts")
}

/// Copies rounds of the instance while it handles `between`, then moves it.
async fn moved(module: &Module, mut from: Instance, between: &[&str]) -> Instance {
    let mut to = Instance::blank(module, &setting()).await.expect("it can be had");
    let mut packing = from.packing().expect("it is movable");
    let mut unpacking = to.unpacking().expect("it is movable");
    for steps in between {
        while let Packed::Piece(piece) = from.pack(&mut packing) {
            to.unpack(&mut unpacking, piece).expect("it fits");
        }
        from = tell(from, steps).await.0;
    }
    for piece in from.pack_rest(&mut packing, Carried::default()).await.expect("it is read") {
        to.unpack(&mut unpacking, piece).expect("it fits");
    }
    to.unpacked(&mut unpacking).await.expect("it fits");
    to
}

#[tokio::test]
async fn an_instance_goes_on_in_another_one_as_if_it_had_never_moved() {
    let engine = Engine::new().expect("an engine");
    let module = compile(&engine, "", STATE).await.expect("it is well");
    for steps in ["", "0", "1", "2", "3", "4", "5", "12", "1325", "44123450", "355331"] {
        let stays = started(&module).await;
        let moves = started(&module).await;
        let (stays, _) = tell(stays, steps).await;
        let (moves, _) = tell(moves, steps).await;
        let moves = moved(&module, moves, &[]).await;
        let (stays, expected) = tell(stays, "0").await;
        let (moves, got) = tell(moves, "0").await;
        assert_eq!(got, expected, "{steps}");
        // Once more, from where it is now, while it is at work.
        let moves = moved(&module, moves, &["3", "", "4"]).await;
        let (stays, _) = tell(stays, "3").await;
        let (stays, _) = tell(stays, "").await;
        let (stays, _) = tell(stays, "4").await;
        let (_, expected) = tell(stays, "05").await;
        let (_, got) = tell(moves, "05").await;
        assert_eq!(got, expected, "{steps}");
    }
}

#[tokio::test]
async fn what_has_not_changed_is_sent_once() {
    let engine = Engine::new().expect("an engine");
    let module = compile(&engine, "", STATE).await.expect("it is well");
    let (mut from, _) = tell(started(&module).await, "0").await;
    let mut packing = from.packing().expect("it is movable");
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let mut bytes = 0;
        while let Packed::Piece(piece) = from.pack(&mut packing) {
            bytes += piece.len();
        }
        sizes.push(bytes);
    }
    assert!(sizes[0] > PAGE && sizes[1..] == [0, 0], "{sizes:?}");
}

#[tokio::test]
async fn state_of_another_module_is_refused() {
    let engine = Engine::new().expect("an engine");
    let module = compile(&engine, "", STATE).await.expect("it is well");
    let other = STATE
        .replace("(global $count (mut i64) (i64.const 5))", "(global $count i64 (i64.const 5))");
    let other = other.replace("(global.set $count", "(call $drop");
    let other = other.replace("(start $begin)", "(start $begin) (func $drop (param i64))");
    let other = compile(&engine, "", &other).await.expect("it is well");
    let mut from = started(&module).await;
    let mut packing = from.packing().expect("it is movable");
    let mut to = Instance::blank(&other, &setting()).await.expect("it can be had");
    let mut unpacking = to.unpacking().expect("it is movable");
    for piece in from.pack_rest(&mut packing, Carried::default()).await.expect("it is read") {
        to.unpack(&mut unpacking, piece).expect("pages fit");
    }
    let refused = to.unpacked(&mut unpacking).await.expect_err("another number of globals");
    assert!(matches!(refused, HeapError::Misfit { .. }), "{refused}");
}

#[tokio::test]
async fn hostile_state_is_an_error_and_nothing_worse() {
    let engine = Engine::new().expect("an engine");
    let module = compile(&engine, "", STATE).await.expect("it is well");
    let mut from = started(&module).await;
    let mut packing = from.packing().expect("it is movable");
    let pieces = from.pack_rest(&mut packing, Carried::default()).await.expect("it is read");
    for at in 0..pieces[0].len().min(600) {
        for flip in [0x01, 0x80] {
            let mut bytes = pieces[0].to_vec();
            bytes[at] ^= flip;
            let mut to = Instance::blank(&module, &setting()).await.expect("it can be had");
            let mut unpacking = to.unpacking().expect("it is movable");
            // A page may say anything; what leads beyond the memory is refused.
            if to.unpack(&mut unpacking, Bytes::from(bytes)).is_ok() {
                let _ = to.unpacked(&mut unpacking).await;
            }
        }
    }
}

/// Pages at the ends of a memory of more than one slice.
const PLACES: [usize; 6] = [0, 1, SLICE / PAGE - 1, SLICE / PAGE, SLICE / PAGE + 1, ALL - 1];

/// Pages of that memory.
const ALL: usize = SLICE / PAGE + 4;

/// The part of a vector that begins with a page, as memories of guests do.
fn aligned(memory: &mut [u8]) -> &mut [u8] {
    let offset = memory.as_ptr().align_offset(PAGE);
    &mut memory[offset..offset + ALL * PAGE]
}

/// What has changed in all of a memory, written into another one; how many pages that were.
fn follow(copying: &mut Copying, memory: &[u8], copy: &mut [u8], last: bool) -> u32 {
    let slices = (0..Copying::slices(memory.len())).map(|slice| {
        let changed = copying.changed(memory, slice, last);
        let piece = Piece::decode(Piece::of(0, memory.len(), changed).encode()).expect("decodes");
        let pages = piece.pages.expect("they are there");
        pages.write(&piece.data, &mut copy[..memory.len()]).expect("it fits");
        pages.count()
    });
    slices.sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_changes_of_a_memory_make_another_one_the_same(
        rounds in proptest::collection::vec(
            (proptest::collection::vec((0..PLACES.len(), 0..PAGE, any::<u8>()), 0..6), any::<bool>()),
            1..5,
        ),
        zeroed in 0..PLACES.len(),
        grows in any::<bool>(),
    ) {
        for mut copying in [Copying::default(), Copying::comparing()] {
            let mut memory = vec![0_u8; (ALL + 1) * PAGE];
            let (memory, mut copy) = (aligned(&mut memory), vec![7_u8; ALL * PAGE]);
            let count = rounds.len();
            for (number, (writes, zero)) in rounds.iter().enumerate() {
                for (place, at, byte) in writes {
                    memory[PLACES[*place] * PAGE + at] = *byte;
                }
                if *zero {
                    memory[PLACES[zeroed] * PAGE..(PLACES[zeroed] + 1) * PAGE].fill(0);
                }
                let last = number + 1 == count;
                let length = if grows && number == 0 && !last { SLICE / 2 } else { memory.len() };
                follow(&mut copying, &memory[..length], &mut copy, last);
                prop_assert_eq!(&memory[..length], &copy[..length]);
            }
        }
    }
}

#[test]
fn a_page_is_sent_again_when_it_was_written_to_and_not_else() {
    let mut memory = vec![1_u8; (ALL + 1) * PAGE];
    let (memory, mut copy) = (aligned(&mut memory), vec![0; ALL * PAGE]);
    for mut copying in [Copying::default(), Copying::comparing()] {
        let mut sent = |memory: &[u8], last| follow(&mut copying, memory, &mut copy, last);
        assert_eq!(sent(memory, false) as usize, ALL);
        assert_eq!(sent(memory, false), 0);
        for place in PLACES {
            memory[place * PAGE + 17] += 1;
        }
        assert_eq!(sent(memory, false) as usize, PLACES.len());
        memory[5] += 1;
        assert_eq!((sent(memory, true), &*memory), (1, &copy[..]));
    }
}

#[test]
fn a_memory_that_is_not_watched_any_more_is_as_any_other() {
    let mut memory = vec![1_u8; (ALL + 1) * PAGE];
    let memory = aligned(&mut memory);
    match Written::watch(memory) {
        Err(error) => println!("skipped: this kernel does not note writes: {error}"),
        Ok(mut written) => {
            assert!(written.take(0..memory.len()).expect("it says").is_empty());
            memory[PAGE] = 9;
            // What the system writes for the guest counts as well.
            let read = std::io::Read::read(&mut &b"12"[..], &mut memory[PAGE * 3..]);
            assert_eq!(read.expect("read"), 2);
            let pages = [PAGE..2 * PAGE, 3 * PAGE..4 * PAGE];
            assert_eq!(written.take(0..memory.len()).expect("it says"), pages);
            drop(written);
            let mut written = Written::watch(memory).expect("as before");
            memory[0] = 9;
            let taken = written.take(0..memory.len()).expect("it says");
            assert_eq!((taken.len(), taken.first()), (1, Some(&(0..PAGE))));
        }
    }
}
