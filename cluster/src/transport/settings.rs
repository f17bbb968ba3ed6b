//! The transport's numbers, each with its reason.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use odeum_proto::limits;
use quinn::{IdleTimeout, VarInt};
use socket2::SockRef;

use super::tls::Tls;
use super::{Class, TransportError};

/// A peer that is silent for so long is gone for QUIC. The failure detector is usually faster;
/// this is what ends the requests that wait for a dead peer. Also the bound of a handshake.
pub(super) const IDLE: Duration = Duration::from_secs(2);

/// Four signs of life within [`IDLE`]: three may be lost.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// Handshake and introduction together. Longer than [`IDLE`], so that a dead address is reported
/// as one by QUIC.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(3);

/// What an accepting node gives a refused peer to read why.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connection on which the peer gives way is used for want of another: the other's
/// introduction has succeeded there, and takes no longer here. The peer answers meanwhile.
pub(super) const YIELD_AFTER: Duration = HANDSHAKE;

/// How long a connection that gives way may stay for what is under way on it. It costs next to
/// nothing; requests that take longer fail as if the link was lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How often the certificate files are looked at. They change a few times a year; whoever changes
/// them wants to see it taken up before looking away. A look costs three `stat`s.
pub(super) const CERTS_LOOK: Duration = Duration::from_secs(2);

/// Handshakes of diallers at a time. Each costs signatures; the rest waits in the socket.
pub(super) const HANDSHAKES: usize = 64;

/// How long a refusal of a peer is not logged again in the same words.
pub(super) const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Refusals that are remembered for it.
pub(super) const TOLD: usize = 64;

/// Streams for entity messages. More spread a peer's messages over more queues; one slow reader
/// then holds up a smaller share of them.
pub(super) const LANES: usize = 4;

/// Bulk transfers at a time, per connection and direction. Each may hold
/// [`limits::BULK_BYTES`] in memory.
pub(super) const BULK_TRANSFERS: usize = 4;

/// A write of bulk data, in bytes: between two of them a more urgent stream gets its turn.
pub(super) const FRAGMENT: usize = 64 << 10;

/// Streams of one direction that a peer may have open towards us: its lanes, and the one by which it
/// gives way.
const ONE_WAY_STREAMS: u32 = LANES as u32 + 1;

/// Streams a peer may have open towards us: its lanes and consensus, its bulk transfers, its
/// control stream, and as many again for those that are closing.
const STREAMS: u32 = 32;

/// What may be on its way in one stream, in bytes: the bandwidth-delay product of 1 Gbit/s over
/// 8 ms; a transfer over a longer path is slower than that, and there are four at a time. More lets
/// transfers pile up at the receiver before small messages that came later, which no priority at
/// the sender can undo: with 4 MiB a question beside two transfers waited half as long again.
const STREAM_WINDOW: u32 = 1 << 20;

/// What may be on its way in a connection, in bytes: more than all its streams together, so that
/// streams nobody reads at the moment cannot hold up the consensus stream.
const CONNECTION_WINDOW: u32 = 20 * STREAM_WINDOW;

/// Unacknowledged bytes that are kept for sending again.
const SEND_WINDOW: u64 = 16 << 20;

/// Datagrams waiting for their reader or for the wire, in bytes: some hundred probes.
pub(super) const DATAGRAM_BUFFER: usize = 256 << 10;

/// Socket buffers, in bytes: a burst of a full window must not be dropped by the kernel (which
/// may grant less: `net.core.rmem_max`).
pub const UDP_BUFFER: usize = 8 << 20;

/// What may wait before one stream, in bytes and in frames; then the sender waits.
pub(super) const OUTBOX_BYTES: usize = 16 << 20;
/// See [`OUTBOX_BYTES`].
pub(super) const OUTBOX_FRAMES: usize = 4_096;

