//! What a host promises: a message's effect once or not at all, whatever happens to the guest, to
//! the store or to the placement.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use odeum_cluster::lease::Lease;
use odeum_proto::{
    call::CallError,
    session::{DataOutcome, SessionRefusal},
    store::RestartBudget,
};

use super::COUNTER;
use super::stage::{Mood, PATIENCE, Stage, entity, long_lease};
use crate::firmware::{HostState, Ledger as _};

#[tokio::test]
async fn a_message_counts_once_whoever_often_it_is_retried() {
    let stage = Stage::new().await;
    let epoch = stage.deploy("counter", COUNTER).await;
    let reply = stage.call("counter", "r1", "add 2").await.expect("replies");
    assert_eq!((&*reply.body, reply.epoch, reply.replayed), (&b"2"[..], epoch, false));
    assert_eq!(stage.said("counter", "r2", "").await, "3");
    let again = stage.call("counter", "r1", "add 2").await.expect("replies");
    assert_eq!((&*again.body, again.replayed), (&b"2"[..], true));
    assert_eq!(stage.said("counter", "r3", "get").await, "3");
    assert_eq!(stage.count().as_deref(), Some("3"));
}

#[tokio::test]
async fn a_trap_costs_one_message_and_the_heap_but_not_the_count() {
    // Long enough to look at the host while it is down, on a busy machine, too.
    let first_pause = Duration::from_secs(1);
    let stage = Stage::with(RestartBudget { first_pause, ..RestartBudget::default() }).await;
    stage.deploy("counter", COUNTER).await;
    assert_eq!(stage.said("counter", "r1", "add 7").await, "7");
    let trapped = stage.call("counter", "r2", "trap").await.expect_err("traps");
    assert!(
        matches!(&trapped, CallError::Trapped { reason, .. } if reason.contains("unreachable"))
    );
    let status = stage.status("counter").await.expect("is there");
    assert_eq!(status.state, HostState::Restarting);
    assert!(status.last_error.is_some_and(|error| error.contains("unreachable")));
    let meanwhile = Instant::now();
    let turned_away = stage.try_call("counter", "r3", "get").await.expect_err("is down");
    assert!(matches!(turned_away, CallError::Unavailable { .. }), "{turned_away:?}");
    assert!(meanwhile.elapsed() < first_pause, "it was told at once");
    assert_eq!(stage.said("counter", "r4", "stats").await, "handled 1");
    assert_eq!(stage.said("counter", "r5", "add 1").await, "8");
    let status = stage.status("counter").await.expect("is there");
    assert_eq!((status.state, status.restarts), (HostState::Running, 1));
    assert!(status.memory_bytes > 0);
}

#[tokio::test]
async fn an_endless_loop_is_ended_and_delays_no_other_firmware() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    stage.deploy("other", COUNTER).await;
    stage.said("counter", "r0", "get").await;
    stage.said("other", "r0", "get").await;
    let spinning = Cell::new(true);
    let spin = async {
        let spun = stage.try_call("counter", "r1", "spin").await;
        spinning.set(false);
        spun
    };
    let others = async {
        for n in 0..5 {
            stage.said("other", &format!("o{n}"), "add 1").await;
        }
        spinning.get()
    };
    // On one thread: `join!` starts the loop first, which gets sixty slices of its 300 ms. Each
    // call of the other waits for a few of them.
    let (spun, was_spinning) = tokio::join!(spin, others);
    assert!(was_spinning, "the other firmware waited for the end of the loop");
    let spun = spun.expect_err("is ended");
    assert!(matches!(&spun, CallError::LimitExceeded { reason, .. } if reason.contains("300ms")));
    assert_eq!(stage.said("counter", "r2", "add 1").await, "1");
}

#[tokio::test]
async fn a_guest_that_eats_memory_is_told_its_limit() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    let eaten = stage.call("counter", "r1", "eat").await.expect_err("is refused");
    let CallError::LimitExceeded { reason, .. } = eaten else { panic!("{eaten:?}") };
    assert!(reason.contains("at most 4194304 are allowed"), "{reason}");
    assert_eq!(stage.said("counter", "r2", "add 1").await, "1");
}

#[tokio::test]
async fn a_commit_in_doubt_that_happened_is_not_repeated() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    stage.said("counter", "r0", "add 1").await;
    stage.shelf.set(Mood::InDoubt);
    let in_doubt = stage.try_call("counter", "r1", "add 1").await.expect_err("is in doubt");
    assert!(matches!(in_doubt, CallError::NoQuorum { .. }), "{in_doubt:?}");
    stage.shelf.set(Mood::Well);
    let retried = stage.call("counter", "r1", "add 1").await.expect("replies");
    assert_eq!((&*retried.body, retried.replayed), (&b"2"[..], true));
    assert_eq!(stage.count().as_deref(), Some("2"));
    let status = stage.until_state("counter", HostState::Running).await;
    assert_eq!(status.restarts, 0, "the guest did nothing wrong");
}

