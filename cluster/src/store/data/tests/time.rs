//! Time to live, by the time of the log.

use odeum_proto::limits;
use odeum_proto::session::{Ended, SessionRefusal, What};

use super::*;

fn is_there(group: &Group, id: &str) -> bool {
    group.data.session(&session(id)).is_some()
}

fn expire(group: &mut Group, max: u32) -> u32 {
    match group.run(DataAction::Expire { max }) {
        DataOutcome::Expired { sessions, .. } => sessions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_ends_when_it_is_due_and_never_before() {
    let mut group = Group::default();
    group.run(create("s", Some(10)));
    assert_eq!(group.data.next_expiry(), Some(LogTime(10)));
    group.at = 9;
    assert_eq!(expire(&mut group, 9), 0);
    assert!(is_there(&group, "s"));
    group.at = 10;
    assert_eq!(expire(&mut group, 9), 1);
    assert!(group.data.sessions().is_empty());
    assert_eq!(group.data.next_expiry(), None);
}

#[test]
fn a_part_of_a_millisecond_is_not_cut_off() {
    let mut group = Group::default();
    let settings =
        SessionSettings { ttl: Some(Duration::from_micros(1_500)), metadata: Metadata::new() };
    group.run(DataAction::CreateSession { session: session("s"), settings });
    assert_eq!(group.data.next_expiry(), Some(LogTime(2)));
}

#[test]
fn time_that_goes_back_ends_nothing_and_lengthens_nothing() {
    let mut group = Group { at: 100, ..Group::default() };
    group.run(create("s", Some(10)));
    group.at = 50;
    group.run(DataAction::TouchSession { session: session("s") });
    assert_eq!(group.data.next_expiry(), Some(LogTime(110)));
    assert_eq!(group.data.now(), LogTime(100));
}

#[test]
fn writes_and_touches_renew_and_reads_of_what_is_there_do_not() {
    let mut group = Group::default();
    group.run(create("s", Some(10)));
    let due_after = |group: &mut Group, at: u64, action: DataAction| {
        group.at = at;
        group.run(action);
        group.data.next_expiry().expect("due some time").0
    };
    let operate = |operation| DataAction::Operate { session: session("s"), operation };
    assert_eq!(due_after(&mut group, 1, DataAction::TouchSession { session: session("s") }), 11);
    assert_eq!(due_after(&mut group, 2, operate(set("a", Value::Integer(1)))), 12);
    assert_eq!(due_after(&mut group, 3, operate(delete("a"))), 13);
    assert_eq!(due_after(&mut group, 4, create("s", Some(10))), 14, "made again");
    assert_eq!(due_after(&mut group, 5, operate(delete("a"))), 14, "nothing to delete");
    assert_eq!(due_after(&mut group, 6, operate(cas("a", Value::Integer(1), 9))), 14, "refused");
    let ttl = DataAction::SetTtl { session: session("s"), ttl: Some(Duration::from_millis(100)) };
    assert_eq!(due_after(&mut group, 7, ttl), 107);
    group.run(DataAction::SetTtl { session: session("s"), ttl: None });
    assert_eq!(group.data.next_expiry(), None);
    check_index(&group.data);
}

#[test]
fn a_commit_renews_its_session() {
    let mut group = Group::default();
    group.run(create("f/s", Some(10)));
    group.at = 5;
    group.run(DataAction::Commit(commit(1, "r", vec![write("a", b"1")])));
    assert_eq!(group.data.next_expiry(), Some(LogTime(15)));
}

#[test]
fn a_command_does_not_find_a_session_that_is_due() {
    let mut group = Group::default();
    group.run(create("s", Some(10)));
    group.operate(set("a", Value::Integer(1)));
    group.at = 10;
    let outcome = group.operate(set("a", Value::Integer(2)));
    assert!(
        matches!(outcome, DataOutcome::Refused(SessionRefusal::UnknownSession { .. })),
        "{outcome:?}"
    );
    let created = group.run(create("s", Some(10)));
    assert!(matches!(created, DataOutcome::Created { created: true, .. }), "{created:?}");
    let told: Vec<_> = group
        .data
        .changes_after(Revision(2), Watched::All)
        .expect("there")
        .map(|change| change.what.clone())
        .collect();
    assert_eq!(told, [What::Deleted(Ended::Expired), What::Created]);
    check_index(&group.data);
}

/// A reader must not see what the next command will not find.
#[test]
fn a_reader_does_not_find_a_session_that_is_due() {
    let mut group = Group::default();
    group.run(create("s", Some(10)));
    group.at = 10;
    group.run(create("t", None));
    assert!(!is_there(&group, "s"));
    let glob = Glob::all();
    let all: Vec<_> = group.data.matching(&glob, None).map(|(id, _)| id.as_str()).collect();
    assert_eq!(all, ["t"]);
}

#[test]
fn many_due_sessions_go_in_portions_the_longest_due_first() {
    let mut group = Group::default();
    for n in [5, 3, 9] {
        group.run(create(&format!("s{n}"), Some(n)));
    }
    group.at = 8;
    assert_eq!(expire(&mut group, 1), 1);
    assert!(!group.data.sessions().contains_key(&session("s3")));
    assert_eq!(expire(&mut group, 9), 1);
    assert_eq!(group.data.sessions().keys().map(SessionId::as_str).collect::<Vec<_>>(), ["s9"]);
    for n in 0..=limits::EXPIRED_PER_ENTRY {
        group.run(create(&format!("t{n}"), Some(1)));
    }
    group.at = 20;
    assert_eq!(expire(&mut group, u32::MAX), limits::EXPIRED_PER_ENTRY, "bounded per entry");
    assert_eq!(expire(&mut group, u32::MAX), 2);
}
