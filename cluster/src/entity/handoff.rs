//! Gives shards of this node to others: keeps what comes for them, lets their entities handle
//! what they have and end, sends what those of a movable kind had in memory, commits the new
//! owners, and sends on what was kept.
//!
//! Whatever fails before the commit leaves the shards here with nothing lost. After it, the table
//! alone says whose they are. When nobody knows whether it was committed, or what was in memory is
//! elsewhere already, the table is made to say that the shards are here under another epoch, before
//! anything goes on ([`frozen`](super::frozen)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::handover::{Handover, Reception as Answer};
use odeum_proto::store::{Command, Outcome as Applied, ShardMove};
use odeum_proto::{EntityKind, Epoch, NodeId, codec};
use tokio::time::{sleep, timeout};

use super::drained::Drained;
use super::frozen::Frozen;
use super::host::Host;
use super::hub::Hub;
use crate::store::StoreHandle;
use crate::transport::{Class, Serve, ServeError, Service};

/// How long the entities of the shards may take to end. Their senders wait so long.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the other node may take to have some of what was in memory.
const SEND: Duration = Duration::from_secs(10);

/// What is sent at once, in bytes, unless one entity alone has more.
const BATCH: usize = 4 << 20;

/// How long the commit may take.
const COMMIT: Duration = Duration::from_secs(3);

/// How long until the table is asked again to say that shards are here.
const RETRY: Duration = Duration::from_millis(100);

/// How long this node may take to see what was committed.
const SEEN: Duration = Duration::from_secs(5);

/// What became of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// So many shards have another owner.
    Moved(usize),
    /// They stayed; why.
    Stayed(Box<str>),
}

/// Takes what entities of shards that are to come here had in memory.
pub(super) struct Reception(pub(super) Arc<Hub>);

impl Serve for Reception {
    fn serve(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let hub = Arc::clone(&self.0);
        Box::pin(async move {
            let Handover { kind, entities } = codec::decode(&body)?;
            let taken = match hub.host(&kind) {
                Some(host) => host.receive(entities),
                None => Err(format!("it hosts no {kind}").into()),
            };
            let answer = match taken {
                Ok(()) => Answer::Taken,
                Err(reason) => Answer::Refused { reason: reason.into() },
            };
            Ok(codec::encode(&answer)?.into())
        })
    }
}

/// See the module.
pub(super) async fn hand_off(
    hub: &Arc<Hub>,
    store: &StoreHandle,
    kind: &EntityKind,
    moves: Vec<ShardMove>,
) -> Outcome {
    let Some(host) = hub.host(kind) else { return Outcome::Stayed("no such kind".into()) };
    let mut handoff = Handoff::begin(hub, store, host, kind, moves);
    match timeout(DRAIN, handoff.drained.all()).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return Outcome::Stayed(reason),
        Err(_) => {
            let reason = format!("its entities did not end within {DRAIN:?}");
            return Outcome::Stayed(reason.into());
        }
    }
    handoff.collect();
    let committed = match handoff.send().await {
        Ok(()) => handoff.commit().await,
        Err(reason) => Err(reason),
    };
    match committed {
        Ok(gone) => handoff.have_gone(&gone).await,
        Err(reason) => {
            let gone = handoff.retract().await;
            let all = gone.len() == handoff.moves.len();
            let moved = handoff.have_gone(&gone).await;
            if all { moved } else { Outcome::Stayed(reason) }
        }
    }
}

/// Shards on their way. However it ends, also when its task is aborted, they take messages again
/// then, and entities that were stopped go on where they are by the table.
struct Handoff<'a> {
    hub: &'a Arc<Hub>,
    store: &'a StoreHandle,
    host: &'a Arc<dyn Host>,
    kind: &'a EntityKind,
    moves: BTreeMap<u16, ShardMove>,
    drained: Arc<Drained>,
    /// Entities that have stopped and not gone, each with the epoch of its shard.
    frozen: Vec<(Epoch, Frozen)>,
    /// Whether some of them may be elsewhere as well: what was in memory is not to go on twice.
    sent: bool,
}

impl<'a> Handoff<'a> {
    fn begin(
        hub: &'a Arc<Hub>,
        store: &'a StoreHandle,
        host: &'a Arc<dyn Host>,
        kind: &'a EntityKind,
        moves: Vec<ShardMove>,
    ) -> Self {
        let moves: BTreeMap<_, _> = moves.into_iter().map(|step| (step.shard, step)).collect();
        let drained = host.close(&moves.keys().copied().collect());
        Self { hub, store, host, kind, moves, drained, frozen: Vec::new(), sent: false }
    }

    fn collect(&mut self) {
        let moves = &self.moves;
        let of_these = self.drained.take().into_iter();
        self.frozen.extend(of_these.filter_map(|it| Some((moves.get(&it.shard)?.expected?, it))));
    }

    fn shards(&self) -> BTreeSet<u16> {
        self.moves.keys().copied().collect()
    }

