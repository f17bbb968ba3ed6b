//! How a node leaves its cluster for good, and how it learns that it has left.
//!
//! 1. It is marked as leaving, in the store. From then on it gets nothing new: the leader places
//!    its firmware elsewhere, and it gives its shards away by itself.
//! 2. When it holds nothing that others can take, blobs included, it is removed from the Raft group and from the
//!    record, by whoever sees that first: the one who asked, or the leader, so that it is finished whoever dies.
//! 3. It learns of that, and its process ends. The log will not tell it, since it gets no more of
//!    that; so while it is leaving, and whenever it has no leader, it asks its peers. A peer that
//!    has seen all that this node has seen, and does not know it, settles the question.
//!
//! A node that is down is let go by the same steps; it learns of it when it comes back. Its name
//! stays with its disk: with its data folder it may join again by any member, with another one it
//! needs another name.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own clock | none |

mod drain;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_proto::{
    ClusterId, NodeId, Revision,
    join::{JoinReply, JoinRequest},
    store::{Command, Outcome, Refusal},
};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::{
    blobs::planner::{Site, Standing, leaves_behind},
    store::{Health, State, StoreError, StoreHandle},
    transport::{Class, Service, TransportHandle},
};

/// How often a node looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The shortest time between two looks at what a leaving node has.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Peers that are asked at a time. One that is not behind is enough.
const ASKED: usize = 3;

/// How long a peer may take to answer.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// How long the last step may take when the asker's patience is used up: two changes of the
/// group's members and, if the node leads, an election before them.
const REMOVAL: Duration = Duration::from_secs(10);

/// The incarnation of no life: while a node is on its way in, it cannot have left.
const NEVER: u64 = u64::MAX;

/// Why a node did not leave.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// The cluster knows no such node.
    #[error("no node is called {node}")]
    Unknown {
        /// The name.
        node: NodeId,
    },
    /// The others cannot do without it. It is not marked any more.
    #[error(transparent)]
    Refused(Refusal),
    /// Not everything it has was taken over in time. It stays marked, and goes when it is empty.
    #[error(
        "after {waited:?} {node} still has {firmware} firmware, {shards} shards and {blobs} blobs \
         that are to go to others; it leaves when they have taken them"
    )]
    StillHolds {
        /// The node.
        node: NodeId,
        /// Firmware that is placed on it.
        firmware: usize,
        /// Shards that are placed on it.
        shards: usize,
        /// Blobs that others could hold instead of it and do not yet.
        blobs: usize,
        /// How long was waited.
        waited: Duration,
    },
    /// A node that is to be empty is not yet. Nothing more comes to it, and it goes on.
    #[error(
        "after {waited:?} {node} still has {firmware} firmware and {shards} shards that others are \
         to take; it goes on"
    )]
    NotEmpty {
        /// The node.
        node: NodeId,
        /// Firmware that is placed on it.
        firmware: usize,
        /// Shards that are placed on it.
        shards: usize,
        /// How long was waited.
        waited: Duration,
    },
    /// The store did not do its part. Ask again.
    #[error(transparent)]
    Store(StoreError),
}

/// Lets nodes leave. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DepartureHandle {
    store: StoreHandle,
    local: NodeId,
    /// On how many nodes a blob is to be.
    copies: usize,
    left: Arc<watch::Sender<bool>>,
    /// The incarnation that the own record has at least when this life is a member.
    since: Arc<AtomicU64>,
}

impl DepartureHandle {
    /// Lets `node` leave: this one or another, which may be down. Returns when it is removed.
    ///
    /// # Errors
    /// [`LeaveError`].
    pub async fn leave(&self, node: &NodeId, patience: Duration) -> Result<(), LeaveError> {
        if *node != self.local {
            return self.let_go(node, patience).await;
        }
        tokio::select! {
            biased;
            gone = self.let_go(node, patience) => gone,
            // The leader was faster, and what this node still asks for it will not learn of.
            () = self.left() => Ok(()),
        }
    }