#[tokio::test]
async fn a_commit_that_arrives_after_it_was_given_up_undoes_nothing() {
    let stage = Stage::new().await;
    let epoch = stage.deploy("counter", COUNTER).await;
    stage.said("counter", "r0", "add 1").await;
    stage.shelf.set(Mood::Late);
    stage.try_call("counter", "r1", "add 1").await.expect_err("is in doubt");
    stage.shelf.set(Mood::Well);
    // Read before the late commit is written, which was computed from the same count.
    let next = stage.call("counter", "r2", "add 1").await.expect("replies");
    assert_eq!(&*next.body, b"2");
    let late = stage.shelf.arrive();
    assert!(
        matches!(late[..], [DataOutcome::Refused(SessionRefusal::StaleEpoch { .. })]),
        "{late:?}"
    );
    assert_eq!(stage.said("counter", "r1", "add 1").await, "3");
    assert_eq!(stage.count().as_deref(), Some("3"));
    assert!(next.epoch > epoch);
}

#[tokio::test]
async fn a_commit_that_was_lost_is_made_by_the_retry_with_a_clean_heap() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    stage.said("counter", "r0", "add 1").await;
    stage.shelf.set(Mood::Lost);
    stage.try_call("counter", "r1", "add 1").await.expect_err("is lost");
    let read = stage.try_call("counter", "r2", "get").await.expect_err("cannot be confirmed");
    assert!(read.is_retryable(), "{read:?}");
    stage.shelf.set(Mood::Well);
    assert_eq!(stage.said("counter", "r1", "add 1").await, "2");
    assert_eq!(stage.said("counter", "r3", "stats").await, "handled 2");
}

#[tokio::test]
async fn a_read_is_only_answered_when_it_is_the_newest() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    stage.said("counter", "r0", "add 1").await;
    stage.shelf.set(Mood::Lost);
    let read = stage.try_call("counter", "r1", "get").await.expect_err("cannot be confirmed");
    assert!(matches!(read, CallError::NoQuorum { .. }), "{read:?}");
    stage.shelf.set(Mood::Well);
    assert_eq!(stage.said("counter", "r2", "stats").await, "handled 3", "the instance was kept");
}

#[tokio::test]
async fn a_host_whose_entity_is_placed_elsewhere_ends_and_changes_nothing() {
    let stage = Stage::new().await;
    let epoch = stage.deploy("counter", COUNTER).await;
    stage.said("counter", "r0", "add 1").await;
    let there = stage.place("counter", "n2");
    // As the next host does before it is there for anybody.
    let taken_over = stage.shelf.fence(&entity("counter"), there, PATIENCE).await;
    assert!(matches!(taken_over, Ok(DataOutcome::Applied { .. })), "{taken_over:?}");
    // Either the coordinator was faster or the store refuses the old epoch.
    let late = stage.try_call("counter", "r1", "add 1").await.expect_err("is fenced");
    assert!(late.is_retryable(), "{late:?}");
    assert_eq!(stage.count().as_deref(), Some("1"));
    let end = Instant::now() + PATIENCE;
    while stage.status("counter").await.is_some() {
        assert!(Instant::now() < end, "the host goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let back = stage.place("counter", "n1");
    assert!(back > epoch);
    let reply = stage.call("counter", "r1", "add 1").await.expect("replies");
    assert_eq!((&*reply.body, reply.epoch), (&b"2"[..], back));
}

#[tokio::test]
async fn a_new_package_takes_over_from_the_old_one() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    stage.said("counter", "r0", "add 5").await;
    let echo = br#"(module (import "odeum" "reply" (func $reply (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
        (func (export "odeum_handle") (param i32 i32) (result i32)
          (call $reply (local.get 0) (local.get 1)) i32.const 0))"#;
    let package = stage.checked(echo).await;
    stage.apply_spec("counter", package.digest);
    let end = Instant::now() + PATIENCE;
    let mut n = 0;
    while stage.said("counter", &format!("e{n}"), "get").await != "get" {
        assert!(Instant::now() < end, "the old package goes on");
        n += 1;
    }
    assert_eq!(stage.count().as_deref(), Some("5"));
}

#[tokio::test]
async fn what_the_guest_refuses_is_told_with_its_reason() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    let refused = stage.call("counter", "r1", "jump").await.expect_err("is refused");
    let CallError::Refused { reason, .. } = refused else { panic!("{refused:?}") };
    assert!(reason.starts_with("expected nothing, `add N`"), "{reason}");
    assert_eq!(stage.said("counter", "r2", "stats").await, "handled 2");
}

