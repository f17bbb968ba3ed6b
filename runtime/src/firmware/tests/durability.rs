//! What of what a guest wrote is where at which time, by the durability of its manifest.

use std::time::{Duration, Instant};

use odeum_proto::{
    SessionId,
    session::{Constraints, DataAction, Definition, Operation, SessionSettings, Value, ValueType},
};

use super::stage::{Mood, PATIENCE, Stage, entity, node};
use super::{COUNTER, packaged};
use crate::firmware::{HostState, Ledger as _};

async fn staged(lines: &str) -> Stage {
    let stage = Stage::new().await;
    stage.deploy("counter", &packaged(lines, COUNTER)).await;
    stage.until_state("counter", HostState::Running).await;
    stage
}

async fn add(stage: &Stage, request: &str) -> String {
    stage.said("counter", request, "add 1").await
}

async fn until_count(stage: &Stage, count: &str) {
    let end = Instant::now() + PATIENCE;
    while stage.count().as_deref() != Some(count) {
        assert!(Instant::now() < end, "the store has {:?}, not {count}", stage.count());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Only by the number of messages.
const BY_THREE: &str = "durability = 'checkpointed'\n[checkpoint]\nevery = '1h'\nmessages = 3";

#[tokio::test]
async fn what_is_durable_is_in_the_store_before_its_reply() {
    let stage = staged("").await;
    assert_eq!(add(&stage, "r1").await, "1");
    assert_eq!(stage.count().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_checkpoint_has_what_several_messages_wrote_and_the_requests_they_were() {
    let stage = staged(BY_THREE).await;
    assert_eq!(add(&stage, "r1").await, "1");
    assert_eq!(add(&stage, "r2").await, "2");
    assert_eq!(stage.count(), None, "nothing is written yet");
    assert_eq!(stage.said("counter", "r3", "get").await, "2", "the guest reads what it wrote");
    let again = stage.call("counter", "r1", "add 1").await.expect("is answered");
    assert_eq!((again.body.as_slice(), again.replayed), (&b"1"[..], true));
    assert_eq!(add(&stage, "r4").await, "3");
    until_count(&stage, "3").await;
    let again = stage.call("counter", "r2", "add 1").await.expect("is answered");
    assert_eq!((again.body.as_slice(), again.replayed), (&b"2"[..], true));
    let group = stage.shelf.view_data(|data| {
        let request = "r4".parse().expect("valid");
        data.remembered(&entity("counter"), &request).cloned()
    });
    assert_eq!(group, Some(Some(b"3".to_vec())));
}

#[tokio::test]
async fn a_guest_that_traps_has_a_checkpoint_made_at_once() {
    let stage = staged(BY_THREE).await;
    add(&stage, "r1").await;
    stage.call("counter", "trap", "trap").await.expect_err("traps");
    until_count(&stage, "1").await;
    assert_eq!(add(&stage, "r2").await, "2");
}

#[tokio::test]
async fn a_checkpoint_comes_after_its_time_whatever_else_comes() {
    let lines = "durability = 'checkpointed'\n[checkpoint]\nevery = '50ms'\nmessages = 1000";
    let stage = staged(lines).await;
    assert_eq!(add(&stage, "r1").await, "1");
    until_count(&stage, "1").await;
    assert_eq!(add(&stage, "r2").await, "2");
    until_count(&stage, "2").await;
}

#[tokio::test]
async fn what_is_volatile_is_saved_when_its_activation_ends_in_good_order() {
    let stage = staged("durability = 'volatile'").await;
    for number in 1..=20 {
        assert_eq!(add(&stage, &format!("r{number}")).await, number.to_string());
    }
    assert_eq!(stage.count(), None, "nothing is written");
    // A guest that traps loses its memory and nothing of its sessions.
    stage.call("counter", "trap", "trap").await.expect_err("traps");
    assert_eq!(add(&stage, "r21").await, "21");
    assert_eq!(stage.count(), None, "nothing is written");
    stage.place("counter", node().as_str());
    until_count(&stage, "21").await;
    assert_eq!(add(&stage, "r22").await, "22");
    let again = stage.call("counter", "r7", "add 1").await.expect("is answered");
    assert_eq!((again.body.as_slice(), again.replayed), (&b"7"[..], true));
    stage.root.shutdown().await;
    assert_eq!(stage.count().as_deref(), Some("22"), "a node that stops saves it, too");
}

#[tokio::test]
async fn another_activation_elsewhere_begins_when_all_is_saved() {
    let stage = staged("durability = 'volatile'").await;
    add(&stage, "r1").await;
    let (name, keepers) = ("counter".parse().expect("a name"), &stage.handle.keepers);
    let now = stage.shelf.epoch(&entity("counter")).expect("placed");
    assert!(keepers.are_done(&name, now, Duration::ZERO).await, "it is not before itself");
    assert!(!keepers.are_done(&name, now.next(), Duration::ZERO).await);
    let next = stage.place("counter", "n2");
    assert!(keepers.are_done(&name, next, PATIENCE).await);
    assert_eq!(stage.count().as_deref(), Some("1"));
}

#[tokio::test]
async fn no_message_is_taken_while_a_due_checkpoint_cannot_be_written() {
    for mood in [Mood::Lost, Mood::InDoubt] {
        let stage = staged(BY_THREE).await;
        stage.shelf.set(mood);
        for request in ["r1", "r2", "r3"] {
            add(&stage, request).await;
        }
        let refused = stage.try_call("counter", "r4", "add 1").await.expect_err("is refused");
        assert!(refused.is_retryable(), "{refused}");
        stage.shelf.set(Mood::Well);
        assert_eq!(add(&stage, "r4").await, "4", "{mood:?}: nothing is lost and nothing doubled");
        assert_eq!(stage.count().as_deref(), Some("3"));
        let again = stage.call("counter", "r3", "add 1").await.expect("is answered");
        assert_eq!((again.body.as_slice(), again.replayed), (&b"3"[..], true));
    }
}

#[tokio::test]
async fn what_the_store_refuses_is_lost_and_said_and_the_guest_begins_with_what_is_true() {
    let stage = staged(BY_THREE).await;
    let constraints = Constraints { max: Some(Value::Integer(2)), ..Constraints::default() };
    let definition = Definition { constraints, ..Definition::untyped(ValueType::Integer) };
    let session: SessionId = "counter/default".parse().expect("valid");
    let settings = SessionSettings::default();
    stage.shelf.change(DataAction::CreateSession { session: session.clone(), settings });
    let operation = Operation::Register {
        key: "count".into(),
        definition: definition.into(),
        initial: Value::Integer(1),
        replace: false,
    };
    stage.shelf.change(DataAction::Operate { session, operation });
    for (request, count) in [("r1", "2"), ("r2", "3"), ("r3", "4")] {
        assert_eq!(add(&stage, request).await, count);
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let status = stage.status("counter").await.expect("it runs here");
        let said = status.last_error.unwrap_or_default();
        if said.contains("max 2") {
            assert!(said.contains("since its last checkpoint is lost"), "{said}");
            break;
        }
        assert!(Instant::now() < end, "it is not said: {said}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stage.said("counter", "r5", "get").await, "1");
}

#[tokio::test]
async fn a_guest_that_moves_has_saved_what_it_wrote_or_stays() {
    let stage = staged("durability = 'volatile'").await;
    add(&stage, "r1").await;
    let now = stage.shelf.epoch(&entity("counter")).expect("placed");
    let frozen = async || {
        let going = stage.handle.carrier.depart(&entity("counter"), now).await;
        let mut going = going.expect("it is there");
        going.freeze().await.expect("it is at rest");
        going
    };
    let mut going = frozen().await;
    stage.shelf.set(Mood::Lost);
    let error = going.rest().await.expect_err("it cannot be saved");
    assert!(error.to_string().contains("the test says so"), "{error}");
    assert_eq!(stage.count(), None);
    going.stay();
    stage.shelf.set(Mood::Well);
    assert_eq!(add(&stage, "r2").await, "2");

    let mut going = frozen().await;
    going.rest().await.expect("it is saved");
    assert_eq!(stage.count().as_deref(), Some("2"));
    // Before the next one begins, whatever its coordinator is at.
    let (name, node) = ("counter".parse().expect("a name"), "n2".parse().expect("a name"));
    let next = now.next();
    going.gone(&node, next);
    assert!(stage.handle.keepers.are_done(&name, next, PATIENCE).await);
}
