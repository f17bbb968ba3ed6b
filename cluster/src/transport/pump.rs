//! What runs a connection: writes its queues, reads its streams, starts the work that peers ask
//! for, and ends all of it together.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use odeum_proto::NodeId;
use quinn::{RecvStream, SendStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::conn::{Conn, Outbox, Queued, Queues};
use super::frame::{self, Frame, FrameError};
use super::handle::Shared;
use super::meter::Meter;
use super::{Class, Serve, ServeError, Service, TransportError, bulk, handover, lane, settings};

/// Why a stream's task ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The peer sent what it must not: the connection is closed.
    #[error(transparent)]
    Protocol(#[from] FrameError),
    /// The stream or the connection is gone.
    #[error("the stream is gone")]
    Lost,
}

/// Ends the use of a connection, also when its task is aborted, before its first step even.
pub(super) struct End {
    conn: Arc<Conn>,
    shared: Arc<Shared>,
}

impl End {
    pub(super) fn of(conn: Arc<Conn>, shared: Arc<Shared>) -> Self {
        Self { conn, shared }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.remove(&self.conn);
        // Closing again would have another reason be known.
        if self.conn.quic.close_reason().is_none() {
            self.conn.quic.close(settings::CLOSE_ORDERLY, b"the link was stopped");
        }
        self.conn.close_waiting("the link was lost");
        self.conn.end_lanes(&self.shared);
        self.conn.handover().ended().cancel();
    }
}

/// Runs the connection of `end` until it is lost; returns why it was.
pub(super) async fn run(end: End, queues: Queues) -> TransportError {
    let (conn, shared) = (Arc::clone(&end.conn), Arc::clone(&end.shared));
    // Dropped before `end`: first the tasks end, then those who wait are failed.
    let mut tasks = JoinSet::new();
    tasks.spawn(outgoing(Arc::clone(&conn), Class::Consensus, queues.consensus));
    for queue in queues.lanes {
        tasks.spawn(outgoing(Arc::clone(&conn), Class::Lane, queue));
    }
    if !conn.handover().is_unused() {
        for lane in 0..settings::LANES {
            tasks.spawn(lane::write(Arc::clone(&conn), lane));
        }
    }
    tasks.spawn(handover::run(Arc::clone(&conn), Arc::clone(&shared)));
    let transfers = Arc::new(Semaphore::new(settings::BULK_TRANSFERS));
    let [consensus, lanes] =
        [(); 2].map(|()| Arc::new(Semaphore::new(settings::kib(settings::WORK_BYTES))));
    let quic = conn.quic.clone();
    loop {
        tokio::select! {
            biased;
            Some(ended) = tasks.join_next() => {
                if let Ok(Err(Fault::Protocol(error))) = ended {
                    tracing::warn!(peer = %conn.peer, %error, "peer broke the protocol");
                    quic.close(settings::CLOSE_PROTOCOL, error.to_string().as_bytes());
                }
            }
            stream = quic.accept_bi() => match stream {
                Ok((send, recv)) => {
                    let incoming = Incoming {
                        conn: Arc::clone(&conn),
                        shared: Arc::clone(&shared),
                        transfers: Arc::clone(&transfers),
                        consensus: Arc::clone(&consensus),
                        lanes: Arc::clone(&lanes),
                    };
                    tasks.spawn(incoming.serve(send, recv));
                }
                Err(error) => {
                    // Nothing of it is delivered behind what comes by the next connection.
                    tasks.shutdown().await;
                    drop(end);
                    return super::hello::lost(conn.addr(), error);
                }
            },
            // An error is the connection's, which the other accept tells, too.
            stream = quic.accept_uni() => if let Ok(recv) = stream {
                tasks.spawn(follow(Arc::clone(&conn), Arc::clone(&shared), recv));
            },
            datagram = quic.read_datagram() => if let Ok(bytes) = datagram {
                conn.meters.datagram.received(bytes.len());
                shared.datagram(&conn.peer, bytes);
            },
        }
    }
}

/// Takes a stream of one direction, which the peer opened.
async fn follow(conn: Arc<Conn>, shared: Arc<Shared>, mut recv: RecvStream) -> Result<(), Fault> {
    let mut tag = [0];
    recv.read_exact(&mut tag).await.map_err(|_| Fault::Lost)?;
    match tag {
        [settings::TAG_ENTITY] => lane::read(conn, shared, recv).await,
        [settings::TAG_GIVE_WAY] => handover::follow(&conn, &shared, recv).await,
        [got] => Err(FrameError::Unknown { what: "stream tag", got }.into()),
    }
}

/// Carries one queue of requests and their answers. The stream is opened with the first one.
async fn outgoing(
    conn: Arc<Conn>,
    class: Class,
    mut queue: mpsc::Receiver<Queued>,
) -> Result<(), Fault> {
    let Some(first) = queue.recv().await else { return Ok(()) };
    let (mut send, recv) = conn.quic.open_bi().await.map_err(|_| Fault::Lost)?;
    // A stream that is gone already fails at the write that follows.
    let _ = send.set_priority(settings::priority(class));
    let tag = if class == Class::Consensus { settings::TAG_CONSENSUS } else { settings::TAG_LANE };
    send.write_all(&[tag]).await.map_err(|_| Fault::Lost)?;
    let meter = conn.meters.of(class);
    let writing = write_frames(send, queue, Some(first), meter);
    let reading = read_answers(&conn, recv, meter);
    // Neither ends well before the connection does.
    tokio::select! {
        ended = writing => ended,
        ended = reading => ended,
    }
}

/// Writes frames as they come, many with one call when many wait.
async fn write_frames(
    mut send: SendStream,
    mut queue: mpsc::Receiver<Queued>,
    first: Option<Queued>,
    meter: &Meter,
) -> Result<(), Fault> {
    let mut waiting = Vec::with_capacity(settings::BATCH_FRAMES);
    waiting.extend(first);
    loop {
        if waiting.is_empty() && queue.recv_many(&mut waiting, settings::BATCH_FRAMES).await == 0 {
            return Ok(());
        }
        let mut chunks = Vec::new();
        let mut run = BytesMut::new();
        // The shares are given back when all is written, so that a queue's budget counts what
        // has not left yet.
        let mut shares = Vec::with_capacity(waiting.len());
        for Queued { frame, _share: share, _waits: waits } in waiting.drain(..) {
            shares.push((share, waits));
            run.reserve(frame::HEADER + frame.body_len().min(settings::COPY_BYTES));
            let body = frame.encode_header(&mut run);
            if body.len() <= settings::COPY_BYTES {
                run.extend_from_slice(&body);
            } else {
                chunks.push(run.split().freeze());
                chunks.push(body);
            }
        }
        if !run.is_empty() {
            chunks.push(run.freeze());
        }
        let bytes = chunks.iter().map(Bytes::len).sum();
        send.write_all_chunks(&mut chunks).await.map_err(|_| Fault::Lost)?;
        meter.sent(bytes);
    }
}

/// Frames off a stream.
struct Frames<'a> {
    recv: RecvStream,
    buf: BytesMut,
    meter: &'a Meter,
}

