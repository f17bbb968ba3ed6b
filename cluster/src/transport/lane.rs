//! Entity lanes: the streams that carry messages to entities and their replies, one way each.
//!
//! A request of [`super::pump`] costs a task and a few queue hops; a message to an entity must
//! not. So a sender writes its packet straight into the buffer of its lane, one task per lane
//! hands whole buffers to QUIC, and the reader at the other end hands whole batches of packets to
//! the [`LaneSink`]. Each side has `LANES` lanes towards the other; what answers a packet goes by
//! the lane of the same number the other way, so one entity's traffic keeps its order both ways.
//!
//! Bounds, per lane: who sends messages waits when [`LANE_BYTES`] are queued; replies are small
//! or refused in few bytes beyond [`REPLY_BYTES`]; a peer that reads nothing at all loses its
//! link at [`HARD_BYTES`]. Nothing that a reader does waits for a writer, because two nodes
//! whose readers wait for each other would wait for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use odeum_proto::NodeId;
use quinn::{RecvStream, SendStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::conn::Conn;
use super::frame::FrameError;
use super::handle::Shared;
use super::pump::Fault;
use super::{Class, settings};

pub(crate) mod packet;

pub(crate) use packet::{BodyError, Malformed, Packet};

/// Messages that may wait before one lane, in bytes: a hundredth of a second at 400 MB/s. Then
/// their senders wait.
const LANE_BYTES: usize = 4 << 20;

/// Beyond this, in bytes, a reply is replaced by a short refusal.
const REPLY_BYTES: usize = 16 << 20;

/// What a lane holds at most, in bytes. Replies that come so far are not being read.
const HARD_BYTES: usize = 32 << 20;

/// First allocation of a lane's buffer, in bytes: what one write hands to QUIC under load.
const BUFFER: usize = 64 << 10;

/// Chunks taken off a stream at once. QUIC hands out a packet's worth each.
const CHUNKS: usize = 64;

/// Takes what peers send by their lanes. Called on the lane's task: it must not block.
pub(crate) trait LaneSink: Send + Sync + 'static {
    /// Packets of one lane, in the order they were sent. Empties `packets`.
    fn deliver(&self, from: &LanePeer, packets: &mut Vec<Packet>) -> Result<(), Malformed>;

    /// Lanes of this generation have ended or lost something: what was sent by them and not answered
    /// may never be.
    fn lost(&self, peer: &NodeId, generation: u64);
}

/// Who sent packets, and by which lane; the way back to it.
#[derive(Clone)]
pub(crate) struct LanePeer {
    conn: Arc<Conn>,
    lane: usize,
}

impl LanePeer {
    /// The node at the other end.
    pub(crate) fn node(&self) -> &NodeId {
        &self.conn.peer
    }

    /// Whether both are the same lane of the same link.
    pub(crate) fn is_same_link(&self, other: &Self) -> bool {
        match (self.outlet(), other.outlet()) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// Whether the link is over: no answer reaches the peer any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.outlet().is_none_or(|outlet| !outlet.is_open())
    }

    /// Where answers go.
    pub(crate) fn outlet(&self) -> Option<&Arc<Outlet>> {
        self.conn.lane(self.lane)
    }
}

/// Why a packet was not queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its lane is full: wait for [`Outlet::space`].
    Full,
    /// Its connection is gone.
    Closed,
    /// It is no packet.
    Body(BodyError),
}

/// The sending ends of the lanes to one peer. A connection that takes over from another takes these,
/// too, so that their senders notice nothing.
#[derive(Clone)]
pub(super) struct Outlets(Arc<[Arc<Outlet>; settings::LANES]>);

impl Outlets {
    pub(super) fn new(generation: u64) -> Self {
        Self(Arc::new(std::array::from_fn(|_| Outlet::new(generation))))
    }

