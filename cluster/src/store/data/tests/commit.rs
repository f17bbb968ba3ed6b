//! Commits of entities: once, fenced, bounded.

use odeum_proto::session::SessionRefusal;
use odeum_proto::{codec, limits};

use super::*;

fn apply(group: &mut Group, commit: Commit) -> DataOutcome {
    group.run(DataAction::Commit(commit))
}

fn fence(group: &mut Group, epoch: u64, born: u64) -> DataOutcome {
    let (entity, epoch, born) = (entity("firmware/f"), Epoch(epoch), Epoch(born));
    group.run(DataAction::Fence { entity, epoch, born })
}

fn forget(group: &mut Group, epoch: u64) {
    group.run(DataAction::Forget { entity: entity("firmware/f"), epoch: Epoch(epoch) });
}

fn remembers(group: &Group, id: &str) -> bool {
    group.data.remembered(&entity("firmware/f"), &request(id)).is_some()
}

fn is_stale(outcome: &DataOutcome) -> bool {
    matches!(outcome, DataOutcome::Refused(SessionRefusal::StaleEpoch { .. }))
}

fn is_applied(outcome: &DataOutcome) -> bool {
    matches!(outcome, DataOutcome::Applied { .. })
}

fn variable<'a>(group: &'a Group, key: &str) -> &'a Variable {
    &group.data.sessions()[&session("f/s")].variables()[key]
}

#[test]
fn a_retry_gets_the_first_reply() {
    let mut group = Group::default();
    let first = apply(&mut group, commit(1, "r", vec![write("count", b"1")]));
    assert_eq!(first, DataOutcome::Applied { revision: Revision(1) });
    let retry = Commit { reply: vec![8], ..commit(1, "r", vec![write("count", b"2")]) };
    assert_eq!(apply(&mut group, retry), DataOutcome::Replayed { reply: Some(vec![7]) });
    assert_eq!(variable(&group, "count").value(), &Value::bytes(b"1"));
}

#[test]
fn what_a_commit_tells_of_is_remembered_as_if_it_had_come_alone() {
    let mut group = Group::default();
    apply(&mut group, commit(1, "r1", vec![]));
    let carried = |id: &str, reply: Option<&'static [u8]>| Carried {
        request: request(id),
        reply: reply.map(Into::into),
    };
    let large = vec![0; limits::REMEMBERED_REPLY_BYTES + 1];
    let told = vec![
        // Known already: the first reply stays.
        carried("r1", Some(b"other")),
        carried("r2", Some(b"2")),
        carried("r3", None),
        Carried { request: request("r4"), reply: Some(large.into()) },
    ];
    let checkpoint = Commit { carried: told, ..commit(1, "c", vec![write("count", b"4")]) };
    assert!(is_applied(&apply(&mut group, checkpoint)));
    check_index(&group.data);
    for (id, reply) in [("r1", Some(vec![7])), ("r2", Some(vec![b'2'])), ("r3", None), ("r4", None)]
    {
        let again = apply(&mut group, commit(1, id, vec![write("count", b"9")]));
        assert_eq!(again, DataOutcome::Replayed { reply }, "{id}");
    }
    assert_eq!(variable(&group, "count").value(), &Value::bytes(b"4"));
    let many = vec![carried("r9", None); limits::CARRIED_PER_COMMIT + 1];
    let refused =
        group.refused(DataAction::Commit(Commit { carried: many, ..commit(1, "d", vec![]) }));
    assert!(refused.contains("requests of one commit"), "{refused}");
}

#[test]
fn a_retry_by_an_activation_that_is_over_is_still_answered() {
    let mut group = Group::default();
    apply(&mut group, commit(1, "r", vec![]));
    fence(&mut group, 2, 0);
    let again = apply(&mut group, commit(1, "r", vec![]));
    assert_eq!(again, DataOutcome::Replayed { reply: Some(vec![7]) });
    let new_by_the_old = apply(&mut group, commit(1, "r2", vec![]));
    assert!(is_stale(&new_by_the_old));
}

