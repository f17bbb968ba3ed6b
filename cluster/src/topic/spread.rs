//! Tells the peers what this node has subscribers of, and sends them what is published.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own watcher: interest, links or the live set changed; its clock | none |
//! | `Confirm` | its clock | none |
//! | `Told` | its own task, with a peer's answer | none |

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use odeum_actors::{Actor, ActorError, Context};
use odeum_proto::topic::{TopicReply, TopicRequest};
use odeum_proto::{NodeId, codec};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::outbox::Outbox;
use super::table::Shared;
use crate::membership::{LiveSet, MemberState};
use crate::transport::{Class, Request, Service, TransportError, TransportHandle};

/// How long a peer may take to answer. It does nothing but fill queues.
const DEADLINE: Duration = Duration::from_secs(5);

/// Batches under way to a peer: the next one is on its way while the last is answered.
const WINDOW: usize = 4;

/// One row of requests for all that is about topics, so that the transport keeps their order.
const KEY: u64 = 3;

/// Updates with more bytes go by the bulk class, so that no message waits behind them.
const LARGE: usize = 256 << 10;

/// How often every peer is told again which version it should know: one that has forgotten this
/// node, because it had given it up, then asks for all.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);

/// Pause before a peer that did not answer is told again.
const RETRY: Duration = Duration::from_millis(200);

/// What the actor is told.
#[derive(Debug)]
pub(super) enum SpreadMessage {
    Look,
    Confirm,
    Told {
        peer: NodeId,
        /// Over which link.
        generation: u64,
        reply: Result<TopicReply, TransportError>,
    },
}

/// What a linked peer was told.
#[derive(Debug)]
struct Told {
    generation: u64,
    /// The version it knows.
    known: Option<u64>,
    /// An update is under way.
    under_way: bool,
    /// It is to be told even when it knows all.
    confirm: bool,
}

/// The actor.
pub(super) struct Spread {
    pub(super) shared: Arc<Shared>,
    pub(super) transport: TransportHandle,
    pub(super) live: watch::Receiver<Arc<LiveSet>>,
    told: BTreeMap<NodeId, Told>,
    senders: BTreeMap<NodeId, AbortHandle>,
}

impl Actor for Spread {
    type Message = SpreadMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let me = ctx.handle().clone();
        let mut changed = self.shared.changed.subscribe();
        let (mut links, mut live) = (self.transport.links(), self.live.clone());
        ctx.spawn(async move {
            loop {
                if me.tell(SpreadMessage::Look).await.is_err() {
                    return;
                }
                let change = tokio::select! {
                    change = changed.changed() => change,
                    change = links.changed() => change,
                    change = live.changed() => change,
                };
                // The node is stopping.
                if change.is_err() {
                    return;
                }
            }
        });
        ctx.tell_every(CONFIRM_EVERY, || SpreadMessage::Confirm);
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: SpreadMessage,
    ) -> Result<(), ActorError> {
        match message {
            SpreadMessage::Look => self.on_look(ctx),
            SpreadMessage::Confirm => {
                self.told.values_mut().for_each(|told| told.confirm = true);
                self.on_look(ctx);
            }
            SpreadMessage::Told { peer, generation, reply } => {
                self.on_told(ctx, peer, generation, reply);
            }
        }
        Ok(())
    }
}

impl Spread {
    pub(super) fn new(
        shared: Arc<Shared>,
        transport: TransportHandle,
        live: watch::Receiver<Arc<LiveSet>>,
    ) -> Self {
        Self { shared, transport, live, told: BTreeMap::new(), senders: BTreeMap::new() }
    }

    fn on_look(&mut self, ctx: &mut Context<Self>) {
        let links = Arc::clone(&self.transport.links().borrow());
        let book = self.transport.peers();
        self.shared.retain(|peer| links.contains_key(peer) || book.contains_key(peer));
        self.told.retain(|peer, _| links.contains_key(peer));
        for (peer, link) in links.iter() {
            let generation = link.generation;
            if self.told.get(peer).is_none_or(|told| told.generation != generation) {
                let told = Told { generation, known: None, under_way: false, confirm: true };
                self.told.insert(peer.clone(), told);
            }
            self.tell(ctx, peer);
        }
        self.publish_known();
        self.tend_senders(ctx);
    }