    async fn let_go(&self, node: &NodeId, patience: Duration) -> Result<(), LeaveError> {
        let start = Instant::now();
        let left = || patience.saturating_sub(start.elapsed());
        if self.store.view(|state| is_last(state, node)) {
            let node = node.clone();
            return Err(LeaveError::Refused(Refusal::LosesQuorum { node, others: 0, there: 0 }));
        }
        self.mark(leaving(node, true), patience).await?;
        let mut changes = self.store.changes();
        loop {
            let (firmware, shards) = self.store.view(|state| holdings(state, node));
            let blobs = self.store.view(|state| blobs_of(state, node, self.copies));
            if firmware + shards + blobs == 0 {
                break;
            }
            if left().is_zero() {
                let (node, waited) = (node.clone(), patience);
                return Err(LeaveError::StillHolds { node, firmware, shards, blobs, waited });
            }
            // Either way the loop looks again; not at once, for a busy store changes all the time.
            tokio::time::sleep(left().min(LOOK_PAUSE)).await;
            let _ = timeout(left().min(LOOK_EVERY), changes.changed()).await;
        }
        match self.store.remove_node(node, left().max(REMOVAL)).await {
            Ok(()) => {}
            // The leader was faster.
            Err(StoreError::NotMember { .. }) if *node == self.local => {}
            Err(StoreError::Refused(refusal)) => match self.stay(node, REMOVAL).await {
                // The leader, which tries as well, was not refused.
                Err(LeaveError::Unknown { .. }) => {}
                stays => {
                    stays?;
                    return Err(LeaveError::Refused(refusal));
                }
            },
            Err(error) => return Err(LeaveError::Store(error)),
        }
        if *node == self.local {
            self.left.send_replace(true);
        }
        Ok(())
    }

    /// Takes back that `node` is to leave.
    ///
    /// # Errors
    /// [`LeaveError::Unknown`] when it has left already, [`LeaveError::Store`].
    pub async fn stay(&self, node: &NodeId, deadline: Duration) -> Result<(), LeaveError> {
        self.mark(leaving(node, false), deadline).await
    }

    /// Returns when this node has left.
    pub async fn left(&self) {
        // The sender is in this very handle.
        let _ = self.left.subscribe().wait_for(|left| *left).await;
    }

    /// From now on this node is a member, and its own record is of this incarnation or later.
    pub(crate) fn entered(&self, since: u64) {
        self.since.store(since, Ordering::Relaxed);
    }

    /// Has the store note what is to become of a node.
    async fn mark(&self, mark: Command, by: Duration) -> Result<(), LeaveError> {
        match self.store.write(mark, by).await {
            Ok(Outcome::Refused(Refusal::UnknownNode { node })) => {
                Err(LeaveError::Unknown { node })
            }
            Ok(Outcome::Refused(refusal)) => Err(LeaveError::Refused(refusal)),
            Ok(_) => Ok(()),
            Err(error) => Err(LeaveError::Store(error)),
        }
    }
}

fn leaving(node: &NodeId, leaving: bool) -> Command {
    Command::SetLeaving { node: node.clone(), leaving }
}

/// Whether nobody would be left who stays.
fn is_last(state: &State, node: &NodeId) -> bool {
    let mut others = state.nodes().keys().filter(|other| *other != node);
    state.nodes().contains_key(node) && others.all(|other| state.leaving().contains(other))
}

/// How many firmware and how many shards are placed on `node` that others can take.
fn holdings(state: &State, node: &NodeId) -> (usize, usize) {
    let takers = state.nodes().values().filter(|other| {
        other.id != *node && other.capacity > 0 && !state.leaving().contains(&other.id)
    });
    let on_it = state.placements().values().filter(|place| place.node == *node);
    let firmware = takers.clone().next().map_or(0, |_| on_it.count());
    let kinds = state
        .kinds()
        .iter()
        .filter(|(kind, _)| takers.clone().any(|taker| taker.kinds.contains_key(*kind)));
    (firmware, kinds.map(|(_, row)| row.shards_of(node).count()).sum())
}

