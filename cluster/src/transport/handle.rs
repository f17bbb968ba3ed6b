//! The transport's face to the rest of the crate, and the state it shares with the actors
//! behind it. A request does not pass through an actor: it goes from its caller's task to the
//! queue of its stream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use odeum_actors::{AskError, Handle};
use odeum_proto::{ClusterId, Incarnation, NodeId, codec};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::conn::{Conn, Place};
use super::endpoint::EndpointMessage;
use super::lane::{LaneSink, Outlet};
use super::meter::Metered;
use super::pki::CertificateInfo;
use super::tls::Tls;
use super::{
    Class, ClusterCell, LinkInfo, LinkStats, Links, Request, Service, Services, TransportConfig,
    TransportError, settings,
};

/// How long a request waits for a link that is not there. A link between live nodes is made in
/// milliseconds; a caller should learn soon that its peer is not one of those.
const LINK_WAIT: Duration = Duration::from_secs(1);

/// How often, and how many times, the last datagrams of a node that stops are looked after.
const FLUSH_LOOK: Duration = Duration::from_millis(2);
/// See [`FLUSH_LOOK`].
const FLUSH_LOOKS: u32 = 50;

/// Takes the datagrams of peers. Called on the link's task: it must not block.
pub(crate) type DatagramSink = Arc<dyn Fn(&NodeId, Bytes) + Send + Sync>;

/// Takes the control streams that peers open. Called on the link's task: it must not block.
pub(crate) type ControlSink = Arc<dyn Fn(ControlStream) + Send + Sync>;

/// A byte stream for the control plane's session with a peer. The side that dialled the
/// connection opens it, so that both agree who is the session's client.
pub(crate) struct ControlStream {
    /// The peer, by its certificate.
    pub(crate) peer: NodeId,
    /// To the peer.
    pub(crate) send: Metered<quinn::SendStream>,
    /// From the peer.
    pub(crate) recv: Metered<quinn::RecvStream>,
}

/// What the handle and the actors share.
pub(super) struct Shared {
    pub(super) local: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) local_addr: SocketAddr,
    pub(super) cluster: ClusterCell,
    /// How long a connection on which the peer gives way is used for want of another.
    pub(super) yield_after: Duration,
    /// How long a connection that gives way may stay.
    pub(super) patience: Duration,
    pub(super) services: Services,
    /// The certificates that new connections use.
    pub(super) tls: ArcSwap<Tls>,
    /// The QUIC endpoint while the [`Endpoint`](super::endpoint) actor runs.
    pub(super) quic: ArcSwapOption<quinn::Endpoint>,
    pub(super) book: ArcSwap<BTreeMap<NodeId, SocketAddr>>,
    datagrams: RwLock<Option<DatagramSink>>,
    control: RwLock<Option<ControlSink>>,
    lanes: ArcSwapOption<Arc<dyn LaneSink>>,
    /// The connections in use. Replaced whole, so that a request reads it without a lock.
    conns: ArcSwap<BTreeMap<NodeId, Arc<Conn>>>,
    /// Serialises changes of `conns` with their publication.
    change: Mutex<()>,
    links: watch::Sender<Arc<BTreeMap<NodeId, LinkInfo>>>,
    /// How many connections to each peer were in use so far.
    made: Mutex<BTreeMap<NodeId, u64>>,
}

impl Shared {
    pub(super) fn new(
        config: &TransportConfig,
        local_addr: SocketAddr,
        services: Services,
        tls: Tls,
    ) -> Self {
        Self {
            local: config.node.clone(),
            incarnation: config.incarnation,
            local_addr,
            cluster: config.cluster.clone(),
            yield_after: config.yield_after,
            patience: config.patience,
            services,
            tls: ArcSwap::from_pointee(tls),
            quic: ArcSwapOption::empty(),
            book: ArcSwap::default(),
            datagrams: RwLock::default(),
            control: RwLock::default(),
            lanes: ArcSwapOption::empty(),
            conns: ArcSwap::default(),
            change: Mutex::default(),
            links: watch::Sender::default(),
            made: Mutex::default(),
        }
    }

