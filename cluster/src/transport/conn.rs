//! One connection in use: the queues of its streams and the requests that wait for an answer.
//! What runs it is in [`super::pump`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use odeum_proto::{Incarnation, NodeId, limits};
use quinn::{RecvStream, SendStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::frame::{self, Frame};
use super::handle::{ControlStream, Shared};
use super::handover::{Handover, Lanes};
use super::hello::Introduced;
use super::lane::{Outlet, Outlets};
use super::meter::{Metered, Meters, Waits};
use super::plan::Rank;
use super::{Class, LinkInfo, LinkStats, Request, TransportError, bulk, hello, settings};

/// A frame on its way to the wire, with its share of the queue's budget.
pub(super) struct Queued {
    pub(super) frame: Frame,
    pub(super) _share: OwnedSemaphorePermit,
    pub(super) _waits: Waits,
}

/// The bounded queue before a stream: by bytes, since frames differ a thousandfold in size.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    class: Class,
    meters: Arc<Meters>,
}

impl Outbox {
    pub(super) fn new(class: Class, meters: &Arc<Meters>) -> (Self, mpsc::Receiver<Queued>) {
        let (queue, receiver) = mpsc::channel(settings::OUTBOX_FRAMES);
        let budget = Arc::new(Semaphore::new(settings::kib(settings::OUTBOX_BYTES)));
        (Self { queue, budget, class, meters: Arc::clone(meters) }, receiver)
    }

    /// Queues a frame, waiting for room; `false` when the stream is gone.
    pub(super) async fn push(&self, frame: Frame) -> bool {
        // From here on, so that those who wait for room are seen, too.
        let _waits = self.meters.wait(self.class, frame.body_len());
        let share = u32::try_from(settings::kib(frame.body_len()) + 1).unwrap_or(u32::MAX);
        let Ok(share) = Arc::clone(&self.budget).acquire_many_owned(share).await else {
            return false;
        };
        self.queue.send(Queued { frame, _share: share, _waits }).await.is_ok()
    }
}

/// The answer to a request, or why there is none.
pub(super) type Answer = Result<Bytes, TransportError>;

/// Requests without an answer yet.
#[derive(Default)]
struct Waiting {
    waiters: Mutex<Waiters>,
    /// Nobody waits any more.
    none: Notify,
}

/// See [`Waiting`].
#[derive(Default)]
struct Waiters {
    /// By correlation id.
    senders: HashMap<u64, oneshot::Sender<Answer>>,
    closed: Option<Closed>,
}

/// Why nobody can wait any more.
enum Closed {
    /// Another connection has taken over.
    GaveWay,
    /// The connection is lost.
    Lost(Box<str>),
}

impl Waiting {
    fn with<R>(&self, f: impl FnOnce(&mut Waiters) -> R) -> R {
        f(&mut self.waiters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remove(&self, id: u64) -> Option<oneshot::Sender<Answer>> {
        let (waiter, is_last) = self.with(|waiting| {
            let waiter = waiting.senders.remove(&id);
            let is_last = waiter.is_some() && waiting.senders.is_empty();
            (waiter, is_last)
        });
        if is_last {
            self.none.notify_waiters();
        }
        waiter
    }
}

/// The place of one request among those that wait for the answers of a connection; freed when the
/// caller gives up.
pub(super) struct Place {
    conn: Arc<Conn>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.conn.waiting.remove(self.id);
    }
}

impl Place {
    /// A place at `conn`; `None` when another connection has taken over.
    pub(super) fn take(conn: Arc<Conn>) -> Result<Option<Self>, TransportError> {
        let id = conn.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let is_there = conn.waiting.with(|waiting| match &waiting.closed {
            None => {
                waiting.senders.insert(id, sender);
                Ok(true)
            }
            Some(Closed::GaveWay) => Ok(false),
            Some(Closed::Lost(reason)) => Err(conn.unreachable(reason)),
        })?;
        Ok(is_there.then(|| Self { conn, id, answer }))
    }

