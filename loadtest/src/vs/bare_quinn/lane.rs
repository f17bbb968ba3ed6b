//! Frames on one stream: who sends queues them, one task writes what waits with one call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::{Buf as _, Bytes, BytesMut};
use odeum_proto::codec;
use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::remote::driver::Remote;

/// Frames that wait before the stream; then the sender waits.
const QUEUE: usize = 4_096;
/// Frames that are written with one call.
const BATCH: usize = 256;
/// Bytes that are read with one call.
const READ: usize = 64 << 10;
/// Bytes before a frame that say its length.
const PREFIX: usize = 4;
/// Largest transfer, in bytes.
const BLOB: usize = 64 << 20;

/// What crosses the stream.
#[derive(Debug, Serialize, Deserialize)]
enum Frame {
    Tell(Bytes),
    Ask { id: u64, body: Bytes },
    Count { id: u64 },
    Reply { id: u64, body: Bytes },
}

/// The driver's end of a connection.
#[derive(Clone)]
pub(super) struct Lane(Arc<Shared>);

struct Shared {
    connection: Connection,
    queue: mpsc::Sender<Frame>,
    next: AtomicU64,
    waiting: Waiting,
    /// Ends with the lane.
    _tasks: JoinSet<anyhow::Result<()>>,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>;

impl Lane {
    pub(super) async fn open(connection: Connection) -> anyhow::Result<Self> {
        let (send, recv) = connection.open_bi().await?;
        let (queue, frames) = mpsc::channel(QUEUE);
        let waiting = Waiting::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(write(send, frames));
        let answered = Arc::clone(&waiting);
        tasks.spawn(async move {
            let mut frames = Frames::new(recv);
            while let Some(frame) = frames.next().await? {
                let Frame::Reply { id, body } = frame else { continue };
                let waiter = answered.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                if let Some(waiter) = waiter {
                    // Who does not wait any more does not need it.
                    let _ = waiter.send(body);
                }
            }
            Ok(())
        });
        let next = AtomicU64::new(0);
        Ok(Self(Arc::new(Shared { connection, queue, next, waiting, _tasks: tasks })))
    }

    async fn request(&self, frame: impl FnOnce(u64) -> Frame) -> anyhow::Result<Bytes> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        self.0.queue.send(frame(id)).await?;
        Ok(answer.await?)
    }
}

impl Remote for Lane {
    async fn tell(&self, body: Bytes) -> anyhow::Result<()> {
        Ok(self.0.queue.send(Frame::Tell(body)).await?)
    }

    async fn count(&self) -> anyhow::Result<u64> {
        Ok(self.request(|id| Frame::Count { id }).await?.try_get_u64_le()?)
    }

    async fn ask(&self, body: Bytes) -> anyhow::Result<Bytes> {
        self.request(|id| Frame::Ask { id, body }).await
    }

    async fn blob(&self, body: Bytes) -> anyhow::Result<()> {
        let (mut send, mut recv) = self.0.connection.open_bi().await?;
        send.set_priority(-1)?;
        send.write_chunk(body).await?;
        send.finish()?;
        recv.read_to_end(PREFIX).await?;
        Ok(())
    }
}

/// Answers a driver: its first stream has messages, each other one a transfer.
pub(super) async fn serve(connection: Connection) -> anyhow::Result<()> {
    let (send, recv) = connection.accept_bi().await?;
    let (queue, frames) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    let (mailbox, messages) = mpsc::channel(QUEUE);
    tasks.spawn(write(send, frames));
    tasks.spawn(read(recv, mailbox));
    tasks.spawn(count(messages, queue));
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => ended??,
            stream = connection.accept_bi() => {
                let (mut send, mut recv) = stream?;
                tasks.spawn(async move {
                    recv.read_to_end(BLOB).await?;
                    send.write_all(b"done").await?;
                    Ok(send.finish()?)
                });
            }
        }
    }
}

/// Hands what comes to the counter.
async fn read(recv: RecvStream, mailbox: mpsc::Sender<Frame>) -> anyhow::Result<()> {
    let mut frames = Frames::new(recv);
    while let Some(frame) = frames.next().await? {
        mailbox.send(frame).await?;
    }
    Ok(())
}

/// The counter: a task with a mailbox, of which it takes what is there.
async fn count(
    mut mailbox: mpsc::Receiver<Frame>,
    replies: mpsc::Sender<Frame>,
) -> anyhow::Result<()> {
    let mut counted = 0_u64;
    let mut messages = Vec::with_capacity(BATCH);
    while mailbox.recv_many(&mut messages, BATCH).await > 0 {
        for message in messages.drain(..) {
            match message {
                Frame::Tell(_) => counted += 1,
                Frame::Ask { id, body } => replies.send(Frame::Reply { id, body }).await?,
                Frame::Count { id } => {
                    let body = Bytes::copy_from_slice(&counted.to_le_bytes());
                    replies.send(Frame::Reply { id, body }).await?;
                }
                Frame::Reply { .. } => anyhow::bail!("a reply that nobody asked for"),
            }
        }
    }
    Ok(())
}

async fn write(mut send: SendStream, mut queue: mpsc::Receiver<Frame>) -> anyhow::Result<()> {
    let mut waiting = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut waiting, BATCH).await > 0 {
        let mut batch = Vec::new();
        for frame in waiting.drain(..) {
            let start = batch.len();
            batch.extend_from_slice(&[0; PREFIX]);
            codec::encode_into(&frame, &mut batch)?;
            let length = u32::try_from(batch.len() - start - PREFIX)?;
            batch
                .get_mut(start..start + PREFIX)
                .context("no room for the length")?
                .copy_from_slice(&length.to_le_bytes());
        }
        send.write_chunk(batch.into()).await?;
    }
    Ok(())
}

/// Frames off a stream.
struct Frames {
    recv: RecvStream,
    buf: BytesMut,
}

impl Frames {
    fn new(recv: RecvStream) -> Self {
        Self { recv, buf: BytesMut::new() }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Frame>> {
        loop {
            if let Some(prefix) = self.buf.first_chunk::<PREFIX>() {
                let length = usize::try_from(u32::from_le_bytes(*prefix))?;
                if let Some(body) = self.buf.get(PREFIX..PREFIX + length) {
                    let frame = codec::decode(body)?;
                    self.buf.advance(PREFIX + length);
                    return Ok(Some(frame));
                }
            }
            match self.recv.read_chunk(READ, true).await? {
                Some(chunk) => self.buf.extend_from_slice(&chunk.bytes),
                None => return Ok(None),
            }
        }
    }
}
