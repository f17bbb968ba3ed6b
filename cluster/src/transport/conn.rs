//! One connection in use: the queues of its streams and the requests that wait for an answer.
//! What runs it is in [`super::pump`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use odeum_proto::{Incarnation, NodeId, limits};
use quinn::{RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frame::{self, Frame};
use super::handle::ControlStream;
use super::lane::Outlet;
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

/// Who waits, by correlation id; the reason once the connection is lost.
type Waiters = Result<HashMap<u64, oneshot::Sender<Answer>>, Box<str>>;

/// Requests without an answer yet.
struct Waiting(Mutex<Waiters>);

impl Waiting {
    fn with<R>(&self, f: impl FnOnce(&mut Waiters) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The place of one request among those that wait; freed when the caller gives up.
struct Ticket<'a> {
    conn: &'a Conn,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.conn.waiting.with(|waiting| {
            if let Ok(waiting) = waiting {
                waiting.remove(&self.id);
            }
        });
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
    /// Set when nothing runs on it any more.
    ended: CancellationToken,
    /// The lanes of entity messages.
    entity_lanes: [Arc<Outlet>; settings::LANES],
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

/// Counts the connections of this process.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Conn {
    pub(super) fn new(
        quic: quinn::Connection,
        (peer, incarnation): (NodeId, Incarnation),
        rank: Rank,
    ) -> (Arc<Self>, Queues) {
        let meters = Arc::new(Meters::default());
        let (consensus, consensus_queue) = Outbox::new(Class::Consensus, &meters);
        let lanes = (0..settings::LANES).map(|_| Outbox::new(Class::Lane, &meters));
        let (lanes, lane_queues) = lanes.unzip();
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
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
            ended: CancellationToken::new(),
            entity_lanes: std::array::from_fn(|_| Outlet::new(generation)),
            bulk: Semaphore::new(settings::BULK_TRANSFERS),
            next_id: AtomicU64::new(1),
            waiting: Waiting(Mutex::new(Ok(HashMap::new()))),
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

    /// Tells this connection from all others of this process.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Set when nothing runs on it any more.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// The sending end of an entity lane.
    pub(super) fn lane(&self, lane: usize) -> Option<&Arc<Outlet>> {
        self.entity_lanes.get(lane)
    }

    /// Ends the entity lanes.
    pub(super) fn close_lanes(&self) {
        for lane in &self.entity_lanes {
            lane.close();
        }
    }

    /// The counters; `reconnects` is not known here.
    pub(super) fn stats(&self, reconnects: u64) -> LinkStats {
        let path = self.quic.stats().path;
        let of = |class| self.meters.of(class).read();
        let mut lane = of(Class::Lane);
        for outlet in &self.entity_lanes {
            lane.sent_bytes += outlet.sent();
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

    /// Asks the peer. The caller bounds the time.
    pub(super) async fn request(&self, request: Request, until: Instant) -> Answer {
        let limit = match request.class {
            Class::Bulk => limits::BULK_BYTES,
            _ => frame::body_limit(),
        };
        let got = request.body.len();
        if got > limit {
            return Err(TransportError::TooLarge { got, limit });
        }
        if request.class == Class::Bulk {
            return bulk::request(self, request, until).await;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (ticket, answer) = self.wait_for_answer(id)?;
        let frame = Frame::Request {
            id,
            service: request.service,
            remaining: until.saturating_duration_since(Instant::now()),
            body: request.body,
        };
        let outbox = self.outbox(request.class, request.key);
        let queued = match outbox {
            Some(outbox) => outbox.push(frame).await,
            None => false,
        };
        if !queued {
            return Err(self.unreachable("the link was lost"));
        }
        let answer = answer.await.unwrap_or_else(|_| Err(self.unreachable("the link was lost")));
        drop(ticket);
        answer
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

    fn wait_for_answer(
        &self,
        id: u64,
    ) -> Result<(Ticket<'_>, oneshot::Receiver<Answer>), TransportError> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.with(|waiting| match waiting {
            Ok(waiting) => {
                waiting.insert(id, sender);
                Ok(())
            }
            Err(reason) => Err(self.unreachable(reason)),
        })?;
        Ok((Ticket { conn: self, id }, receiver))
    }

    /// Gives an answer to who waits for it; one that came too late is dropped.
    pub(super) fn answer(&self, id: u64, answer: Answer) {
        let waiter = self.waiting.with(|waiting| waiting.as_mut().ok()?.remove(&id));
        if let Some(waiter) = waiter {
            // A receiver that is gone has given up, which is its right.
            let _ = waiter.send(answer);
        }
    }

    /// Fails all who wait now; later requests may still be answered.
    pub(super) fn fail_waiting(&self, reason: &str) {
        let waiters = self.waiting.with(|waiting| match waiting {
            Ok(waiting) => std::mem::take(waiting),
            Err(_) => HashMap::new(),
        });
        for waiter in waiters.into_values() {
            let _ = waiter.send(Err(self.unreachable(reason)));
        }
    }

    /// Fails all who wait, now and from now on.
    pub(super) fn close_waiting(&self, reason: &str) {
        self.fail_waiting(reason);
        // Who came between is failed too: their senders are dropped with the map.
        self.waiting.with(|waiting| *waiting = Err(reason.into()));
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
        let lost = |_| self.unreachable("the link was lost");
        let (mut send, recv) = self.quic.open_bi().await.map_err(lost)?;
        // A stream that is gone already fails at the write that follows.
        let _ = send.set_priority(settings::priority(Class::Control));
        send.write_all(&[settings::TAG_CONTROL])
            .await
            .map_err(|_| self.unreachable("the link was lost"))?;
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

    pub(super) fn unreachable(&self, reason: &str) -> TransportError {
        TransportError::Unreachable { peer: self.peer.clone(), reason: reason.into() }
    }
}
