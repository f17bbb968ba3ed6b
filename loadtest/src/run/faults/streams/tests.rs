//! Streams that must be found wanting.

use super::*;

/// No test writes so much.
const UNWRITTEN: i64 = 1_000;

fn change(revision: u64, value: i64) -> Seen {
    let what = What::Set { version: revision, value };
    Seen { revision, index: 0, session: format!("{}0", scene::VARIABLE), what }
}

fn acknowledged(revision: u64, value: i64) -> Acknowledged {
    let Seen { session, what, .. } = change(revision, value);
    Acknowledged { at: At { group: 0, revision }, session, what }
}

fn tell(streams: &mut Streams, watcher: usize, changes: &[Seen]) -> Result<(), Finding> {
    streams.told(watcher, 0, changes.to_vec(), UNWRITTEN).map(drop)
}

#[test]
fn watchers_that_are_told_the_same_at_different_times_are_fine() {
    let mut streams = Streams::new();
    let changes = [change(3, 1), change(5, 2), change(6, 3)];
    assert!(tell(&mut streams, 0, &changes[..2]).is_ok());
    assert!(tell(&mut streams, 1, &changes).is_ok());
    assert!(tell(&mut streams, 2, &changes).is_ok());
    streams.acknowledged(acknowledged(5, 2));
    assert!(streams.behind().is_some_and(|behind| behind.contains("watcher 0")));
    assert!(tell(&mut streams, 0, &changes[2..]).is_ok());
    assert_eq!(streams.behind(), None);
    assert!(streams.all_there().is_ok());
    assert_eq!(streams.count(), (3, WATCHERS));
}

#[test]
fn a_gap_a_repetition_and_another_order_are_found() {
    let changes = [change(3, 1), change(5, 2), change(6, 3)];
    for wrong in [
        vec![change(3, 1), change(6, 3)],
        vec![change(3, 1), change(3, 1), change(5, 2)],
        vec![change(5, 2), change(3, 1)],
        vec![change(3, 9)],
    ] {
        let mut streams = Streams::new();
        assert!(tell(&mut streams, 0, &changes).is_ok());
        assert!(tell(&mut streams, 1, &wrong).is_err(), "{wrong:?}");
    }
    let mut streams = Streams::new();
    assert!(tell(&mut streams, 0, &[change(5, 2), change(3, 1)]).is_err());
}

#[test]
fn a_value_that_is_written_twice_or_never_or_was_refused_is_found() {
    let mut streams = Streams::new();
    assert!(tell(&mut streams, 0, &[change(3, 1)]).is_ok());
    assert!(tell(&mut streams, 0, &[change(5, 1)]).is_err());
    assert!(tell(&mut streams, 0, &[change(6, UNWRITTEN)]).is_err());
    assert!(streams.refused(1).is_err());
    assert!(streams.refused(2).is_ok());
    assert!(tell(&mut streams, 0, &[change(7, 2)]).is_err());
}

#[test]
fn what_was_acknowledged_and_nobody_was_told_is_found() {
    for lost in [acknowledged(4, 1), acknowledged(3, 2)] {
        let mut streams = Streams::new();
        streams.acknowledged(lost);
        for watcher in 0..WATCHERS {
            assert!(tell(&mut streams, watcher, &[change(3, 1), change(5, 3)]).is_ok());
        }
        assert_eq!(streams.behind(), None);
        assert!(streams.all_there().is_err());
    }
}

#[test]
fn a_counter_goes_up_by_one() {
    let count = |revision, value| Seen {
        session: format!("{}0", counter::PREFIX),
        ..change(revision, value)
    };
    let mut streams = Streams::new();
    assert!(tell(&mut streams, 0, &[count(1, 1), count(2, 2)]).is_ok());
    assert_eq!(streams.counter("counter-0"), 2);
    assert!(tell(&mut streams, 0, &[count(3, 2)]).is_err());
    let mut streams = Streams::new();
    assert!(tell(&mut streams, 0, &[count(1, 2)]).is_err());
}