    pub(super) fn get(&self, lane: usize) -> Option<&Arc<Outlet>> {
        self.0.get(lane)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Outlet>> {
        self.0.iter()
    }

    pub(super) fn generation(&self) -> u64 {
        self.0.first().map_or(0, |outlet| outlet.generation())
    }

    /// Begins another generation; returns the one before.
    pub(super) fn renew(&self, generation: u64) -> u64 {
        let before = self.generation();
        for outlet in self.iter() {
            outlet.generation.store(generation, Ordering::Relaxed);
        }
        before
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.iter().for_each(|outlet| outlet.close());
    }

    /// Has the writers look whether they are to stop.
    pub(super) fn poke(&self) {
        self.iter().for_each(|outlet| outlet.filled.notify_one());
    }
}

/// The sending end of one lane.
pub(crate) struct Outlet {
    buffer: Mutex<Buffer>,
    filled: Notify,
    space: Notify,
    generation: AtomicU64,
}

struct Buffer {
    bytes: BytesMut,
    open: bool,
    /// Whether the writer waits for `filled`.
    parked: bool,
    /// Whether senders wait for `space`.
    awaited: bool,
}

impl Outlet {
    pub(super) fn new(generation: u64) -> Arc<Self> {
        let buffer = Buffer { bytes: BytesMut::new(), open: true, parked: false, awaited: false };
        Arc::new(Self {
            buffer: Mutex::new(buffer),
            filled: Notify::new(),
            space: Notify::new(),
            generation: AtomicU64::new(generation),
        })
    }

    /// Tells what was sent by it from what was sent by others, and after a loss from what was sent
    /// before.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Whether what is queued has a link to go by.
    fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Bytes that wait.
    pub(crate) fn depth(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Queues what `write` appends, if there is room.
    pub(crate) fn push(
        &self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), BodyError>,
    ) -> Result<(), Refused> {
        self.push_within(LANE_BYTES, write)
    }

    /// Queues a short packet that must not wait, such as a refusal.
    pub(crate) fn push_short(&self, packet: &Packet) -> Result<(), Refused> {
        self.push_within(HARD_BYTES, |out| {
            packet.encode(out);
            Ok(())
        })
    }

    /// Queues a reply; [`Refused::Full`] asks for a short one instead.
    pub(crate) fn push_reply(
        &self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), BodyError>,
    ) -> Result<(), Refused> {
        self.push_within(REPLY_BYTES, write)
    }