#[tokio::test]
async fn a_firmware_that_cannot_start_is_given_up_alone() {
    let pause = Duration::from_millis(1);
    let restarts =
        RestartBudget { first_pause: pause, longest_pause: pause, ..RestartBudget::default() };
    let stage = Stage::with(restarts).await;
    let broken = br#"(module (memory (export "memory") 1)
        (func (export "odeum_start") unreachable)
        (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
        (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#;
    stage.deploy("broken", broken).await;
    stage.deploy("counter", COUNTER).await;
    let status = stage.until_state("broken", HostState::Failed).await;
    let error = status.last_error.unwrap_or_default();
    assert!(error.starts_with("given up after 12 restarts"), "{error}");
    assert!(error.contains("unreachable"), "{error}");
    assert!(stage.try_call("broken", "r1", "").await.is_err());
    assert_eq!(stage.said("counter", "r1", "add 1").await, "1");
    // Deployed anew it is tried again.
    let package = stage.checked(COUNTER).await;
    stage.apply_spec("broken", package.digest);
    assert_eq!(stage.said("broken", "r2", "add 3").await, "3");
}

#[tokio::test]
async fn a_deleted_firmware_ends() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    stage.said("counter", "r0", "add 1").await;
    let name = "counter".parse().expect("valid");
    stage.shelf.apply(&odeum_proto::store::Command::DeleteFirmware { name });
    let end = Instant::now() + PATIENCE;
    while stage.status("counter").await.is_some() {
        assert!(Instant::now() < end, "{} goes on", entity("counter"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(stage.try_call("counter", "r1", "get").await.is_err());
    stage.root.shutdown().await;
}

#[tokio::test]
async fn nothing_runs_without_the_lease_of_the_node_and_all_goes_on_with_the_next() {
    let stage = Stage::new().await;
    stage.deploy("counter", COUNTER).await;
    assert_eq!(stage.said("counter", "r1", "add 2").await, "2");
    // Over without anybody having been told: it is found out with the next message.
    let over = Lease::Held { epoch: odeum_proto::Epoch(1), until: tokio::time::Instant::now() };
    stage.lease.send_if_modified(|lease| {
        *lease = over;
        false
    });
    let refused = stage.try_call("counter", "r2", "add 1").await.expect_err("it may not");
    assert!(refused.is_retryable(), "{refused:?}");
    stage.lease.send_replace(Lease::Lost);
    let end = Instant::now() + PATIENCE;
    while stage.status("counter").await.is_some() {
        assert!(Instant::now() < end, "it runs without a lease");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = stage.try_call("counter", "r2", "add 1").await.expect_err("it does not run");
    assert!(refused.is_retryable(), "{refused:?}");
    stage.lease.send_replace(long_lease());
    assert_eq!(stage.said("counter", "r2", "add 1").await, "3");
}

#[tokio::test]
async fn a_commit_in_doubt_undoes_nothing_though_its_host_ended_with_the_lease() {
    let stage = Stage::new().await;
    let epoch = stage.deploy("counter", COUNTER).await;
    stage.said("counter", "r0", "add 1").await;
    stage.shelf.set(Mood::Late);
    stage.try_call("counter", "r1", "add 1").await.expect_err("is in doubt");
    // Before its host can have the entity placed anew.
    stage.lease.send_replace(Lease::Lost);
    let end = Instant::now() + PATIENCE;
    while stage.status("counter").await.is_some() {
        assert!(Instant::now() < end, "it runs without a lease");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.shelf.set(Mood::Well);
    assert_eq!(stage.shelf.epoch(&entity("counter")), Some(epoch), "nobody else had it");
    stage.lease.send_replace(long_lease());
    let next = stage.call("counter", "r2", "add 1").await.expect("replies");
    assert_eq!(&*next.body, b"2");
    let late = stage.shelf.arrive();
    assert!(
        matches!(late[..], [DataOutcome::Refused(SessionRefusal::StaleEpoch { .. })]),
        "{late:?}"
    );
    assert_eq!(stage.said("counter", "r1", "add 1").await, "3");
    assert_eq!(stage.count().as_deref(), Some("3"));
}

#[tokio::test]
async fn a_host_that_is_prepared_while_the_lease_is_over_runs_when_there_is_one_again() {
    let stage = Stage::new().await;
    // It waits for the store.
    stage.shelf.set(Mood::Lost);
    stage.deploy("counter", COUNTER).await;
    stage.until_state("counter", HostState::Starting).await;
    // Nobody has been told that it is over when the store is well again.
    let over = Lease::Held { epoch: odeum_proto::Epoch(1), until: tokio::time::Instant::now() };
    stage.lease.send_if_modified(|lease| {
        *lease = over;
        false
    });
    stage.shelf.set(Mood::Well);
    let end = Instant::now() + PATIENCE;
    // Either it takes the sessions over, or the coordinator has found out before and ended it.
    let taken_over = || stage.shelf.view_data(|data| data.epoch(&entity("counter"))).is_some();
    while !taken_over() && stage.status("counter").await.is_some() {
        assert!(Instant::now() < end, "it neither goes on nor ends");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = stage.try_call("counter", "r1", "add 1").await.expect_err("it may not");
    assert!(refused.is_retryable(), "{refused:?}");
    stage.lease.send_replace(long_lease());
    assert_eq!(stage.said("counter", "r1", "add 1").await, "1");
}
