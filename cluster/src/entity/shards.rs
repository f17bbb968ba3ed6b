//! Keeps the table that messages are routed by, and sees to the shards of this node: that each
//! node has its share, that singletons run, that what is idle ends.
//!
//! Placing lost shards is the leader's work (`crate::placement`). Giving shards away is the
//! owner's, because only it knows which are empty and can end what is active in order.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own watcher: the store, the live set or the links changed; the hub | none |
//! | `Tick` | its own clock | none |
//! | `Lease` | its own watcher, when the lease of this node was renewed, is over, or is another | none |
//! | `Resend` | the hub, when messages came back | none |
//! | `Moved` | its own task, when shards were given away or could not be | none |
//! | `Closed` | its own task, when nothing more is placed here, or it could not be had | none |
//! | `HandOffAll` | [`EntitiesHandle::hand_off`](super::EntitiesHandle::hand_off) | when no shard is left |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context, Reply};
use odeum_proto::store::{Command, ShardMove};
use odeum_proto::{EntityKind, Epoch, NodeId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Path;
use super::handoff::{Outcome, hand_off};
use super::hub::{Hub, singleton};
use super::route::Route;
use super::table::Table;
use crate::lease::Lease;
use crate::membership::LiveSet;
use crate::placement::{shard_weights, shards::surplus};
use crate::store::StoreHandle;

/// Shortest time between two looks at the store, which changes with every message of every
/// firmware; placements change seldom.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Time between two ticks: the grain in which idleness is measured.
const TICK: Duration = Duration::from_secs(1);

/// How long it may take to say that nothing more is to be placed here. Without it, what others give
/// this node while it stops is taken over as from one that failed.
const CLOSING: Duration = Duration::from_secs(3);

/// Shards given away at a time: of one kind in one log entry.
const MOVES: usize = 64;

/// Ticks between two looks at everything there is, which costs time in proportion to it.
const LONG_TICKS: u64 = 10;

/// Ticks for which a kind is left alone whose shards could not be given away, unless the node leaves:
/// each attempt costs its entities a pause.
const REST_TICKS: u64 = 10;

/// Ticks between two attempts to even out: a node that joins is often followed by another.
const EVEN_OUT_TICKS: u64 = 2;

/// What the actor is told.
pub(super) enum ShardsMessage {
    Look,
    Tick,
    Lease,
    Resend { route: Arc<Route> },
    Moved { kind: EntityKind, outcome: Outcome },
    HandOffAll { reply: Reply<()> },
    Closed,
}

/// What the actor looks at.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) store: StoreHandle,
    pub(super) live: watch::Receiver<Arc<LiveSet>>,
    pub(super) lease: watch::Receiver<Lease>,
}

/// See the module.
pub(super) struct Shards {
    hub: Option<Arc<Hub>>,
    store: StoreHandle,
    live: watch::Receiver<Arc<LiveSet>>,
    lease: watch::Receiver<Lease>,
    ticks: u64,
    /// Kinds with shards on their way.
    moving: BTreeSet<EntityKind>,
    /// Kinds that rest, and until which tick.
    resting: BTreeMap<EntityKind, u64>,
    /// Whoever waits for the last shard to have left.
    leaving: Vec<Reply<()>>,
    is_leaving: bool,
    /// Whether others give this node nothing more.
    is_closed: bool,
}

impl Shards {
    pub(super) fn new(hub: Option<Arc<Hub>>, sources: Sources) -> Self {
        let Sources { store, live, lease } = sources;
        let (moving, resting, leaving) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Self {
            hub,
            store,
            live,
            lease,
            ticks: 0,
            moving,
            resting,
            leaving,
            is_leaving: false,
            is_closed: false,
        }
    }
}

