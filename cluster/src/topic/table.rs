//! What the handles, the actor and the peers' requests share: subscriptions here, interest of
//! others, and the queues to them. One lock, held for as long as it takes to put a message into
//! queues, gives all subscribers of a node the same order.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use odeum_proto::topic::{InterestUpdate, TopicMessage, TopicReply};
use odeum_proto::{Incarnation, NodeId, TopicName, limits};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::interest::{Heard, Others, Own};
use super::order::Order;
use super::outbox::Outbox;
use super::ring::{Item, Ring};
use super::{Reach, TopicError};
use crate::membership::{LiveSet, MemberState};
use crate::transport::Links;

/// How long a message may wait for room in the queues to all peers together. A peer that does not
/// make room in that time lags, and is not waited for again before it has caught up.
const PUBLISH_WAIT: Duration = Duration::from_millis(200);

/// One topic with subscribers here.
#[derive(Debug, Default)]
struct Local {
    rings: BTreeMap<u64, Arc<Ring>>,
    order: Order,
}

#[derive(Debug)]
struct Table {
    own: Own,
    local: HashMap<TopicName, Local>,
    others: Others,
    outboxes: HashMap<NodeId, Arc<Outbox>>,
    /// Names subscriptions and rows of numbers; grows for as long as the process lives.
    next: u64,
    closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<Table>,
    pub(super) life: Incarnation,
    live: watch::Receiver<Arc<LiveSet>>,
    links: Links,
    /// Wakes the actor: the own interest has changed, or there is a new queue.
    pub(super) changed: watch::Sender<()>,
    /// The version of the own interest that each linked peer knows.
    pub(super) known: watch::Sender<BTreeMap<NodeId, u64>>,
}

