//! ractor_cluster's session with each peer, over one stream of the link: process groups and
//! remote references of the few actors that are remotable. This is the only file that knows
//! ractor_cluster.
//!
//! ractor_cluster mirrors every remotable actor to every peer, never times a silent peer out,
//! does not reconnect and binds a plaintext TCP port. So it is confined: its node server is
//! replaced by `Sessions`, which opens no port and dials nobody; streams come from the links,
//! which notice a dead peer; and what is remotable is one unnamed `Gateway` per node.
//!
//! | message of `ControlPlane` | from | answer |
//! |---|---|---|
//! | `Tend` | the transport, when a link changes, and its own clock | |
//! | `Opened` | its own task | |
//! | `Offered` | the transport, when a peer opens a control stream | |
//! | `Ended` | its own watch over the ractor actors | |

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_proto::NodeId;
use odeum_proto::codec::{self, DecodeError};
use odeum_proto::wire::{NodeInfo, WireVersion};
use ractor::rpc::CallResult;
use ractor::{
    ActorCell, ActorId, ActorProcessingErr, ActorRef, BytesConvertable, RpcReplyPort,
    SupervisionEvent, pg,
};
use ractor_cluster::node::{NodeConnectionMode, SessionCheckReply};
use ractor_cluster::{
    BoxRead, BoxWrite, ClusterBidiStream, NetworkStream, NodeServerMessage, NodeSession,
    NodeSessionMessage, RactorClusterMessage,
};

use crate::transport::{ControlStream, TransportHandle};

/// The process group of all nodes' gateways.
const GROUP: &str = "odeum.nodes";

/// Required by ractor_cluster's handshake. It protects nothing: peers are authenticated by their
/// certificates before a stream exists.
const COOKIE: &str = "odeum";

/// The version that ractor_cluster's handshake carries.
const SESSION_VERSION: u32 = 1;

/// Largest frame of a session, in bytes: gateways exchange a few hundred.
const FRAME_BYTES: u64 = 1 << 20;

/// How often links are checked for a session. Also how soon one that failed is tried again.
const TEND_PERIOD: Duration = Duration::from_millis(500);

/// A session that was opened and has not registered for so long is opened anew.
const OPENING: Duration = Duration::from_secs(3);

/// Messages that wait: link changes and streams, a few per peer.
const MAILBOX: usize = 1_024;

/// Why a peer did not answer over the control plane.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ControlPlaneError {
    /// There is no session with the peer (yet). Retry when its link is up.
    #[error("no control session with node {peer}")]
    NoSession {
        /// Who was asked.
        peer: NodeId,
    },
    /// No answer came in time.
    #[error("no answer from node {peer} within {after:?}")]
    Deadline {
        /// Who was asked.
        peer: NodeId,
        /// The deadline that was given.
        after: Duration,
    },
    /// The session ended while the answer was awaited. Retry.
    #[error("the control session with node {peer} was lost")]
    Lost {
        /// Who was asked.
        peer: NodeId,
    },
    /// The answer is not what this node understands.
    #[error("the answer of node {peer}: {error}")]
    Answer {
        /// Who was asked.
        peer: NodeId,
        /// What was wrong with it.
        error: DecodeError,
    },
}

/// The sessions by peer, shared by the handle, the actor and [`Sessions`].
type Table = Arc<Mutex<BTreeMap<NodeId, Session>>>;

/// One session. Its number is what ractor_cluster calls a node's id: it is in the ids of the
/// peer's actors.
#[derive(Debug, Clone)]
struct Session {
    number: u64,
    ready: bool,
}

/// Asks peers over the control plane. Cheap to clone; valid across restarts of the actor behind it.
#[derive(Debug, Clone)]
pub struct ControlPlaneHandle {
    table: Table,
}

impl ControlPlaneHandle {
    /// The peers whose remotable actors are known here.
    #[must_use]
    pub fn peers(&self) -> Vec<NodeId> {
        let table = lock(&self.table);
        table.iter().filter(|(_, session)| session.ready).map(|(peer, _)| peer.clone()).collect()
    }

