//! Keeps the address book in step with the store, and lets new nodes in.
//!
//! The store's node records are the one truth about who belongs to the cluster and where each
//! node listens. This actor carries them to the transport, and writes this node's own record when
//! it is not what it should be: after a start, with a new incarnation or new ports. When all nodes
//! were started again under new addresses, nobody is where the store says and no address can be
//! written: then members are looked for where this node was told to join.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own watcher: the store changed, or time passed | none |

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_proto::{
    ClusterId, NodeId, codec,
    join::{JoinReply, JoinRequest},
    store::{Command, NodeRecord, Outcome, Refusal},
};
use tokio::time::timeout;

use crate::{
    store::{StoreError, StoreHandle},
    transport::{Class, Serve, ServeError, Service, TransportError, TransportHandle},
};

/// How often the own record is checked when nothing changes, so that a registration which failed
/// for want of a leader is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long one registration may wait for a leader before the next look.
const REGISTER_DEADLINE: Duration = Duration::from_secs(2);

/// How long the leader may take to admit a node: it sends it the log or a snapshot first.
const ADMIT_DEADLINE: Duration = Duration::from_secs(20);

/// How long one question to a member may take before it is asked again.
const ASK_DEADLINE: Duration = Duration::from_secs(25);

/// How long one attempt to reach a member may take.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// How long one attempt to reach a place to join by may take when the cluster was known before.
const FIND_DEADLINE: Duration = Duration::from_secs(1);

/// How long a node that is back may wait to hear that a place it was to join by belongs to
/// another cluster: as long as a dial takes on a busy machine, for it delays the start.
const STRANGER_DEADLINE: Duration = Duration::from_secs(1);

/// Pause before a member that could not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The actor's spec, a child of the `ClusterSupervisor`. `record` is this node's own; `places` are
/// where members may be found when none is where the store says, each `HOST:PORT`.
#[must_use]
pub fn spec(
    store: StoreHandle,
    transport: TransportHandle,
    record: NodeRecord,
    places: Vec<String>,
) -> ChildSpec {
    let (_, spec) = child("Roster", move || RosterActor {
        store: store.clone(),
        transport: transport.clone(),
        record: record.clone(),
        places: places.clone(),
    });
    spec
}

#[derive(Debug)]
enum RosterMessage {
    Look,
}

struct RosterActor {
    store: StoreHandle,
    transport: TransportHandle,
    record: NodeRecord,
    places: Vec<String>,
}

