//! What a run knows that none of its nodes does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use odeum_proto::session::Change;
use odeum_proto::store::NodeRecord;
use odeum_proto::{ClusterId, DiskId, GroupId, Incarnation, NodeId, Revision};

use super::disk::{Make, SimDisk};
use super::history::Event;
use super::plan::Plan;
use crate::store::seeds::Random;
use crate::store::{StoreConfig, StoreHandle};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The cluster is founded and filled.
    Founding,
    /// Clients are busy, and things go wrong.
    Busy,
    /// Nothing goes wrong any more; everybody has to be able to write.
    End,
}

/// What some node is to do for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Admit(usize),
    Prepare,
    HandOver(usize),
    Remove(usize),
}

/// What a watcher has seen, over all lives of its node.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) revision: Revision,
    pub(super) changes: Vec<Arc<Change>>,
}

/// Everything at one moment.
#[derive(Debug)]
pub(super) struct Now {
    pub(super) random: Random,
    pub(super) phase: Phase,
    /// How often each node has started.
    pub(super) lives: Vec<u64>,
    /// The nodes that run.
    pub(super) stores: BTreeMap<usize, StoreHandle>,
    /// The nodes that are or become members.
    pub(super) invited: BTreeSet<usize>,
    pub(super) removed: BTreeSet<usize>,
    pub(super) wishes: VecDeque<Wish>,
    /// What each node is about to do for the operator.
    pub(super) doing: BTreeMap<usize, Wish>,
    pub(super) prepared: bool,
    /// Who has written to every group since nothing goes wrong any more.
    pub(super) wrote: BTreeSet<usize>,
    /// So many messages of a hundred are lost.
    pub(super) loss: u64,
    pub(super) events: Vec<Event>,
    pub(super) watched: BTreeMap<usize, Seen>,
    pub(super) faults: Vec<String>,
    clock: u64,
    trace: blake3::Hasher,
}

impl Now {
    /// What `node` is to do for the operator next.
    pub(super) fn begin_wish(&mut self, node: usize) -> Option<Wish> {
        let wish = self.wishes.pop_front()?;
        self.doing.insert(node, wish);
        Some(wish)
    }

    /// What `node` was to do is done, or is for somebody to try again.
    pub(super) fn end_wish(&mut self, node: usize, done: bool) {
        let wish = self.doing.remove(&node);
        self.wishes.extend(wish.filter(|_| !done));
    }
}

/// Shared by the nodes of a run and by who makes it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) cluster: ClusterId,
    disks: Vec<(SimDisk, DiskId)>,
    now: Mutex<Now>,
}

impl World {
    /// A run from `seed`.
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let make = Make { flush: plan.flush, segment_bytes: plan.segment_bytes };
        let all = plan.nodes + 1;
        let disks = (0..all)
            .map(|_| (SimDisk::new(make, Random::new(random.next())), DiskId::random()))
            .collect();
        let now = Now {
            random,
            phase: Phase::Founding,
            lives: vec![0; all],
            stores: BTreeMap::new(),
            invited: (0..plan.nodes).collect(),
            removed: BTreeSet::new(),
            wishes: (1..plan.nodes).map(Wish::Admit).collect(),
            doing: BTreeMap::new(),
            prepared: false,
            wrote: BTreeSet::new(),
            loss: 0,
            events: Vec::new(),
            watched: BTreeMap::new(),
            faults: Vec::new(),
            clock: 0,
            trace: blake3::Hasher::new(),
        };
        Arc::new(Self { plan, cluster: ClusterId::random(), disks, now: Mutex::new(now) })
    }

    pub(super) fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All nodes there may ever be.
    pub(super) fn nodes(&self) -> std::ops::Range<usize> {
        0..self.disks.len()
    }

    /// All groups.
    pub(super) fn groups() -> impl Iterator<Item = GroupId> {
        std::iter::once(GroupId::Control).chain((0..StoreConfig::GROUPS).map(GroupId::Data))
    }

    pub(super) fn disk(&self, node: usize) -> &SimDisk {
        &self.disks[node].0
    }

    pub(super) fn record(&self, node: usize) -> NodeRecord {
        NodeRecord {
            id: name(node),
            disk: self.disks[node].1,
            incarnation: Incarnation(self.now().lives[node]),
            cluster_addr: ([127, 0, 0, 1], 7071).into(),
            api_addr: ([127, 0, 0, 1], 7070).into(),
            version: "0.1.0".into(),
            kinds: BTreeMap::new(),
            labels: BTreeMap::new(),
            zone: None,
            capacity: NodeRecord::CAPACITY,
        }
    }

    /// Whether the process of a node runs.
    pub(super) fn runs(&self, node: &NodeId) -> bool {
        let number = node.as_str().strip_prefix('n').and_then(|number| number.parse().ok());
        number.is_some_and(|number: usize| self.now().stores.contains_key(&(number - 1)))
    }

    /// The handles of the nodes that run and belong to the cluster.
    pub(super) fn members(&self) -> Vec<(usize, StoreHandle)> {
        let now = self.now();
        let members = now.stores.iter().filter(|(node, _)| !now.removed.contains(node));
        members.map(|(node, store)| (*node, store.clone())).collect()
    }

    /// A moment: each is later than all before.
    pub(super) fn moment(&self) -> u64 {
        let mut now = self.now();
        now.clock += 1;
        now.clock
    }

    /// Says that something is not as promised.
    pub(super) fn fault(&self, what: String) {
        self.now().faults.push(what);
    }

    /// Takes part in what two runs from one seed have in common.
    pub(super) fn trace(&self, what: &str, bytes: &[u8]) {
        let at = elapsed();
        tracing::trace!(target: "simulation", ?at, what, digest = %blake3::hash(bytes).to_hex());
        let mut now = self.now();
        now.trace.update(&at.as_micros().to_le_bytes());
        now.trace.update(what.as_bytes());
        now.trace.update(bytes);
    }

    /// What stands for all that happened.
    pub(super) fn digest(&self) -> String {
        self.now().trace.finalize().to_hex()[..16].to_owned()
    }
}

/// The time of the run.
pub(super) fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// What a node is called.
pub(super) fn name(node: usize) -> NodeId {
    format!("n{}", node + 1).parse().expect("valid")
}