    /// What `peer` says of itself: a remote call to its gateway actor.
    ///
    /// # Errors
    /// [`ControlPlaneError`]; a lost session fails the call by the deadline at the latest.
    pub async fn ask_info(
        &self,
        peer: &NodeId,
        deadline: Duration,
    ) -> Result<NodeInfo, ControlPlaneError> {
        let no_session = || ControlPlaneError::NoSession { peer: peer.clone() };
        let number = lock(&self.table)
            .get(peer)
            .filter(|session| session.ready)
            .map(|session| session.number)
            .ok_or_else(no_session)?;
        // Resolved anew for each call: a session that came back has other references.
        let gateway = pg::get_members(&GROUP.to_owned())
            .into_iter()
            .find(|cell| matches!(cell.get_id(), ActorId::Remote { node_id, .. } if node_id == number))
            .map(ActorRef::<GatewayMessage>::from)
            .ok_or_else(no_session)?;
        let lost = || ControlPlaneError::Lost { peer: peer.clone() };
        match gateway.call(GatewayMessage::GetInfo, Some(deadline)).await.map_err(|_| lost())? {
            CallResult::Success(InfoReply(answer)) => {
                answer.map_err(|error| ControlPlaneError::Answer { peer: peer.clone(), error })
            }
            CallResult::Timeout => {
                Err(ControlPlaneError::Deadline { peer: peer.clone(), after: deadline })
            }
            CallResult::SenderError => Err(lost()),
        }
    }
}

fn lock(table: &Table) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Session>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The control plane of this node, and the actor that keeps it. `version` is the binary's.
#[must_use]
pub fn control_plane(
    transport: TransportHandle,
    version: impl Into<Arc<str>>,
) -> (ControlPlaneHandle, ChildSpec) {
    let table = Table::default();
    let handle = ControlPlaneHandle { table: Arc::clone(&table) };
    let version = version.into();
    let make = move || ControlPlane {
        transport: transport.clone(),
        version: Arc::clone(&version),
        table: Arc::clone(&table),
        sessions: None,
        opened: BTreeMap::new(),
    };
    let (_, spec) = child("ControlPlane", make);
    (handle, spec.capacity(MAILBOX))
}

/// What the control plane is told.
enum ControlPlaneMessage {
    /// See to it that each link that this node dialled has a session.
    Tend,
    /// A stream for a session that this node asked for.
    Opened(ControlStream),
    /// A stream for a session that a peer asks for.
    Offered(ControlStream),
    /// A ractor actor of this one has ended.
    Ended,
}

/// The actor.
struct ControlPlane {
    transport: TransportHandle,
    version: Arc<str>,
    table: Table,
    /// Takes the streams of sessions, while it runs.
    sessions: Option<ActorRef<NodeServerMessage>>,
    /// The links, by generation, for which a session was opened, and when.
    opened: BTreeMap<NodeId, (u64, Instant)>,
}

impl Actor for ControlPlane {
    type Message = ControlPlaneMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        lock(&self.table).clear();
        let info = NodeInfo {
            node: self.transport.local().clone(),
            incarnation: self.transport.incarnation(),
            version: self.version.to_string(),
            wire: WireVersion::CURRENT,
        };
        let gateway = ctx.adopt(Gateway, info, ControlPlaneMessage::Ended).await?;
        pg::join(GROUP.to_owned(), vec![gateway.get_cell()]);
        let sessions =
            Sessions { local: self.transport.local().clone(), table: Arc::clone(&self.table) };
        self.sessions = Some(ctx.adopt(sessions, (), ControlPlaneMessage::Ended).await?);

        let me = ctx.handle().clone();
        self.transport.on_control_stream(Arc::new(move |stream| {
            // A stream that is not taken is reset, and the peer tries again.
            let _ = me.try_tell(ControlPlaneMessage::Offered(stream));
        }));
        let (mut links, me) = (self.transport.links(), ctx.handle().clone());
        ctx.spawn(async move {
            while links.changed().await.is_ok() {
                if me.tell(ControlPlaneMessage::Tend).await.is_err() {
                    return;
                }
            }
        });
        ctx.tell_every(TEND_PERIOD, || ControlPlaneMessage::Tend);
        self.on_tend(ctx);
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: ControlPlaneMessage,
    ) -> Result<(), ActorError> {
        match message {
            ControlPlaneMessage::Tend => self.on_tend(ctx),
            ControlPlaneMessage::Opened(stream) => self.begin_session(stream, false),
            ControlPlaneMessage::Offered(stream) => self.begin_session(stream, true),
            ControlPlaneMessage::Ended => {
                return Err(ActorError::msg("an actor of the control plane has ended"));
            }
        }
        Ok(())
    }
}

