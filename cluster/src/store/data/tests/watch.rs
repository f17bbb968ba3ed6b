//! Changes for watchers: every one, once, in order, or none and the word that some are gone.

use odeum_proto::limits;
use odeum_proto::session::{Ended, What};

use super::*;

fn told(group: &Group, after: u64, watched: Watched<'_>) -> Result<Vec<(u64, u32)>, Compacted> {
    let changes = group.data.changes_after(Revision(after), watched)?;
    Ok(changes.map(|change| (change.revision.0, change.index)).collect())
}

#[test]
fn a_watcher_is_told_what_happened() {
    let mut group = Group::with_session();
    group.operate(set("a", Value::Integer(1)));
    group.operate(delete("a"));
    group.operate(delete("a"));
    group.operate(Operation::Note { key: "owner".into(), value: Some("me".into()) });
    group.operate(Operation::PutProgram { name: "p".into(), program: program("x") });
    group.operate(Operation::DeleteProgram { name: "p".into() });
    group.run(DataAction::SetTtl { session: session("s"), ttl: Some(Duration::from_secs(1)) });
    group.run(DataAction::TouchSession { session: session("s") });
    group.run(DataAction::DeleteSession { session: session("s") });
    let changes = group.data.changes_after(Revision(0), Watched::All).expect("all are there");
    let what: Vec<_> = changes.map(|change| change.what.clone()).collect();
    assert_eq!(
        what,
        [
            What::Created,
            What::Set { key: "a".into(), value: Value::Integer(1), version: 1 },
            What::Removed { key: "a".into() },
            What::Noted { key: "owner".into(), value: Some("me".into()) },
            What::ProgramPut { name: "p".into() },
            What::ProgramDeleted { name: "p".into() },
            What::Ttl(Some(Duration::from_secs(1))),
            What::Deleted(Ended::Deleted),
        ]
    );
}

#[test]
fn several_changes_of_one_entry_are_numbered() {
    let mut group = Group::with_session();
    let operations = vec![set("a", Value::Integer(1)), set("b", Value::Integer(2))];
    group.run(DataAction::Batch { session: session("s"), atomic: true, operations });
    assert_eq!(told(&group, 1, Watched::All), Ok(vec![(2, 0), (2, 1)]));
    assert_eq!(told(&group, 2, Watched::All), Ok(vec![]));
}

#[test]
fn a_watcher_of_one_session_is_told_of_no_other() {
    let mut group = Group::with_session();
    for n in 0..5 {
        group.run(create(&format!("t{n}"), None));
        group.operate(set("a", Value::Integer(n)));
    }
    let id = session("s");
    assert_eq!(told(&group, 3, Watched::Session(&id)), Ok(vec![(5, 0), (7, 0), (9, 0), (11, 0)]));
    assert_eq!(told(&group, 0, Watched::Session(&session("nobody"))), Ok(vec![]));
    let glob = "t?".parse().expect("valid");
    assert_eq!(told(&group, 7, Watched::Matching(&glob)), Ok(vec![(8, 0), (10, 0)]));
}

#[test]
fn what_is_compacted_is_said_to_be() {
    let mut group = Group::with_session();
    for n in 0..5 {
        group.operate(set("a", Value::Integer(n)));
    }
    group.run(DataAction::Compact { upto: Revision(3) });
    assert_eq!(told(&group, 2, Watched::All), Err(Compacted { at: Revision(3) }));
    let id = session("s");
    assert_eq!(told(&group, 2, Watched::Session(&id)), Err(Compacted { at: Revision(3) }));
    assert_eq!(told(&group, 3, Watched::Session(&id)), Ok(vec![(4, 0), (5, 0), (6, 0)]));
    assert_eq!(group.data.compacted(), Revision(3));
    group.run(DataAction::Compact { upto: Revision(2) });
    assert_eq!(group.data.compacted(), Revision(3), "nothing comes back");
    let future = group.refused(DataAction::Compact { upto: Revision(99) });
    assert_eq!(future, "cannot compact up to 99: the last revision is 9");
    check_index(&group.data);
}

#[test]
fn the_ring_is_bounded_by_number_and_forgets_whole_entries() {
    let mut group = Group::with_session();
    let batch = |n: usize| {
        let operations =
            (0..limits::OPERATIONS).map(|k| set(&k.to_string(), Value::Integer(n as i64)));
        DataAction::Batch { session: session("s"), atomic: false, operations: operations.collect() }
    };
    let full = limits::RING_CHANGES / limits::OPERATIONS;
    for n in 0..=full {
        group.run(batch(n));
    }
    // The creation and the first batch are gone.
    assert_eq!(group.data.compacted(), Revision(2));
    let there = told(&group, 2, Watched::All).expect("there");
    assert_eq!(there.len(), limits::RING_CHANGES);
    assert_eq!(there.first(), Some(&(3, 0)));
    check_index(&group.data);
}

#[test]
fn the_ring_is_bounded_by_bytes() {
    let mut group = Group::with_session();
    let value = Value::bytes(&vec![0; limits::VARIABLE_BYTES]);
    for _ in 0..100 {
        group.operate(set("a", value.clone()));
    }
    let compacted = group.data.compacted();
    assert!(compacted > Revision(0));
    let there = group.data.changes_after(compacted, Watched::All).expect("there");
    let bytes: u64 = there.map(|change| change.weight()).sum();
    let (bound, one) = (limits::RING_BYTES, limits::VARIABLE_BYTES as u64);
    assert!(bytes <= bound && bytes + 2 * one > bound, "{bytes}");
    check_index(&group.data);
}
