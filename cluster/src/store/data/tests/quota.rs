//! Bounds: what exceeds one is refused, what frees passes.

use odeum_proto::limits;

use super::*;

fn lower(group: &mut Group, change: impl FnOnce(&mut Quotas)) {
    let mut quotas = *group.data.quotas();
    change(&mut quotas);
    let outcome = group.run(DataAction::SetQuotas(quotas));
    assert!(matches!(outcome, DataOutcome::Applied { .. }), "{outcome:?}");
}

#[test]
fn sessions_are_bounded() {
    let mut group = Group::with_session();
    lower(&mut group, |quotas| quotas.sessions = 1);
    let refused = group.refused(create("t", None));
    assert_eq!(refused, "sessions of the group: 2 where at most 1 are allowed");
    let there = group.run(create("s", None));
    assert!(matches!(there, DataOutcome::Created { created: false, .. }), "{there:?}");
    let by_commit = group.refused(DataAction::Commit(commit(1, "r", vec![write("a", b"")])));
    assert_eq!(by_commit, "sessions of the group: 2 where at most 1 are allowed");
}

#[test]
fn variables_of_a_session_are_bounded() {
    let mut group = Group::with_session();
    group.operate(set("a", Value::Integer(1)));
    lower(&mut group, |quotas| quotas.variables_per_session = 1);
    let refused = group.refused_operation(set("b", Value::Integer(1)));
    assert_eq!(refused, "variables of a session: 2 where at most 1 are allowed (session s)");
    group.operate(set("a", Value::Integer(2)));
    assert_eq!(group.version("a"), 2);
    // One goes, one comes.
    let operations = vec![delete("a"), set("b", Value::Integer(1))];
    group.run(DataAction::Batch { session: session("s"), atomic: true, operations });
    assert_eq!(group.version("b"), 3, "the version goes on");
}

#[test]
fn bytes_of_a_variable_are_bounded_and_what_is_larger_may_shrink() {
    let mut group = Group::with_session();
    let text = |n: usize| Value::string(&"x".repeat(n));
    group.operate(set("a", text(10)));
    lower(&mut group, |quotas| quotas.variable_bytes = 4);
    let refused = group.refused_operation(set("b", text(5)));
    assert_eq!(refused, "bytes of a variable: 5 where at most 4 are allowed (b of session s)");
    group.refused_operation(set("a", text(11)));
    group.operate(set("a", text(9)));
    assert_eq!(group.version("a"), 2);
}

#[test]
fn bytes_of_the_group_are_bounded_and_what_frees_passes() {
    let mut group = Group::with_session();
    group.operate(set("a", Value::string("0123456789")));
    let bytes = group.data.bytes();
    lower(&mut group, |quotas| quotas.group_bytes = 1);
    let refused = group.refused_operation(set("b", Value::Integer(1)));
    let would_be = bytes + 1 + 8 + 48;
    assert_eq!(refused, format!("bytes of the group: {would_be} where at most 1 are allowed"));
    group.refused(create("t", None));
    group.refused_operation(Operation::Note { key: "k".into(), value: Some("v".into()) });
    group.refused_operation(Operation::PutProgram { name: "p".into(), program: program("x") });
    let touched = group.run(DataAction::TouchSession { session: session("s") });
    assert!(matches!(touched, DataOutcome::Applied { .. }), "costs nothing: {touched:?}");
    group.operate(set("a", Value::string("012345678")));
    assert_eq!(group.version("a"), 2, "smaller than before");
    // The answer to a request would have to be remembered, which costs more than nothing.
    let (request, action) =
        (Some(request("k")), DataAction::TouchSession { session: session("s") });
    let remembered = group.send(&DataCommand { origin: None, request, action });
    assert!(matches!(remembered, DataOutcome::Refused(_)), "{remembered:?}");
    group.operate(delete("a"));
    assert_eq!(group.version("a"), 0);
    group.run(DataAction::DeleteSession { session: session("s") });
    assert_eq!(group.data.bytes(), 0);
}

#[test]
fn operations_of_a_command_are_bounded() {
    let mut group = Group::with_session();
    let many = (0..=limits::OPERATIONS).map(|_| delete("a")).collect::<Vec<_>>();
    let refused = group.refused(DataAction::Batch {
        session: session("s"),
        atomic: false,
        operations: many.clone(),
    });
    assert_eq!(
        refused,
        "operations of one command: 1025 where at most 1024 are allowed (session s)"
    );
    group.refused(DataAction::Transaction {
        session: session("s"),
        compare: Vec::new(),
        then: many,
        otherwise: Vec::new(),
    });
    let large = set("a", Value::bytes(&vec![0; limits::COMMIT_BYTES]));
    let refused = group.refused_operation(large);
    assert!(refused.starts_with("bytes of one command: "), "{refused}");
}

#[test]
fn programs_and_metadata_are_bounded() {
    let mut group = Group::with_session();
    let put = |name: String, text: &str| Operation::PutProgram {
        name: name.into(),
        program: program(text),
    };
    for n in 0..limits::PROGRAMS_PER_SESSION {
        group.operate(put(n.to_string(), "x"));
    }
    let refused = group.refused_operation(put("more".into(), "x"));
    assert_eq!(refused, "programs of a session: 65 where at most 64 are allowed (session s)");
    let large = "x".repeat(limits::PROGRAM_BYTES + 1);
    let refused = group.refused_operation(put("0".into(), &large));
    assert_eq!(
        refused,
        "bytes of a program: 262145 where at most 262144 are allowed (program 0 of session s)"
    );
    let note =
        |key: String, value: &str| Operation::Note { key: key.into(), value: Some(value.into()) };
    for n in 0..limits::METADATA_ENTRIES {
        group.operate(note(n.to_string(), "x"));
    }
    let refused = group.refused_operation(note("more".into(), "x"));
    assert_eq!(refused, "entries of metadata: 65 where at most 64 are allowed (session s)");
    let refused = group.refused_operation(note("0".into(), &"x".repeat(1_025)));
    assert_eq!(
        refused,
        "bytes of an entry of metadata: 1025 where at most 1024 are allowed (0 of session s)"
    );
    check_index(&group.data);
}

#[test]
fn no_quota_is_above_the_bounds_of_the_build() {
    let mut group = Group::default();
    let quotas = Quotas { group_bytes: limits::GROUP_BYTES + 1, ..Quotas::HIGHEST };
    let refused = group.refused(DataAction::SetQuotas(quotas));
    assert_eq!(
        refused,
        "bytes of the group: 201326593 where at most 201326592 are allowed (as a quota)"
    );
}