/// Requests of a peer that are worked on at a time, in bytes, for consensus and for all lanes
/// each. Every request costs a KiB more than its body, which bounds their number too. Then the
/// stream is not read on, and QUIC makes the peer wait.
pub(super) const WORK_BYTES: usize = 16 << 20;

/// Bodies up to this many bytes are copied behind their header, larger ones handed on as they
/// are: below it a copy is cheaper than a chunk of its own.
pub(super) const COPY_BYTES: usize = 4 << 10;

/// Frames that are written with one call, and read with one.
pub(super) const BATCH_FRAMES: usize = 256;

/// The first byte of a stream: what it carries.
pub(super) const TAG_CONTROL: u8 = 1;
/// Pipelined consensus requests.
pub(super) const TAG_CONSENSUS: u8 = 2;
/// Pipelined lane requests.
pub(super) const TAG_LANE: u8 = 3;
/// One transfer.
pub(super) const TAG_BULK: u8 = 4;
/// One way of an entity lane; the lane's number follows.
pub(super) const TAG_ENTITY: u8 = 5;

/// This side gives way to another connection.
pub(super) const TAG_GIVE_WAY: u8 = 6;

/// Why a connection was closed, for the other side's log.
pub(super) const CLOSE_ORDERLY: VarInt = VarInt::from_u32(0);
/// The peer sent what it must not.
pub(super) const CLOSE_PROTOCOL: VarInt = VarInt::from_u32(1);
/// Another connection between the two nodes stays.
pub(super) const CLOSE_DUPLICATE: VarInt = VarInt::from_u32(2);
/// The introduction did not fit.
pub(super) const CLOSE_REFUSED: VarInt = VarInt::from_u32(3);

/// Higher goes first whenever both have something to send.
pub(super) fn priority(class: Class) -> i32 {
    match class {
        Class::Control => 3,
        Class::Consensus => 2,
        Class::Lane => 1,
        Class::Bulk => 0,
    }
}

/// Bytes in whole KiB: the unit of budgets, since a semaphore counts in 32 bits.
pub(super) const fn kib(bytes: usize) -> usize {
    bytes / 1_024
}

/// The socket, bound before anything else so that a port in use is an error of the start.
pub(super) fn bind(addr: SocketAddr) -> Result<UdpSocket, TransportError> {
    let listen = |error: std::io::Error| TransportError::Listen { addr, kind: error.kind() };
    let socket = UdpSocket::bind(addr).map_err(listen)?;
    socket.set_nonblocking(true).map_err(listen)?;
    let options = SockRef::from(&socket);
    // The kernel caps these silently; a refusal costs speed, not function.
    let _ = options.set_recv_buffer_size(UDP_BUFFER);
    let _ = options.set_send_buffer_size(UDP_BUFFER);
    Ok(socket)
}

/// QUIC's settings, the same for both roles. Segmentation offload, Cubic and path MTU discovery
/// stay as quinn has them: measured best. So does when packets are acknowledged: fewer packets that
/// only acknowledge (quinn 0.11's `AckFrequencyConfig`, every fifth, 5 ms at most) spared a lone write
/// some 8 % of its time, but in 3 of 80 kills of a node a stream between two others stood still.
fn transport() -> quinn::TransportConfig {
    let mut config = quinn::TransportConfig::default();
    config
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(ONE_WAY_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER);
    config
}

pub(super) fn server(tls: &Tls) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(Arc::clone(&tls.server) as _);
    // A peer at another address is dialled anew there: see the module's front page.
    config.migration(false).transport_config(Arc::new(transport()));
    config
}

pub(super) fn client(tls: &Tls) -> quinn::ClientConfig {
    let mut config = quinn::ClientConfig::new(Arc::clone(&tls.client) as _);
    config.transport_config(Arc::new(transport()));
    config
}

// A bulk transfer and a frame must fit the budgets that are to let them pass.
const _: () = assert!(kib(limits::FRAME_BYTES) < kib(OUTBOX_BYTES));
const _: () = assert!(kib(limits::FRAME_BYTES) < kib(WORK_BYTES));
