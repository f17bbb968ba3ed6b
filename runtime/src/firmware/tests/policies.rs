//! What becomes of a firmware over time: it idles, is updated, uses too much, fails slowly.

use std::time::{Duration, Instant};

use odeum_proto::{
    chronicle::What,
    store::{FirmwarePolicy, Measure, Remedy, RestartBudget, RollbackBudget, Threshold},
};

use super::COUNTER;
use super::jobs::command;
use super::stage::{PATIENCE, Stage};
use crate::firmware::HostState;

/// One that starts and traps on its first message.
const TRAPS: &[u8] = br#"(module (memory (export "memory") 1)
    (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
    (func (export "odeum_handle") (param i32 i32) (result i32) unreachable))"#;

/// One that does not start.
const BROKEN: &[u8] = br#"(module (memory (export "memory") 1)
    (func (export "odeum_start") unreachable)
    (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
    (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#;

/// Restarts at once.
fn at_once() -> RestartBudget {
    let pause = Duration::from_millis(1);
    RestartBudget { first_pause: pause, longest_pause: pause, ..RestartBudget::default() }
}

async fn with(policy: FirmwarePolicy) -> Stage {
    let stage = Stage::new().await;
    *stage.policy.lock().expect("not poisoned") = policy;
    stage
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_idle_guest_is_stopped_and_the_next_message_starts_it() {
    let idle = Some(Duration::from_millis(50));
    let stage = with(FirmwarePolicy { idle, ..FirmwarePolicy::default() }).await;
    stage.deploy("counter", COUNTER).await;
    for round in 1..=3 {
        // Its memory is gone each time, its session is not.
        let count = stage.said("counter", &format!("add-{round}"), "add 2").await;
        assert_eq!(count, (2 * round).to_string());
        let status = stage.until_state("counter", HostState::Idle).await;
        assert_eq!((status.memory_bytes, status.restarts), (0, 0));
    }
    assert_eq!(stage.said("counter", "stats", "stats").await, "handled 1");
}

#[tokio::test]
async fn an_update_that_crashes_is_rolled_back_by_itself() {
    for broken in [TRAPS, BROKEN] {
        let rollback = RollbackBudget { crashes: 3, within: Duration::from_secs(600) };
        let policy = FirmwarePolicy { restarts: at_once(), rollback, ..FirmwarePolicy::default() };
        let stage = with(policy).await;
        stage.deploy("counter", COUNTER).await;
        assert_eq!(stage.said("counter", "r1", "add 2").await, "2");
        let good = stage.status("counter").await.expect("is there").digest;
        let update = stage.checked(broken).await.digest;
        stage.apply_spec("counter", update);
        let mut n = 0;
        until("the package before comes back", async || {
            n += 1;
            let _ = stage.try_call("counter", &format!("try-{n}"), "get").await;
            let events = stage.handle.chronicles.events(&"counter".parse().expect("a name"));
            // Before the update is seen the package is the good one, too.
            let is_undone = events.iter().any(|it| matches!(it.what, What::RolledBack { .. }));
            is_undone && stage.status("counter").await.is_some_and(|it| it.digest == good)
        })
        .await;
        assert_eq!(stage.said("counter", "r2", "add 1").await, "3", "and what it knew is there");
    }
}

#[tokio::test]
async fn an_update_that_stands_the_test_is_not_undone_later() {
    let rollback = RollbackBudget { crashes: 1, within: Duration::from_millis(10) };
    let policy = FirmwarePolicy { restarts: at_once(), rollback, ..FirmwarePolicy::default() };
    let stage = with(policy).await;
    stage.deploy("counter", COUNTER).await;
    let update = stage.checked(TRAPS).await.digest;
    stage.apply_spec("counter", update);
    let name = "counter".parse().expect("a name");
    let can = || stage.shelf.view(|state| state.former(&name).is_some());
    assert!(can());
    until("the update is settled", async || !can()).await;
    let _ = stage.call("counter", "r1", "x").await.expect_err("traps");
    stage.until_state("counter", HostState::Running).await;
    assert_eq!(stage.status("counter").await.expect("is there").digest, update);
}

#[tokio::test]
async fn a_guest_that_crashes_too_often_in_an_hour_is_given_up() {
    let restarts = RestartBudget { max_restarts: 1_000, per_hour: 4, ..at_once() };
    let stage = with(FirmwarePolicy { restarts, ..FirmwarePolicy::default() }).await;
    stage.deploy("traps", TRAPS).await;
    let mut n = 0;
    until("it is given up", async || {
        n += 1;
        let _ = stage.try_call("traps", &format!("r{n}"), "x").await;
        stage.status("traps").await.is_some_and(|it| it.state == HostState::Failed)
    })
    .await;
    let error = stage.status("traps").await.expect("is there").last_error.expect("an error");
    assert!(error.starts_with("given up after 4 restarts in an hour"), "{error}");
    assert!(error.contains("unreachable"), "{error}");
}

#[tokio::test]
async fn one_that_uses_too_much_is_seen_and_stopped() {
    let threshold = |of, above, then| Threshold { of, above, lasting: Duration::ZERO, then };
    let thresholds = vec![threshold(Measure::Cpu, 3, Remedy::Stop)];
    let stage = with(FirmwarePolicy { thresholds, ..FirmwarePolicy::default() }).await;
    stage.deploy("busy", command("(loop br 0)").as_bytes()).await;
    let status = stage.until_state("busy", HostState::Failed).await;
    let error = status.last_error.expect("an error");
    assert!(error.contains("it used more than 3 % of a core"), "{error}");

    let thresholds = vec![threshold(Measure::Memory, 1 << 10, Remedy::Restart)];
    let policy = FirmwarePolicy { thresholds, restarts: at_once(), ..FirmwarePolicy::default() };
    *stage.policy.lock().expect("not poisoned") = policy;
    stage.deploy("counter", COUNTER).await;
    until("it is started anew", async || {
        stage.status("counter").await.is_some_and(|it| it.restarts > 0)
    })
    .await;
    let error = stage.status("counter").await.expect("is there").last_error.expect("an error");
    assert!(error.contains("it used more than 1024 bytes of memory"), "{error}");
}

#[tokio::test]
async fn one_that_uses_too_much_is_only_told_of_where_that_is_all_that_was_asked_for() {
    let of = |of, above| Threshold { of, above, lasting: Duration::ZERO, then: Remedy::Warn };
    let thresholds = vec![of(Measure::Memory, 1 << 10)];
    let stage = with(FirmwarePolicy { thresholds, ..FirmwarePolicy::default() }).await;
    stage.deploy("counter", COUNTER).await;
    assert_eq!(stage.said("counter", "r1", "add 1").await, "1");
    let exceeded = |name: &str| {
        let events = stage.handle.chronicles.events(&name.parse().expect("a name"));
        let reason = |what| match what {
            What::Exceeded { reason } => Some(reason),
            _ => None,
        };
        events.into_iter().filter_map(|it| reason(it.what)).collect::<Vec<_>>()
    };
    until("it is told of", async || !exceeded("counter").is_empty()).await;
    assert_eq!(exceeded("counter")[0], "it used more than 1024 bytes of memory for 0ns");
    // The same instance goes on.
    assert_eq!(stage.said("counter", "r2", "stats").await, "handled 2");
    let status = stage.status("counter").await.expect("is there");
    assert_eq!((status.state, status.restarts, status.last_error), (HostState::Running, 0, None));

    *stage.policy.lock().expect("not poisoned") =
        FirmwarePolicy { thresholds: vec![of(Measure::Cpu, 3)], ..FirmwarePolicy::default() };
    stage.deploy("busy", command("(loop br 0)").as_bytes()).await;
    until("it is told of", async || !exceeded("busy").is_empty()).await;
    let status = stage.status("busy").await.expect("is there");
    assert_eq!((status.state, status.restarts), (HostState::Running, 0));
    assert_eq!(exceeded("counter").len(), 1, "once, as long as it is too much");
}

#[tokio::test]
async fn a_guest_that_takes_too_long_to_start_is_a_crash() {
    let boot_time = Duration::from_millis(20);
    let policy = FirmwarePolicy { boot_time, restarts: at_once(), ..FirmwarePolicy::default() };
    let stage = with(policy).await;
    let slow = std::str::from_utf8(BROKEN).expect("text").replace("unreachable", "(loop br 0)");
    stage.deploy("slow", slow.as_bytes()).await;
    let status = stage.until_state("slow", HostState::Failed).await;
    let error = status.last_error.expect("an error");
    assert!(error.contains("it was not ready after 20ms"), "{error}");
}