impl ControlPlane {
    fn on_tend(&mut self, ctx: &mut Context<Self>) {
        let links = self.transport.links();
        let links = Arc::clone(&links.borrow());
        self.opened.retain(|peer, _| links.contains_key(peer));
        for (peer, link) in links.iter().filter(|(_, link)| link.dialled) {
            let there = lock(&self.table).contains_key(peer);
            let fresh = self.opened.get(peer).is_some_and(|(generation, when)| {
                *generation == link.generation && (there || when.elapsed() < OPENING)
            });
            if fresh {
                continue;
            }
            self.opened.insert(peer.clone(), (link.generation, Instant::now()));
            let (transport, peer, me) =
                (self.transport.clone(), peer.clone(), ctx.handle().clone());
            ctx.spawn(async move {
                match transport.open_control(&peer).await {
                    Ok(stream) => {
                        let _ = me.tell(ControlPlaneMessage::Opened(stream)).await;
                    }
                    Err(error) => tracing::debug!(%peer, %error, "control stream not opened"),
                }
            });
        }
    }

    fn begin_session(&self, stream: ControlStream, is_server: bool) {
        let Some(sessions) = &self.sessions else { return };
        let stream = Box::new(stream);
        let opened = NodeServerMessage::ConnectionOpenedExternal { stream, is_server };
        if sessions.cast(opened).is_err() {
            tracing::debug!("the sessions are ending");
        }
    }
}

impl ClusterBidiStream for ControlStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        (Box::new(self.recv), Box::new(self.send))
    }

    /// The node in the peer's certificate: the only name that its session may have.
    fn peer_label(&self) -> Option<String> {
        Some(self.peer.to_string())
    }
}

/// In the place of ractor_cluster's `NodeServer`, and by its protocol: starts a session per
/// stream and binds its name to the certificate.
struct Sessions {
    local: NodeId,
    table: Table,
}

/// A running session.
struct Running {
    peer: NodeId,
    number: u64,
    actor: ActorRef<NodeSessionMessage>,
}

/// Counts the sessions of this process, so that no number stands for two peers.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A default value of the type that a function takes last but one. ractor_cluster's name message
/// is public in its fields and not in its path: this is how one is made.
fn name_message<A, B, C, D, N: Default, M, R>(_: fn(A, B, C, D, N, M) -> R) -> N {
    N::default()
}

impl ractor::Actor for Sessions {
    type Msg = NodeServerMessage;
    type State = HashMap<ActorId, Running>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(HashMap::new())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        running: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NodeServerMessage::ConnectionOpenedExternal { stream, is_server } => {
                self.on_opened(&myself, stream, is_server, running).await;
            }
            NodeServerMessage::UpdateSession { actor_id, name } => {
                on_update(running, actor_id, &name.name);
            }
            NodeServerMessage::CheckSession { peer_name, reply } => {
                let known = running.values().any(|s| s.peer.as_str() == peer_name.name);
                let verdict = if known {
                    SessionCheckReply::NoOtherConnection
                } else {
                    SessionCheckReply::OtherConnectionContinues
                };
                // The session has ended if it does not wait for this any more.
                let _ = reply.send(verdict);
            }
            NodeServerMessage::ConnectionReady(actor_id) => self.on_ready(running, actor_id),
            NodeServerMessage::GetSessions(reply) => {
                // Asked for on behalf of peers that would dial our other peers: nobody does.
                let _ = reply.send(HashMap::new());
            }
            // Plaintext connections are not taken, and nobody subscribes.
            NodeServerMessage::ConnectionOpened { .. }
            | NodeServerMessage::ConnectionAuthenticated(_)
            | NodeServerMessage::SubscribeToEvents { .. }
            | NodeServerMessage::UnsubscribeToEvents(_)
            | NodeServerMessage::PortChanged { .. } => {}
        }
        Ok(())
    }

    /// A session that ends, however, is forgotten; its link or the other side begins the next.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        running: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let ended: Option<(ActorCell, String)> = match event {
            SupervisionEvent::ActorFailed(cell, error) => Some((cell, error.to_string())),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                Some((cell, reason.unwrap_or_default()))
            }
            _ => None,
        };
        if let Some((cell, reason)) = ended
            && let Some(session) = running.remove(&cell.get_id())
        {
            let mut table = lock(&self.table);
            if table.get(&session.peer).is_some_and(|s| s.number == session.number) {
                table.remove(&session.peer);
            }
            tracing::debug!(peer = %session.peer, %reason, "control session ended");
        }
        Ok(())
    }
}