    /// Makes `conn` the one that requests to its peer use.
    pub(super) fn install(&self, conn: &Arc<Conn>) {
        // What looks at this node before a node's first start is no link that can be lost.
        if conn.incarnation > Incarnation(0) {
            *self.made().entry(conn.peer.clone()).or_default() += 1;
        }
        self.update(|conns| {
            conns.insert(conn.peer.clone(), Arc::clone(conn));
        });
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<NodeId, u64>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the use of `conn`, if it is still in use.
    pub(super) fn remove(&self, conn: &Arc<Conn>) {
        self.update(|conns| {
            if conns.get(&conn.peer).is_some_and(|current| Arc::ptr_eq(current, conn)) {
                conns.remove(&conn.peer);
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut BTreeMap<NodeId, Arc<Conn>>)) {
        let _one_at_a_time = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut conns = BTreeMap::clone(&self.conns.load());
        change(&mut conns);
        let infos = conns.iter().map(|(peer, conn)| (peer.clone(), conn.info())).collect();
        self.conns.store(Arc::new(conns));
        self.links.send_replace(Arc::new(infos));
    }

    pub(super) fn conn(&self, peer: &NodeId) -> Option<Arc<Conn>> {
        self.conns.load().get(peer).cloned()
    }

    pub(super) fn datagram(&self, from: &NodeId, bytes: Bytes) {
        let sink = self.datagrams.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            sink(from, bytes);
        }
    }

    /// Who takes the packets of entity lanes, if somebody does.
    pub(super) fn lane_sink(&self) -> Option<Arc<dyn LaneSink>> {
        self.lanes.load().as_ref().map(|sink| Arc::clone(&**sink))
    }

    /// Gives a control stream to the control plane; without one it is dropped, which resets it,
    /// and the peer tries again.
    pub(super) fn control_stream(&self, stream: ControlStream) {
        let sink = self.control.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            sink(stream);
        }
    }
}

/// Asks peers and keeps links to them. Cheap to clone; valid across restarts of the actors
/// behind it.
#[derive(Clone)]
pub struct TransportHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Handle<EndpointMessage>,
}

impl std::fmt::Debug for TransportHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportHandle")
            .field("local", &self.shared.local)
            .field("local_addr", &self.shared.local_addr)
            .finish_non_exhaustive()
    }
}

impl TransportHandle {
    /// This node's name.
    #[must_use]
    pub fn local(&self) -> &NodeId {
        &self.shared.local
    }