/// How many blobs others could hold instead of `node` and do not yet. Who is alive is not known
/// here: when that makes it too many, the leader knows better and removes the node.
fn blobs_of(state: &State, node: &NodeId, copies: usize) -> usize {
    let site = |(id, record)| {
        let leaving = state.leaving().contains(id);
        (id, Site { record, standing: Standing::Here, leaving })
    };
    leaves_behind(state.blobs(), state.nodes().iter().map(site).collect(), node, copies)
}

/// The handle, and the actor that finds out whether this node has left: a child of the
/// `ClusterSupervisor`.
#[must_use]
pub fn departure(
    store: StoreHandle,
    transport: TransportHandle,
    copies: usize,
) -> (DepartureHandle, ChildSpec) {
    let handle = DepartureHandle {
        store,
        local: transport.local().clone(),
        copies,
        left: Arc::new(watch::Sender::new(false)),
        since: Arc::new(AtomicU64::new(NEVER)),
    };
    let inner = handle.clone();
    let (_, spec) = child("Departure", move || DepartureActor {
        handle: inner.clone(),
        transport: transport.clone(),
        was_there: false,
    });
    (handle, spec)
}

#[derive(Debug)]
enum DepartureMessage {
    Look,
}

struct DepartureActor {
    handle: DepartureHandle,
    transport: TransportHandle,
    /// Whether this replica has shown the node's own record.
    was_there: bool,
}

impl Actor for DepartureActor {
    type Message = DepartureMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        ctx.tell_every(LOOK_EVERY, || DepartureMessage::Look);
        Ok(())
    }

    async fn handle(
        &mut self,
        _ctx: &mut Context<Self>,
        message: DepartureMessage,
    ) -> Result<(), ActorError> {
        match message {
            DepartureMessage::Look => self.on_look().await,
        }
        Ok(())
    }
}

impl DepartureActor {
    async fn on_look(&mut self) {
        if *self.handle.left.borrow() {
            return;
        }
        let since = self.handle.since.load(Ordering::Relaxed);
        let sight = self.handle.store.view(|state| Sight::of(state, &self.handle.local, since));
        let Some(sight) = sight else {
            if self.was_there && since != NEVER {
                self.leave("the log says so");
            }
            return;
        };
        self.was_there = true;
        if sight.leaving || self.handle.store.status().health != Health::Good {
            self.ask(&sight).await;
        }
    }

    /// Asks some peers whether this node is still one of them.
    async fn ask(&self, own: &Sight) {
        let peers: Vec<NodeId> =
            self.transport.links().borrow().keys().take(ASKED).cloned().collect();
        let asked = peers.iter().map(async |peer| {
            let (question, service) = (JoinRequest::Roster, Service::Join);
            self.transport.call(peer, service, Class::Lane, &question, ASK_DEADLINE).await.ok()
        });
        let answers = futures::future::join_all(asked).await;
        if answers.into_iter().flatten().any(|said| own.is_outdated_by(&said, &self.handle.local)) {
            self.leave("a member says so");
        }
    }

    fn leave(&self, reason: &str) {
        tracing::info!(node = %self.handle.local, reason, "this node has left its cluster");
        self.handle.left.send_replace(true);
    }
}

/// What a node that thinks it is a member knows of its membership.
#[derive(Debug)]
struct Sight {
    cluster: Option<ClusterId>,
    at: Revision,
    leaving: bool,
}

impl Sight {
    /// `None` when the state does not show the node in a life of `since` or later.
    fn of(state: &State, local: &NodeId, since: u64) -> Option<Self> {
        let own = state.nodes().get(local)?;
        (own.incarnation.0 >= since).then(|| Self {
            cluster: state.cluster(),
            at: state.layout(),
            leaving: state.leaving().contains(local),
        })
    }

    /// Whether somebody who knows at least as much of the same cluster knows this node no more.
    fn is_outdated_by(&self, said: &JoinReply, local: &NodeId) -> bool {
        let JoinReply::Roster { cluster, at, nodes } = said else { return false };
        self.cluster == Some(*cluster)
            && *at >= self.at
            && nodes.iter().all(|node| node.id != *local)
    }
}

#[cfg(test)]
mod tests;