#[test]
fn a_commit_of_a_later_epoch_ends_the_earlier_one() {
    let mut group = Group::default();
    assert!(is_applied(&apply(&mut group, commit(2, "r1", vec![]))));
    assert!(is_applied(&apply(&mut group, commit(5, "r2", vec![]))));
    assert!(is_stale(&apply(&mut group, commit(2, "r3", vec![]))));
    assert_eq!(group.data.epoch(&entity("firmware/f")), Some(Epoch(5)));
}

#[test]
fn what_was_forgotten_stays_over_until_a_later_activation() {
    let mut group = Group::default();
    apply(&mut group, commit(3, "r1", vec![]));
    forget(&mut group, 5);
    assert!(!remembers(&group, "r1"));
    assert!(is_stale(&apply(&mut group, commit(3, "r2", vec![]))));
    assert!(is_applied(&fence(&mut group, 6, 0)));
    forget(&mut group, 5);
    let epoch = group.data.epoch(&entity("firmware/f"));
    assert_eq!(epoch, Some(Epoch(6)), "a late word about the former one");
    check_index(&group.data);
}

#[test]
fn an_entity_does_not_remember_the_requests_of_a_former_one_of_its_name() {
    let mut group = Group::default();
    apply(&mut group, commit(3, "r1", vec![]));
    fence(&mut group, 4, 0);
    assert!(remembers(&group, "r1"), "another activation of it");
    fence(&mut group, 6, 5);
    assert!(!remembers(&group, "r1"));
    check_index(&group.data);
}

#[test]
fn the_window_forgets_the_oldest_request_first_when_it_is_old_enough() {
    let mut group = Group::default();
    let window = limits::DEDUPLICATION_WINDOW;
    for n in 0..=window {
        apply(&mut group, commit(1, &format!("r{n}"), vec![]));
    }
    group.at = u64::try_from(limits::DEDUPLICATION_TIME.as_millis()).expect("short") - 1;
    apply(&mut group, commit(1, "a", vec![]));
    assert!(remembers(&group, "r0"), "however many came after it");
    group.at += 1;
    apply(&mut group, commit(1, "b", vec![]));
    assert!(!remembers(&group, "r2"));
    assert!(remembers(&group, "r3"), "the last of so many, however old they are");
    check_index(&group.data);
    let state = codec::encode(&group.data.state).expect("encodes");
    assert_eq!(codec::decode::<Snapshot>(&state).as_ref(), Ok(&group.data.state));
}

#[test]
fn a_long_window_is_shortened_when_no_request_comes_any_more() {
    let mut group = Group::default();
    let count = limits::DEDUPLICATION_WINDOW + 1_500;
    for n in 0..count {
        apply(&mut group, commit(1, &format!("r{n}"), vec![]));
    }
    let due = LogTime::default().after(2 * limits::DEDUPLICATION_TIME);
    assert_eq!(group.data.next_expiry(), Some(due));
    let expire = DataAction::Expire { max: u32::MAX };
    group.run(expire.clone());
    assert!(remembers(&group, "r0"), "it is not due");
    group.at = due.0;
    group.run(expire.clone());
    assert!(!remembers(&group, "r1023") && remembers(&group, "r1024"), "a bounded part at a time");
    check_index(&group.data);
    group.run(expire);
    assert!(!remembers(&group, "r1499") && remembers(&group, "r1500"));
    assert_eq!(group.data.next_expiry(), None);
    check_index(&group.data);
}

#[test]
fn a_window_that_is_too_large_forgets_what_is_young() {
    let mut group = Group::default();
    let reply = vec![0; limits::REMEMBERED_REPLY_BYTES];
    for n in 0..limits::DEDUPLICATION_WINDOW + 9 {
        let large = Commit { reply: reply.clone(), ..commit(1, &format!("r{n}"), vec![]) };
        assert!(is_applied(&apply(&mut group, large)));
    }
    assert!(!remembers(&group, "r8"));
    assert!(remembers(&group, "r9"));
    check_index(&group.data);
}

#[test]
fn a_large_reply_is_not_remembered_but_its_request_is() {
    let mut group = Group::default();
    let reply = vec![0; limits::REMEMBERED_REPLY_BYTES + 1];
    let large = Commit { reply, ..commit(1, "r", vec![]) };
    assert!(is_applied(&apply(&mut group, large.clone())));
    assert_eq!(apply(&mut group, large), DataOutcome::Replayed { reply: None });
}