    /// Asks the peer. The caller bounds the time.
    pub(super) async fn request(mut self, request: Request, until: Instant) -> Answer {
        let limit = match request.class {
            Class::Bulk => limits::BULK_BYTES,
            _ => frame::body_limit(),
        };
        let got = request.body.len();
        if got > limit {
            return Err(TransportError::TooLarge { got, limit });
        }
        if request.class == Class::Bulk {
            // Its answer comes by the stream of its own; the place keeps the connection.
            return bulk::request(&self.conn, request, until).await;
        }
        let frame = Frame::Request {
            id: self.id,
            service: request.service,
            remaining: until.saturating_duration_since(Instant::now()),
            body: request.body,
        };
        let queued = match self.conn.outbox(request.class, request.key) {
            Some(outbox) => outbox.push(frame).await,
            None => false,
        };
        if !queued {
            return Err(self.conn.lost());
        }
        (&mut self.answer).await.unwrap_or_else(|_| Err(self.conn.lost()))
    }
}

/// A connection in use.
pub(super) struct Conn {
    pub(super) peer: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) rank: Rank,
    pub(super) dialled: bool,
    pub(super) quic: quinn::Connection,
    since: std::time::Instant,
    generation: u64,
    consensus: Outbox,
    lanes: Vec<Outbox>,
    handover: Arc<Handover>,
    /// Those whose lanes come before its own.
    before: Vec<Arc<Handover>>,
    /// The lanes of entity messages.
    entity_lanes: Outlets,
    /// Bulk transfers under way that this side asked for.
    pub(super) bulk: Semaphore,
    next_id: AtomicU64,
    waiting: Waiting,
    pub(super) meters: Arc<Meters>,
}

/// The receiving ends of a connection's queues, for [`super::pump`].
pub(super) struct Queues {
    pub(super) consensus: mpsc::Receiver<Queued>,
    pub(super) lanes: Vec<mpsc::Receiver<Queued>>,
}

/// What a connection is to be.
pub(super) enum Role<'a> {
    /// The only one to its peer.
    Only,
    /// The one that takes over from another.
    Successor(&'a Conn),
    /// One that is not used, beside the one that is.
    Unused,
}

