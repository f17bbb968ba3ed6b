//! Keeps every entity on a node that is there.
//!
//! Observe → decide → commit → act: the node that leads the group `control` watches the table,
//! what is deployed and the live set, lets [`planner`] (firmware, one by one) and [`shards`]
//! (entities of other kinds, by shard) decide, and commits the steps as log entries. Nodes act on what they see in the log; this actor never acts itself. Two leaders at
//! once do no harm, because a step names the epoch it saw and the log refuses the later one.
//!
//! What is placed on a node stays there as long as the node has its lease, whatever the failure
//! detector says of it ([`crate::store::state`]): that it is silent does not tell that it is not at
//! work. When the lease is over, the log says so, and that is a change like others.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own watcher: the store, the live set or the leadership changed, or time passed | none |
//! | `Removed` | its own task: the removal of a node that leaves has ended | none |

mod attempts;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod planner;
pub mod shards;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt as _};
use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_proto::{
    EntityKind, Name, NodeId, ReplicaId, Revision,
    store::{Command, FirmwareSpec, Outcome},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use self::{
    attempts::Attempts,
    planner::{Apart, Health, Host, Leased, Table, Wish, departures, plan},
    shards::{Weights, plan_shards, weights},
};
use crate::{
    blobs::planner::{Site, Sites, Standing, leaves_behind},
    membership::{LiveSet, MemberState},
    store::{State, StoreHandle},
};

/// How long a node that the leader has never seen alive keeps its entities, counted from the day
/// the leader took office. A restarted cluster needs about two seconds to see all of itself;
/// moving everything before that would be worse than waiting.
const UNKNOWN_GRACE: Duration = Duration::from_secs(5);

/// How long a node that answers and has no lease keeps its entities, so that all of them do not go
/// to whoever has a lease first after nobody could have any.
const LEASE_GRACE: Duration = Duration::from_secs(5);

/// How often the table is looked at when nothing changes: the grace ends without an event.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Shortest time between two looks: the store changes with every step of a plan, and a look costs time in
/// proportion to all there is.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Steps of a plan that are on their way to the log at a time: they share its fsyncs, and none of them
/// depends on another.
const COMMITS_AT_ONCE: usize = 128;

/// How long one step may take to be committed. Without a majority the plan is made anew later.
const COMMIT_DEADLINE: Duration = Duration::from_secs(2);

/// How long the removal of a node may take: two changes of the group's members and, if the node
/// leads, an election before them.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(10);

/// The actor's spec, a child of the `ClusterSupervisor`. A node that leaves goes when others have
/// its blobs, each on `copies` nodes.
#[must_use]
pub fn spec(
    store: StoreHandle,
    live: watch::Receiver<Arc<LiveSet>>,
    local: NodeId,
    copies: usize,
) -> ChildSpec {
    let (_, spec) = child("Placement", move || PlacementActor {
        store: store.clone(),
        live: live.clone(),
        local: local.clone(),
        copies,
        leading_since: None,
        without_lease: BTreeMap::new(),
        settled: None,
        removing: false,
        attempts: Attempts::default(),
    });
    spec
}

#[derive(Debug)]
enum PlacementMessage {
    Look,
    Removed,
}

struct PlacementActor {
    store: StoreHandle,
    live: watch::Receiver<Arc<LiveSet>>,
    local: NodeId,
    copies: usize,
    leading_since: Option<Instant>,
    /// Members without a lease, and since when this leader sees it.
    without_lease: BTreeMap<NodeId, Instant>,
    /// What was there when nothing had to be done, so that not every commit is a reason to look
    /// at the whole table.
    settled: Option<Sight>,
    /// Whether a node is being removed. It takes as long as it takes to know who is there, and
    /// what is lost meanwhile must not wait.
    removing: bool,
    /// Moves that have failed.
    attempts: Attempts,
}

/// All that a plan depends on.
#[derive(Clone, PartialEq)]
struct Sight {
    layout: Revision,
    live: Arc<LiveSet>,
    grace_is_over: bool,
    /// Nodes that were without a lease for so long that they are as good as down.
    given_up: BTreeSet<NodeId>,
}

impl Actor for PlacementActor {
    type Message = PlacementMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let own = ctx.handle().clone();
        let mut changes = self.store.changes();
        let mut status = self.store.status_watch();
        let mut live = self.live.clone();
        ctx.spawn(async move {
            loop {
                let change = async {
                    tokio::select! {
                        changed = changes.changed() => changed.is_ok(),
                        changed = status.changed() => changed.is_ok(),
                        changed = live.changed() => changed.is_ok(),
                    }
                };
                // A closed watch means that this node is stopping; a timeout is a turn of its own.
                if timeout(LOOK_EVERY, change).await == Ok(false) {
                    return;
                }
                if own.tell(PlacementMessage::Look).await.is_err() {
                    return;
                }
                sleep(LOOK_PAUSE).await;
            }
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: PlacementMessage,
    ) -> Result<(), ActorError> {
        match message {
            PlacementMessage::Look => self.on_look(ctx).await,
            PlacementMessage::Removed => self.removing = false,
        }
        Ok(())
    }
}

impl PlacementActor {
    async fn on_look(&mut self, ctx: &mut Context<Self>) {
        if self.store.status().leader.as_ref() != Some(&self.local) {
            (self.leading_since, self.settled) = (None, None);
            self.attempts = Attempts::default();
            self.without_lease.clear();
            return;
        }
        let since = *self.leading_since.get_or_insert_with(Instant::now);
        let given_up = self.given_up();
        let sight = Sight {
            layout: self.store.view(State::layout),
            live: self.live.borrow().clone(),
            grace_is_over: since.elapsed() >= UNKNOWN_GRACE,
            given_up,
        };
        if self.settled.as_ref() == Some(&sight) {
            return;
        }
        let attempts = &mut self.attempts;
        self.store.view(|state| attempts.look(Instant::now(), state.moves(), state.placements()));
        let (steps, gone) = self.store.view(|state| self.plan(state, &sight));
        // What a leaving node has of blobs is no part of the layout.
        let nobody_leaves = self.store.view(|state| state.leaving().is_empty());
        // What could not move is to be tried again.
        let nobody_waits = !self.attempts.is_anything_held_back(Instant::now());
        if steps.is_empty() && gone.is_empty() && nobody_leaves && nobody_waits {
            self.settled = Some(sight);
        }
        let commits = stream::iter(steps).map(|step| self.commit(step));
        commits.buffer_unordered(COMMITS_AT_ONCE).collect::<()>().await;
        if let Some(node) = gone.into_iter().next().filter(|_| !self.removing) {
            self.remove(ctx, node);
        }
    }

    /// The nodes that had no lease for too long.
    fn given_up(&mut self) -> BTreeSet<NodeId> {
        let (now, before) = (Instant::now(), std::mem::take(&mut self.without_lease));
        self.without_lease = self.store.view(|state| {
            let without = state.nodes().keys().filter(|node| !state.is_leased(node));
            let since = |node| before.get(node).copied().unwrap_or(now);
            without.map(|node| (node.clone(), since(node))).collect()
        });
        let is_long = |since: &Instant| now.duration_since(*since) >= LEASE_GRACE;
        let long = self.without_lease.iter().filter(|(_, since)| is_long(since));
        long.map(|(node, _)| node.clone()).collect()
    }

    fn remove(&mut self, ctx: &mut Context<Self>, node: NodeId) {
        self.removing = true;
        let (own, store) = (ctx.handle().clone(), self.store.clone());
        ctx.spawn(async move {
            match store.remove_node(&node, REMOVAL_DEADLINE).await {
                Ok(()) => tracing::info!(%node, "node removed"),
                Err(error) => tracing::debug!(%node, %error, "node not removed"),
            }
            // When this actor has stopped, its next life begins without a removal.
            let _ = own.tell(PlacementMessage::Removed).await;
        });
    }

    /// What to place, and whom to remove.
    fn plan(&self, state: &State, sight: &Sight) -> (Vec<Command>, Vec<NodeId>) {
        let mut hosts = hosts(state, &sight.live, &self.local, sight.grace_is_over);
        for host in hosts.iter_mut().filter(|host| sight.given_up.contains(&host.record.id)) {
            host.health = Health::Down;
        }
        let leased: Leased = state.leased().map(|(node, ..)| node.clone()).collect();
        let wishes = wishes(state, None);
        let apart = apart(state);
        let table = Table { placements: state.placements(), moves: state.moves(), apart: &apart };
        let now = Instant::now();
        let mut steps =
            plan(&wishes, table, &hosts, &leased, |entity| self.attempts.way(now, entity));
        let kinds = state.kinds().iter();
        steps.extend(kinds.filter_map(|(kind, row)| plan_shards(kind, row, &hosts, &leased)));
        let mut gone = departures(&wishes, state.placements(), state.kinds(), &hosts);
        gone.retain(|node| leaves_behind(state.blobs(), sites(&hosts), node, self.copies) == 0);
        (steps, gone)
    }

    async fn commit(&self, step: Command) {
        let text = step.to_string();
        match self.store.write(step, COMMIT_DEADLINE).await {
            Ok(Outcome::Placed { epoch, .. }) => {
                tracing::info!(step = %text, %epoch, "entity placed");
            }
            Ok(Outcome::ShardsPlaced { epoch, placed, .. }) => {
                tracing::info!(step = %text, %epoch, placed = placed.len(), "shards placed");
            }
            Ok(Outcome::Refused(reason)) => {
                tracing::debug!(step = %text, %reason, "placement overtaken");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(step = %text, %error, "placement not committed");
            }
        }
    }
}

/// The replicas that want a node: those of one firmware, or all.
#[must_use]
pub fn wishes<'a>(state: &'a State, firmware: Option<&Name>) -> Vec<Wish<'a>> {
    let wish = |(replica, spec): (ReplicaId, &'a Arc<FirmwareSpec>)| {
        Wish::of(replica.entity(), &spec.policy)
    };
    match firmware {
        Some(name) => state.replicas_of(name).map(wish).collect(),
        None => state.replicas().map(wish).collect(),
    }
}

