//! Promises of the planner, over random clusters.

use odeum_proto::store::Command;
use proptest::prelude::*;

use super::*;
use crate::blobs::fixtures::{node, record, records};
use crate::store::State;

fn blob(holders: &[u8]) -> BlobRecord {
    BlobRecord {
        size: 1,
        holders: holders.iter().map(|n| node(*n)).collect(),
        owners: BTreeSet::new(),
        holders_at: Revision(1),
        unowned_since: Some(Revision(1)),
    }
}

fn nodes(numbers: &[u8]) -> BTreeSet<NodeId> {
    numbers.iter().map(|n| node(*n)).collect()
}

/// Nodes n1, n2, … that stand so.
fn sites<'a>(records: &'a [NodeRecord], standings: &[(Standing, bool)]) -> Sites<'a> {
    let site = |(record, &(standing, leaving)): (&'a NodeRecord, _)| {
        (&record.id, Site { record, standing, leaving })
    };
    records.iter().zip(standings).map(site).collect()
}

const HERE: (Standing, bool) = (Standing::Here, false);
const AWAY: (Standing, bool) = (Standing::Away, false);
const GONE: (Standing, bool) = (Standing::Gone, false);
const LEAVING: (Standing, bool) = (Standing::Here, true);

fn planned(holders: &[u8], standings: &[(Standing, bool)]) -> Option<Step> {
    let records = records(&vec![0; standings.len()]);
    plan(Digest::of(b"blob"), &blob(holders), &sites(&records, standings), 2, |_| false)
}

#[test]
fn a_holder_that_is_away_is_waited_for_and_one_that_is_gone_is_replaced() {
    assert_eq!(planned(&[1, 2], &[HERE, AWAY, HERE]), None);
    let expected =
        Step::Copy { to: node(3), sources: vec![node(1)], holders: nodes(&[1, 3]), left: 1 };
    assert_eq!(planned(&[1, 2], &[HERE, GONE, HERE]), Some(expected.clone()));
    assert_eq!(planned(&[1, 7], &[HERE, GONE, HERE]), Some(expected), "one that was removed");
}

#[test]
fn a_holder_that_leaves_gives_what_it_has_before_it_goes() {
    let expected = Step::Copy {
        to: node(3),
        sources: vec![node(1), node(2)],
        holders: nodes(&[1, 3]),
        left: 1,
    };
    assert_eq!(planned(&[1, 2], &[HERE, LEAVING, HERE]), Some(expected));
}

#[test]
fn without_others_who_could_take_it_what_is_left_has_to_do() {
    assert_eq!(planned(&[1, 2], &[HERE, GONE]), Some(Step::Settle { holders: nodes(&[1]) }));
    assert_eq!(planned(&[1, 2], &[GONE, GONE]), None);
    assert_eq!(planned(&[1, 2], &[AWAY, GONE]), None, "it may have lost it");
}

#[test]
fn when_all_holders_are_gone_others_are_asked_for_copies_and_the_holders_are_not_forgotten() {
    let Some(Step::Copy { to, sources, holders, left: 0 }) =
        planned(&[1, 2], &[GONE, GONE, HERE, HERE])
    else {
        panic!("a copy");
    };
    assert!(sources.is_empty());
    let mut expected = nodes(&[1, 2]);
    expected.insert(to);
    assert_eq!(holders, expected);
}

#[test]
fn a_node_that_comes_takes_what_was_on_too_few() {
    let expected =
        Step::Copy { to: node(2), sources: vec![node(1)], holders: nodes(&[1, 2]), left: 1 };
    assert_eq!(planned(&[1], &[HERE, HERE]), Some(expected));
    assert_eq!(planned(&[1], &[HERE, AWAY]), None);
}

#[test]
fn a_node_that_could_not_take_it_is_left_out_for_the_next() {
    let records = records(&[0; 4]);
    let sites = sites(&records, &[HERE; 4]);
    let plan = |avoided: &[NodeId]| {
        plan(Digest::of(b"blob"), &blob(&[1]), &sites, 2, |node| avoided.contains(node))
    };
    let Some(Step::Copy { to: first, .. }) = plan(&[]) else { panic!("a copy") };
    let Some(Step::Copy { to: second, .. }) = plan(std::slice::from_ref(&first)) else {
        panic!("another copy");
    };
    assert_ne!(first, second);
    assert_eq!(plan(&[node(2), node(3), node(4)]), None);
}