    /// Sends what was in memory to where it is to go on.
    async fn send(&mut self) -> Result<(), Box<str>> {
        let mut by_node: BTreeMap<&NodeId, Vec<(Epoch, &Frozen)>> = BTreeMap::new();
        for (epoch, frozen) in &self.frozen {
            if let Some(step) = self.moves.get(&frozen.shard) {
                by_node.entry(&step.node).or_default().push((*epoch, frozen));
            }
        }
        self.sent = !by_node.is_empty();
        for (node, entities) in by_node {
            for batch in batches(entities) {
                let entities = batch.iter().map(|(epoch, it)| it.to_wire(*epoch)).collect();
                let handover = Handover { kind: self.kind.clone(), entities };
                let transport = self.hub.transport();
                let sent = transport.call(node, Service::Handover, Class::Bulk, &handover, SEND);
                match sent.await.map_err(|error| error.to_string())? {
                    Answer::Taken => {}
                    Answer::Refused { reason } => return Err(format!("{node}: {reason}").into()),
                }
            }
        }
        Ok(())
    }

    /// The command that has all of them where `to` says.
    fn placing(&self, to: impl Fn(&ShardMove) -> NodeId) -> Command {
        let step = |step: &ShardMove| ShardMove { node: to(step), ..step.clone() };
        let moves = self.moves.values().map(step).collect();
        Command::PlaceShards { kind: self.kind.clone(), moves }
    }

    /// Has the table say that they are elsewhere: which are.
    async fn commit(&self) -> Result<BTreeSet<u16>, Box<str>> {
        match self.store.write(self.placing(|step| step.node.clone()), COMMIT).await {
            Ok(Applied::ShardsPlaced { placed, .. }) => Ok(placed.into_iter().collect()),
            Ok(Applied::Refused(refusal)) => Err(refusal.to_string().into()),
            Ok(other) => Err(format!("{other:?}").into()),
            // It may have been committed all the same.
            Err(error) => Err(error.to_string().into()),
        }
    }

    /// Has the table say that they are here, so that they are nowhere else whatever was asked for
    /// before; which are elsewhere all the same.
    async fn retract(&self) -> BTreeSet<u16> {
        while self.sent && self.hub.tenure().holds() {
            let here = self.placing(|_| self.hub.node().clone());
            match self.store.write(here, COMMIT).await {
                // Refused, each of them has an epoch by now that was not expected.
                Ok(Applied::ShardsPlaced { .. } | Applied::Refused(_)) => break,
                Ok(_) | Err(_) => sleep(RETRY).await,
            }
        }
        // The table is asked before it is believed.
        let _ = self.store.barrier(COMMIT).await;
        self.hub.nudge();
        self.store.view(|state| {
            let row = state.kinds().get(self.kind);
            let is_elsewhere = |shard: &u16| {
                let place = row.and_then(|row| row.shard(*shard));
                place.is_none_or(|place| place.node != *self.hub.node())
            };
            self.moves.keys().copied().filter(is_elsewhere).collect()
        })
    }

    async fn have_gone(mut self, gone: &BTreeSet<u16>) -> Outcome {
        self.frozen.retain(|(_, frozen)| !gone.contains(&frozen.shard));
        if !gone.is_empty() && timeout(SEEN, has_left(self.hub, self.kind, gone)).await.is_err() {
            tracing::warn!(kind = %self.kind, "a move is committed and not seen here");
        }
        Outcome::Moved(gone.len())
    }
}

impl Drop for Handoff<'_> {
    fn drop(&mut self) {
        self.collect();
        for (epoch, frozen) in self.frozen.drain(..) {
            self.host.put_back(epoch, frozen);
        }
        self.host.reopen(&self.shards());
        self.hub.changed();
        self.host.welcome();
    }
}

/// Runs of entities that are sent at once.
fn batches(entities: Vec<(Epoch, &Frozen)>) -> Vec<Vec<(Epoch, &Frozen)>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut left = 0;
    for (epoch, frozen) in entities {
        match batches.last_mut().filter(|_| frozen.weight() <= left) {
            Some(batch) => {
                left -= frozen.weight();
                batch.push((epoch, frozen));
            }
            None => {
                left = BATCH.saturating_sub(frozen.weight());
                batches.push(vec![(epoch, frozen)]);
            }
        }
    }
    batches
}

/// Waits until the table of this node shows none of these shards here.
async fn has_left(hub: &Arc<Hub>, kind: &EntityKind, shards: &BTreeSet<u16>) {
    let mut changes = hub.changes();
    loop {
        changes.mark_unchanged();
        let table = hub.table();
        let left = table.row(kind).is_none_or(|row| {
            shards.iter().all(|shard| {
                row.shard(*shard).is_none_or(|placement| placement.node != *hub.node())
            })
        });
        drop(table);
        if left || changes.changed().await.is_err() {
            return;
        }
    }
}