impl<'a> Frames<'a> {
    fn new(recv: RecvStream, meter: &'a Meter) -> Self {
        Self { recv, buf: BytesMut::new(), meter }
    }

    async fn next(&mut self) -> Result<Option<Frame>, Fault> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buf)? {
                return Ok(Some(frame));
            }
            match self.recv.read_chunk(settings::FRAGMENT, true).await {
                Ok(Some(chunk)) => {
                    self.meter.received(chunk.bytes.len());
                    self.buf.extend_from_slice(&chunk.bytes);
                }
                Ok(None) if self.buf.is_empty() => return Ok(None),
                Ok(None) => return Err(FrameError::Truncated.into()),
                Err(_) => return Err(Fault::Lost),
            }
        }
    }
}

async fn read_answers(conn: &Conn, recv: RecvStream, meter: &Meter) -> Result<(), Fault> {
    let mut frames = Frames::new(recv, meter);
    while let Some(frame) = frames.next().await? {
        match frame {
            Frame::Reply { id, body } => conn.answer(id, Ok(body)),
            Frame::Failure { id, error } => {
                conn.answer(id, Err(TransportError::Remote { peer: conn.peer.clone(), error }));
            }
            Frame::Request { .. } => return Err(unexpected("frame kind, a request")),
        }
    }
    Err(Fault::Lost)
}

fn unexpected(what: &'static str) -> Fault {
    FrameError::Unknown { what, got: 1 }.into()
}

/// A stream that the peer opened.
struct Incoming {
    conn: Arc<Conn>,
    shared: Arc<Shared>,
    transfers: Arc<Semaphore>,
    /// Budgets of the work that the peer's requests make, in KiB. Of their own, so that no flood
    /// of messages holds up consensus.
    consensus: Arc<Semaphore>,
    lanes: Arc<Semaphore>,
}