impl Shared {
    pub(super) fn new(
        life: Incarnation,
        live: watch::Receiver<Arc<LiveSet>>,
        links: Links,
    ) -> Self {
        let table = Table {
            own: Own::new(life),
            local: HashMap::new(),
            others: Others::default(),
            outboxes: HashMap::new(),
            next: 1,
            closed: false,
        };
        Self {
            table: Mutex::new(table),
            life,
            live,
            links,
            changed: watch::Sender::default(),
            known: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a subscription: its number, its queue, and the version of the interest that has it.
    pub(super) fn subscribe(
        &self,
        topic: &TopicName,
        messages: usize,
    ) -> Result<(u64, Arc<Ring>, u64), TopicError> {
        let mut table = self.lock();
        if table.closed {
            return Err(TopicError::Stopped);
        }
        if table.own.len() >= limits::TOPICS && !table.local.contains_key(topic) {
            return Err(TopicError::TooManyTopics);
        }
        let id = table.number();
        let ring = Arc::new(Ring::new(messages));
        let local = table.local.entry(topic.clone()).or_default();
        local.rings.insert(id, Arc::clone(&ring));
        let is_new = table.own.set(topic, true);
        let version = table.own.version();
        drop(table);
        if is_new {
            self.changed.send_replace(());
        }
        Ok((id, ring, version))
    }

    pub(super) fn unsubscribe(&self, topic: &TopicName, id: u64) {
        let mut table = self.lock();
        let Some(local) = table.local.get_mut(topic) else { return };
        local.rings.remove(&id);
        if local.rings.is_empty() {
            table.local.remove(topic);
            table.own.set(topic, false);
            drop(table);
            self.changed.send_replace(());
        }
    }

    /// Ends all subscriptions: the node is stopping.
    pub(super) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        table.local.values().flat_map(|local| local.rings.values()).for_each(|ring| ring.close());
    }

    /// Puts a message into the queues of all subscribers here and of the peers that have some, or
    /// of `all` peers that are live. Until then it may be dropped, and has then gone nowhere.
    pub(super) async fn publish(&self, topic: &TopicName, body: &Bytes, all: bool) -> Reach {
        let until = Instant::now() + PUBLISH_WAIT;
        loop {
            let outbox = {
                let mut table = self.lock();
                let peers = self.peers(&table, topic, all);
                let outboxes: Vec<_> =
                    peers.into_iter().map(|peer| (table.outbox(&peer, self), peer)).collect();
                let crowded = outboxes.iter().find_map(|(outbox, _)| {
                    outbox.crowded().map(|room| (Arc::clone(outbox), room))
                });
                match crowded {
                    Some(crowded) => crowded,
                    None => return table.deliver(topic, body, outboxes),
                }
            };
            let (outbox, room) = outbox;
            if timeout_at(until, room).await.is_err() {
                outbox.give_up_waiting();
            }
        }
    }

    /// Whether anybody would get a message of `topic`.
    pub(super) fn is_wanted(&self, topic: &TopicName, all: bool) -> bool {
        let table = self.lock();
        table.local.contains_key(topic) || !self.peers(&table, topic, all).is_empty()
    }

    fn peers(&self, table: &Table, topic: &TopicName, all: bool) -> Vec<NodeId> {
        let live = self.live.borrow();
        // A peer that the failure detector does not know yet has only just come.
        let is_down = |peer: &NodeId| {
            live.members.get(peer).is_some_and(|member| member.state == MemberState::Down)
        };
        if all {
            return self.links.borrow().keys().filter(|peer| !is_down(peer)).cloned().collect();
        }
        table.others.of(topic).filter(|peer| !is_down(peer)).cloned().collect()
    }

    /// Takes what a peer tells of its interest.
    pub(super) fn hear(&self, from: &NodeId, update: InterestUpdate) -> TopicReply {
        let mut table = self.lock();
        match table.others.hear(from, update) {
            Heard::Known { version, ended } => {
                if let Some(outbox) = table.outboxes.get(from) {
                    ended.iter().for_each(|topic| outbox.end_row(topic));
                }
                TopicReply::Known { version }
            }
            Heard::Unknown => TopicReply::Unknown,
        }
    }

    /// Takes the messages of a peer.
    pub(super) fn take(&self, from: &NodeId, life: Incarnation, messages: Vec<TopicMessage>) {
        let mut table = self.lock();
        for TopicMessage { topic, row, number, body } in messages {
            let Some(local) = table.local.get_mut(&topic) else { continue };
            let missing = match row {
                0 => 0,
                row => match local.order.take(from, (life, row, number)) {
                    Some(missing) => missing + u64::from(body.is_none()),
                    None => continue,
                },
            };
            for ring in local.rings.values() {
                if missing > 0 {
                    ring.push(Item::Missed(missing));
                }
                if let Some(body) = &body {
                    ring.push(Item::Message(body.clone()));
                }
            }
        }
    }

    /// What a peer lacks of the own interest that knows version `known`.
    pub(super) fn since(&self, known: Option<u64>) -> InterestUpdate {
        self.lock().own.since(known)
    }

    pub(super) fn version(&self) -> u64 {
        self.lock().own.version()
    }

    /// The queues there are.
    pub(super) fn outboxes(&self) -> Vec<(NodeId, Arc<Outbox>)> {
        self.lock().outboxes.iter().map(|(peer, box_)| (peer.clone(), Arc::clone(box_))).collect()
    }

    /// Forgets all peers but those that `stay`.
    pub(super) fn retain(&self, stay: impl Fn(&NodeId) -> bool) {
        let mut table = self.lock();
        let told: Vec<_> = table.others.peers().filter(|peer| !stay(peer)).cloned().collect();
        for peer in told {
            table.others.forget(&peer);
            table.local.values_mut().for_each(|local| local.order.forget(&peer));
        }
        table.outboxes.retain(|peer, _| stay(peer));
    }
}

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn outbox(&mut self, peer: &NodeId, shared: &Shared) -> Arc<Outbox> {
        let outbox = self.outboxes.entry(peer.clone()).or_insert_with(|| {
            shared.changed.send_replace(());
            Arc::default()
        });
        Arc::clone(outbox)
    }

    fn deliver(
        &mut self,
        topic: &TopicName,
        body: &Bytes,
        outboxes: Vec<(Arc<Outbox>, NodeId)>,
    ) -> Reach {
        let row = self.number();
        let mut reach = Reach::default();
        if let Some(local) = self.local.get(topic) {
            reach.subscribers = local.rings.len();
            local.rings.values().for_each(|ring| ring.push(Item::Message(body.clone())));
        }
        for (outbox, peer) in outboxes {
            let row = self.others.wants(&peer, topic).then_some(row);
            match outbox.offer(topic, body.clone(), row) {
                true => reach.nodes += 1,
                false => reach.lagging += 1,
            }
        }
        reach
    }
}