impl Actor for Shards {
    type Message = ShardsMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let Some(hub) = self.hub.clone() else {
            return Err(ActorError::msg("started before its hub was made"));
        };
        let own = ctx.handle().clone();
        let (mut changes, mut live) = (self.store.changes(), self.live.clone());
        let mut links = hub.transport().links();
        ctx.spawn(async move {
            loop {
                let is_open = tokio::select! {
                    changed = changes.changed() => changed.is_ok(),
                    changed = live.changed() => changed.is_ok(),
                    changed = links.changed() => {
                        hub.changed();
                        changed.is_ok()
                    }
                };
                // A closed watch means that this node is stopping.
                if !is_open || own.tell(ShardsMessage::Look).await.is_err() {
                    return;
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        });
        let (own, mut lease) = (ctx.handle().clone(), self.lease.clone());
        ctx.spawn(async move {
            while lease.changed().await.is_ok() && own.tell(ShardsMessage::Lease).await.is_ok() {}
        });
        ctx.tell_every(TICK, || ShardsMessage::Tick);
        self.on_look();
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: ShardsMessage,
    ) -> Result<(), ActorError> {
        match message {
            ShardsMessage::Look => self.on_look(),
            ShardsMessage::Tick => self.on_tick(ctx),
            ShardsMessage::Lease => self.on_lease(),
            ShardsMessage::Resend { route } => self.on_resend(ctx, route),
            ShardsMessage::Moved { kind, outcome } => self.on_moved(ctx, &kind, outcome),
            ShardsMessage::HandOffAll { reply } => {
                self.leaving.push(reply);
                if !std::mem::replace(&mut self.is_leaving, true) {
                    self.close(ctx);
                }
                self.give_away(ctx);
            }
            ShardsMessage::Closed => {
                self.is_closed = true;
                self.give_away(ctx);
            }
        }
        Ok(())
    }
}

impl Shards {
    fn on_look(&mut self) {
        // What was another node's in the meantime ends before the table brings messages for what
        // is this node's again: they would end with it.
        self.on_lease();
        let Some(hub) = &self.hub else { return };
        let live = Arc::clone(&self.live.borrow());
        let table = self.store.view(|state| Table::of(state, &live));
        if hub.set_table(table) {
            self.ensure_singletons();
        } else {
            // Messages may have come before this look that wait for what it shows.
            hub.hosts().for_each(|host| host.open(false));
        }
        // A new one may have waited for what the store shows now.
        self.on_lease();
    }

    /// Brings the entities in line with the lease of this node, then has them work by it.
    fn on_lease(&self) {
        let Some(hub) = self.hub.clone() else { return };
        let lease = *self.lease.borrow();
        match lease {
            Lease::Lost => self.pause(&hub),
            Lease::Held { epoch, until } => {
                if hub.tenure().lease() == Some(epoch) || self.admit(&hub, epoch) {
                    self.work(&hub, until);
                }
            }
        }
    }

    fn pause(&self, hub: &Hub) {
        if hub.tenure().is_paused() {
            return;
        }
        hub.tenure().end();
        hub.hosts().for_each(|host| host.cut_off());
        hub.changed();
    }

    fn work(&self, hub: &Hub, until: Instant) {
        if !hub.tenure().extend(until) {
            return;
        }
        hub.hosts().for_each(|host| host.take_up(&|_| true));
        hub.changed();
        self.ensure_singletons();
    }

    /// Ends what was another node's since the last lease; whether that is known now. What was this
    /// node's all the while has the epoch of the new one, as long as nothing else is known of it.
    fn admit(&self, hub: &Hub, epoch: Epoch) -> bool {
        self.pause(hub);
        let live = Arc::clone(&self.live.borrow());
        let (shown, table) = self.store.view(|state| {
            let shown = state.lease(hub.node()).map(|lease| lease.epoch);
            (shown, Table::of(state, &live))
        });
        if shown != Some(epoch) {
            // Not here yet, or over again already.
            return false;
        }
        let is_first = hub.tenure().lease().is_none();
        for host in hub.hosts() {
            let row = table.row(&host.settings().kind);
            let kept = |shard| {
                let place = row.and_then(|row| row.shard(shard));
                let own = place.filter(|place| place.node == *hub.node());
                own.is_some_and(|place| is_first || place.epoch == epoch)
            };
            host.take_up(&kept);
        }
        hub.tenure().set_lease(epoch);
        hub.set_table(table);
        true
    }

    fn on_tick(&mut self, ctx: &mut Context<Self>) {
        self.ticks += 1;
        if let Some(hub) = &self.hub {
            let is_long = self.ticks.is_multiple_of(LONG_TICKS);
            if is_long {
                hub.forget_routes();
                hub.expire_fences();
            }
            for host in hub.hosts() {
                host.tick(is_long);
                host.open(true);
            }
        }
        self.ensure_singletons();
        if self.is_leaving || self.ticks.is_multiple_of(EVEN_OUT_TICKS) {
            self.give_away(ctx);
        }
    }

    fn on_resend(&mut self, ctx: &mut Context<Self>, route: Arc<Route>) {
        if let Some(hub) = self.hub.clone() {
            ctx.spawn(route.resend(hub));
        }
    }

    fn on_moved(&mut self, ctx: &mut Context<Self>, kind: &EntityKind, outcome: Outcome) {
        self.moving.remove(kind);
        match outcome {
            Outcome::Moved(count) => {
                tracing::info!(%kind, count, "shards moved");
                self.on_look();
                self.give_away(ctx);
            }
            Outcome::Stayed(reason) => {
                tracing::warn!(%kind, %reason, "shards not moved");
                self.resting.insert(kind.clone(), self.ticks + REST_TICKS);
            }
        }
    }

