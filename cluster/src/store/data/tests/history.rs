//! Versions, histories, batches and transactions of variables.

use odeum_proto::session::{Compare, SessionRefusal, Test};

use super::*;

fn int(n: i64) -> Value {
    Value::Integer(n)
}

fn values(group: &Group, key: &str) -> Vec<(i64, u64, u64)> {
    let variable = &group.data.session(&session("s")).expect("there").variables()[key];
    let number = |value: &Value| if let Value::Integer(n) = value { *n } else { panic!("{value}") };
    let past = variable.history().map(|p| (number(&p.value), p.version, p.revision.0));
    let present = (number(variable.value()), variable.version(), variable.revision().0);
    past.chain([present]).collect()
}

#[test]
fn no_update_is_lost_when_each_writer_names_the_version_it_read() {
    let mut group = Group::with_session();
    group.operate(set("n", int(0)));
    // Two writers read version 1; one of them is told that it was overtaken.
    assert!(matches!(group.operate(cas("n", int(1), 1)), DataOutcome::Operated { .. }));
    let lost = group.operate(cas("n", int(1), 1));
    assert!(
        matches!(lost, DataOutcome::Refused(SessionRefusal::VersionConflict { is: 2, .. })),
        "{lost:?}"
    );
    assert!(matches!(group.operate(cas("n", int(2), 2)), DataOutcome::Operated { .. }));
    assert_eq!(group.version("n"), 3);
}

#[test]
fn a_version_never_stands_for_two_values_also_not_after_a_deletion() {
    let mut group = Group::with_session();
    group.operate(set("n", int(1)));
    group.operate(set("n", int(2)));
    group.operate(delete("n"));
    group.operate(cas("n", int(3), 0));
    assert_eq!(group.version("n"), 3);
    let old_life = group.operate(cas("n", int(4), 2));
    assert!(matches!(old_life, DataOutcome::Refused(_)), "{old_life:?}");
    group.operate(delete("n"));
    group.operate(set("other", int(1)));
    assert_eq!(group.version("other"), 4, "of any name: only the highest is kept");
}

#[test]
fn version_0_means_that_it_must_not_be_there() {
    let mut group = Group::with_session();
    assert!(matches!(group.operate(cas("n", int(1), 0)), DataOutcome::Operated { .. }));
    assert!(matches!(group.operate(cas("n", int(1), 0)), DataOutcome::Refused(_)));
    let delete = |expected| Operation::Delete { key: "n".into(), expected: Some(expected) };
    assert!(matches!(group.operate(delete(2)), DataOutcome::Refused(_)));
    assert!(matches!(group.operate(delete(1)), DataOutcome::Operated { .. }));
    assert!(matches!(group.operate(delete(0)), DataOutcome::Operated { .. }));
}

#[test]
fn a_history_is_as_deep_as_was_asked_for() {
    let mut group = Group::with_session();
    let definition = Definition { history: 2, ..Definition::untyped(ValueType::Integer) };
    group.operate(register("n", definition.clone(), int(0)));
    for n in 1..5 {
        group.operate(set("n", int(n)));
    }
    assert_eq!(values(&group, "n"), [(2, 3, 4), (3, 4, 5), (4, 5, 6)]);
    let shallow = Operation::Register {
        key: "n".into(),
        definition: Box::new(Definition { history: 1, ..definition }),
        initial: int(0),
        replace: true,
    };
    group.operate(shallow);
    assert_eq!(values(&group, "n"), [(3, 4, 5), (4, 5, 6)], "the value stays");
    check_index(&group.data);
}

#[test]
fn registering_the_same_again_changes_nothing() {
    let mut group = Group::with_session();
    let definition = Definition { history: 2, ..Definition::untyped(ValueType::Integer) };
    group.operate(register("n", definition.clone(), int(0)));
    group.operate(set("n", int(5)));
    let again = group.operate(register("n", definition, int(0)));
    let done = Done::Registered { version: 2, changed: false };
    assert_eq!(again, DataOutcome::Operated { revision: Revision(4), done });
    assert_eq!(values(&group, "n"), [(0, 1, 2), (5, 2, 3)]);
}

