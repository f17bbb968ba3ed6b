//! Decides what becomes of blobs whose holders come and go: a pure function of the index and the
//! nodes.
//!
//! It proposes the fewest copies that give every blob as many holders as it should have. Whoever
//! holds a blob and is there goes on holding it, whatever the order of [`super::holders`] says
//! since nodes have come. A proposal names the holders that it saw, and the log refuses one that is
//! overtaken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use odeum_proto::store::NodeRecord;
use odeum_proto::{Digest, NodeId, Revision, limits};

use super::holders::{ranked, takers};
use crate::store::{BlobIndex, BlobRecord};

/// Whether a node can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It answers.
    Here,
    /// It does not, and is expected back: what it holds is counted, and nobody can read it.
    Away,
    /// It has been away for too long. What it holds is lost until it is back.
    Gone,
}

/// A node of the cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) record: &'a NodeRecord,
    pub(crate) standing: Standing,
    /// It is about to leave: it gives, and is not counted.
    pub(crate) leaving: bool,
}

/// The nodes of the cluster; one that is not among them is gone.
pub(crate) type Sites<'a> = BTreeMap<&'a NodeId, Site<'a>>;

/// What to do about one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Have `to` fetch it from one of `sources`, or from anybody when there are none, then commit
    /// `holders`.
    Copy {
        to: NodeId,
        sources: Vec<NodeId>,
        holders: BTreeSet<NodeId>,
        /// How many nodes that are there hold it before.
        left: usize,
    },
    /// Commit `holders`: nobody has to fetch anything.
    Settle { holders: BTreeSet<NodeId> },
}

/// What `digest` needs to be on `copies` nodes, or on all that hold blobs when they are fewer. Nodes
/// that are to be `avoided` get nothing for now.
pub(crate) fn plan(
    digest: Digest,
    blob: &BlobRecord,
    sites: &Sites<'_>,
    copies: usize,
    avoided: impl Fn(&NodeId) -> bool,
) -> Option<Step> {
    let at = |node: &NodeId| sites.get(node);
    let stays = |site: &Site<'_>| site.standing != Standing::Gone && !site.leaving;
    let lasting: BTreeSet<&NodeId> =
        blob.holders.iter().filter(|node| at(node).is_some_and(stays)).collect();
    let here = |node: &NodeId| at(node).is_some_and(|site| site.standing == Standing::Here);
    let able = takers(
        sites
            .values()
            .filter(|site| site.standing == Standing::Here && !site.leaving)
            .map(|site| site.record),
    );
    let new: Vec<&NodeRecord> =
        able.iter().filter(|record| !lasting.contains(&record.id)).copied().collect();
    let wanted = copies.min(lasting.len() + new.len());
    if lasting.len() >= wanted {
        return settled(digest, blob, sites, &lasting, copies);
    }
    let present: Vec<&NodeRecord> =
        lasting.iter().filter_map(|node| at(node)).map(|site| site.record).collect();
    let candidates = new.into_iter().filter(|record| !avoided(&record.id));
    let to = *ranked(digest, candidates, &present).first()?;
    let mut holders: BTreeSet<NodeId> = lasting.iter().map(|node| (*node).clone()).collect();
    if holders.len() + 1 < wanted && blob.holders.len() < limits::HOLDERS_PER_BLOB {
        // Not enough yet: who is gone may come back with it.
        holders.extend(blob.holders.iter().cloned());
    }
    holders.insert(to.clone());
    Some(Step::Copy {
        to: to.clone(),
        sources: blob.holders.iter().filter(|node| here(node)).cloned().collect(),
        holders,
        left: lasting.iter().filter(|node| here(node)).count(),
    })
}

/// The holders of a blob that has enough of them, if they are to be others: without those that are
/// lost, and without those that are too many.
fn settled(
    digest: Digest,
    blob: &BlobRecord,
    sites: &Sites<'_>,
    lasting: &BTreeSet<&NodeId>,
    copies: usize,
) -> Option<Step> {
    let here: Vec<&NodeRecord> = lasting
        .iter()
        .filter_map(|node| sites.get(*node))
        .filter(|site| site.standing == Standing::Here)
        .map(|site| site.record)
        .collect();
    if here.is_empty() {
        // Nobody can say that it is really there.
        return None;
    }
    let holders: BTreeSet<NodeId> = match here.len() > copies {
        true => ranked(digest, here, &[]).into_iter().take(copies).cloned().collect(),
        false => lasting.iter().map(|node| (*node).clone()).collect(),
    };
    (holders != blob.holders).then_some(Step::Settle { holders })
}

/// How many blobs would be on fewer nodes than others could keep them on, if `node` left now.
pub(crate) fn leaves_behind(
    index: &BlobIndex,
    mut sites: Sites<'_>,
    node: &NodeId,
    copies: usize,
) -> usize {
    let Some(site) = sites.get_mut(node) else { return 0 };
    site.leaving = true;
    let held = index.records().iter().filter(|(_, blob)| blob.holders.contains(node));
    held.filter(|(digest, blob)| {
        let step = plan(**digest, blob, &sites, copies, |_| false);
        // What nobody can give is not worth waiting for.
        matches!(step, Some(Step::Copy { sources, .. }) if !sources.is_empty())
    })
    .count()
}

/// Remembers since when it has seen blobs without an owner. Time is the rememberer's own, so that
/// no two clocks are compared; another one counts from its own first look.
#[derive(Debug, Default)]
pub(crate) struct Unowned {
    seen: BTreeMap<Digest, (Revision, Instant)>,
}

impl Unowned {
    /// The blobs that nobody has owned for `grace`, each with the change since which.
    pub(crate) fn due(
        &mut self,
        index: &BlobIndex,
        now: Instant,
        grace: Duration,
    ) -> Vec<(Digest, Revision)> {
        let unowned = index.records().iter();
        let unowned = unowned.filter_map(|(digest, blob)| Some((*digest, blob.unowned_since?)));
        let before = std::mem::take(&mut self.seen);
        self.seen = unowned
            .map(|(digest, since)| {
                let first = before.get(&digest).filter(|(seen, _)| *seen == since);
                (digest, (since, first.map_or(now, |(_, first)| *first)))
            })
            .collect();
        let over = |first: Instant| now.saturating_duration_since(first) >= grace;
        let due = self.seen.iter().filter(|(_, (_, first))| over(*first));
        due.map(|(digest, (since, _))| (*digest, *since)).collect()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests;