#[test]
fn a_node_may_go_when_others_hold_what_it_holds_or_nobody_can_take_it() {
    let mut state = State::default();
    for (at, n) in (1..).zip([1_u8, 2, 3]) {
        state.apply(Revision(at), &Command::PutNode(record(n, 100, 0)));
    }
    let put = |content: &[u8], holders: &[u8]| Command::PutBlob {
        digest: Digest::of(content),
        size: 1,
        holders: nodes(holders),
        owner: None,
    };
    state.apply(Revision(10), &put(b"a", &[1, 2]));
    state.apply(Revision(11), &put(b"b", &[1, 3]));
    state.apply(Revision(12), &put(b"c", &[2, 3]));
    let records = records(&[0; 3]);
    let left = |standings, n| leaves_behind(state.blobs(), sites(&records, standings), &node(n), 2);
    assert_eq!(left(&[HERE, HERE, HERE], 1), 2);
    assert_eq!(left(&[GONE, HERE, HERE], 1), 2, "others have them too");
    assert_eq!(left(&[HERE, HERE, GONE], 1), 1, "only b has nobody else");
    assert_eq!(left(&[HERE, GONE, GONE], 1), 0, "nobody can take them");
    assert_eq!(left(&[HERE, HERE, HERE], 9), 0);
}

#[test]
fn a_blob_is_due_when_nobody_has_owned_it_for_the_whole_time() {
    let mut state = State::default();
    state.apply(Revision(1), &Command::PutNode(record(1, 100, 0)));
    let put =
        Command::PutBlob { digest: Digest::of(b"a"), size: 1, holders: nodes(&[1]), owner: None };
    state.apply(Revision(2), &put);
    let (mut unowned, start) = (Unowned::default(), Instant::now());
    let (second, grace) = (Duration::from_secs(1), Duration::from_secs(10));
    assert_eq!(unowned.due(state.blobs(), start, grace), []);
    state.apply(Revision(3), &put);
    assert_eq!(unowned.due(state.blobs(), start + 9 * second, grace), []);
    assert_eq!(unowned.due(state.blobs(), start + 18 * second, grace), []);
    let due = unowned.due(state.blobs(), start + 19 * second, grace);
    assert_eq!(due, [(Digest::of(b"a"), Revision(3))]);
    assert!(!unowned.is_empty());
}

proptest! {
    #[test]
    fn steps_lead_to_enough_holders_and_end(
        standing in proptest::collection::vec((0_u8..4, 0_u8..3, 0_u32..3), 1..8),
        held in proptest::collection::btree_set(1_u8..9, 1..4),
        copies in 1_usize..4,
    ) {
        let records: Vec<NodeRecord> = (1..)
            .zip(&standing)
            .map(|(n, (_, zone, capacity))| record(n, capacity * 50, *zone))
            .collect();
        let standings: Vec<_> = standing
            .iter()
            .map(|(how, ..)| [HERE, AWAY, GONE, LEAVING][usize::from(*how)])
            .collect();
        let sites = sites(&records, &standings);
        let holders: Vec<u8> = held.into_iter().collect();
        let mut blob = blob(&holders);
        let is_here = |node: &NodeId| sites.get(node).is_some_and(|s| s.standing == Standing::Here);
        let mut steps = 0;
        while let Some(step) = plan(Digest::of(b"x"), &blob, &sites, copies, |_| false) {
            let before = blob.holders.iter().filter(|node| is_here(node)).count();
            match step {
                Step::Copy { to, sources, holders, .. } => {
                    prop_assert!(is_here(&to) && !sites[&to].leaving);
                    prop_assert!(!blob.holders.contains(&to) && holders.contains(&to));
                    prop_assert!(sources.iter().all(|node| blob.holders.contains(node)));
                    blob.holders = holders;
                }
                Step::Settle { holders } => {
                    prop_assert!(holders.is_subset(&blob.holders) && !holders.is_empty());
                    prop_assert!(holders.iter().any(is_here), "of {before} none is left");
                    blob.holders = holders;
                }
            }
            steps += 1;
            prop_assert!(steps <= copies + 1, "it does not end");
        }
        let able = takers(
            sites.values().filter(|s| s.standing == Standing::Here && !s.leaving).map(|s| s.record),
        );
        let stay = blob.holders.iter().filter(|node| {
            sites.get(*node).is_some_and(|s| s.standing != Standing::Gone && !s.leaving)
        });
        prop_assert!(stay.count() >= copies.min(able.len()));
    }
}