/// Counts the connections of this process, and how often lanes that went on lost something.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Conn {
    pub(super) fn new(
        introduced: Introduced,
        role: &Role<'_>,
        before: Vec<Arc<Handover>>,
    ) -> (Arc<Self>, Queues) {
        let Introduced { quic, peer, incarnation, rank } = introduced;
        let meters = Arc::new(Meters::default());
        let (consensus, consensus_queue) = Outbox::new(Class::Consensus, &meters);
        let lanes = (0..settings::LANES).map(|_| Outbox::new(Class::Lane, &meters));
        let (lanes, lane_queues) = lanes.unzip();
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        let (outlets, decided) = match role {
            Role::Only => (Outlets::new(generation), None),
            Role::Successor(before) => (before.entity_lanes.clone(), None),
            Role::Unused => (Outlets::new(generation), Some(Lanes::Unused)),
        };
        let conn = Self {
            peer,
            incarnation,
            rank,
            dialled: quic.side().is_client(),
            quic,
            since: std::time::Instant::now(),
            generation,
            consensus,
            lanes,
            handover: Handover::new(decided),
            before,
            entity_lanes: outlets,
            bulk: Semaphore::new(settings::BULK_TRANSFERS),
            next_id: AtomicU64::new(1),
            waiting: Waiting::default(),
            meters,
        };
        (Arc::new(conn), Queues { consensus: consensus_queue, lanes: lane_queues })
    }

    pub(super) fn info(&self) -> LinkInfo {
        LinkInfo {
            incarnation: self.incarnation,
            addr: self.addr(),
            dialled: self.dialled,
            generation: self.generation,
            since: self.since,
            rtt: self.quic.rtt(),
        }
    }

    /// The sending end of an entity lane.
    pub(super) fn lane(&self, lane: usize) -> Option<&Arc<Outlet>> {
        self.entity_lanes.get(lane)
    }

    /// The counters; `reconnects` is not known here.
    pub(super) fn stats(&self, reconnects: u64) -> LinkStats {
        let path = self.quic.stats().path;
        let of = |class| self.meters.of(class).read();
        let mut lane = of(Class::Lane);
        for outlet in self.entity_lanes.iter() {
            lane.waiting_bytes += outlet.depth() as u64;
        }
        let mut datagram = self.meters.datagram.read();
        datagram.waiting_bytes = self.datagrams_waiting() as u64;
        LinkStats {
            link: self.info(),
            reconnects,
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            mtu: path.current_mtu,
            congestion_window: path.cwnd,
            certificate: hello::certificate(&self.quic),
            control: of(Class::Control),
            consensus: of(Class::Consensus),
            lane,
            bulk: of(Class::Bulk),
            datagram,
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    fn outbox(&self, class: Class, key: u64) -> Option<&Outbox> {
        match class {
            Class::Lane => {
                let lanes = u64::try_from(self.lanes.len()).ok()?;
                self.lanes.get(usize::try_from(key.checked_rem(lanes)?).ok()?)
            }
            _ => Some(&self.consensus),
        }
    }

    /// Gives an answer to who waits for it; one that came too late is dropped.
    pub(super) fn answer(&self, id: u64, answer: Answer) {
        if let Some(waiter) = self.waiting.remove(id) {
            // A receiver that is gone has given up, which is its right.
            let _ = waiter.send(answer);
        }
    }

    /// Fails all who wait now; later requests may still be answered.
    pub(super) fn fail_waiting(&self, reason: &str) {
        let waiters = self.waiting.with(|waiting| std::mem::take(&mut waiting.senders));
        for waiter in waiters.into_values() {
            let _ = waiter.send(Err(self.unreachable(reason)));
        }
        self.waiting.none.notify_waiters();
    }

    /// Fails all who wait, now and from now on.
    pub(super) fn close_waiting(&self, reason: &str) {
        // Who finds that it gave way asks by the other connection.
        self.waiting.with(|waiting| {
            waiting.closed.get_or_insert(Closed::Lost(reason.into()));
        });
        self.fail_waiting(reason);
    }

    /// Waits until nobody waits for an answer; nobody will then.
    pub(super) async fn all_answered(&self) {
        loop {
            let mut none = std::pin::pin!(self.waiting.none.notified());
            none.as_mut().enable();
            let is_done = self.waiting.with(|waiting| {
                let is_done = waiting.senders.is_empty();
                if is_done && waiting.closed.is_none() {
                    waiting.closed = Some(Closed::GaveWay);
                }
                is_done
            });
            if is_done {
                return;
            }
            none.await;
        }
    }

    /// Its way out.
    pub(super) fn handover(&self) -> &Arc<Handover> {
        &self.handover
    }

    /// The ways out of the connections whose lanes come before its own.
    pub(super) fn before(&self) -> &[Arc<Handover>] {
        &self.before
    }

    /// Gives way to another connection, which is in use by now: see [`super::handover`]. Without
    /// one the lanes end here.
    pub(super) fn give_way(&self, shared: &Shared) {
        let lanes = self.handover.begin();
        self.entity_lanes.poke();
        if lanes == Lanes::End {
            self.close_lanes(shared);
        }
    }

    /// Ends the use of the lanes; those that go on do so by another connection.
    pub(super) fn end_lanes(&self, shared: &Shared) {
        match self.handover.end() {
            None => self.close_lanes(shared),
            Some(Lanes::GoOn) if self.handover.has_lost(&self.quic) => self.lose_lanes(shared),
            Some(_) => {}
        }
    }

    /// What was sent by the lanes is lost, which is told once; they go on by another connection.
    pub(super) fn lose_lanes(&self, shared: &Shared) {
        if self.handover.tells_loss() {
            let generation = self.entity_lanes.renew(GENERATIONS.fetch_add(1, Ordering::Relaxed));
            self.tell_lost(shared, generation);
        }
    }

    fn close_lanes(&self, shared: &Shared) {
        self.entity_lanes.close();
        self.tell_lost(shared, self.entity_lanes.generation());
    }

    fn tell_lost(&self, shared: &Shared, generation: u64) {
        if let Some(sink) = shared.lane_sink() {
            sink.lost(&self.peer, generation);
        }
    }

    /// Drops the datagram when it does not fit or the link is going down: datagrams are allowed
    /// to be lost.
    pub(super) fn send_datagram(&self, bytes: Bytes) {
        let length = bytes.len();
        match self.quic.send_datagram(bytes) {
            Ok(()) => self.meters.datagram.sent(length),
            Err(error) => tracing::debug!(peer = %self.peer, %error, "datagram not sent"),
        }
    }

    /// Whether datagrams wait for the wire.
    pub(super) fn has_datagrams(&self) -> bool {
        self.datagrams_waiting() > 0
    }

    /// Bytes of datagrams that wait for the wire.
    fn datagrams_waiting(&self) -> usize {
        if self.quic.close_reason().is_some() {
            return 0;
        }
        // What QUIC calls free is what the next datagram may have, which costs its handle, too.
        let free = self.quic.datagram_send_buffer_space() + size_of::<Bytes>();
        settings::DATAGRAM_BUFFER.saturating_sub(free)
    }

    pub(super) async fn open_control(&self) -> Result<ControlStream, TransportError> {
        let (mut send, recv) = self.quic.open_bi().await.map_err(|_| self.lost())?;
        // A stream that is gone already fails at the write that follows.
        let _ = send.set_priority(settings::priority(Class::Control));
        send.write_all(&[settings::TAG_CONTROL]).await.map_err(|_| self.lost())?;
        Ok(self.control_stream(send, recv))
    }

    /// A control stream of this connection, counted.
    pub(super) fn control_stream(&self, send: SendStream, recv: RecvStream) -> ControlStream {
        ControlStream {
            peer: self.peer.clone(),
            send: Metered::new(send, &self.meters),
            recv: Metered::new(recv, &self.meters),
        }
    }

    /// Why what goes by this connection has no answer when it is gone.
    pub(super) fn lost(&self) -> TransportError {
        self.unreachable("the link was lost")
    }

    pub(super) fn unreachable(&self, reason: &str) -> TransportError {
        TransportError::Unreachable { peer: self.peer.clone(), reason: reason.into() }
    }
}