    fn push_within(
        &self,
        limit: usize,
        write: impl FnOnce(&mut BytesMut) -> Result<(), BodyError>,
    ) -> Result<(), Refused> {
        let mut buffer = self.lock();
        if !buffer.open {
            return Err(Refused::Closed);
        }
        if buffer.bytes.len() >= limit {
            if limit == HARD_BYTES {
                buffer.open = false;
                drop(buffer);
                self.filled.notify_one();
                return Err(Refused::Closed);
            }
            return Err(Refused::Full);
        }
        write(&mut buffer.bytes).map_err(Refused::Body)?;
        let parked = std::mem::replace(&mut buffer.parked, false);
        drop(buffer);
        if parked {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits until there is room, or the connection is gone.
    pub(crate) async fn space(&self) {
        loop {
            let mut space = std::pin::pin!(self.space.notified());
            space.as_mut().enable();
            {
                let mut buffer = self.lock();
                if !buffer.open || buffer.bytes.len() < LANE_BYTES {
                    return;
                }
                buffer.awaited = true;
            }
            space.await;
        }
    }

    /// Takes nothing more. Who waits for room is woken.
    fn close(&self) {
        let mut buffer = self.lock();
        buffer.open = false;
        buffer.bytes = BytesMut::new();
        drop(buffer);
        self.space.notify_waiters();
        self.filled.notify_one();
    }

    /// All that waits; waits for something. `None` when the lane is closed, or the writer is to stop.
    async fn next(&self, stop: &CancellationToken) -> Option<Bytes> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            {
                let mut buffer = self.lock();
                if !buffer.open {
                    return None;
                }
                if !buffer.bytes.is_empty() {
                    let bytes = buffer.bytes.split().freeze();
                    buffer.bytes.reserve(BUFFER);
                    let awaited = std::mem::replace(&mut buffer.awaited, false);
                    drop(buffer);
                    if awaited {
                        self.space.notify_waiters();
                    }
                    return Some(bytes);
                }
                buffer.parked = true;
            }
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries one lane outward. Its stream is opened with the first packet. When the connection gives
/// way it ends between two packets, and the next one goes on.
pub(super) async fn write(conn: Arc<Conn>, lane: usize) -> Result<(), Fault> {
    let Some(outlet) = conn.lane(lane).cloned() else { return Ok(()) };
    let _writing = conn.handover().writing(lane);
    for before in conn.before() {
        before.written(lane).await;
    }
    let stop = conn.handover().begun();
    let mut stream = None;
    while let Some(bytes) = outlet.next(stop).await {
        let send = match &mut stream {
            Some(send) => send,
            None => stream.insert(open(&conn, lane).await?),
        };
        conn.meters.of(Class::Lane).sent(bytes.len());
        send.write_chunk(bytes).await.map_err(|_| Fault::Lost)?;
    }
    if !stop.is_cancelled() {
        return Err(overdue(&conn));
    }
    // The peer waits for the end of each, so that one of which nothing was sent has one, too.
    let mut send = match stream {
        Some(send) => send,
        None => open(&conn, lane).await?,
    };
    send.finish().map_err(|_| Fault::Lost)
}

async fn open(conn: &Conn, lane: usize) -> Result<SendStream, Fault> {
    let mut send = conn.quic.open_uni().await.map_err(|_| Fault::Lost)?;
    // A stream that is gone already fails at the write that follows.
    let _ = send.set_priority(settings::priority(Class::Lane));
    let tag = [settings::TAG_ENTITY, u8::try_from(lane).unwrap_or(u8::MAX)];
    send.write_all(&tag).await.map_err(|_| Fault::Lost)?;
    Ok(send)
}

/// A lane that was closed while its connection stands has overrun [`HARD_BYTES`].
fn overdue(conn: &Conn) -> Fault {
    if conn.quic.close_reason().is_some() {
        return Fault::Lost;
    }
    FrameError::TooLarge { got: HARD_BYTES, limit: REPLY_BYTES }.into()
}

/// Takes one lane in: a stream that the peer opened; the tag has been read.
pub(super) async fn read(
    conn: Arc<Conn>,
    shared: Arc<Shared>,
    mut recv: RecvStream,
) -> Result<(), Fault> {
    if conn.handover().is_unused() {
        // The peer is told that it is not read.
        return Ok(());
    }
    let mut lane = [0];
    recv.read_exact(&mut lane).await.map_err(|_| Fault::Lost)?;
    let [lane] = lane;
    if usize::from(lane) >= settings::LANES {
        return Err(FrameError::Unknown { what: "lane", got: lane }.into());
    }
    for before in conn.before() {
        before.read(usize::from(lane)).await;
    }
    let peer = LanePeer { conn, lane: usize::from(lane) };
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    let mut bytes = BytesMut::new();
    let mut packets = Vec::new();
    loop {
        let count = match recv.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            Ok(None) if bytes.is_empty() => {
                peer.conn.handover().has_read(peer.lane);
                return Ok(());
            }
            Ok(None) => return Err(FrameError::Truncated.into()),
            Err(_) => return Err(Fault::Lost),
        };
        let total = chunks.iter().take(count).map(Bytes::len).sum();
        peer.conn.meters.of(Class::Lane).received(total);
        bytes.reserve(total);
        for chunk in chunks.iter_mut().take(count) {
            bytes.extend_from_slice(&std::mem::take(chunk));
        }
        while let Some(packet) = Packet::decode(&mut bytes)? {
            packets.push(packet);
        }
        if packets.is_empty() {
            continue;
        }
        match shared.lane_sink() {
            Some(sink) => sink.deliver(&peer, &mut packets)?,
            // A node that hosts no entities yet: the senders' deadlines tell them.
            None => packets.clear(),
        }
    }
}