#[test]
fn an_atomic_batch_is_done_whole_or_not_at_all_and_names_what_failed() {
    let mut group = Group::with_session();
    let operations = vec![set("a", int(1)), cas("a", int(2), 1), cas("a", int(3), 1)];
    let batch = |atomic| DataAction::Batch {
        session: session("s"),
        atomic,
        operations: operations.clone(),
    };
    let refused = group.refused(batch(true));
    assert_eq!(refused, "operation 2: a of session s is at version 2, expected at version 1");
    assert_eq!(group.version("a"), 0);
    let DataOutcome::Batch { results, .. } = group.run(batch(false)) else { panic!("a batch") };
    assert_eq!(results[1], Ok(Done::Written { version: 2 }));
    assert!(matches!(results[2], Err(SessionRefusal::VersionConflict { is: 2, .. })));
    assert_eq!(group.version("a"), 2);
}

#[test]
fn a_transaction_does_one_list_or_the_other() {
    let mut group = Group::with_session();
    group.operate(set("a", int(1)));
    let mut transact = |test: Test| {
        let compare = vec![Compare { key: "a".into(), test }];
        let outcome = group.run(DataAction::Transaction {
            session: session("s"),
            compare,
            then: vec![set("yes", int(1))],
            otherwise: vec![set("no", int(1)), set("no", int(2))],
        });
        match outcome {
            DataOutcome::Transaction { succeeded, results, .. } => (succeeded, results.len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(transact(Test::Version(1)), (true, 1));
    assert_eq!(transact(Test::Version(2)), (false, 2));
    assert_eq!(transact(Test::Exists(true)), (true, 1));
    assert_eq!(transact(Test::Exists(false)), (false, 2));
    assert_eq!(transact(Test::Is(int(1))), (true, 1));
    assert_eq!(transact(Test::Is(Value::Float(1.0))), (false, 2), "another type");
    assert_eq!((group.version("yes"), group.version("no")), (3, 6));
}

#[test]
fn a_transaction_whose_list_is_refused_does_nothing() {
    let mut group = Group::with_session();
    let refused = group.refused(DataAction::Transaction {
        session: session("s"),
        compare: Vec::new(),
        then: vec![set("a", int(1)), cas("b", int(1), 7)],
        otherwise: Vec::new(),
    });
    assert_eq!(refused, "operation 1: b of session s is not there, expected at version 7");
}

#[test]
fn variables_and_sessions_are_found_by_pattern() {
    let mut group = Group::with_session();
    for key in ["rack/1", "rack/12", "rack/2", "room"] {
        group.operate(set(key, int(1)));
    }
    let session = group.data.session(&session("s")).expect("there");
    let keys = |glob: &str| -> Vec<String> {
        let glob = glob.parse().expect("valid");
        session.matching(&glob).map(|(key, _)| key.to_owned()).collect()
    };
    assert_eq!(keys("rack/?"), ["rack/1", "rack/2"]);
    assert_eq!(keys("r*1*"), ["rack/1", "rack/12"]);
    assert_eq!(keys("room"), ["room"]);
    assert_eq!(keys("*"), ["rack/1", "rack/12", "rack/2", "room"]);
    let ids = |glob: &str, after: Option<&str>| -> Vec<String> {
        let (glob, after) = (glob.parse().expect("valid"), after.map(super::session));
        let found = group.data.matching(&glob, after.as_ref());
        found.map(|(id, _)| id.to_string()).collect()
    };
    assert_eq!(ids("?", None), ["s"]);
    assert_eq!(ids("*", Some("s")), Vec::<String>::new());
    assert_eq!(ids("s*", Some("a")), ["s"]);
}
