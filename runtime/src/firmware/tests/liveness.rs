//! Guests that are asked whether they are well, and what comes of it.

use std::time::{Duration, Instant};

use odeum_actors::testing::ManualClock;
use odeum_proto::{
    chronicle::What,
    session::DataOutcome,
    store::{FirmwarePolicy, Liveness, RestartBudget},
};

use super::bench::{session, started};
use super::stage::{Mood, PATIENCE, Stage};
use super::{ACTOR, COUNTER, SERVER};
use crate::firmware::{Answer, Arrival, HostState};

/// Is well until a message tells it otherwise: the first byte of one is what `odeum_alive` returns,
/// with a reason. `l` has it loop, `w` write.
const MOODY: &str = r#"(module
    (import "odeum" "reply" (func $reply (param i32 i32)))
    (import "odeum" "var_set" (func $set (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "I am ill")
    (global $mood (mut i32) (i32.const 0))
    (func (export "odeum_alloc") (param i32) (result i32) i32.const 1024)
    (func (export "odeum_handle") (param $ptr i32) (param i32) (result i32)
      (global.set $mood (i32.load8_u (local.get $ptr)))
      i32.const 0)
    (func (export "odeum_alive") (result i32)
      (if (i32.eq (global.get $mood) (i32.const 108)) (then (loop $l (br $l))))
      (if (i32.eq (global.get $mood) (i32.const 119)) (then
        (drop (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
        (return (i32.const 0))))
      (call $reply (i32.const 0) (i32.const 8))
      global.get $mood))"#;

const WITHIN: Duration = Duration::from_millis(500);

fn checked(failures: u32, path: Option<&str>) -> FirmwarePolicy {
    let pause = Duration::from_millis(1);
    FirmwarePolicy {
        liveness: Some(Liveness {
            interval: Duration::from_millis(20),
            timeout: WITHIN,
            failures,
            path: path.map(str::to_owned),
        }),
        restarts: RestartBudget {
            first_pause: pause,
            longest_pause: pause,
            max_restarts: 1_000,
            ..RestartBudget::default()
        },
        ..FirmwarePolicy::default()
    }
}

async fn with(policy: FirmwarePolicy) -> Stage {
    let stage = Stage::new().await;
    *stage.policy.lock().expect("not poisoned") = policy;
    stage
}

/// Waits until it was started again; why.
async fn restarted(stage: &Stage, name: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = stage.status(name).await;
        if let Some(status) = status.as_ref().filter(|it| it.restarts > 0) {
            let is_well = status.state == HostState::Running;
            if let (true, Some(error)) = (is_well, &status.last_error) {
                return error.to_string();
            }
        }
        assert!(Instant::now() < end, "{name} was not started again: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Why it was held not to be alive, each once.
fn not_alive(stage: &Stage, name: &str) -> Vec<String> {
    let events = stage.handle.chronicles.events(&name.parse().expect("a name"));
    let reasons = events.into_iter().filter_map(|event| match event.what {
        What::NotAlive { reason } => Some(reason),
        _ => None,
    });
    reasons.collect()
}

/// How often a check of it failed.
fn failed_checks(stage: &Stage, name: &str) -> u32 {
    let events = stage.handle.chronicles.events(&name.parse().expect("a name"));
    let failed = events.iter().filter(|event| matches!(event.what, What::NotAlive { .. }));
    failed.map(|event| event.count).sum()
}

#[tokio::test]
async fn a_guest_that_says_several_times_that_it_is_ill_is_started_again() {
    let stage = with(checked(3, None)).await;
    stage.deploy("moody", MOODY.as_bytes()).await;
    stage.said("moody", "r1", "ill").await;
    let error = restarted(&stage, "moody").await;
    assert_eq!(error, "it is not alive: 3 checks in a row failed, the last one because I am ill");
    assert_eq!(failed_checks(&stage, "moody"), 3, "its next instance is well");
}

#[tokio::test]
async fn one_that_does_not_come_to_an_end_or_writes_when_it_is_asked_is_not_well() {
    let stage = with(checked(1, None)).await;
    stage.deploy("moody", MOODY.as_bytes()).await;
    stage.said("moody", "r1", "loop").await;
    let error = restarted(&stage, "moody").await;
    assert!(error.contains("500ms"), "{error}");
    assert_eq!(not_alive(&stage, "moody"), [error], "its events say it, too");

    stage.deploy("writes", MOODY.as_bytes()).await;
    stage.said("writes", "r2", "write").await;
    let error = restarted(&stage, "writes").await;
    assert!(error.contains("it wrote or sent something, which is not kept"), "{error}");
    let session = "writes/default".parse().expect("a session");
    assert_eq!(crate::firmware::Ledger::variable(&*stage.shelf, &session, "I"), None);
}

#[tokio::test]
async fn a_guest_that_is_not_asked_or_well_is_left_in_peace() {
    let stage = with(checked(1, None)).await;
    stage.deploy("counter", COUNTER).await;
    stage.deploy("well", MOODY.as_bytes()).await;
    // Well beyond some checks, during which messages are handled as ever.
    for number in 0..20 {
        stage.said("counter", &format!("r{number}"), "add 1").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stage.said("counter", "stats", "stats").await, "handled 21");
    for name in ["counter", "well"] {
        let status = stage.status(name).await.expect("is there");
        assert_eq!((status.state, status.restarts), (HostState::Running, 0), "{status:?}");
        assert_eq!(failed_checks(&stage, name), 0);
    }
}

#[tokio::test]
async fn a_component_says_itself_whether_it_is_well() {
    let probe = Arrival::Probed { within: WITHIN };
    let actor = started(ACTOR, "").await.expect("starts");
    let (actor, answer) = actor.handle(probe, session(&[])).await.expect("answers");
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    let (actor, _) = actor.handle(b"sick tired", session(&[])).await.expect("handles");
    let (actor, answer) = actor.handle(probe, session(&[])).await.expect("answers");
    let Answer::Refused { reason, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(&*reason, "tired");
    let (actor, _) = actor.handle(b"sick spin", session(&[])).await.expect("handles");
    let failure = actor.handle(probe, session(&[])).await.map(|_| ()).expect_err("is ended");
    assert!(failure.to_string().contains("500ms"), "{failure}");
}

#[tokio::test]
async fn a_server_is_asked_for_its_path_and_has_to_answer_with_2xx() {
    let stage = with(checked(2, Some("/nowhere-to-be-found"))).await;
    stage.deploy("server", SERVER).await;
    let error = restarted(&stage, "server").await;
    assert!(error.contains("GET /nowhere-to-be-found had status 404"), "{error}");

    *stage.policy.lock().expect("not poisoned") = checked(1, Some("/echo"));
    stage.deploy("good", SERVER).await;
    stage.until_state("good", HostState::Running).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let status = stage.status("good").await.expect("is there");
    assert_eq!(
        (status.state, status.restarts, failed_checks(&stage, "good")),
        (HostState::Running, 0, 0)
    );
}

#[tokio::test]
async fn a_host_that_does_not_come_to_its_next_message_is_ended_and_another_one_begins() {
    let policy = FirmwarePolicy { boot_time: Duration::from_secs(1), ..checked(1, None) };
    let stage = with(policy).await;
    let epoch = stage.deploy("counter", COUNTER).await;
    assert_eq!(stage.said("counter", "r1", "add 1").await, "1");
    stage.shelf.set(Mood::Mute);
    let (stuck, clock) = tokio::join!(stage.try_call("counter", "r2", "add 1"), async {
        let end = Instant::now() + PATIENCE;
        while stage.shelf.on_the_way() == 0 {
            assert!(Instant::now() < end, "it commits nothing");
            tokio::task::yield_now().await;
        }
        stage.shelf.set(Mood::Well);
        // What takes a while takes none from here on.
        let clock = ManualClock::stop();
        let begin = clock.now();
        while not_alive(&stage, "counter").is_empty() {
            assert!(clock.since(begin) < PATIENCE, "nobody finds out");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        clock
    });
    drop(clock);
    let stuck = stuck.expect_err("it has no outcome");
    let reason = "its host does not come to its next message";
    assert_eq!(not_alive(&stage, "counter"), [reason]);
    let events = stage.handle.chronicles.events(&"counter".parse().expect("a name"));
    let crashed = What::Crashed { reason: reason.to_owned() };
    assert!(events.iter().any(|event| event.what == crashed), "{events:?}");

    // What it was at is made by the retry, and what is under way comes too late.
    let next = stage.call("counter", "r2", "add 1").await.expect("another host replies");
    assert_eq!((&*next.body, next.replayed), (&b"2"[..], false), "{stuck}");
    assert!(next.epoch > epoch);
    let late = stage.shelf.arrive();
    assert!(!matches!(late[..], [DataOutcome::Applied { .. }]), "{late:?}");
    assert_eq!(stage.count().as_deref(), Some("2"));
}
