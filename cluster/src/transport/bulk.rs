//! Bulk transfers: one stream each, of the lowest priority, written in fragments, so that a
//! package of many megabytes never delays a ping.
//!
//! | question | answer |
//! |---|---|
//! | 1 tag, 1 service, 2 group, 4 remaining ms, 8 length, body | 1 code (0 is an answer), 8 length, body |
//!
//! Numbers are little endian. A length is checked against [`limits::BULK_BYTES`], and memory
//! grows with what arrives, not with what is announced (see [`BELIEF`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use odeum_proto::limits;
use quinn::{ReadExactError, RecvStream, SendStream};
use tokio::time::Instant;

use super::conn::{Answer, Conn};
use super::frame::{FAILURE_BYTES, FrameError, clip};
use super::meter::Meter;
use super::pump::{self, Fault};
use super::{Class, Request, ServeError, Service, Services, TransportError, settings};

const QUESTION: usize = 15;
const ANSWER: usize = 9;
/// Bytes of one transfer that are copied before other tasks get their turn: a tenth of a
/// millisecond. QUIC does not ask its readers to pause, and a whole window would delay every
/// small message of the thread.
const TURN: usize = 256 << 10;
/// How many times what has arrived is reserved for what is announced: a transfer of many
/// megabytes is moved in memory twice or thrice while it grows, and who announces much and sends
/// little costs little.
const BELIEF: usize = 15;
/// Chunks taken off a stream at once.
const CHUNKS: usize = 64;
/// The code of an answer; others are those of [`ServeError`].
const ANSWERED: u8 = 0;

/// A question that is given up half-written is taken back: a stream that is merely dropped ends
/// as if it were complete, and the peer would take the rest for a breach of the protocol.
struct Whole {
    send: SendStream,
    written: bool,
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.written {
            // It may have ended already.
            let _ = self.send.reset(settings::CLOSE_ORDERLY);
        }
    }
}

/// Asks over a stream of its own.
pub(super) async fn request(conn: &Conn, request: Request, until: Instant) -> Answer {
    let meter = conn.meters.of(Class::Bulk);
    let waits = conn.meters.wait(Class::Bulk, request.body.len());
    let _turn = conn.bulk.acquire().await.map_err(|_| conn.lost())?;
    let (send, mut recv) = conn.quic.open_bi().await.map_err(|_| conn.lost())?;
    let mut send = Whole { send, written: false };
    // A stream that is gone already fails at the write that follows.
    let _ = send.send.set_priority(settings::priority(Class::Bulk));
    let (tag, group) = request.service.to_wire();
    let remaining = until.saturating_duration_since(Instant::now());
    let mut head = BytesMut::with_capacity(1 + QUESTION);
    head.put_u8(settings::TAG_BULK);
    head.put_u8(tag);
    head.put_u16_le(group);
    head.put_u32_le(u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX));
    head.put_u64_le(request.body.len() as u64);

    // The peer may answer (that it is busy, say) before it has read the question: both at once.
    let asking = async {
        send.written = write(&mut send.send, head.freeze(), request.body, meter).await.is_ok();
        drop(waits);
        std::future::pending().await
    };
    let answer = tokio::select! {
        answer = read_answer(&mut recv, meter) => answer,
        never = asking => never,
    };
    match answer {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(TransportError::Remote { peer: conn.peer.clone(), error }),
        Err(Fault::Protocol(error)) => {
            conn.quic.close(settings::CLOSE_PROTOCOL, error.to_string().as_bytes());
            Err(conn.unreachable("it sent a malformed answer"))
        }
        Err(Fault::Lost) => Err(conn.lost()),
    }
}

