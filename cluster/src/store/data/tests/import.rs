//! A backup leaves a group as rows and comes into others.

use odeum_proto::backup::{DIVISION, GroupHead, Import, ImportBegin, ImportStep, JUMP, Row};
use odeum_proto::session::{Quotas, SessionRefusal, What};
use odeum_proto::{BackupId, GroupId, codec, limits};
use proptest::prelude::*;

use super::*;

/// Rows of a part: few, so that even a small group has several.
const PART: usize = 3;

fn rows(group: &Group) -> (GroupHead, Vec<Row>) {
    let (head, export) = group.data.export(GroupId::Data(0), Revision(group.revision));
    (head, export.collect())
}

/// Without what goes on while a backup lies about.
fn ageless(rows: Vec<Row>) -> Vec<Row> {
    let ageless = |mut row: Row| {
        match &mut row {
            Row::Session(row) => (row.created_age, row.touched_age) = (0, 0),
            Row::Variable(row) => row.age = 0,
            Row::Past { age, .. } | Row::Answer { age, .. } => *age = 0,
            _ => {}
        }
        row
    };
    rows.into_iter().map(ageless).collect()
}

fn step(backup: BackupId, step: ImportStep) -> DataAction {
    DataAction::Import(Import { backup, step })
}

fn steps(backup: BackupId, head: &GroupHead, rows: &[Row]) -> Vec<DataAction> {
    let begin = ImportBegin {
        time: head.time,
        above: Revision(head.revision.0 + JUMP),
        floor: head.floor,
        quotas: head.quotas,
        division: DIVISION,
    };
    let mut steps = vec![step(backup, ImportStep::Begin(begin))];
    let parts = rows.chunks(PART);
    let number = parts.len() as u64;
    steps.extend(
        (0..)
            .zip(parts)
            .map(|(number, rows)| step(backup, ImportStep::Rows { number, rows: rows.to_vec() })),
    );
    steps.push(step(backup, ImportStep::Finish { parts: number }));
    steps
}

/// A group with one of everything.
fn full() -> Group {
    let mut group = Group::with_session();
    group.at = 1_000;
    group.run(create("brief", Some(5_000)));
    let kept = Definition { history: 2, ..Definition::untyped(ValueType::Integer) };
    group.operate(register("n", kept, Value::Integer(1)));
    for n in 2..6 {
        group.operate(set("n", Value::Integer(n)));
    }
    group.operate(set("gone", Value::Boolean(true)));
    group.operate(delete("gone"));
    group.operate(Operation::Note { key: "owner".into(), value: Some("me".into()) });
    let program = Program {
        language: "lua".into(),
        content: Arc::from(&b"x"[..]),
        metadata: Metadata::new(),
    };
    group.operate(Operation::PutProgram { name: "p".into(), program: program.into() });
    let asked =
        DataAction::Operate { session: session("s"), operation: set("m", Value::Integer(1)) };
    group.send(&DataCommand { origin: None, request: Some(request("r-1")), action: asked });
    for n in 0..4 {
        group.run(DataAction::Commit(Commit {
            entity: entity("firmware/f"),
            epoch: Epoch(7),
            request: request(&format!("c-{n}")),
            session: session("f/s"),
            writes: vec![Write::Set { key: "count".into(), value: vec![n] }],
            reply: vec![n],
            carried: vec![],
        }));
    }
    group.at = 3_000;
    group.run(DataAction::TouchSession { session: session("s") });
    group
}

/// A request that changes nothing.
fn commit(epoch: u64, request_id: &str) -> DataAction {
    DataAction::Commit(Commit {
        entity: entity("firmware/f"),
        epoch: Epoch(epoch),
        request: request(request_id),
        session: session("f/s"),
        writes: vec![],
        reply: vec![],
        carried: vec![],
    })
}

