//! Counts what a connection carries, by class of traffic. Relaxed counters: they are read by people
//! and metrics, and order nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Class, ClassStats};

/// The counters of one class.
#[derive(Debug, Default)]
pub(super) struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    waiting_frames: AtomicU64,
    waiting_bytes: AtomicU64,
}

impl Meter {
    /// So many bytes were handed to QUIC.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes were taken from QUIC.
    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> ClassStats {
        ClassStats {
            sent_bytes: self.sent.load(Ordering::Relaxed),
            received_bytes: self.received.load(Ordering::Relaxed),
            waiting_frames: self.waiting_frames.load(Ordering::Relaxed),
            waiting_bytes: self.waiting_bytes.load(Ordering::Relaxed),
        }
    }
}

/// The counters of a connection.
#[derive(Debug, Default)]
pub(super) struct Meters {
    control: Meter,
    consensus: Meter,
    lane: Meter,
    bulk: Meter,
    pub(super) datagram: Meter,
}

impl Meters {
    pub(super) fn of(&self, class: Class) -> &Meter {
        match class {
            Class::Control => &self.control,
            Class::Consensus => &self.consensus,
            Class::Lane => &self.lane,
            Class::Bulk => &self.bulk,
        }
    }

    /// Counts a frame with a body of `bytes` as waiting for as long as the result lives.
    pub(super) fn wait(self: &Arc<Self>, class: Class, bytes: usize) -> Waits {
        let waits = Waits { meters: Arc::clone(self), class, bytes: bytes as u64 };
        let meter = self.of(class);
        meter.waiting_frames.fetch_add(1, Ordering::Relaxed);
        meter.waiting_bytes.fetch_add(waits.bytes, Ordering::Relaxed);
        waits
    }
}

/// A frame that waits for the wire.
#[derive(Debug)]
pub(super) struct Waits {
    meters: Arc<Meters>,
    class: Class,
    bytes: u64,
}

impl Drop for Waits {
    fn drop(&mut self) {
        let meter = self.meters.of(self.class);
        meter.waiting_frames.fetch_sub(1, Ordering::Relaxed);
        meter.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One direction of a control stream, counted. What uses it is not ours, so the bytes are counted
/// as they pass.
#[derive(Debug)]
pub(crate) struct Metered<T> {
    inner: T,
    meters: Arc<Meters>,
}

impl<T> Metered<T> {
    pub(super) fn new(inner: T, meters: &Arc<Meters>) -> Self {
        Self { inner, meters: Arc::clone(meters) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.meters.control.received(buf.filled().len().saturating_sub(before));
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = written {
            self.meters.control.sent(bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
