//! Histories that must be found, and some that must not.

use super::*;

/// Operations that return, each at `(called, returned)`.
fn history(operations: &[(u64, u64, Op, Answer)]) -> Vec<Entry> {
    let entry = |(called, returned, op, answer): &(u64, u64, Op, Answer)| Entry {
        client: 0,
        node: 0,
        op: *op,
        called: *called,
        returned: Some(*returned),
        answer: Some(answer.clone()),
    };
    operations.iter().map(entry).collect()
}

/// An operation of which nobody knows what it came to.
fn open(called: u64, op: Op) -> Entry {
    Entry { client: 0, node: 0, op, called, returned: None, answer: None }
}

fn set(value: i64) -> Op {
    Op::Set { value }
}

fn compare_and_set(expected: u64, value: i64) -> Op {
    Op::CompareAndSet { expected, value }
}

fn written(version: u64) -> Answer {
    Answer::Written { version, at: None }
}

fn found(version: u64, value: i64) -> Answer {
    Answer::Found(Some((version, value)))
}

const GET: Op = Op::Get { lease: false };
const NOTHING: Answer = Answer::Found(None);

fn is_fine(entries: &[Entry]) -> bool {
    check(entries).is_ok()
}

#[test]
fn a_stale_read_is_found() {
    let writes = [(0, 1, set(1), written(1)), (2, 3, set(2), written(2))];
    let read = |answer| history(&[&writes[..], &[(4, 5, GET, answer)]].concat());
    assert!(is_fine(&read(found(2, 2))));
    assert!(!is_fine(&read(found(1, 1))));
    assert!(!is_fine(&read(NOTHING)));
}

#[test]
fn a_read_beside_a_write_may_see_it_or_not_but_not_first_and_then_no_more() {
    let write = (0, 10, set(1), written(1));
    assert!(is_fine(&history(&[write.clone(), (1, 2, GET, NOTHING), (3, 4, GET, found(1, 1))])));
    assert!(!is_fine(&history(&[write, (1, 2, GET, found(1, 1)), (3, 4, GET, NOTHING)])));
}

#[test]
fn a_lost_update_is_found() {
    let first = (0, 1, set(1), written(1));
    let won = (2, 9, compare_and_set(1, 2), written(2));
    let lost = (3, 8, compare_and_set(1, 3), Answer::Conflict { is: 2 });
    assert!(is_fine(&history(&[first.clone(), won.clone(), lost])));
    // Both believe that theirs followed version 1.
    let both = (3, 8, compare_and_set(1, 3), written(2));
    assert!(!is_fine(&history(&[first, won, both])));
}

#[test]
fn a_write_that_is_made_twice_is_found() {
    let entries =
        [(0, 1, set(1), written(1)), (2, 3, set(2), written(2)), (4, 5, GET, found(3, 1))];
    assert!(!is_fine(&history(&entries)));
}

#[test]
fn a_value_that_was_never_written_is_found() {
    assert!(!is_fine(&history(&[(0, 1, set(1), written(1)), (2, 3, GET, found(2, 5))])));
    assert!(!is_fine(&history(&[(0, 1, GET, found(1, 5))])));
}

#[test]
fn an_acknowledged_write_that_is_lost_is_found() {
    let write = (0, 1, set(1), written(1));
    assert!(!is_fine(&history(&[write.clone(), (2, 3, GET, NOTHING)])));
    // Or when another write takes its place.
    assert!(!is_fine(&history(&[write, (2, 3, set(2), written(1))])));
}

#[test]
fn versions_go_on_after_a_variable_was_removed() {
    let removed = |existed| Answer::Removed { existed, at: None };
    let entries = |version| {
        history(&[
            (0, 1, set(1), written(1)),
            (2, 3, Op::Delete, removed(true)),
            (4, 5, Op::Delete, removed(false)),
            (6, 7, GET, NOTHING),
            (8, 9, compare_and_set(0, 2), written(version)),
        ])
    };
    assert!(is_fine(&entries(2)));
    assert!(!is_fine(&entries(1)));
}

#[test]
fn an_open_write_may_happen_at_once_much_later_or_never() {
    let with = |operations: &[(u64, u64, Op, Answer)]| {
        let mut entries = history(operations);
        entries.push(open(0, set(7)));
        is_fine(&entries)
    };
    assert!(with(&[(1, 2, GET, found(1, 7)), (3, 4, set(1), written(2))]));
    assert!(with(&[(1, 2, GET, NOTHING), (3, 4, set(1), written(1)), (5, 6, GET, found(2, 7))]));
    assert!(with(&[(1, 2, GET, NOTHING), (3, 4, set(1), written(1)), (5, 6, GET, found(1, 1))]));
    // Not before it is called, not twice.
    let mut early = history(&[(0, 1, GET, found(1, 7))]);
    early.push(open(2, set(7)));
    assert!(!is_fine(&early));
    let once = [(1, 2, GET, found(1, 7)), (3, 4, set(1), written(2))];
    assert!(!with(&[&once[..], &[(5, 6, GET, found(3, 7))]].concat()));
}

#[test]
fn an_open_compare_and_set_happens_only_at_its_version() {
    let with = |operations: &[(u64, u64, Op, Answer)]| {
        let mut entries = history(operations);
        entries.push(open(0, compare_and_set(1, 7)));
        is_fine(&entries)
    };
    let first = (1, 2, set(1), written(1));
    let second = (3, 4, set(2), written(2));
    assert!(with(&[first.clone(), (3, 4, GET, found(2, 7))]));
    assert!(!with(&[first, second, (5, 6, GET, found(3, 7))]));
}

#[test]
fn the_account_names_the_operation_and_shows_what_was_done_around_it() {
    let entries = history(&[(0, 1, set(1), written(1)), (2, 3, GET, NOTHING)]);
    let fault = check(&entries).unwrap_err();
    let finding = account("register-1", entries, &fault);
    assert!(finding.title.contains("register-1 is not linearizable"), "{}", finding.title);
    assert!(finding.title.contains("1 at version 1"), "{}", finding.title);
    let marked: Vec<&str> = finding.account.lines().filter(|line| line.starts_with(">>")).collect();
    assert!(matches!(marked[..], [line] if line.contains("get -> nothing")), "{marked:?}");
    assert!(finding.account.contains("set 1 -> version 1"));
}