fn restored(group: &Group, at: u64) -> Group {
    let (head, rows) = rows(group);
    let mut other = Group { at, ..Group::default() };
    for step in steps(BackupId::random(), &head, &rows) {
        let done = other.run(step);
        assert!(matches!(done, DataOutcome::Applied { .. }), "{done:?}");
    }
    other
}

#[test]
fn what_comes_back_is_all_that_was_there() {
    let group = full();
    for at in [0, 500_000] {
        let other = restored(&group, at);
        assert_eq!(rows(&other).1, rows(&group).1, "ages included");
        // What was counted on the way is what is counted when all of it is read.
        let bytes = codec::encode(&other.data).expect("encodes");
        let read: Data = codec::decode(&bytes).expect("decodes");
        assert_eq!((read.bytes(), &read), (other.data.bytes(), &other.data));
    }
}

#[test]
fn requests_are_answered_again_after_a_restore() {
    let mut other = restored(&full(), 0);
    let asked =
        DataAction::Operate { session: session("s"), operation: set("m", Value::Integer(1)) };
    let command = DataCommand { origin: None, request: Some(request("r-1")), action: asked };
    assert!(matches!(other.send(&command), DataOutcome::Operated { .. }));
    assert_eq!(other.version("m"), full().version("m"), "it was not made again");
    assert_eq!(other.run(commit(9, "c-2")), DataOutcome::Replayed { reply: Some(vec![2]) });
    let stale = other.refused(commit(6, "c-9"));
    assert!(stale.contains("epoch 6"), "{stale}");
}

/// They were as old as the restore had taken, and those above the number that is always kept went with
/// the next one.
#[test]
fn no_request_of_an_entity_is_forgotten_because_the_restore_takes_long() {
    let mut group = Group::default();
    for n in 0..=limits::DEDUPLICATION_WINDOW {
        group.run(commit(7, &format!("c-{n}")));
    }
    let (head, rows) = rows(&group);
    let mut other = Group::default();
    for step in steps(BackupId::random(), &head, &rows) {
        other.at += 60_000;
        other.run(step);
    }
    other.run(commit(7, "next"));
    assert_eq!(other.run(commit(7, "c-0")), DataOutcome::Replayed { reply: Some(vec![]) });
}

#[test]
fn no_part_of_a_time_to_live_is_lost_to_the_restore() {
    let group = full();
    let (head, rows) = rows(&group);
    let mut other = Group { at: 70_000, ..Group::default() };
    for step in steps(BackupId::random(), &head, &rows) {
        // Each step takes longer than the session has left.
        other.at += 60_000;
        other.run(step);
    }
    // It was created at 1,000 for 5,000, and the backup is of 3,000.
    let due = other.data.session(&session("brief")).and_then(Session::due);
    assert_eq!(due, Some(LogTime(other.at + 3_000)));
    assert_eq!(other.data.next_expiry(), due);
    other.at += 2_999;
    other.run(DataAction::Expire { max: 9 });
    assert!(other.data.session(&session("brief")).is_some());
    other.at += 1;
    other.run(DataAction::Expire { max: 9 });
    assert!(other.data.session(&session("brief")).is_none());
}

#[test]
fn what_rows_count_is_what_they_counted_so_that_a_group_takes_what_filled_another() {
    let mut group = full();
    let counted = |group: &Group| rows(group).1.iter().map(count::counted).sum::<u64>();
    assert_eq!(counted(&group), group.data.bytes());
    // Nearly full of what is small, which in a file is more than twice as much.
    let quotas = Quotas { group_bytes: group.data.bytes() + 20_000, ..*group.data.quotas() };
    group.run(DataAction::SetQuotas(quotas));
    let name = "a-session-with-a-name-as-long-as-names-are-when-they-are-made-of-others";
    group.run(create(name, None));
    for n in 0..250 {
        let operation = set(&format!("{n}"), Value::Boolean(true));
        let done = group.run(DataAction::Operate { session: session(name), operation });
        assert!(matches!(done, DataOutcome::Operated { .. }), "{done:?}");
    }
    let weight: usize = rows(&group).1.iter().map(Row::weight).sum();
    assert!(weight as u64 > quotas.group_bytes, "{weight} in a file");
    assert_eq!(counted(&group), group.data.bytes());
    assert!(counted(&group) <= quotas.group_bytes);
    let other = restored(&group, 0);
    assert_eq!(other.data.bytes(), group.data.bytes());
}

