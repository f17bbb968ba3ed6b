//! Who has subscribers of which topic. Pure.
//!
//! Each node keeps its own set under a version that grows with every change, and tells a peer what
//! has changed since the version that the peer is known to have, or everything. Updates may be
//! lost, doubled or overtaken: one that does not follow on what is known is refused, and the
//! sender starts over with everything.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use odeum_proto::topic::InterestUpdate;
use odeum_proto::{Incarnation, NodeId, TopicName, limits};

/// Changes that are kept to be told alone. A peer that is further behind gets everything.
const CHANGES: usize = 1_024;

/// The topics this node has subscribers of.
#[derive(Debug)]
pub(super) struct Own {
    life: Incarnation,
    version: u64,
    topics: BTreeSet<TopicName>,
    /// The latest changes, the last of which made `version`; whether the topic was added.
    changes: VecDeque<(TopicName, bool)>,
}

impl Own {
    pub(super) fn new(life: Incarnation) -> Self {
        Self { life, version: 0, topics: BTreeSet::new(), changes: VecDeque::new() }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Adds or removes a topic; whether that changed anything.
    pub(super) fn set(&mut self, topic: &TopicName, wanted: bool) -> bool {
        let changed = match wanted {
            true => self.topics.insert(topic.clone()),
            false => self.topics.remove(topic),
        };
        if changed {
            self.version += 1;
            if self.changes.len() == CHANGES {
                self.changes.pop_front();
            }
            self.changes.push_back((topic.clone(), wanted));
        }
        changed
    }

    /// What a peer lacks that knows version `known`.
    pub(super) fn since(&self, known: Option<u64>) -> InterestUpdate {
        let behind = known.and_then(|known| usize::try_from(self.version.checked_sub(known)?).ok());
        match behind.filter(|behind| *behind <= self.changes.len()) {
            Some(behind) => {
                let changes = self.changes.range(self.changes.len() - behind..);
                // Of several changes of one topic the last one counts.
                let last: BTreeMap<_, _> =
                    changes.map(|(topic, wanted)| (topic, *wanted)).collect();
                let of = |kind| {
                    let topics = last.iter().filter(move |(_, wanted)| **wanted == kind);
                    topics.map(|(topic, _)| (*topic).clone()).collect()
                };
                self.update(known, of(true), of(false))
            }
            None => self.update(None, self.topics.iter().cloned().collect(), Vec::new()),
        }
    }

    fn update(
        &self,
        base: Option<u64>,
        added: Vec<TopicName>,
        removed: Vec<TopicName>,
    ) -> InterestUpdate {
        InterestUpdate { life: self.life, version: self.version, base, added, removed }
    }
}

/// What one peer has subscribers of.
#[derive(Debug)]
struct Peer {
    life: Incarnation,
    version: u64,
    topics: HashSet<TopicName>,
}

/// What all peers have subscribers of, as far as they have told.
#[derive(Debug, Default)]
pub(super) struct Others {
    peers: HashMap<NodeId, Peer>,
    by_topic: HashMap<TopicName, BTreeSet<NodeId>>,
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// The peer's interest is known as of this version; these topics it does not want any more.
    Known {
        /// The version.
        version: u64,
        /// Topics it had wanted.
        ended: Vec<TopicName>,
    },
    /// The update does not follow on what is known.
    Unknown,
}

impl Others {
    /// The peers with subscribers of `topic`.
    pub(super) fn of(&self, topic: &TopicName) -> impl Iterator<Item = &NodeId> {
        self.by_topic.get(topic).into_iter().flatten()
    }

    /// Whether `peer` has subscribers of `topic`.
    pub(super) fn wants(&self, peer: &NodeId, topic: &TopicName) -> bool {
        self.by_topic.get(topic).is_some_and(|peers| peers.contains(peer))
    }

    /// What `from` has told.
    pub(super) fn hear(&mut self, from: &NodeId, update: InterestUpdate) -> Heard {
        let before = self.peers.get(from);
        let same_life = before.filter(|peer| peer.life == update.life);
        let known = same_life.map(|peer| peer.version);
        if before.is_some_and(|peer| peer.life > update.life) {
            return Heard::Unknown;
        }
        // Doubled or overtaken: there is nothing new in it.
        if let Some(version) = known.filter(|known| *known >= update.version) {
            return Heard::Known { version, ended: Vec::new() };
        }
        let InterestUpdate { life, version, base, added, removed } = update;
        let (added, removed): (HashSet<_>, HashSet<_>) = match base {
            None => {
                let added: HashSet<_> = added.into_iter().collect();
                let old = before.map(|peer| &peer.topics);
                let gone = old.into_iter().flatten().filter(|topic| !added.contains(*topic));
                let gone = gone.cloned().collect();
                (added, gone)
            }
            Some(base) if known == Some(base) => {
                (added.into_iter().collect(), removed.into_iter().collect())
            }
            Some(_) => return Heard::Unknown,
        };
        let peer = self.peers.entry(from.clone()).or_insert_with(|| Peer {
            life,
            version,
            topics: HashSet::new(),
        });
        (peer.life, peer.version) = (life, version);
        let mut ended = Vec::new();
        for topic in removed {
            if peer.topics.remove(&topic) {
                unlink(&mut self.by_topic, from, &topic);
                ended.push(topic);
            }
        }
        for topic in added {
            // Whoever has more is not told of; its own limit keeps an honest node below it.
            if peer.topics.len() < limits::TOPICS && peer.topics.insert(topic.clone()) {
                self.by_topic.entry(topic).or_default().insert(from.clone());
            }
        }
        Heard::Known { version, ended }
    }

    /// Forgets a peer that has left.
    pub(super) fn forget(&mut self, peer: &NodeId) {
        for topic in self.peers.remove(peer).into_iter().flat_map(|peer| peer.topics) {
            unlink(&mut self.by_topic, peer, &topic);
        }
    }

    /// All peers that have told something.
    pub(super) fn peers(&self) -> impl Iterator<Item = &NodeId> {
        self.peers.keys()
    }
}

fn unlink(by_topic: &mut HashMap<TopicName, BTreeSet<NodeId>>, peer: &NodeId, topic: &TopicName) {
    if let Some(peers) = by_topic.get_mut(topic) {
        peers.remove(peer);
        if peers.is_empty() {
            by_topic.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests;