    fn ensure_singletons(&self) {
        let Some(hub) = &self.hub else { return };
        for host in hub.hosts().filter(|host| host.settings().singleton) {
            host.ensure(&Path::new(singleton(host.settings().kind.clone())));
        }
    }

    /// Has others give this node nothing more.
    fn close(&self, ctx: &mut Context<Self>) {
        let lease =
            self.hub.as_ref().and_then(|hub| Some((hub.node().clone(), hub.tenure().lease()?)));
        let (store, own) = (self.store.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            if let Some((node, epoch)) = lease {
                let close = Command::CloseLease { node, epoch };
                if let Err(error) = store.write(close, CLOSING).await {
                    tracing::warn!(%error, "others may give this node shards while it stops");
                }
            }
            let _ = own.tell(ShardsMessage::Closed).await;
        });
    }

    /// Gives away what is above this node's share; all of it when the node leaves.
    fn give_away(&mut self, ctx: &mut Context<Self>) {
        let Some(hub) = self.hub.clone() else { return };
        if !hub.tenure().holds() {
            // Nothing is active here, and nothing can end in good order. Others take it over.
            self.leaving.drain(..).for_each(|reply| reply.send(()));
            return;
        }
        let kinds: Vec<_> = hub.hosts().map(|host| host.settings().kind.clone()).collect();
        let mut left = 0;
        for kind in kinds {
            if self.moving.contains(&kind) {
                left += 1;
                continue;
            }
            let rests = self.resting.get(&kind).is_some_and(|until| self.ticks < *until);
            if rests && !self.is_leaving {
                continue;
            }
            let Moves { now: mut moves, later } = self.moves(&hub, &kind);
            moves.truncate(MOVES);
            if later || !moves.is_empty() {
                left += 1;
            }
            if moves.is_empty() {
                continue;
            }
            self.moving.insert(kind.clone());
            let (hub, store, own) = (Arc::clone(&hub), self.store.clone(), ctx.handle().clone());
            ctx.spawn(async move {
                let outcome = hand_off(&hub, &store, &kind, moves).await;
                // An actor that ends starts over.
                let _ = own.tell(ShardsMessage::Moved { kind, outcome }).await;
            });
        }
        if self.is_leaving && self.is_closed && left == 0 {
            self.leaving.drain(..).for_each(|reply| reply.send(()));
        }
    }

    fn moves(&self, hub: &Hub, kind: &EntityKind) -> Moves {
        let Some(host) = hub.host(kind) else { return Moves::default() };
        let live = Arc::clone(&self.live.borrow());
        let residents = host.residents();
        self.store.view(|state| {
            let is_leaving = self.is_leaving
                || state.leaving().contains(hub.node())
                || state.draining().contains(hub.node());
            let settings = host.settings();
            let may_end = settings.idle.is_some() || settings.movable || is_leaving;
            let Some(of_kind) = state.kinds().get(kind) else { return Moves::default() };
            let mut weights = shard_weights(state, &live, hub.node(), kind);
            if self.is_leaving {
                weights.insert(hub.node().clone(), 0);
            }
            let empty: BTreeSet<u16> =
                (0..of_kind.shards()).filter(|shard| !residents.contains_key(shard)).collect();
            let moves = surplus(of_kind, hub.node(), &weights, &empty);
            let moves = moves.into_iter().filter(|m| may_end || empty.contains(&m.shard)).collect();
            Moves::of(moves, |node| state.is_leased(node) && !state.is_closing(node))
        })
    }
}

/// What a node should give away of a kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moves {
    now: Vec<ShardMove>,
    /// Whether there is more, for nodes that have no lease at the moment. One such move would have
    /// the store refuse all that are asked for with it, after entities were ended for them.
    later: bool,
}

impl Moves {
    fn of(wanted: Vec<ShardMove>, is_leased: impl Fn(&NodeId) -> bool) -> Self {
        let all = wanted.len();
        let now: Vec<_> = wanted.into_iter().filter(|step| is_leased(&step.node)).collect();
        Self { later: now.len() < all, now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_a_node_without_a_lease_waits_and_holds_up_nothing_else() {
        let node = |name: &str| name.parse::<NodeId>().expect("valid");
        let step = |shard, to| ShardMove { shard, node: node(to), expected: Some(Epoch(1)) };
        let wanted = vec![step(0, "b"), step(1, "c"), step(2, "b")];
        let moves =
            |leased: &[&str]| Moves::of(wanted.clone(), |node| leased.contains(&node.as_str()));
        let some = Moves { now: vec![step(0, "b"), step(2, "b")], later: true };
        assert_eq!(moves(&["a", "b"]), some);
        assert_eq!(moves(&["b", "c"]), Moves { now: wanted.clone(), later: false });
        assert_eq!(moves(&[]), Moves { now: Vec::new(), later: true });
    }
}