/// Answers one transfer; the tag has been read.
pub(super) async fn serve(
    conn: Arc<Conn>,
    services: Services,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), Fault> {
    let _ = send.set_priority(settings::priority(Class::Bulk));
    let mut head = [0; QUESTION];
    let meter = conn.meters.of(Class::Bulk);
    // The tag, which whoever asks counts as a part of the question.
    meter.received(1);
    read_exact(&mut recv, &mut head, meter).await?;
    let arrived = Instant::now();
    let mut head = &head[..];
    let tag = head.get_u8();
    let service = Service::from_wire(tag, head.get_u16_le())
        .ok_or(FrameError::Unknown { what: "service", got: tag })?;
    let remaining = Duration::from_millis(head.get_u32_le().into());
    let body = read_body(&mut recv, head.get_u64_le(), limits::BULK_BYTES, meter).await?;
    let outcome = match services.get(service) {
        None => Err(ServeError::NoService),
        Some(_) if arrived.elapsed() > remaining => Err(ServeError::Expired),
        Some(answerer) => match pump::begin(answerer.as_ref(), conn.peer.clone(), body) {
            Ok(work) => work.await,
            Err(error) => Err(error),
        },
    };
    let outcome = outcome.and_then(|body| match body.len() {
        length if length > limits::BULK_BYTES => Err(ServeError::TooLarge),
        _ => Ok(body),
    });
    let (code, body) = match outcome {
        Ok(body) => (ANSWERED, body),
        Err(error) => {
            let (code, text) = error.to_wire();
            (code, Bytes::copy_from_slice(clip(text, FAILURE_BYTES).as_bytes()))
        }
    };
    let mut head = BytesMut::with_capacity(ANSWER);
    head.put_u8(code);
    head.put_u64_le(body.len() as u64);
    let _waits = conn.meters.wait(Class::Bulk, body.len());
    write(&mut send, head.freeze(), body, meter).await
}

async fn read_answer(
    recv: &mut RecvStream,
    meter: &Meter,
) -> Result<Result<Bytes, ServeError>, Fault> {
    let mut head = [0; ANSWER];
    read_exact(recv, &mut head, meter).await?;
    let mut head = &head[..];
    let code = head.get_u8();
    let limit = if code == ANSWERED { limits::BULK_BYTES } else { FAILURE_BYTES };
    let body = read_body(recv, head.get_u64_le(), limit, meter).await?;
    if code == ANSWERED {
        return Ok(Ok(body));
    }
    let error = ServeError::from_wire(code, &String::from_utf8_lossy(&body))
        .ok_or(FrameError::Unknown { what: "failure code", got: code })?;
    Ok(Err(error))
}

async fn write(
    send: &mut SendStream,
    head: Bytes,
    mut body: Bytes,
    meter: &Meter,
) -> Result<(), Fault> {
    let length = head.len();
    send.write_chunk(head).await.map_err(|_| Fault::Lost)?;
    meter.sent(length);
    while !body.is_empty() {
        let fragment = body.split_to(body.len().min(settings::FRAGMENT));
        let length = fragment.len();
        send.write_chunk(fragment).await.map_err(|_| Fault::Lost)?;
        meter.sent(length);
    }
    send.finish().map_err(|_| Fault::Lost)
}

async fn read_exact(recv: &mut RecvStream, into: &mut [u8], meter: &Meter) -> Result<(), Fault> {
    meter.received(into.len());
    recv.read_exact(into).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(_) => FrameError::Truncated.into(),
        ReadExactError::ReadError(_) => Fault::Lost,
    })
}

/// How many bytes to make room for, of `left` that are announced, when `arrived` have come behind
/// `before`: the more has come, the more of the rest is believed.
fn room(left: usize, arrived: usize, before: usize) -> usize {
    left.min(arrived + BELIEF * before)
}

/// A body of exactly the announced length.
async fn read_body(
    recv: &mut RecvStream,
    length: u64,
    limit: usize,
    meter: &Meter,
) -> Result<Bytes, Fault> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::TooLarge { got: length, limit }.into());
    }
    let mut body = BytesMut::new();
    // Many at a time: QUIC hands out a packet's worth each, and each call takes its lock.
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    let mut turn = 0;
    loop {
        let count = match recv.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            Ok(None) if body.len() == length => return Ok(body.freeze()),
            Ok(None) => return Err(FrameError::Truncated.into()),
            Err(_) => return Err(Fault::Lost),
        };
        let arrived: usize = chunks.iter().take(count).map(Bytes::len).sum();
        meter.received(arrived);
        if body.len() + arrived > length {
            let got = body.len() + arrived;
            return Err(FrameError::TooLarge { got, limit: length }.into());
        }
        if body.capacity() - body.len() < arrived {
            body.reserve(room(length - body.len(), arrived, body.len()));
        }
        for chunk in chunks.iter_mut().take(count) {
            body.extend_from_slice(&std::mem::take(chunk));
        }
        turn += arrived;
        if turn >= TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}
