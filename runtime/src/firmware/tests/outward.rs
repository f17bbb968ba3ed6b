//! Guests of the core ABI that tell others, ask them, and wait: granted, denied, and hostile.

use std::time::{Duration, Instant};

use odeum_proto::{call::CallError, session::Write};

use super::{
    COUNTER,
    bench::{Ears, compiled, session, setting, started},
    compile, packaged,
    stage::{Mood, PATIENCE, Stage, entity},
};
use crate::firmware::{
    Answer, Arrival, Deed, Effect, Engine, GuestFailure, HostState, Instance, Ledger as _,
    Publisher, travel::Carried,
};

/// What every one of them can do.
const ALL: &str = "clock = true\nrandom = true\nmessages = ['other', 'counter']\n\
                   publish = ['a/*']\nsubscribe = ['a/*']";

/// A module whose handler is `body`, with all imports, names, and a place for an answer: `$say` replies with
/// a number. Whatever else it hears of it writes to a variable, which is refused in an
/// `odeum_on_timer` of timer 13.
fn guest(body: &str) -> String {
    format!(
        r#"(module
          (import "odeum" "var_set" (func $set (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "reply" (func $reply (param i32 i32)))
          (import "odeum" "log" (func $log (param i32 i32 i32)))
          (import "odeum" "firmware" (func $firmware (param i32 i32) (result i32)))
          (import "odeum" "config" (func $config (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "tell" (func $tell (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "ask" (func $ask (param i32 i32 i32 i32 i32) (result i64)))
          (import "odeum" "set_timer" (func $set_timer (param i64) (result i64)))
          (import "odeum" "cancel_timer" (func $cancel_timer (param i64) (result i32)))
          (import "odeum" "random" (func $random (param i32 i32) (result i32)))
          (import "odeum" "now" (func $now (result i64)))
          (import "odeum" "monotonic" (func $monotonic (result i64)))
          (import "odeum" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
          (import "odeum" "subscribe" (func $subscribe (param i32 i32) (result i32)))
          (memory (export "memory") 20)
          (data (i32.const 0) "other")
          (data (i32.const 16) "a/b")
          (data (i32.const 32) "PLACE")
          (data (i32.const 48) "add 2")
          (data (i32.const 64) "counter")
          (data (i32.const 80) "\ff")
          (data (i32.const 96) "heard")
          (data (i32.const 112) "bye")
          (func $say (param i64)
            (i64.store (i32.const 512) (local.get 0))
            (call $reply (i32.const 512) (i32.const 8)))
          (func $code (param i32) (call $say (i64.extend_i32_s (local.get 0))))
          (func $heard (param i32 i32) (result i32)
            (call $set (i32.const 96) (i32.const 5) (local.get 0) (local.get 1)))
          (func (export "odeum_alloc") (param i32) (result i32) i32.const 65536)
          (func (export "odeum_on_start") (result i32) (call $heard (i32.const 96) (i32.const 5)))
          (func (export "odeum_on_timer") (param $timer i64) (result i32)
            (if (i64.eq (local.get $timer) (i64.const 13)) (then (return (i32.const 3))))
            (i64.store (i32.const 512) (i64.add (local.get $timer) (i64.const 48)))
            (call $heard (i32.const 512) (i32.const 1)))
          (func (export "odeum_on_answer") (param $number i64) (param $code i32) (param i32 i32)
            (result i32)
            (if (local.get $code) (then
              (i64.store (i32.const 520) (i64.extend_i32_s (local.get $code)))
              (drop (call $set (i32.const 32) (i32.const 5) (i32.const 520) (i32.const 8)))))
            (call $heard (local.get 2) (local.get 3)))
          (func (export "odeum_on_published") (param i32 i32 i32 i32) (result i32)
            (drop (call $set (i32.const 32) (i32.const 5) (local.get 0) (local.get 1)))
            (call $heard (local.get 2) (local.get 3)))
          (func (export "odeum_on_stop") (call $log (i32.const 2) (i32.const 112) (i32.const 3)))
          (func $handle (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
            (local $count i64)
            {body} i32.const 0))"#
    )
}

/// Calls of all of it that need a grant, or may be refused otherwise; with good arguments.
const TELL: &str = "(call $tell (i32.const 0) (i32.const 5) (i32.const 48) (i32.const 5))";
const ASK: &str =
    "(call $ask (i32.const 0) (i32.const 5) (i32.const 48) (i32.const 5) (i32.const 1000))";
const PUBLISH: &str = "(call $publish (i32.const 16) (i32.const 3) (i32.const 48) (i32.const 5))";
const SUBSCRIBE: &str = "(call $subscribe (i32.const 16) (i32.const 3))";

fn code(call: &str) -> String {
    format!("(call $code {call})")
}

fn say(call: &str) -> String {
    format!("(call $say {call})")
}

/// Counts the calls until one is too much.
fn flood(call: &str, ty: &str) -> String {
    format!(
        "(block $stop (loop $more
           (br_if $stop ({ty}.eq {call} ({ty}.const -3)))
           (local.set $count (i64.add (local.get $count) (i64.const 1))) (br $more)))
         (call $say (local.get $count))"
    )
}

fn granted(lines: &str) -> String {
    format!("[capabilities]\n{lines}")
}

fn number(effect: &Effect) -> i64 {
    i64::from_le_bytes(effect.reply.as_slice().try_into().expect("a number"))
}

async fn told(instance: Instance, arrival: Arrival<'_>) -> (Instance, Effect) {
    let (instance, answer) = instance.handle(arrival, session(&[])).await.expect("handles");
    let Answer::Done(effect) = answer else { panic!("{answer:?}") };
    (instance, effect)
}

const CALL: Arrival<'static> = Arrival::Called { topic: None, body: b"" };

/// What the handler says and does in a new instance.
async fn done(body: &str, lines: &str) -> (i64, Vec<Deed>) {
    let instance = started(guest(body), lines).await.expect("starts");
    let (_, effect) = told(instance, CALL).await;
    (number(&effect), effect.deeds)
}

async fn failed(body: &str, lines: &str) -> GuestFailure {
    let instance = started(guest(body), lines).await.expect("starts");
    instance.handle(CALL, session(&[])).await.map(drop).expect_err("is ended")
}

#[tokio::test]
async fn what_is_not_granted_is_a_code_and_the_line_that_would_allow_it() {
    let random = code("(call $random (i32.const 512) (i32.const 8))");
    for (body, line) in [
        (code(TELL), "messages = [\"other\"]"),
        (say(ASK), "messages = [\"other\"]"),
        (random, "random = true"),
        (say("(call $now)"), "clock = true"),
        (say("(call $monotonic)"), "clock = true"),
        (code(PUBLISH), "publish = [\"a/b\"]"),
        (code(SUBSCRIBE), "subscribe = [\"a/b\"]"),
    ] {
        let ears = Ears::open();
        assert_eq!(done(&body, "").await, (-4, Vec::new()), "{body}");
        let heard = ears.heard().replace('\\', "");
        assert!(heard.contains(line), "{body}: {heard}");
    }
}

#[tokio::test]
async fn what_is_granted_is_done_with_the_message() {
    let lines = granted(ALL);
    let to = || "other".parse().expect("a name");
    let (body, topic) = (|| b"add 2".to_vec(), || "a/b".to_owned());
    let deadline = Duration::from_secs(1);
    let after = Duration::from_millis(20);
    for (call, said, deed) in [
        (code(TELL), 0, Deed::Tell { to: to(), body: body() }),
        (say(ASK), 1, Deed::Ask { number: 1, to: to(), body: body(), deadline }),
        (say("(call $set_timer (i64.const 20))"), 1, Deed::SetTimer { number: 1, after }),
        (code(PUBLISH), 0, Deed::Publish { topic: topic(), payload: body() }),
        (code(SUBSCRIBE), 0, Deed::Subscribe { topic: topic() }),
        // The second one is the first one.
        (format!("(drop {SUBSCRIBE}) {}", code(SUBSCRIBE)), 0, Deed::Subscribe { topic: topic() }),
    ] {
        assert_eq!(done(&call, &lines).await, (said, vec![deed]), "{call}");
    }
    let (now, _) = done(&say("(call $now)"), &lines).await;
    assert!(now > 1_700_000_000_000, "{now}");
    let (lived, _) = done(&say("(call $monotonic)"), &lines).await;
    assert!(lived > 0, "{lived}");
    let random = "(drop (call $random (i32.const 520) (i32.const 8)))
        (call $say (i64.load (i32.const 520)))";
    assert_ne!(done(random, &lines).await.0, done(random, &lines).await.0);
}

#[tokio::test]
async fn a_name_and_a_value_of_the_manifest_are_copied_when_there_is_room() {
    let lines = "[environment]\nPLACE = 'here'";
    for (call, said) in [
        ("(call $config (i32.const 32) (i32.const 5) (i32.const 600) (i32.const 4))", 4),
        ("(call $config (i32.const 32) (i32.const 5) (i32.const 600) (i32.const 3))", 4),
        ("(call $config (i32.const 0) (i32.const 5) (i32.const 600) (i32.const 4))", -1),
        ("(call $config (i32.const 80) (i32.const 1) (i32.const 600) (i32.const 4))", -2),
        ("(call $firmware (i32.const 600) (i32.const 64))", 5),
    ] {
        assert_eq!(done(&code(call), lines).await.0, said, "{call}");
    }
    let instance = started(
        guest(
            "(call $reply (i32.const 600) (call $config (i32.const 32) (i32.const 5)
               (i32.const 600) (i32.const 4)))",
        ),
        lines,
    );
    let (_, effect) = told(instance.await.expect("starts"), CALL).await;
    assert_eq!(effect.reply, b"here");
}

#[tokio::test]
async fn what_is_no_name_or_too_much_is_a_code() {
    let lines = granted(ALL);
    for (body, said) in [
        ("(call $tell (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))".to_owned(), -2),
        ("(call $tell (i32.const 80) (i32.const 1) (i32.const 0) (i32.const 0))".to_owned(), -2),
        ("(call $publish (i32.const 16) (i32.const 0) (i32.const 0) (i32.const 0))".to_owned(), -2),
        ("(call $subscribe (i32.const 16) (i32.const 0))".to_owned(), -2),
        ("(call $subscribe (i32.const 80) (i32.const 1))".to_owned(), -2),
        // Zeros, which are no characters of a name.
        ("(call $subscribe (i32.const 700) (i32.const 9))".to_owned(), -2),
        (TELL.replace("(i32.const 48) (i32.const 5)", "(i32.const 48) (i32.const 1048577)"), -3),
        ("(call $random (i32.const 512) (i32.const 65537))".to_owned(), -3),
        ("(call $cancel_timer (i64.const 7))".to_owned(), -1),
    ] {
        assert_eq!(done(&code(&body), &lines).await, (said, Vec::new()), "{body}");
    }
}

#[tokio::test]
async fn a_flood_ends_at_what_one_message_or_one_instance_may_have() {
    let lines = granted(ALL);
    let timer = "(call $set_timer (i64.const 1))";
    let large = TELL.replace("(i32.const 48) (i32.const 5)", "(i32.const 48) (i32.const 400000)");
    for (call, ty, count) in [
        (TELL, "i32", 1_024),
        // By the bytes that one message may send.
        (&large, "i32", 2),
        (PUBLISH, "i32", 1_024),
        (ASK, "i64", 256),
        (timer, "i64", 1_024),
    ] {
        assert_eq!(done(&flood(call, ty), &lines).await.0, count, "{call}");
    }
    // In the next message there is no room for what is still set.
    for (call, count) in [(ASK, 256), (timer, 1_024)] {
        let body = flood(call, "i64");
        let instance = started(guest(&body), &lines).await.expect("starts");
        let (instance, effect) = told(instance, CALL).await;
        assert_eq!(number(&effect), count);
        let (instance, effect) = told(instance, CALL).await;
        assert_eq!(number(&effect), 0);
        // One is over.
        let over = match call {
            ASK => Arrival::Answered { number: 7, outcome: Ok(b"") },
            _ => Arrival::TimedOut { number: 7 },
        };
        let (instance, _) = told(instance, over).await;
        let (_, effect) = told(instance, CALL).await;
        assert_eq!(number(&effect), 1);
    }
}

#[tokio::test]
async fn pointers_outside_of_its_memory_end_it() {
    let lines = granted(ALL);
    let out = "(i32.const -4) (i32.const 8)";
    let name = "(i32.const 0) (i32.const 5)";
    for (import, call) in [
        ("tell", format!("(drop (call $tell {out} {name}))")),
        ("tell", format!("(drop (call $tell {name} {out}))")),
        ("ask", format!("(drop (call $ask {out} {name} (i32.const 1)))")),
        ("ask", format!("(drop (call $ask {name} {out} (i32.const 1)))")),
        ("config", format!("(drop (call $config {out} {name}))")),
        ("firmware", format!("(drop (call $firmware {out}))")),
        ("random", format!("(drop (call $random {out}))")),
        ("publish", format!("(drop (call $publish {out} {name}))")),
        ("publish", format!("(drop (call $publish {name} {out}))")),
        ("subscribe", format!("(drop (call $subscribe {out}))")),
        ("tell", format!("(drop (call $tell {name} (i32.const 8) (i32.const -1)))")),
    ] {
        let failure = failed(&call, &lines).await.to_string();
        assert!(failure.starts_with(&format!("`odeum.{import}` was given")), "{call}: {failure}");
    }
}

#[tokio::test]
async fn what_belongs_to_a_message_traps_outside_of_one() {
    for call in [
        TELL,
        ASK,
        PUBLISH,
        SUBSCRIBE,
        "(call $set_timer (i64.const 1))",
        "(call $cancel_timer (i64.const 1))",
    ] {
        let start = format!(r#"(func (export "odeum_start") (drop {call})))"#);
        let text = guest("");
        let text = format!("{} {start}", text.trim_end().strip_suffix(')').expect("an end"));
        let failure = started(text, &granted(ALL)).await.expect_err("does not start").to_string();
        assert!(failure.contains("was called outside of a message"), "{call}: {failure}");
    }
}

#[tokio::test]
async fn a_refused_message_does_nothing_and_sets_nothing() {
    let body =
        format!("(drop (call $set_timer (i64.const 5))) (drop {TELL}) (return (i32.const 7))");
    let instance = started(guest(&body), &granted(ALL)).await.expect("starts");
    let (instance, answer) = instance.handle(CALL, session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Refused { code: 7, .. }), "{answer:?}");
    // A timer that was told and refused is over all the same.
    let timer = Arrival::TimedOut { number: 13 };
    let (instance, answer) = instance.handle(timer, session(&[])).await.expect("handles");
    assert!(matches!(answer, Answer::Refused { code: 3, .. }), "{answer:?}");
    let (_, effect) = told(instance, Arrival::TimedOut { number: 1 }).await;
    assert_eq!(effect.deeds, []);
}

#[tokio::test]
async fn a_timer_that_was_taken_back_in_its_message_is_not_set_at_all() {
    let body = "(local.set $count (call $set_timer (i64.const 5)))
        (call $code (call $cancel_timer (local.get $count)))";
    assert_eq!(done(body, "").await, (0, Vec::new()));
}

#[tokio::test]
async fn it_is_told_what_happens_to_it() {
    let ears = Ears::open();
    let mut instance = started(guest(""), "").await.expect("starts");
    assert!(instance.hears_of_its_start());
    let place = |value: &[u8]| Some(value.to_vec());
    for (arrival, heard, at) in [
        (Arrival::Started, &b"heard"[..], None),
        (Arrival::TimedOut { number: 4 }, b"4", None),
        (Arrival::Answered { number: 1, outcome: Ok(b"reply") }, b"reply", None),
        (
            Arrival::Answered { number: 2, outcome: Err("gone") },
            b"gone",
            place(&(-5_i64).to_le_bytes()),
        ),
        (Arrival::Published { topic: "a/b", payload: b"news" }, b"news", place(b"a/b")),
        (Arrival::Published { topic: "a/b", payload: b"" }, b"", place(b"a/b")),
    ] {
        let (next, effect) = told(instance, arrival).await;
        let value = |key: &str| {
            effect.writes.iter().find_map(|write| match write {
                Write::Set { key: it, value } if it == key => Some(value.clone()),
                _ => None,
            })
        };
        assert_eq!(value("heard").as_deref(), Some(heard), "{arrival:?}");
        assert_eq!(value("PLACE"), at, "{arrival:?}");
        instance = next;
    }
    instance.end().await;
    assert_eq!(ears.lines("bye").len(), 1, "{}", ears.heard());
}

#[tokio::test]
async fn one_that_could_not_be_told_what_comes_of_it_is_not_taken() {
    let engine = Engine::new().expect("an engine");
    for (import, export, ty) in [
        ("set_timer", "odeum_on_timer", "(i64) -> i32"),
        ("ask", "odeum_on_answer", "(i64, i32, i32, i32) -> i32"),
        ("subscribe", "odeum_on_published", "(i32, i32, i32, i32) -> i32"),
    ] {
        let text = guest("").replace(export, "nothing");
        let refused = compile(&engine, "", text).await.expect_err("is refused").to_string();
        let said = format!(
            "the module imports `odeum.{import}` and does not export `{export}`, by which it would \
             be told what comes of that: expected {ty}"
        );
        assert_eq!(refused, said);
    }
    let reactor = guest("")
        .replace("odeum_handle", "handle")
        .replace("(memory", r#"(func (export "_initialize")) (memory"#);
    let refused = compile(&engine, "", reactor).await.expect_err("is refused").to_string();
    assert!(refused.contains("`odeum_handle`"), "{refused}");
}

#[tokio::test]
async fn what_it_waits_for_goes_with_its_memory() {
    let body = say("(call $set_timer (i64.const 5))");
    let module = compiled(guest(&body), &granted(ALL)).await;
    let (setting, publisher) = (setting(), Publisher::none());
    let mut from = Instance::start(&module, &setting, publisher).await.expect("starts");
    for number in 1..=3 {
        let (next, effect) = told(from, CALL).await;
        assert_eq!(self::number(&effect), number);
        from = next;
    }
    let carried = Carried {
        timers: vec![(2, Duration::from_secs(1)), (3, Duration::ZERO)],
        answers: vec![(9, Err("gone".into()))],
        topics: vec!["a/b".to_owned()],
        ..Carried::default()
    };
    let mut to = Instance::blank(&module, &setting).await.expect("it can be had");
    let mut packing = from.packing().expect("it is movable");
    let mut unpacking = to.unpacking().expect("it is movable");
    for piece in from.pack_rest(&mut packing, carried.clone()).await.expect("it is read") {
        to.unpack(&mut unpacking, piece).expect("it fits");
    }
    let came = to.unpacked(&mut unpacking).await.expect("it fits");
    assert!(came.last == 3 && came.age > Duration::ZERO, "{came:?}");
    assert_eq!(came, Carried { last: came.last, age: came.age, ..carried });
    // Its numbers go on, and what it had set is set.
    let (_, effect) = told(to, CALL).await;
    assert_eq!(number(&effect), 4);
}

/// Waits until a variable of the default session has that value.
async fn until_variable(stage: &Stage, name: &str, key: &str, value: &[u8]) {
    let session = format!("{name}/default").parse().expect("valid");
    let end = Instant::now() + PATIENCE;
    while stage.shelf.variable(&session, key).as_deref() != Some(value) {
        assert!(Instant::now() < end, "{key} of {name} is not {value:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Does as the first letter of the message says.
fn obedient() -> String {
    let counter = "(i32.const 64) (i32.const 7) (i32.const 48) (i32.const 5)";
    let nobody = "(i32.const 0) (i32.const 5) (i32.const 48) (i32.const 5)";
    let words = [
        ('t', format!("(drop (call $tell {counter}))")),
        ('a', format!("(drop (call $ask {counter} (i32.const 9000)))")),
        ('n', format!("(drop (call $ask {nobody} (i32.const 9000)))")),
        ('w', "(call $say (call $set_timer (i64.const 20)))".to_owned()),
        ('l', "(call $say (call $set_timer (i64.const 600000)))".to_owned()),
        ('h', "(call $say (call $set_timer (i64.const 500)))".to_owned()),
        ('c', code("(call $cancel_timer (i64.const 4))")),
        ('s', format!("(drop {SUBSCRIBE})")),
        ('p', format!("(drop {PUBLISH})")),
    ];
    let word = |(letter, does): (char, String)| {
        let letter = u32::from(letter);
        format!("(if (i32.eq (i32.load8_u (local.get $ptr)) (i32.const {letter})) (then {does}))")
    };
    guest(&words.map(word).join("\n"))
}

#[tokio::test]
async fn it_tells_asks_times_and_hears_through_its_host() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    stage.until_state("counter", HostState::Running).await;
    stage.deploy("guest", &packaged(&granted(ALL), obedient())).await;
    until_variable(&stage, "guest", "heard", b"heard").await;
    stage.said("guest", "r1", "tell").await;
    until_variable(&stage, "counter", "count", b"2").await;
    stage.said("guest", "r2", "ask").await;
    until_variable(&stage, "guest", "heard", b"4").await;
    stage.said("guest", "r3", "nobody").await;
    let nobody = format!("there is no {}", entity("other"));
    until_variable(&stage, "guest", "heard", nobody.as_bytes()).await;
    stage.said("guest", "r4", "wait").await;
    until_variable(&stage, "guest", "heard", b"3").await;
    let long = stage.call("guest", "r5", "long").await.expect("replies");
    assert_eq!(long.body, 4_i64.to_le_bytes());
    for (request, code) in [("r6", 0_i64), ("r7", -1)] {
        let cancelled = stage.call("guest", request, "cancel").await.expect("replies");
        assert_eq!(cancelled.body, code.to_le_bytes());
    }
    stage.said("guest", "r8", "subscribe").await;
    // To subscribe takes a moment, and nobody hears when it is over.
    for request in 0.. {
        stage.said("guest", &format!("p{request}"), "publish").await;
        let session = "guest/default".parse().expect("valid");
        if stage.shelf.variable(&session, "heard").as_deref() == Some(b"add 2") {
            break;
        }
        assert!(request < 1_000, "nothing is heard");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until_variable(&stage, "guest", "PLACE", b"a/b").await;
}

#[tokio::test]
async fn a_timer_of_a_message_that_could_not_be_confirmed_runs_out_all_the_same() {
    let stage = Stage::new().await;
    stage.deploy("guest", &packaged("", obedient())).await;
    until_variable(&stage, "guest", "heard", b"heard").await;
    stage.shelf.set(Mood::Lost);
    let refused = stage.try_call("guest", "r1", "half a second").await.expect_err("no majority");
    stage.shelf.set(Mood::Well);
    assert!(matches!(refused, CallError::NoQuorum { .. }), "{refused}");
    // The guest has it in memory, so it is set.
    until_variable(&stage, "guest", "heard", b"1").await;
}

/// Saved with every message.
const SAVED_AT_ONCE: &str = "durability = 'checkpointed'\n[checkpoint]\nevery = '1h'\nmessages = 1";

/// Waits until something could not be told.
async fn until_put_off(ears: &Ears) {
    let end = Instant::now() + PATIENCE;
    while ears.lines("put off").is_empty() {
        assert!(Instant::now() < end, "nothing comes: {}", ears.heard());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_guest_waits_for_is_told_when_what_was_to_be_saved_before_is() {
    let nobody = format!("there is no {}", entity("other"));
    let asks = format!("(drop {ASK})");
    let waits = "(drop (call $set_timer (i64.const 20)))";
    for (call, heard) in [(waits, "1"), (&asks, &nobody)] {
        let stage = Stage::new().await;
        let lines = format!("{SAVED_AT_ONCE}\n{}", granted("messages = ['other']"));
        // It has something to save from the same message on.
        let body = format!("{call} (drop (call $heard (local.get $ptr) (local.get $len)))");
        stage.deploy("guest", &packaged(&lines, guest(&body))).await;
        until_variable(&stage, "guest", "heard", b"heard").await;
        let ears = Ears::open();
        stage.shelf.set(Mood::Lost);
        stage.said("guest", "r1", "a word").await;
        until_put_off(&ears).await;
        let refused = stage.try_call("guest", "r2", "another").await.expect_err("not saved yet");
        assert!(refused.is_retryable(), "{refused}");
        stage.shelf.set(Mood::Well);
        until_variable(&stage, "guest", "heard", heard.as_bytes()).await;
        let status = stage.status("guest").await.expect("it runs");
        assert_eq!(status.restarts, 0, "the same instance");
    }
}

#[tokio::test]
async fn what_could_not_be_told_is_told_before_what_came_behind_it() {
    let stage = Stage::new().await;
    // The second one runs out when all is well again, and before the first one is told.
    let waits = "(drop (call $set_timer (i64.const 20))) (drop (call $set_timer (i64.const 250)))";
    let body = format!("{waits} (drop (call $heard (local.get $ptr) (local.get $len)))");
    let (bye, heard) = ("\"bye\")", "(call $heard (i32.const 512) (i32.const 1))");
    let logs = "(i32.store8 (i32.const 405) (i32.wrap_i64 (i64.load (i32.const 512))))
        (call $log (i32.const 2) (i32.const 400) (i32.const 6))";
    let text = guest(&body)
        .replace(bye, &format!("{bye} (data (i32.const 400) \"rang _\")"))
        .replace(heard, &format!("{logs} {heard}"));
    stage.deploy("guest", &packaged(SAVED_AT_ONCE, text)).await;
    until_variable(&stage, "guest", "heard", b"heard").await;
    let ears = Ears::open();
    stage.shelf.set(Mood::Lost);
    stage.said("guest", "r1", "a word").await;
    until_put_off(&ears).await;
    stage.shelf.set(Mood::Well);
    until_variable(&stage, "guest", "heard", b"2").await;
    let rang = ears.lines("rang ");
    let order = rang.iter().map(|line| line.contains("rang 1"));
    assert_eq!(order.collect::<Vec<_>>(), [true, false], "{rang:?}");
}
