//! Which nodes are to have a blob: a pure function of its digest and the nodes.
//!
//! Rendezvous hashing: every node has a score for every blob, and the best have it. A node that
//! comes or goes changes only what it gains or leaves; nothing is shuffled among the others.
//! Nodes that share their fate come last: of each zone one, as long as there are others.
//!
//! Source: Thaler, Ravishankar 1998, "Using name-based mappings to increase hit rates"; weights as
//! in Schindelhauer, Schomaker 2005, §3 (the logarithmic method).

use std::collections::BTreeSet;

use odeum_proto::{Digest, Label, NodeId, store::NodeRecord};

/// Those of `nodes` that hold blobs: all that host anything, or all if none does.
pub(super) fn takers<'a>(nodes: impl IntoIterator<Item = &'a NodeRecord>) -> Vec<&'a NodeRecord> {
    let mut nodes: Vec<&NodeRecord> = nodes.into_iter().collect();
    if nodes.iter().any(|node| node.capacity > 0) {
        nodes.retain(|node| node.capacity > 0);
    }
    nodes
}

/// The nodes among `candidates` in the order in which they should hold `digest`, if `present` hold
/// it already. Whoever wants k holders takes the first that are missing. A node's chance is in
/// proportion to its capacity.
pub(super) fn ranked<'a>(
    digest: Digest,
    candidates: impl IntoIterator<Item = &'a NodeRecord>,
    present: &[&NodeRecord],
) -> Vec<&'a NodeId> {
    let mut nodes: Vec<&NodeRecord> = candidates.into_iter().collect();
    nodes.sort_by(|a, b| score(digest, a).total_cmp(&score(digest, b)).then(a.id.cmp(&b.id)));
    let mut fates: BTreeSet<Fate<'_>> = present.iter().map(|node| Fate::of(node)).collect();
    let (first, rest): (Vec<&NodeRecord>, Vec<&NodeRecord>) =
        nodes.into_iter().partition(|node| fates.insert(Fate::of(node)));
    first.into_iter().chain(rest).map(|node| &node.id).collect()
}

/// What a node shares its fate with: its zone, or itself alone if nothing is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate<'a> {
    Zone(&'a Label),
    Node(&'a NodeId),
}

impl<'a> Fate<'a> {
    pub(crate) fn of(node: &'a NodeRecord) -> Self {
        node.zone.as_ref().map_or(Self::Node(&node.id), Self::Zone)
    }
}

/// The least is the best.
fn score(digest: Digest, node: &NodeRecord) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(digest.as_bytes()).update(node.id.as_str().as_bytes());
    let mut first = [0; 4];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
    // Within 0 and 1, never at either.
    let chance = (f64::from(u32::from_le_bytes(first)) + 0.5) / (f64::from(u32::MAX) + 1.0);
    -chance.ln() / f64::from(node.capacity.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::blobs::fixtures::{record, records};

    fn chosen(digest: Digest, nodes: &[NodeRecord], k: usize) -> BTreeSet<NodeId> {
        ranked(digest, nodes, &[]).into_iter().take(k).cloned().collect()
    }

    proptest! {
        #[test]
        fn a_node_that_comes_or_goes_changes_one_holder_at_most(
            zones in proptest::collection::vec(0_u8..4, 2..12),
            content in any::<u64>(), k in 1_usize..5, which in any::<prop::sample::Index>(),
        ) {
            let digest = Digest::of(&content.to_le_bytes());
            let all = records(&zones);
            let mut fewer = all.clone();
            let gone = fewer.remove(which.index(all.len()));
            let (with, without) = (chosen(digest, &all, k), chosen(digest, &fewer, k));
            if with.contains(&gone.id) {
                let kept = with.intersection(&without).count();
                prop_assert!(kept + 1 >= with.len(), "{:?} and {:?}", with, without);
            } else {
                prop_assert_eq!(with, without);
            }
        }

        #[test]
        fn holders_are_in_as_many_zones_as_can_be(
            zones in proptest::collection::vec(0_u8..5, 1..12),
            content in any::<u64>(), k in 1_usize..5,
        ) {
            let all = records(&zones);
            let chosen = chosen(Digest::of(&content.to_le_bytes()), &all, k);
            prop_assert_eq!(chosen.len(), k.min(all.len()));
            let fates = |of: &mut dyn Iterator<Item = &NodeRecord>| -> usize {
                of.map(Fate::of).collect::<BTreeSet<_>>().len()
            };
            let there = fates(&mut all.iter());
            let used = fates(&mut all.iter().filter(|record| chosen.contains(&record.id)));
            prop_assert_eq!(used, there.min(k));
        }

        #[test]
        fn who_holds_it_already_is_no_reason_to_take_another_of_its_zone(
            zones in proptest::collection::vec(1_u8..4, 3..9), content in any::<u64>(),
        ) {
            let all = records(&zones);
            let (present, others) = all.split_first().expect("some");
            let ranked = ranked(Digest::of(&content.to_le_bytes()), others, &[present]);
            let first = others.iter().find(|record| record.id == *ranked[0]).expect("of them");
            let elsewhere = others.iter().any(|record| record.zone != present.zone);
            prop_assert!(!elsewhere || first.zone != present.zone);
        }
    }

    #[test]
    fn nodes_hold_in_proportion_to_their_capacity_and_without_one_nothing() {
        let nodes = [record(1, 100, 0), record(2, 300, 0), record(3, 0, 0)];
        let mut counts = [0_u32; 4];
        for n in 0..4_000_u32 {
            let best = ranked(Digest::of(&n.to_le_bytes()), takers(&nodes), &[])[0].clone();
            let number: usize = best.as_str()[1..].parse().expect("a number");
            counts[number] += 1;
        }
        assert!((850..1_150).contains(&counts[1]), "{counts:?}");
        assert_eq!(counts[3], 0);
        assert_eq!(takers(&nodes[2..]), [&nodes[2]], "nobody else is there");
    }
}