impl Incoming {
    async fn serve(self, send: SendStream, mut recv: RecvStream) -> Result<(), Fault> {
        let mut tag = [0];
        // A stream that ends before its tag was opened by someone who thought better of it.
        if recv.read_exact(&mut tag).await.is_err() {
            return Err(Fault::Lost);
        }
        let [tag] = tag;
        match tag {
            // The dialling side opens it. One from the other side is dropped, which resets it, and so
            // is one that would take the place of another connection's.
            settings::TAG_CONTROL
                if self.conn.dialled || self.conn.handover().begun().is_cancelled() =>
            {
                Ok(())
            }
            settings::TAG_CONTROL => {
                let _ = send.set_priority(settings::priority(Class::Control));
                self.shared.control_stream(self.conn.control_stream(send, recv));
                Ok(())
            }
            settings::TAG_CONSENSUS => self.serve_requests(Class::Consensus, send, recv).await,
            settings::TAG_LANE => self.serve_requests(Class::Lane, send, recv).await,
            settings::TAG_BULK => {
                let Ok(_turn) = self.transfers.acquire().await else { return Err(Fault::Lost) };
                bulk::serve(self.conn, self.shared.services.clone(), send, recv).await
            }
            got => Err(FrameError::Unknown { what: "stream tag", got }.into()),
        }
    }

    async fn serve_requests(
        self,
        class: Class,
        send: SendStream,
        recv: RecvStream,
    ) -> Result<(), Fault> {
        // As with `outgoing`: a stream that is gone fails at its next use.
        let _ = send.set_priority(settings::priority(class));
        let (outbox, queue) = Outbox::new(class, &self.conn.meters);
        let meter = self.conn.meters.of(class);
        let budget = if class == Class::Consensus { &self.consensus } else { &self.lanes };
        let reading = self.read_requests(Frames::new(recv, meter), outbox, budget);
        let writing = write_frames(send, queue, None, meter);
        tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        }
    }

    async fn read_requests(
        &self,
        mut frames: Frames<'_>,
        outbox: Outbox,
        budget: &Arc<Semaphore>,
    ) -> Result<(), Fault> {
        let mut work = JoinSet::new();
        loop {
            let frame = tokio::select! {
                biased;
                // Reaps what is done, so that the set does not grow.
                Some(_) = work.join_next() => continue,
                frame = frames.next() => frame?,
            };
            let (id, service, remaining, body) = match frame {
                Some(Frame::Request { id, service, remaining, body }) => {
                    (id, service, remaining, body)
                }
                Some(_) => return Err(unexpected("frame kind, an answer")),
                None => return Err(Fault::Lost),
            };
            let arrived = Instant::now();
            let cost = u32::try_from(settings::kib(body.len()) + 1).unwrap_or(u32::MAX);
            // Without room the stream is not read on, and QUIC makes the peer wait.
            let Ok(share) = Arc::clone(budget).acquire_many_owned(cost).await else {
                return Err(Fault::Lost);
            };
            let late = arrived.elapsed() > remaining;
            let answer = self.start(service, body, late);
            let outbox = outbox.clone();
            work.spawn(async move {
                let frame = match answer.await {
                    Ok(body) if body.len() <= frame::body_limit() => Frame::Reply { id, body },
                    Ok(_) => Frame::Failure { id, error: ServeError::TooLarge },
                    Err(error) => Frame::Failure { id, error },
                };
                outbox.push(frame).await;
                drop(share);
            });
        }
    }

    /// Calls the service now, for the order's sake, and returns its work.
    fn start(
        &self,
        service: Service,
        body: Bytes,
        late: bool,
    ) -> impl Future<Output = Result<Bytes, ServeError>> + Send + use<> {
        let peer = self.conn.peer.clone();
        let started = match self.shared.services.get(service) {
            None => Err(ServeError::NoService),
            Some(_) if late => Err(ServeError::Expired),
            Some(answerer) => begin(answerer.as_ref(), peer, body),
        };
        async move {
            match started {
                Ok(work) => work.await,
                Err(error) => Err(error),
            }
        }
    }
}

/// Starts a service's work on a request. Whatever part of it panics, the asker gets an answer.
pub(super) fn begin(
    answerer: &dyn Serve,
    peer: NodeId,
    body: Bytes,
) -> Result<impl Future<Output = Result<Bytes, ServeError>> + Send + use<>, ServeError> {
    let panicked = || ServeError::Failed { reason: "the service panicked".into() };
    let work = std::panic::catch_unwind(AssertUnwindSafe(|| answerer.serve(peer, body)))
        .map_err(|_| panicked())?;
    Ok(
        async move { AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(panicked())) },
    )
}
