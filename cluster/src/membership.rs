//! Who is there: SWIM over the datagrams of the links, published as the [`LiveSet`].
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Datagram` | the transport | |
//! | `Rang` | its own timers | |
//! | `Greet` | its own clock, and the transport when a link comes up | |
//! | `Measure` | its own clock | |
//!
//! Promises: a killed node is down within 2 s with the default settings (see
//! [`MembershipConfig`]); one that pauses for a second, or loses every twentieth packet, is not
//! declared down, nor is anybody by a node that has paused itself; one that was declared down and
//! lives comes back by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_proto::{Incarnation, NodeId};
use tokio::sync::watch;

use crate::transport::TransportHandle;

mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod identity;
mod load;
mod swim;
mod vigil;

use identity::Identity;
use load::{LoadBook, Residents};
use swim::{Effects, Swim, Timer};

pub use config::MembershipConfig;
pub use load::Loads;
pub use swim::MemberState;

/// How often peers that are linked but no members are greeted.
const GREET_PERIOD: Duration = Duration::from_millis(500);

/// Datagrams and timers that wait: some seconds of a large cluster's traffic. Beyond that
/// datagrams are dropped, as a network would.
const MAILBOX: usize = 4_096;

/// A node as the failure detector sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its start.
    pub incarnation: Incarnation,
    /// Whether it answers.
    pub state: MemberState,
    /// Since when this node sees it so.
    pub since: Instant,
}

/// All nodes the failure detector knows, this one included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveSet {
    /// By name.
    pub members: BTreeMap<NodeId, Member>,
}

impl LiveSet {
    /// Whether `node` is to be counted on: alive, or suspect and not yet given up.
    #[must_use]
    pub fn is_live(&self, node: &NodeId) -> bool {
        self.members.get(node).is_some_and(|member| member.state != MemberState::Down)
    }

    /// The nodes to be counted on.
    pub fn live(&self) -> impl Iterator<Item = &NodeId> {
        self.members
            .iter()
            .filter(|(_, member)| member.state != MemberState::Down)
            .map(|(node, _)| node)
    }

    /// What follows when the detector sees `seen` at `now`; `None` when nothing changed.
    fn next<'a>(
        &self,
        seen: impl Iterator<Item = (&'a NodeId, Incarnation, MemberState)>,
        now: Instant,
    ) -> Option<Self> {
        let members: BTreeMap<_, _> = seen
            .map(|(node, incarnation, state)| {
                let before = self.members.get(node);
                let since = before
                    .filter(|m| m.incarnation == incarnation && m.state == state)
                    .map_or(now, |m| m.since);
                (node.clone(), Member { incarnation, state, since })
            })
            .collect();
        (members != self.members).then_some(Self { members })
    }
}

/// Reads the live set. Cheap to clone; valid across restarts of the actor behind it.
#[derive(Debug, Clone)]
pub struct MembershipHandle {
    live: watch::Receiver<Arc<LiveSet>>,
    loads: watch::Receiver<Arc<Loads>>,
    residents: Residents,
}

impl MembershipHandle {
    /// The live set, and a wake-up when it changes.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Arc<LiveSet>> {
        self.live.clone()
    }

    /// The live set now.
    #[must_use]
    pub fn now(&self) -> Arc<LiveSet> {
        Arc::clone(&self.live.borrow())
    }

    /// How busy the live nodes are, as they said within the last seconds.
    #[must_use]
    pub fn loads(&self) -> watch::Receiver<Arc<Loads>> {
        self.loads.clone()
    }

    /// Sets who knows how many entities are active on this node, for its peers to be told. Asked
    /// once a second by the failure detector, so it must be quick. Only the first call counts.
    pub fn count_residents(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        self.residents.count_by(count);
    }
}

/// The membership of this node, and the actor that keeps it.
#[must_use]
pub fn membership(
    config: MembershipConfig,
    transport: TransportHandle,
) -> (MembershipHandle, ChildSpec) {
    let (publish, live) = watch::channel(Arc::default());
    let publish = Arc::new(publish);
    let (publish_loads, loads) = watch::channel(Arc::default());
    let publish_loads = Arc::new(publish_loads);
    let residents = Residents::default();
    let renewal = Arc::new(AtomicU32::new(0));
    let counted = residents.clone();
    let make = move || Membership {
        swim: Swim::new(identity(&transport, &renewal), &config, rand::random()),
        loads: LoadBook::new(counted.clone(), Arc::clone(&publish_loads)),
        transport: transport.clone(),
        publish: Arc::clone(&publish),
        renewal: Arc::clone(&renewal),
    };
    let (_, spec) = child("Membership", make);
    (MembershipHandle { live, loads, residents }, spec.capacity(MAILBOX))
}

/// The identity of the next life of the actor: later than those before it.
fn identity(transport: &TransportHandle, renewal: &AtomicU32) -> Identity {
    Identity {
        node: transport.local().clone(),
        incarnation: transport.incarnation(),
        renewal: renewal.load(Ordering::Relaxed),
    }
}

/// What the membership is told.
enum MembershipMessage {
    /// A packet came.
    Datagram {
        /// Over the link to whom.
        from: NodeId,
        /// The packet.
        bytes: Bytes,
    },
    /// A timer of the detector rang.
    Rang(Timer),
    /// Time to announce this node to linked peers that are no members.
    Greet,
    /// Time to measure this node's load and tell it.
    Measure,
}

/// The actor.
struct Membership {
    swim: Swim,
    loads: LoadBook,
    transport: TransportHandle,
    publish: Arc<watch::Sender<Arc<LiveSet>>>,
    renewal: Arc<AtomicU32>,
}

impl Actor for Membership {
    type Message = MembershipMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let me = ctx.handle().clone();
        self.transport.on_datagram(Arc::new(move |from, bytes| {
            // A full mailbox drops the packet: the detector takes it for a lost one.
            let _ = me.try_tell(MembershipMessage::Datagram { from: from.clone(), bytes });
        }));
        let (mut links, me) = (self.transport.links(), ctx.handle().clone());
        ctx.spawn(async move {
            while links.changed().await.is_ok() {
                if me.tell(MembershipMessage::Greet).await.is_err() {
                    return;
                }
            }
        });
        ctx.tell_every(GREET_PERIOD, || MembershipMessage::Greet);
        ctx.tell_every(load::PERIOD, || MembershipMessage::Measure);
        self.on_greet(ctx);
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: MembershipMessage,
    ) -> Result<(), ActorError> {
        match message {
            MembershipMessage::Datagram { from, bytes } => self.on_datagram(ctx, &from, &bytes),
            MembershipMessage::Rang(timer) => {
                let effects = self.swim.rang(timer, Instant::now());
                self.carry_out(ctx, effects);
            }
            MembershipMessage::Greet => self.on_greet(ctx),
            MembershipMessage::Measure => self.on_measure(),
        }
        Ok(())
    }

    async fn stopping(&mut self, ctx: &mut Context<Self>) {
        let effects = self.swim.leave(Instant::now());
        // A later life of this actor must not come back as the one that left.
        self.renewal.fetch_add(1, Ordering::Relaxed);
        self.carry_out(ctx, effects);
        self.transport.flush_datagrams().await;
    }
}

impl Membership {
    fn on_datagram(&mut self, ctx: &mut Context<Self>, from: &NodeId, bytes: &[u8]) {
        if self.loads.receive(from, bytes) {
            return;
        }
        let book = self.transport.peers();
        let known = |node: &NodeId| book.contains_key(node) || self.transport.link(node).is_some();
        match self.swim.receive(from, bytes, known, Instant::now()) {
            Ok(effects) => self.carry_out(ctx, effects),
            Err(error) => tracing::debug!(peer = %from, %error, "packet refused"),
        }
    }

    fn on_greet(&mut self, ctx: &mut Context<Self>) {
        let (links, book) = (self.transport.links(), self.transport.peers());
        let links = Arc::clone(&links.borrow());
        for (peer, link) in links.iter().filter(|(peer, _)| book.contains_key(*peer)) {
            let known = self.swim.members().any(|(node, incarnation, state)| {
                node == peer && incarnation >= link.incarnation && state != MemberState::Down
            });
            if !known {
                let effects = self.swim.announce(peer, link.incarnation, Instant::now());
                self.carry_out(ctx, effects);
            }
        }
        self.publish();
    }

    fn on_measure(&mut self) {
        let live = Arc::clone(&self.publish.borrow());
        let told = self.loads.measure(self.transport.local(), |node| live.is_live(node));
        let links = Arc::clone(&self.transport.links().borrow());
        for (peer, told) in told.iter().flat_map(|told| links.keys().map(move |peer| (peer, told)))
        {
            self.transport.send_datagram(peer, told.clone());
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>, effects: Effects) {
        for (to, packet) in effects.send {
            self.transport.send_datagram(&to, packet);
        }
        for (after, timer) in effects.timers {
            ctx.tell_after(after, MembershipMessage::Rang(timer));
        }
        for node in effects.down {
            tracing::info!(node = %self.transport.local(), peer = %node, "member down");
            self.transport.give_up(&node, "the failure detector gave it up");
        }
        self.publish();
    }

    fn publish(&mut self) {
        let own = self.swim.identity();
        self.renewal.fetch_max(own.renewal, Ordering::Relaxed);
        let me = (&own.node, own.incarnation, MemberState::Alive);
        let seen = self.swim.members().filter(|(node, ..)| *node != me.0);
        let next = self.publish.borrow().next(std::iter::once(me).chain(seen), Instant::now());
        if let Some(next) = next {
            self.publish.send_replace(Arc::new(next));
        }
    }
}

#[cfg(test)]
mod tests;
