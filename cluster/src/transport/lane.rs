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
//! connection at [`HARD_BYTES`]. Nothing that a reader does waits for a writer, because two nodes
//! whose readers wait for each other would wait for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use odeum_proto::NodeId;
use quinn::{RecvStream, SendStream};
use tokio::sync::Notify;

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

    /// A connection is over: what was sent by it and not answered will not be.
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

    /// Whether both are the same lane of the same connection.
    pub(crate) fn is_same_link(&self, other: &Self) -> bool {
        self.lane == other.lane && Arc::ptr_eq(&self.conn, &other.conn)
    }

    /// Whether the connection is over: no answer reaches the peer any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.conn.quic.close_reason().is_some()
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

/// The sending end of one lane of one connection.
pub(crate) struct Outlet {
    buffer: Mutex<Buffer>,
    filled: Notify,
    space: Notify,
    generation: u64,
    sent: AtomicU64,
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
            generation,
            sent: AtomicU64::new(0),
        })
    }

    /// The connection it belongs to.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes that wait.
    pub(crate) fn depth(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Bytes that were handed to QUIC.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
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
    pub(super) fn close(&self) {
        let mut buffer = self.lock();
        buffer.open = false;
        buffer.bytes = BytesMut::new();
        drop(buffer);
        self.space.notify_waiters();
        self.filled.notify_one();
    }

    /// All that waits; waits for something. `None` when the lane is closed.
    async fn next(&self) -> Option<Bytes> {
        loop {
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

/// Carries one lane outward. Its stream is opened with the first packet.
pub(super) async fn write(conn: Arc<Conn>, lane: usize) -> Result<(), Fault> {
    let Some(outlet) = conn.lane(lane).cloned() else { return Ok(()) };
    let Some(mut bytes) = outlet.next().await else { return Err(overdue(&conn)) };
    let mut send: SendStream = conn.quic.open_uni().await.map_err(|_| Fault::Lost)?;
    // A stream that is gone already fails at the write that follows.
    let _ = send.set_priority(settings::priority(Class::Lane));
    let tag = [settings::TAG_ENTITY, u8::try_from(lane).unwrap_or(u8::MAX)];
    send.write_all(&tag).await.map_err(|_| Fault::Lost)?;
    loop {
        outlet.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        send.write_chunk(bytes).await.map_err(|_| Fault::Lost)?;
        bytes = match outlet.next().await {
            Some(bytes) => bytes,
            None => return Err(overdue(&conn)),
        };
    }
}

/// A lane that was closed while its connection stands has overrun [`HARD_BYTES`].
fn overdue(conn: &Conn) -> Fault {
    if conn.quic.close_reason().is_some() {
        return Fault::Lost;
    }
    FrameError::TooLarge { got: HARD_BYTES, limit: REPLY_BYTES }.into()
}

/// Takes one lane in: a stream that the peer opened.
pub(super) async fn read(
    conn: Arc<Conn>,
    shared: Arc<Shared>,
    mut recv: RecvStream,
) -> Result<(), Fault> {
    let mut tag = [0; 2];
    if recv.read_exact(&mut tag).await.is_err() {
        return Err(Fault::Lost);
    }
    let [tag, lane] = tag;
    if tag != settings::TAG_ENTITY {
        return Err(FrameError::Unknown { what: "stream tag", got: tag }.into());
    }
    if usize::from(lane) >= settings::LANES {
        return Err(FrameError::Unknown { what: "lane", got: lane }.into());
    }
    let peer = LanePeer { conn, lane: usize::from(lane) };
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    let mut bytes = BytesMut::new();
    let mut packets = Vec::new();
    loop {
        let count = match recv.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            Ok(None) | Err(_) => return Err(Fault::Lost),
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