/// What all that is deployed is to be apart from.
#[must_use]
pub fn apart(state: &State) -> Apart<'_> {
    Apart::of(state.firmware().values().map(|spec| (&spec.name, &spec.policy.apart)))
}

/// The nodes of the cluster as the planners of the node `local` see them. `grace_is_over` when a
/// node that was never seen alive is to be taken for gone.
#[must_use]
pub fn hosts<'a>(
    state: &'a State,
    live: &LiveSet,
    local: &NodeId,
    grace_is_over: bool,
) -> Vec<Host<'a>> {
    let host = |record| Host {
        record,
        health: health(live, &record.id, local, grace_is_over),
        leaving: state.leaving().contains(&record.id),
        stopping: state.is_closing(&record.id),
        draining: state.draining().contains(&record.id),
    };
    state.nodes().values().map(host).collect()
}

/// What [`shards::surplus`] weighs the nodes by, as the node `local` sees them.
#[must_use]
pub fn shard_weights(state: &State, live: &LiveSet, local: &NodeId, kind: &EntityKind) -> Weights {
    weights(kind, &hosts(state, live, local, false))
}

/// The same nodes as those who look after blobs see them.
fn sites<'a>(hosts: &[Host<'a>]) -> Sites<'a> {
    let site = |host: &Host<'a>| {
        let standing = match host.health {
            Health::Alive => Standing::Here,
            Health::Unknown => Standing::Away,
            Health::Down => Standing::Gone,
        };
        (&host.record.id, Site { record: host.record, standing, leaving: host.leaving })
    };
    hosts.iter().map(site).collect()
}

fn health(live: &LiveSet, node: &NodeId, local: &NodeId, grace_is_over: bool) -> Health {
    if node == local {
        return Health::Alive;
    }
    match live.members.get(node).map(|member| member.state) {
        Some(MemberState::Alive | MemberState::Suspect) => Health::Alive,
        Some(MemberState::Down) => Health::Down,
        None if grace_is_over => Health::Down,
        None => Health::Unknown,
    }
}