#[test]
fn the_last_write_to_a_variable_is_the_one_that_counts() {
    let mut group = Group::default();
    let writes = vec![write("a", b"1"), write("a", b"2"), write("b", b"1"), erase("b")];
    apply(&mut group, commit(1, "r", writes));
    assert_eq!(variable(&group, "a").value(), &Value::bytes(b"2"));
    assert_eq!(variable(&group, "a").version(), 1, "one message, one version");
    assert!(!group.data.sessions()[&session("f/s")].variables().contains_key("b"));
}

#[test]
fn a_commit_that_only_removes_makes_no_session() {
    let mut group = Group::default();
    assert!(is_applied(&apply(&mut group, commit(1, "r", vec![erase("a")]))));
    assert!(group.data.sessions().is_empty());
}

/// A guest knows bytes only; what it writes into a typed variable is read as that type.
#[test]
fn an_entity_writes_typed_variables_in_their_plain_form() {
    let mut group = Group::default();
    group.run(create("f/s", None));
    let constraints = Constraints { max: Some(Value::Integer(9)), ..Constraints::default() };
    let definition = constrained(ValueType::Integer, constraints);
    let operation = register("n", definition, Value::Integer(1));
    group.run(DataAction::Operate { session: session("f/s"), operation });
    assert!(is_applied(&apply(&mut group, commit(1, "r1", vec![write("n", b"7")]))));
    assert_eq!(variable(&group, "n").value(), &Value::Integer(7));
    assert_eq!(variable(&group, "n").value().plain(), b"7");
    let above = group.refused(DataAction::Commit(commit(1, "r2", vec![write("n", b"10")])));
    assert_eq!(above, "n of session f/s: 10 is above max 9");
    let no_number = group.refused(DataAction::Commit(commit(1, "r3", vec![write("n", b"x")])));
    assert_eq!(no_number, "n of session f/s is a integer; a bytes cannot be its value");
}

#[test]
fn a_commit_over_a_bound_changes_nothing_and_names_the_bound() {
    let value = vec![0; limits::VARIABLE_BYTES];
    let too_many = (0..=limits::WRITES_PER_MESSAGE).map(|n| write(&n.to_string(), b"")).collect();
    let too_large = (0..13).map(|n| write(&n.to_string(), &value)).collect();
    let cases: [(Vec<Write>, usize); 4] = [
        (too_many, limits::WRITES_PER_MESSAGE),
        (too_large, limits::COMMIT_BYTES),
        (vec![write("v", &vec![0; limits::VARIABLE_BYTES + 1])], limits::VARIABLE_BYTES),
        (vec![write(&"k".repeat(limits::KEY_BYTES + 1), b"")], limits::KEY_BYTES),
    ];
    for (writes, bound) in cases {
        let mut group = Group::default();
        let outcome = apply(&mut group, commit(1, "r", writes));
        let DataOutcome::Refused(SessionRefusal::TooMuch { limit, .. }) = outcome else {
            panic!("not refused: {outcome:?}");
        };
        assert_eq!(limit, bound as u64);
        assert_eq!(group.data, Data::default());
    }
}

#[test]
fn a_full_group_refuses_growth_and_takes_what_frees_it() {
    let mut group = Group::default();
    let value = vec![0; limits::VARIABLE_BYTES];
    let fill = |group: &mut Group, n: usize| {
        let writes = (0..8).map(|k| write(&format!("{n}-{k}"), &value)).collect();
        apply(group, commit(1, &format!("r{n}"), writes))
    };
    let too_much = |outcome: &DataOutcome| {
        matches!(outcome, DataOutcome::Refused(SessionRefusal::TooMuch { .. }))
    };
    let refused_at =
        (0..1000).find(|&n| too_much(&fill(&mut group, n))).expect("the group is bounded");
    assert!(group.data.bytes() <= limits::GROUP_BYTES);
    let free = (0..8).map(|k| erase(&format!("0-{k}"))).collect();
    assert!(is_applied(&apply(&mut group, commit(1, "free", free))));
    assert!(is_applied(&fill(&mut group, refused_at)));
    let before = group.data.bytes();
    group.run(DataAction::DeleteSession { session: session("f/s") });
    assert!(group.data.bytes() < before / 100);
    check_index(&group.data);
}