impl Sessions {
    async fn on_opened(
        &self,
        myself: &ActorRef<NodeServerMessage>,
        stream: Box<dyn ClusterBidiStream>,
        is_server: bool,
        running: &mut HashMap<ActorId, Running>,
    ) {
        let label = stream.peer_label();
        let Some(peer) = label.as_deref().and_then(|label| label.parse::<NodeId>().ok()) else {
            return;
        };
        // The link has one control stream at a time: an older session belongs to an older link.
        for old in running.values().filter(|session| session.peer == peer) {
            old.actor.stop(Some("a later session begins".to_owned()));
        }
        let mut name = name_message(NodeSession::new);
        name.name = self.local.to_string();
        // Not an address: nobody dials it. Two equal ones are taken for one node.
        name.connection_string = self.local.to_string();
        let mut flags = name.flags.take().unwrap_or_default();
        flags.version = SESSION_VERSION;
        name.flags = Some(flags);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let session = NodeSession::new(
            number,
            is_server,
            COOKIE.to_owned(),
            myself.clone(),
            name,
            NodeConnectionMode::Isolated,
        )
        .with_max_inbound_frame_size(FRAME_BYTES);
        let (reader, writer) = stream.split();
        let stream =
            NetworkStream::External { peer_label: label, local_label: None, reader, writer };
        match ractor::Actor::spawn_linked(None, session, stream, myself.get_cell()).await {
            Ok((actor, _)) => {
                lock(&self.table).insert(peer.clone(), Session { number, ready: false });
                running.insert(actor.get_id(), Running { peer, number, actor });
            }
            Err(error) => tracing::warn!(%peer, %error, "control session not started"),
        }
    }

    fn on_ready(&self, running: &HashMap<ActorId, Running>, actor: ActorId) {
        let Some(session) = running.get(&actor) else { return };
        let mut table = lock(&self.table);
        if let Some(entry) = table.get_mut(&session.peer)
            && entry.number == session.number
        {
            entry.ready = true;
            tracing::debug!(peer = %session.peer, "control session ready");
        }
    }
}

/// The session's peer has said its name: it must be the certificate's.
fn on_update(running: &HashMap<ActorId, Running>, actor: ActorId, name: &str) {
    let Some(session) = running.get(&actor) else { return };
    if session.peer.as_str() != name {
        tracing::warn!(peer = %session.peer, claimed = name, "control session in another's name");
        session.actor.stop(Some("the name is not the certificate's".to_owned()));
    }
}

/// What peers may ask this node's gateway.
#[derive(RactorClusterMessage)]
enum GatewayMessage {
    /// Who it is.
    #[rpc]
    GetInfo(RpcReplyPort<InfoReply>),
}

/// An answer that may turn out not to be one: ractor_cluster drops what it cannot decode, and
/// the asker would wait for its deadline.
struct InfoReply(Result<NodeInfo, DecodeError>);

impl BytesConvertable for InfoReply {
    fn into_bytes(self) -> Vec<u8> {
        // Only the gateway makes one to send, and always from a value.
        self.0.ok().and_then(|info| codec::encode(&info).ok()).unwrap_or_default()
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(codec::decode(&bytes))
    }
}

/// This node's remotable actor. Unnamed: when a peer leaves, ractor_cluster takes the names of
/// its actors from the local registry.
struct Gateway;

impl ractor::Actor for Gateway {
    type Msg = GatewayMessage;
    type State = NodeInfo;
    type Arguments = NodeInfo;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        info: NodeInfo,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(info)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        info: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GatewayMessage::GetInfo(reply) => {
                // The asker may have given up.
                let _ = reply.send(InfoReply(Ok(info.clone())));
            }
        }
        Ok(())
    }
}