impl Actor for RosterActor {
    type Message = RosterMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let own = ctx.handle().clone();
        let mut changes = self.store.changes();
        ctx.spawn(async move {
            // A closed watch means that this node is stopping; a timeout is a turn of its own.
            while !matches!(timeout(LOOK_EVERY, changes.changed()).await, Ok(Err(_))) {
                if own.tell(RosterMessage::Look).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        _ctx: &mut Context<Self>,
        message: RosterMessage,
    ) -> Result<(), ActorError> {
        match message {
            RosterMessage::Look => self.on_look().await,
        }
    }
}

impl RosterActor {
    async fn on_look(&mut self) -> Result<(), ActorError> {
        let (book, registered) = self.store.view(|state| {
            let others = state.nodes().values().filter(|node| node.id != self.record.id);
            let book: BTreeMap<_, _> =
                others.map(|node| (node.id.clone(), node.cluster_addr)).collect();
            (book, state.nodes().get(&self.record.id).cloned())
        });
        // An empty book would cut the links of a node that is just joining.
        if !book.is_empty() {
            self.transport.set_peers(book);
        }
        if self.is_lonely() {
            self.find_members().await;
        }
        // Before it is admitted a node has no record, and must not make one: only `Admit` may.
        if registered.is_some_and(|known| known != self.record) {
            self.register().await?;
        }
        Ok(())
    }

    /// Whether this node belongs to a group and has links to less than a majority of it.
    fn is_lonely(&self) -> bool {
        let voters = self.store.status().members.iter().filter(|member| member.voter).count();
        let linked = 1 + self.transport.links().borrow().len();
        !self.places.is_empty() && voters > 0 && linked < voters / 2 + 1
    }

    async fn find_members(&self) {
        for place in &self.places {
            let Ok(addresses) = tokio::net::lookup_host(place).await else { continue };
            for addr in addresses {
                // The link is all that is wanted; the store does the rest over it.
                match self.transport.dial(addr, FIND_DEADLINE).await {
                    Ok(peer) => tracing::info!(%peer, %addr, "member found"),
                    Err(error) => tracing::debug!(%addr, %error, "no member found"),
                }
            }
        }
    }

    async fn register(&self) -> Result<(), ActorError> {
        let command = Command::PutNode(self.record.clone());
        match self.store.write(command, REGISTER_DEADLINE).await {
            Ok(Outcome::Refused(reason @ Refusal::UnknownNode { .. })) => {
                // It was removed; `crate::departure` is about to find out.
                tracing::warn!(node = %self.record.id, %reason, "registration refused");
                Ok(())
            }
            Ok(Outcome::Refused(reason)) => {
                // A later start of this node, or another disk under its name, is in the cluster.
                tracing::error!(node = %self.record.id, %reason, "registration refused");
                Err(ActorError::from(reason))
            }
            Ok(_) => {
                tracing::info!(node = %self.record.id, incarnation = %self.record.incarnation, "node registered");
                Ok(())
            }
            Err(error) => {
                tracing::debug!(node = %self.record.id, %error, "registration waits for a leader");
                Ok(())
            }
        }
    }
}

/// Answers nodes that want to join.
#[derive(Debug)]
pub struct Gate {
    store: StoreHandle,
}

impl Gate {
    /// The gate of this node.
    #[must_use]
    pub fn new(store: StoreHandle) -> Self {
        Self { store }
    }
}

impl Serve for Gate {
    fn serve(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let store = self.store.clone();
        Box::pin(async move {
            let reply = match codec::decode(&body)? {
                JoinRequest::Roster => roster(&store),
                JoinRequest::Admit(record) => admit(&store, &from, record).await,
            };
            Ok(codec::encode(&reply)?.into())
        })
    }
}

fn roster(store: &StoreHandle) -> JoinReply {
    store.view(|state| match state.cluster() {
        Some(cluster) => JoinReply::Roster {
            cluster,
            at: state.layout(),
            nodes: state.nodes().values().cloned().collect(),
        },
        None => JoinReply::Later { reason: "this node is itself still joining".into() },
    })
}

async fn admit(store: &StoreHandle, from: &NodeId, record: NodeRecord) -> JoinReply {
    if record.id != *from {
        let reason = format!("{from} cannot register {}", record.id).into();
        return JoinReply::Later { reason };
    }
    match store.admit(record, ADMIT_DEADLINE).await {
        Ok(()) => JoinReply::Admitted,
        Err(StoreError::Refused(reason)) => JoinReply::Refused(reason),
        Err(error) => JoinReply::Later { reason: error.to_string().into() },
    }
}

/// Why a node did not become a member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A place to join by is no `HOST:PORT`, or its host has no address. Correct it.
    #[error("cannot join by {place:?}: {reason}; expected the HOST:PORT of a member")]
    Address {
        /// What was given.
        place: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// Nobody at any address, or somebody who refuses us: another authority, another wire
    /// version, another cluster. Correct what it names.
    #[error("cannot join by {place}: {source}")]
    Transport {
        /// The place given.
        place: Box<str>,
        /// What happened there.
        source: TransportError,
    },
    /// The cluster will not have this node. Correct what it names.
    #[error("{member} refused this node: {reason}")]
    Refused {
        /// Who said so.
        member: NodeId,
        /// Why.
        reason: Refusal,
    },
    /// The member answered, but could not admit this node in time: no majority, most likely.
    #[error("{member} could not admit this node within {waited:?}: {reason}")]
    Late {
        /// Who said so.
        member: NodeId,
        /// How long was tried.
        waited: Duration,
        /// The last reason.
        reason: Box<str>,
    },
}

/// Joins the cluster of whoever answers first at `places` (each `HOST:PORT`): learns its identity
/// and roster, calls `learnt` with the identity (to record it before anything of the cluster
/// reaches the disk), and is admitted.
///
/// # Errors
/// [`JoinError`] at once when waiting cannot mend it, else after `patience`.
pub async fn join<E: From<JoinError>>(
    transport: &TransportHandle,
    places: &[String],
    record: NodeRecord,
    patience: Duration,
    learnt: impl FnOnce(ClusterId) -> Result<(), E>,
) -> Result<(), E> {
    let start = Instant::now();
    let left = || patience.saturating_sub(start.elapsed());
    let mut member = find_member(transport, places, start + patience).await?;
    let mut learnt = Some(learnt);
    let mut last: Box<str> = "no answer".into();
    while !left().is_zero() {
        let request = match &learnt {
            Some(_) => JoinRequest::Roster,
            None => JoinRequest::Admit(record.clone()),
        };
        match ask(transport, &member, &request, left().min(ASK_DEADLINE)).await {
            Ok(JoinReply::Roster { cluster, nodes, .. }) => {
                if let Some(learnt) = learnt.take() {
                    learnt(cluster)?;
                }
                let others = nodes.into_iter().filter(|node| node.id != record.id);
                transport.set_peers(others.map(|node| (node.id, node.cluster_addr)).collect());
                continue;
            }
            Ok(JoinReply::Admitted) => return Ok(()),
            Ok(JoinReply::Refused(reason)) => {
                return Err(JoinError::Refused { member, reason }.into());
            }
            Ok(JoinReply::Later { reason }) => last = reason,
            // The link was lost before this node knew where anybody is. That happens when it has
            // the address of a node that has left: the others still dial that one, and close what
            // they find.
            Err(error @ TransportError::Unknown { .. }) => {
                last = error.to_string().into();
                match find_member(transport, places, start + patience).await {
                    Ok(found) => member = found,
                    // A name that was found before will be found again.
                    Err(error @ JoinError::Address { .. }) => last = error.to_string().into(),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) if error.is_retryable() => last = error.to_string().into(),
            Err(source) => {
                return Err(JoinError::Transport { place: member.as_str().into(), source }.into());
            }
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Err(JoinError::Late { member, waited: patience, reason: last }.into())
}

/// The first member that answers at one of `places`, each asked in turn.
async fn find_member(
    transport: &TransportHandle,
    places: &[String],
    until: Instant,
) -> Result<NodeId, JoinError> {
    let mut told = false;
    for place in places.iter().cycle() {
        let address = |reason: &dyn std::fmt::Display| JoinError::Address {
            place: place.as_str().into(),
            reason: reason.to_string().into(),
        };
        let addresses = tokio::net::lookup_host(place).await.map_err(|error| address(&error))?;
        let mut last = address(&"its host has no address");
        for at in addresses {
            let deadline = until.saturating_duration_since(Instant::now()).min(DIAL_DEADLINE);
            match transport.dial(at, deadline).await {
                Ok(member) => return Ok(member),
                Err(source) => {
                    let final_word = !source.is_retryable();
                    last = JoinError::Transport { place: place.as_str().into(), source };
                    if final_word {
                        return Err(last);
                    }
                }
            }
        }
        if Instant::now() >= until {
            return Err(last);
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!(%place, error = %last, "waiting for a member to join by");
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Err(JoinError::Address { place: "".into(), reason: "no place to join by was given".into() })
}

/// The refusal of the first of `places` that belongs to another cluster than this node, if one
/// does. Members at `known` addresses are not asked. Silence is no refusal: when a whole cluster
/// starts again, nobody else is there at first.
pub async fn stranger(
    transport: &TransportHandle,
    places: &[String],
    known: &BTreeSet<SocketAddr>,
) -> Option<TransportError> {
    let asked = places.iter().map(async |place| {
        // What has no address now is looked up again when it is needed.
        let addresses = tokio::net::lookup_host(place).await.ok()?;
        for address in addresses.filter(|address| !known.contains(address)) {
            let dialled = transport.dial(address, STRANGER_DEADLINE).await;
            if let Err(error @ TransportError::OtherCluster { .. }) = dialled {
                return Some(error);
            }
        }
        None
    });
    futures::future::join_all(asked).await.into_iter().flatten().next()
}

async fn ask(
    transport: &TransportHandle,
    member: &NodeId,
    request: &JoinRequest,
    deadline: Duration,
) -> Result<JoinReply, TransportError> {
    transport.call(member, Service::Join, Class::Lane, request, deadline).await
}