#[test]
fn a_remembered_answer_does_not_age_while_the_restore_takes_its_time() {
    let (head, rows) = rows(&full());
    let mut other = Group { at: 70_000, ..Group::default() };
    for step in steps(BackupId::random(), &head, &rows) {
        // One step alone is longer than answers are remembered.
        other.at += 2 * odeum_proto::limits::REQUEST_WINDOW.as_millis() as u64;
        other.run(step);
    }
    let answers = |rows: Vec<Row>| {
        rows.into_iter().filter(|row| matches!(row, Row::Answer { .. })).collect::<Vec<_>>()
    };
    assert_eq!(answers(super::import::rows(&other).1), answers(rows), "ages included");
    let asked =
        DataAction::Operate { session: session("s"), operation: set("m", Value::Integer(1)) };
    other.send(&DataCommand { origin: None, request: Some(request("r-1")), action: asked });
    assert_eq!(other.version("m"), full().version("m"), "it was not made again");
}

#[test]
fn parts_of_two_divisions_are_never_mixed() {
    let (head, rows) = rows(&full());
    let backup = BackupId::random();
    let steps = steps(backup, &head, &rows);
    let mut group = Group::default();
    group.run(steps[0].clone());
    group.run(steps[1].clone());
    let DataAction::Import(Import { step: ImportStep::Begin(begin), .. }) = steps[0] else {
        unreachable!("it begins so")
    };
    let other = ImportBegin { division: DIVISION + 1, ..begin };
    let refused = group.refused(step(backup, ImportStep::Begin(other)));
    assert!(refused.contains("division 1") && refused.contains("division 2"), "{refused}");
}

#[test]
fn nothing_else_is_done_between_the_first_step_and_the_last() {
    let (head, rows) = rows(&full());
    let backup = BackupId::random();
    let steps = steps(backup, &head, &rows);
    let (last, first) = steps.split_last().expect("several");
    let mut other = Group::default();
    for step in first {
        other.run(step.clone());
        assert_eq!(other.data.importing(), Some(backup));
        assert_eq!(other.data.next_expiry(), None, "no session ends meanwhile");
        for action in [
            create("new", None),
            DataAction::DeleteSession { session: session("s") },
            DataAction::Expire { max: 9 },
            DataAction::Fence { entity: entity("lamp/1"), epoch: Epoch(1), born: Epoch(0) },
        ] {
            assert!(other.refused(action).contains("being restored"));
        }
    }
    other.run(last.clone());
    assert_eq!(other.data.importing(), None);
    assert!(matches!(other.run(create("new", None)), DataOutcome::Created { .. }));
}

#[test]
fn a_group_that_is_not_empty_takes_no_backup_and_a_part_only_in_its_place() {
    let (head, rows) = rows(&full());
    let (backup, other) = (BackupId::random(), BackupId::random());
    let steps = steps(backup, &head, &rows);
    assert!(Group::with_session().refused(steps[0].clone()).contains("1 sessions"));
    let mut group = Group::default();
    assert!(group.refused(steps[1].clone()).contains("not being imported"));
    group.run(steps[0].clone());
    assert!(group.refused(steps[2].clone()).contains("part 1"));
    assert!(group.refused(steps.last().expect("some").clone()).contains("where part 0 must come"));
    let foreign = step(other, ImportStep::Rows { number: 0, rows: vec![] });
    assert!(group.refused(foreign).contains("not being imported"));
    let orphan = rows.iter().find(|row| matches!(row, Row::Variable(_))).expect("some");
    let orphan = ImportStep::Rows { number: 0, rows: vec![orphan.clone()] };
    assert!(group.refused(step(backup, orphan)).contains("row 0 of part 0"));
}