    /// Tells a peer what it lacks, if it lacks something and is not being told already.
    fn tell(&mut self, ctx: &mut Context<Self>, peer: &NodeId) {
        let Some(told) = self.told.get_mut(peer) else { return };
        let lacks = told.confirm || told.known != Some(self.shared.version());
        if told.under_way || !lacks {
            return;
        }
        (told.under_way, told.confirm) = (true, false);
        let request = TopicRequest::Interest(self.shared.since(told.known));
        let (transport, peer, generation) = (self.transport.clone(), peer.clone(), told.generation);
        let me = ctx.handle().clone();
        ctx.spawn(async move {
            let reply = send(&transport, &peer, &request).await;
            // An actor that is stopping tells the peers anew in its next life.
            let _ = me.tell(SpreadMessage::Told { peer, generation, reply }).await;
        });
    }

    fn on_told(
        &mut self,
        ctx: &mut Context<Self>,
        peer: NodeId,
        generation: u64,
        reply: Result<TopicReply, TransportError>,
    ) {
        let Some(told) = self.told.get_mut(&peer).filter(|told| told.generation == generation)
        else {
            return;
        };
        told.under_way = false;
        match reply {
            Ok(TopicReply::Known { version }) => told.known = Some(version),
            Ok(_) => (told.known, told.confirm) = (None, true),
            Err(error) => {
                tracing::debug!(%peer, %error, "interest in topics not told");
                told.known = None;
                ctx.tell_after(RETRY, SpreadMessage::Look);
                return;
            }
        }
        self.publish_known();
        self.tell(ctx, &peer);
    }

    fn publish_known(&self) {
        let known = self.told.iter().filter_map(|(peer, told)| Some((peer.clone(), told.known?)));
        let known: BTreeMap<_, _> = known.collect();
        self.shared.known.send_if_modified(|before| {
            let changed = *before != known;
            *before = known;
            changed
        });
    }

    /// Gives every queue its sender, and takes it from those that are gone.
    fn tend_senders(&mut self, ctx: &mut Context<Self>) {
        let outboxes: BTreeMap<_, _> = self.shared.outboxes().into_iter().collect();
        self.senders.retain(|peer, sender| {
            let stays = outboxes.contains_key(peer) && !sender.is_finished();
            if !stays {
                sender.abort();
            }
            stays
        });
        let live = Arc::clone(&self.live.borrow());
        for (peer, outbox) in outboxes {
            if live.members.get(&peer).is_some_and(|member| member.state == MemberState::Down) {
                outbox.clear();
            }
            if !self.senders.contains_key(&peer) {
                let sending = send_all(
                    Arc::clone(&self.shared),
                    self.transport.clone(),
                    peer.clone(),
                    outbox,
                );
                self.senders.insert(peer, ctx.spawn(sending));
            }
        }
    }
}

/// Sends what comes into a queue, a few batches at a time, while there is a link.
async fn send_all(
    shared: Arc<Shared>,
    transport: TransportHandle,
    peer: NodeId,
    outbox: Arc<Outbox>,
) {
    let mut links = transport.links();
    let mut under_way = FuturesUnordered::new();
    loop {
        let is_busy = under_way.len() >= WINDOW;
        let next = async {
            if is_busy {
                pending::<()>().await;
            }
            // An error means that the node is stopping; this task ends with its actor.
            let _ = links.wait_for(|links| links.contains_key(&peer)).await;
            outbox.batch().await
        };
        tokio::select! {
            biased;
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            messages = next => {
                let (transport, peer, outbox) = (&transport, &peer, &outbox);
                let life = shared.life;
                under_way.push(async move {
                    let marks: Vec<_> =
                        messages.iter().map(|m| (m.topic.clone(), m.row, m.number)).collect();
                    let request = TopicRequest::Publish { life, messages };
                    let reply = send(transport, peer, &request).await;
                    if !matches!(reply, Ok(TopicReply::Taken)) {
                        tracing::debug!(%peer, ?reply, "messages of topics lost");
                        outbox.lost(marks);
                    }
                });
            }
        }
    }
}

async fn send(
    transport: &TransportHandle,
    peer: &NodeId,
    request: &TopicRequest,
) -> Result<TopicReply, TransportError> {
    let body = Bytes::from(codec::encode(request)?);
    let is_large = matches!(request, TopicRequest::Interest(_)) && body.len() > LARGE;
    let class = if is_large { Class::Bulk } else { Class::Lane };
    let request = Request { service: Service::Topic, class, key: KEY, body, deadline: DEADLINE };
    let answer = transport.send(peer, request).await?;
    codec::decode(&answer).map_err(|error| TransportError::Answer { peer: peer.clone(), error })
}
