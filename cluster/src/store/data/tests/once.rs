//! Everything once: commands that clients send again, requests that users make again.

use odeum_proto::limits;
use odeum_proto::session::SessionRefusal;

use super::*;

fn sent(origin: Origin, operation: Operation) -> DataCommand {
    let action = DataAction::Operate { session: session("s"), operation };
    DataCommand { origin: Some(origin), request: None, action }
}

fn requested(id: &str, operation: Operation) -> DataCommand {
    let action = DataAction::Operate { session: session("s"), operation };
    DataCommand { origin: None, request: Some(request(id)), action }
}

fn count(n: i64) -> Operation {
    set("count", Value::Integer(n))
}

#[test]
fn a_command_that_is_sent_again_is_applied_once_and_has_its_first_outcome() {
    let mut group = Group::with_session();
    let command = sent(origin("n1", 1, 1, 1), count(1));
    let first = group.send(&command);
    group.send(&sent(origin("n1", 1, 2, 1), count(2)));
    assert_eq!(group.send(&command), first);
    assert_eq!(group.version("count"), 2);
    check_index(&group.data);
}

/// Its sender may have been told of the refusal, and must not be proved wrong later.
#[test]
fn a_refused_command_that_is_sent_again_stays_refused() {
    let mut group = Group::with_session();
    let command = sent(origin("n1", 1, 1, 1), cas("count", Value::Integer(1), 1));
    let first = group.send(&command);
    assert!(matches!(first, DataOutcome::Refused(SessionRefusal::VersionConflict { .. })));
    group.operate(count(5));
    assert_eq!(group.send(&command), first, "by now it would be accepted");
}

#[test]
fn what_a_client_has_the_outcome_of_is_forgotten_and_never_applied_again() {
    let mut group = Group::with_session();
    let first = sent(origin("n1", 1, 1, 1), count(1));
    group.send(&first);
    let before = group.data.bytes();
    group.send(&sent(origin("n1", 1, 2, 2), count(2)));
    assert_eq!(group.data.bytes(), before, "one outcome came, one went");
    let late = group.send(&first);
    assert!(
        matches!(late, DataOutcome::Refused(SessionRefusal::Acknowledged { sequence: 1, .. })),
        "{late:?}"
    );
    assert_eq!(group.version("count"), 2);
}

#[test]
fn a_later_start_of_a_node_takes_the_place_of_an_earlier_one() {
    let mut group = Group::with_session();
    group.send(&sent(origin("n1", 1, 1, 1), count(1)));
    let new = group.send(&sent(origin("n1", 2, 1, 1), count(2)));
    assert!(matches!(new, DataOutcome::Operated { .. }), "numbers start anew: {new:?}");
    let old = group.send(&sent(origin("n1", 1, 1, 1), count(3)));
    assert!(matches!(old, DataOutcome::Refused(SessionRefusal::OldIncarnation { .. })), "{old:?}");
    let other = group.send(&sent(origin("n2", 1, 1, 1), count(4)));
    assert!(matches!(other, DataOutcome::Operated { .. }), "another node: {other:?}");
    check_index(&group.data);
}

#[test]
fn a_client_cannot_have_more_outstanding_than_the_bound() {
    let mut group = Group::with_session();
    let most = limits::OUTSTANDING_PER_CLIENT as u64;
    for n in 1..=most {
        group.send(&sent(origin("n1", 1, n, 1), count(1)));
    }
    let command = sent(origin("n1", 1, most + 1, 1), count(1));
    let over = group.send(&command);
    assert!(matches!(over, DataOutcome::Refused(SessionRefusal::TooMuch { .. })), "{over:?}");
    let again = group.send(&sent(origin("n1", 1, most, 1), count(1)));
    assert!(matches!(again, DataOutcome::Operated { .. }), "an old one is answered: {again:?}");
    let acknowledged = group.send(&sent(origin("n1", 1, most + 1, 2), count(1)));
    assert!(matches!(acknowledged, DataOutcome::Operated { .. }), "{acknowledged:?}");
}

#[test]
fn of_too_many_clients_the_one_that_was_silent_for_long_leaves() {
    let mut group = Group::with_session();
    for n in 0..limits::NODES {
        group.send(&sent(origin(&format!("n{n}"), 1, 1, 1), count(1)));
        group.at += 1;
    }
    let one_more = sent(origin("late", 1, 1, 1), count(1));
    let full = group.send(&one_more);
    assert!(matches!(full, DataOutcome::Refused(SessionRefusal::TooMuch { .. })), "{full:?}");
    group.at = limits::CLIENT_IDLE.as_millis() as u64;
    let room = group.send(&one_more);
    assert!(matches!(room, DataOutcome::Operated { .. }), "{room:?}");
    check_index(&group.data);
}

#[test]
fn a_request_that_is_made_again_is_answered_with_the_first_answer() {
    let mut group = Group::with_session();
    let first = group.send(&requested("k", count(1)));
    group.send(&requested("other", count(2)));
    let before = group.data.clone();
    assert_eq!(group.send(&requested("k", count(1))), first);
    assert_eq!(group.data, before);
}

#[test]
fn another_request_under_a_used_key_is_refused() {
    let mut group = Group::with_session();
    group.send(&requested("k", count(1)));
    match group.send(&requested("k", count(2))) {
        DataOutcome::Refused(refusal) => {
            assert_eq!(refusal.to_string(), "request k of session s was something else");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_request_may_be_made_again_under_its_key() {
    let mut group = Group::with_session();
    let request = requested("k", cas("count", Value::Integer(1), 1));
    assert!(matches!(group.send(&request), DataOutcome::Refused(_)));
    group.operate(count(5));
    assert!(matches!(group.send(&request), DataOutcome::Operated { .. }));
}

#[test]
fn a_request_is_remembered_for_its_window_and_no_longer() {
    let mut group = Group::with_session();
    group.send(&requested("k", count(1)));
    let window = limits::REQUEST_WINDOW.as_millis() as u64;
    group.at = window - 1;
    group.send(&requested("k", count(1)));
    assert_eq!(group.version("count"), 1);
    group.at = window;
    group.send(&requested("k", count(1)));
    assert_eq!(group.version("count"), 2);
    check_index(&group.data);
}

#[test]
fn of_too_many_requests_of_a_session_the_oldest_is_forgotten() {
    let mut group = Group::with_session();
    for n in 0..=limits::REQUESTS_PER_SESSION {
        group.send(&requested(&format!("k{n}"), count(1)));
    }
    let version = group.version("count");
    group.send(&requested("k1", count(1)));
    assert_eq!(group.version("count"), version, "remembered");
    group.send(&requested("k0", count(1)));
    assert_eq!(group.version("count"), version + 1, "forgotten");
    check_index(&group.data);
}