    /// This start of the node.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// The UDP address that is listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// This node's cluster, once it has one.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.shared.cluster.get()
    }

    /// What this node answers; services can be added while it runs.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.shared.services
    }

    /// Asks `peer` and waits for its answer until `deadline`.
    ///
    /// Without a link to the peer it is dialled at once and waited for, briefly.
    ///
    /// # Errors
    /// [`TransportError`]; after `Unreachable` and `Deadline` the effect is unknown.
    pub async fn request(
        &self,
        peer: &NodeId,
        service: Service,
        class: Class,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, TransportError> {
        self.send(peer, Request { service, class, key: 0, body, deadline }).await
    }

    /// As [`request`](Self::request), with all particulars.
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, peer: &NodeId, request: Request) -> Result<Bytes, TransportError> {
        let after = request.deadline;
        let until = Instant::now() + after;
        let answer = async {
            loop {
                let conn = match self.shared.conn(peer) {
                    Some(conn) => conn,
                    None => self.await_link(peer).await?,
                };
                // One that has given way is not the one in use any more.
                if let Some(place) = Place::take(conn)? {
                    return place.request(request, until).await;
                }
            }
        };
        timeout_at(until, answer)
            .await
            .unwrap_or_else(|_| Err(TransportError::Deadline { peer: peer.clone(), after }))
    }

    /// A request whose question and answer are values.
    ///
    /// # Errors
    /// As [`request`](Self::request); [`TransportError::Answer`] when the answer is no `Answer`.
    pub async fn call<Question: Serialize, Answer: DeserializeOwned>(
        &self,
        peer: &NodeId,
        service: Service,
        class: Class,
        question: &Question,
        deadline: Duration,
    ) -> Result<Answer, TransportError> {
        let body = codec::encode(question)?;
        let answer = self.request(peer, service, class, body.into(), deadline).await?;
        codec::decode(&answer).map_err(|error| TransportError::Answer { peer: peer.clone(), error })
    }

    /// Replaces the address book: links are kept to all peers in it and to no others. This
    /// node's own entry is ignored.
    pub fn set_peers(&self, mut peers: BTreeMap<NodeId, SocketAddr>) {
        peers.remove(&self.shared.local);
        if **self.shared.book.load() != peers {
            self.shared.book.store(Arc::new(peers));
            self.nudge(EndpointMessage::FollowBook);
        }
    }

    /// The address book.
    #[must_use]
    pub fn peers(&self) -> Arc<BTreeMap<NodeId, SocketAddr>> {
        self.shared.book.load_full()
    }

    /// Links to whoever listens at `addr`: the first step of a join. The link stays until it is
    /// lost; put the peer in the address book to have it kept.
    ///
    /// # Errors
    /// What stands between the two nodes: [`TransportError::Certificate`], `Version`,
    /// `OtherCluster`, `Identity`, `SameNode`, or `Connect`.
    pub async fn dial(
        &self,
        addr: SocketAddr,
        deadline: Duration,
    ) -> Result<NodeId, TransportError> {
        let asked = self.endpoint.ask(deadline, |reply| EndpointMessage::Dial { addr, reply });
        match asked.await {
            Ok(Ok(peer)) => self.linked(&peer, deadline).await.map(|_| peer),
            Ok(Err(error)) => Err(error),
            Err(AskError::Deadline) => Err(TransportError::Connect {
                addr,
                reason: format!("no answer within {deadline:?}").into(),
            }),
            Err(_) => Err(TransportError::Stopped),
        }
    }

    /// The links that are up. Their `rtt` is of the moment when some link changed; for current
    /// ones see [`link`](Self::link).
    #[must_use]
    pub fn links(&self) -> Links {
        self.shared.links.subscribe()
    }

    /// The link to `peer`, if it is up.
    #[must_use]
    pub fn link(&self, peer: &NodeId) -> Option<LinkInfo> {
        self.shared.conn(peer).map(|conn| conn.info())
    }

    /// The link to `peer` with its counters, if it is up.
    #[must_use]
    pub fn stats(&self, peer: &NodeId) -> Option<LinkStats> {
        let conn = self.shared.conn(peer)?;
        let made = self.shared.made().get(peer).copied().unwrap_or_default();
        Some(conn.stats(made.saturating_sub(1)))
    }

    /// This node's certificate, as new connections use it.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateInfo> {
        self.shared.tls.load().own.clone()
    }

    /// Fails what waits for answers of `peer`, which the failure detector gave up, with
    /// [`TransportError::Unreachable`]. The link itself is left to QUIC: the peer may be back.
    pub(crate) fn give_up(&self, peer: &NodeId, reason: &str) {
        if let Some(conn) = self.shared.conn(peer) {
            conn.fail_waiting(reason);
        }
    }

    /// Sends a datagram, unreliably; without a link it is dropped.
    pub(crate) fn send_datagram(&self, peer: &NodeId, bytes: Bytes) {
        if let Some(conn) = self.shared.conn(peer) {
            conn.send_datagram(bytes);
        }
    }

    /// Waits, briefly, until all datagrams have left: closing a connection discards them.
    pub(crate) async fn flush_datagrams(&self) {
        let waiting = || self.shared.conns.load().values().any(|conn| conn.has_datagrams());
        for _ in 0..FLUSH_LOOKS {
            if !waiting() {
                return;
            }
            tokio::time::sleep(FLUSH_LOOK).await;
        }
    }

    /// Sets who takes the datagrams of peers.
    pub(crate) fn on_datagram(&self, sink: DatagramSink) {
        *self.shared.datagrams.write().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// Sets who takes the packets of peers' entity lanes.
    pub(crate) fn on_packets(&self, sink: Arc<dyn LaneSink>) {
        self.shared.lanes.store(Some(Arc::new(sink)));
    }

    /// The lane to `peer` that messages with this key take, when there is a link.
    pub(crate) fn lane(&self, peer: &NodeId, key: u64) -> Option<Arc<Outlet>> {
        let lane = usize::try_from(key % settings::LANES as u64).unwrap_or_default();
        self.shared.conn(peer)?.lane(lane).cloned()
    }

    /// Sets who takes the control streams that peers open.
    pub(crate) fn on_control_stream(&self, sink: ControlSink) {
        *self.shared.control.write().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// Opens a control stream to `peer`, whom this side has dialled.
    pub(crate) async fn open_control(
        &self,
        peer: &NodeId,
    ) -> Result<ControlStream, TransportError> {
        let conn = self.shared.conn(peer).ok_or_else(|| unlinked(peer))?;
        conn.open_control().await
    }

    /// Waits for a link that is not there, after asking for it.
    async fn await_link(&self, peer: &NodeId) -> Result<Arc<Conn>, TransportError> {
        if *peer == self.shared.local || !self.shared.book.load().contains_key(peer) {
            return Err(TransportError::Unknown { peer: peer.clone() });
        }
        self.nudge(EndpointMessage::Want { peer: peer.clone() });
        self.linked(peer, LINK_WAIT).await
    }

    /// Waits for the link to `peer` to be in use.
    async fn linked(&self, peer: &NodeId, wait: Duration) -> Result<Arc<Conn>, TransportError> {
        let mut links = self.links();
        let up = links.wait_for(|links| links.contains_key(peer));
        match tokio::time::timeout(wait, up).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(TransportError::Stopped),
            Err(_) => return Err(unlinked(peer)),
        }
        self.shared.conn(peer).ok_or_else(|| unlinked(peer))
    }

    /// Tells the endpoint something it also finds out by itself: when its mailbox is full or it
    /// restarts, nothing is lost but a moment.
    fn nudge(&self, message: EndpointMessage) {
        if self.endpoint.try_tell(message).is_err() {
            tracing::debug!(node = %self.shared.local, "the endpoint is busy");
        }
    }
}

fn unlinked(peer: &NodeId) -> TransportError {
    TransportError::Unreachable { peer: peer.clone(), reason: "there is no link to it".into() }
}