#[test]
fn a_watch_from_any_revision_of_the_old_cluster_is_told_to_begin_anew() {
    let group = full();
    let old = group.revision;
    let mut other = restored(&group, 0);
    for revision in [0, 1, old, old + 1_000_000] {
        let watched = other.data.changes_after(Revision(revision), Watched::All);
        assert!(watched.is_err(), "revision {revision}");
    }
    let now = other.data.revision_at(Revision(other.revision));
    assert!(now.0 > old + JUMP);
    let written = other.operate(set("n", Value::Integer(9)));
    let DataOutcome::Operated { revision, .. } = written else { panic!("{written:?}") };
    assert_eq!(revision, now.next());
    let changes = other.data.changes_after(now, Watched::All).expect("it is later");
    let changes: Vec<_> = changes.map(|change| (change.revision, change.what.clone())).collect();
    assert!(matches!(&changes[..], [(at, What::Set { .. })] if *at == revision), "{changes:?}");
}

#[test]
fn a_group_that_was_emptied_takes_another_backup_with_later_revisions() {
    let mut other = restored(&full(), 0);
    let before = other.data.revision_at(Revision(other.revision));
    for id in ["s", "f/s", "brief"] {
        other.run(DataAction::DeleteSession { session: session(id) });
    }
    other.run(DataAction::Forget { entity: entity("firmware/f"), epoch: Epoch(7) });
    let (mut head, rows) = rows(&full());
    head.revision = before;
    for step in steps(BackupId::random(), &head, &rows) {
        let done = other.run(step);
        assert!(matches!(done, DataOutcome::Applied { .. }), "{done:?}");
    }
    assert!(other.data.revision_at(Revision(other.revision)) > before);
    assert_eq!(other.version("n"), 5);
}

proptest! {
    /// As after crashes of who restores: any step may come again, from any place that was reached.
    #[test]
    fn steps_that_come_again_change_nothing(goes_back in proptest::collection::vec(0_usize..9, 0..12)) {
        let (head, rows) = rows(&full());
        let steps = steps(BackupId::random(), &head, &rows);
        let mut group = Group::default();
        let mut goes_back = goes_back.into_iter();
        let mut next = 0;
        while next < steps.len() {
            let done = group.run(steps[next].clone());
            prop_assert!(matches!(done, DataOutcome::Applied { .. }), "{:?}", done);
            next += 1;
            if let Some(by) = goes_back.next() {
                next = next.saturating_sub(by);
            }
        }
        let came = ageless(super::import::rows(&group).1);
        prop_assert_eq!(came, ageless(rows));
        prop_assert_eq!(group.data.quotas(), &Quotas::HIGHEST);
        let refused = matches!(
            group.run(create("s", Some(1))),
            DataOutcome::Refused(SessionRefusal::SessionDiffers { .. })
        );
        prop_assert!(refused, "it is open");
    }
}

#[test]
fn a_backup_with_impossible_revisions_or_epochs_is_refused() {
    let possible = ImportBegin {
        division: DIVISION,
        time: LogTime(0),
        above: Revision(0),
        floor: Epoch(0),
        quotas: Quotas::default(),
    };
    let impossible = u64::MAX / 2 + 1;
    for begin in [
        ImportBegin { above: Revision(impossible), ..possible },
        ImportBegin { floor: Epoch(impossible), ..possible },
    ] {
        let mut group = Group::default();
        let refused = group.run(step(BackupId::random(), ImportStep::Begin(begin)));
        assert!(
            matches!(refused, DataOutcome::Refused(SessionRefusal::TooMuch { .. })),
            "{refused:?}"
        );
        assert_eq!(group.data.importing(), None);
    }
}
