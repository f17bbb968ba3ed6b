//! Frames: requests and replies as bytes on a stream, and back. Pure.
//!
//! A hand-written header instead of a codec's, because it is read and written for every message:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | length of what follows, little endian |
//! | 1 | kind: 1 request, 2 reply, 3 failure |
//! | 8 | correlation id, little endian |
//! | 3 | request only: service tag, group, little endian |
//! | 4 | request only: what is left of the deadline, in ms, little endian |
//! | 1 | failure only: code |
//! | … | body (of a failure: a text) |
//!
//! A length is checked against [`limits::FRAME_BYTES`] before anything is reserved for it.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use odeum_proto::{GroupId, limits};

use super::{ServeError, Service};

/// Bytes of the length field.
const LENGTH: usize = 4;
/// Bytes of kind and correlation id.
const COMMON: usize = 9;
/// Bytes of a request's own header fields.
const REQUEST: usize = 7;
/// Most bytes of header before a body.
pub(super) const HEADER: usize = LENGTH + COMMON + REQUEST;
/// Longest text of a failure, in bytes: one line of a log.
pub(super) const FAILURE_BYTES: usize = 512;

const KIND_REQUEST: u8 = 1;
const KIND_REPLY: u8 = 2;
const KIND_FAILURE: u8 = 3;

/// One message on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Asks something.
    Request {
        /// Matches the reply to it; unique among the requests of a connection's side.
        id: u64,
        /// Who shall answer.
        service: Service,
        /// What is left of the asker's deadline. Relative, because clocks differ.
        remaining: Duration,
        /// The question.
        body: Bytes,
    },
    /// Answers a request.
    Reply {
        /// The request's id.
        id: u64,
        /// The answer.
        body: Bytes,
    },
    /// Says that there will be no answer, and why.
    Failure {
        /// The request's id.
        id: u64,
        /// Why.
        error: ServeError,
    },
}

/// Bytes that are no frame. The connection they came on is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame claims more than its bound.
    #[error("a frame of {got} bytes where at most {limit} are allowed")]
    TooLarge {
        /// The claim.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// The frame is shorter than its own header.
    #[error("a frame of {got} bytes is shorter than its header")]
    TooShort {
        /// Its length.
        got: usize,
    },
    /// A kind, service or code of another protocol.
    #[error("unknown {what} {got}")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// Its value.
        got: u8,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
}

impl Frame {
    /// Bytes of the body; what budgets count.
    pub(super) fn body_len(&self) -> usize {
        match self {
            Self::Request { body, .. } | Self::Reply { body, .. } => body.len(),
            Self::Failure { .. } => 0,
        }
    }

    /// Appends everything but a request's or reply's body, which is returned: the caller chooses
    /// whether to copy it or to hand it on as it is. Its length must be within
    /// [`body_limit`]; longer ones are refused where they enter the transport.
    pub(super) fn encode_header(self, out: &mut BytesMut) -> Bytes {
        match self {
            Self::Request { id, service, remaining, body } => {
                put_common(out, REQUEST + body.len(), KIND_REQUEST, id);
                let (tag, group) = service.to_wire();
                out.put_u8(tag);
                out.put_u16_le(group);
                out.put_u32_le(u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX));
                body
            }
            Self::Reply { id, body } => {
                put_common(out, body.len(), KIND_REPLY, id);
                body
            }
            Self::Failure { id, error } => {
                let (code, text) = error.to_wire();
                let text = clip(text, FAILURE_BYTES);
                put_common(out, 1 + text.len(), KIND_FAILURE, id);
                out.put_u8(code);
                out.put_slice(text.as_bytes());
                Bytes::new()
            }
        }
    }

    /// Takes the next whole frame off `buf`; `None` when more bytes are needed.
    ///
    /// Nothing is reserved here: the caller appends bytes as they come, so a lying length makes
    /// nobody allocate.
    pub(super) fn decode(buf: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(length) = buf.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > limits::FRAME_BYTES {
            return Err(FrameError::TooLarge { got: length, limit: limits::FRAME_BYTES });
        }
        if length < COMMON {
            return Err(FrameError::TooShort { got: length });
        }
        if buf.len() < LENGTH + length {
            return Ok(None);
        }
        buf.advance(LENGTH);
        Self::decode_body(buf.split_to(length).freeze()).map(Some)
    }

    /// A frame without its length field; at least [`COMMON`] bytes.
    fn decode_body(mut bytes: Bytes) -> Result<Self, FrameError> {
        let got = bytes.len();
        let short =
            |missing: bool| if missing { Err(FrameError::TooShort { got }) } else { Ok(()) };
        let kind = bytes.get_u8();
        let id = bytes.get_u64_le();
        match kind {
            KIND_REQUEST => {
                short(bytes.len() < REQUEST)?;
                let tag = bytes.get_u8();
                let service = Service::from_wire(tag, bytes.get_u16_le())
                    .ok_or(FrameError::Unknown { what: "service", got: tag })?;
                let remaining = Duration::from_millis(bytes.get_u32_le().into());
                Ok(Self::Request { id, service, remaining, body: bytes })
            }
            KIND_REPLY => Ok(Self::Reply { id, body: bytes }),
            KIND_FAILURE => {
                short(bytes.is_empty())?;
                let code = bytes.get_u8();
                let text = String::from_utf8_lossy(&bytes);
                let error = ServeError::from_wire(code, clip(&text, FAILURE_BYTES))
                    .ok_or(FrameError::Unknown { what: "failure code", got: code })?;
                Ok(Self::Failure { id, error })
            }
            got => Err(FrameError::Unknown { what: "frame kind", got }),
        }
    }
}

/// Largest body of a request or reply on the control, consensus and lane classes.
pub(super) const fn body_limit() -> usize {
    limits::FRAME_BYTES - COMMON - REQUEST
}

fn put_common(out: &mut BytesMut, rest: usize, kind: u8, id: u64) {
    out.put_u32_le(u32::try_from(COMMON + rest).unwrap_or(u32::MAX));
    out.put_u8(kind);
    out.put_u64_le(id);
}

/// The longest prefix of `text` with at most `limit` bytes.
pub(super) fn clip(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl Service {
    const RAFT: u8 = 1;
    const STORE: u8 = 2;
    const CALL: u8 = 3;
    const BLOB: u8 = 4;
    const JOIN: u8 = 5;
    const FIRMWARE: u8 = 6;
    const TOPIC: u8 = 7;
    const CLOCK: u8 = 8;
    const CHRONICLE: u8 = 9;
    const MOVE: u8 = 10;
    const RESTART: u8 = 11;
    const HANDOVER: u8 = 12;
    /// The group number of [`GroupId::Control`]; data groups count from 0.
    const CONTROL: u16 = u16::MAX;

    pub(super) fn to_wire(self) -> (u8, u16) {
        let group = |group| match group {
            GroupId::Control => Self::CONTROL,
            GroupId::Data(n) => n,
        };
        match self {
            Self::Raft(g) => (Self::RAFT, group(g)),
            Self::Store(g) => (Self::STORE, group(g)),
            Self::Call => (Self::CALL, 0),
            Self::Blob => (Self::BLOB, 0),
            Self::Join => (Self::JOIN, 0),
            Self::Firmware => (Self::FIRMWARE, 0),
            Self::Topic => (Self::TOPIC, 0),
            Self::Clock => (Self::CLOCK, 0),
            Self::Chronicle => (Self::CHRONICLE, 0),
            Self::Move => (Self::MOVE, 0),
            Self::Restart => (Self::RESTART, 0),
            Self::Handover => (Self::HANDOVER, 0),
        }
    }

    pub(super) fn from_wire(tag: u8, group: u16) -> Option<Self> {
        let group = if group == Self::CONTROL { GroupId::Control } else { GroupId::Data(group) };
        match tag {
            Self::RAFT => Some(Self::Raft(group)),
            Self::STORE => Some(Self::Store(group)),
            Self::CALL => Some(Self::Call),
            Self::BLOB => Some(Self::Blob),
            Self::JOIN => Some(Self::Join),
            Self::FIRMWARE => Some(Self::Firmware),
            Self::TOPIC => Some(Self::Topic),
            Self::CLOCK => Some(Self::Clock),
            Self::CHRONICLE => Some(Self::Chronicle),
            Self::MOVE => Some(Self::Move),
            Self::RESTART => Some(Self::Restart),
            Self::HANDOVER => Some(Self::Handover),
            _ => None,
        }
    }
}

impl ServeError {
    pub(super) fn to_wire(&self) -> (u8, &str) {
        match self {
            Self::NoService => (1, ""),
            Self::Expired => (2, ""),
            Self::TooLarge => (3, ""),
            Self::Busy { reason } => (4, reason),
            Self::Failed { reason } => (5, reason),
        }
    }

    pub(super) fn from_wire(code: u8, text: &str) -> Option<Self> {
        match code {
            1 => Some(Self::NoService),
            2 => Some(Self::Expired),
            3 => Some(Self::TooLarge),
            4 => Some(Self::Busy { reason: text.into() }),
            5 => Some(Self::Failed { reason: text.into() }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(frame: Frame) -> BytesMut {
        let mut out = BytesMut::new();
        let body = frame.encode_header(&mut out);
        out.put_slice(&body);
        out
    }

    fn services() -> impl Strategy<Value = Service> {
        // A data group with the number that stands for the control group does not exist.
        let group = prop_oneof![Just(GroupId::Control), (0..u16::MAX).prop_map(GroupId::Data),];
        prop_oneof![
            group.clone().prop_map(Service::Raft),
            group.prop_map(Service::Store),
            Just(Service::Call),
            Just(Service::Blob),
            Just(Service::Join),
            Just(Service::Firmware),
            Just(Service::Topic),
            Just(Service::Clock),
            Just(Service::Chronicle),
            Just(Service::Move),
            Just(Service::Restart),
            Just(Service::Handover),
        ]
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let body = proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        prop_oneof![
            (any::<u64>(), services(), any::<u32>(), body.clone()).prop_map(
                |(id, service, ms, body)| Frame::Request {
                    id,
                    service,
                    remaining: Duration::from_millis(ms.into()),
                    body
                }
            ),
            (any::<u64>(), body).prop_map(|(id, body)| Frame::Reply { id, body }),
            (any::<u64>(), "[a-zä]{0,40}").prop_map(|(id, text)| Frame::Failure {
                id,
                error: ServeError::Failed { reason: text.into() }
            }),
        ]
    }

    /// When this fails, undo the change or raise `wire::MAJOR`.
    #[test]
    fn the_bytes_of_this_wire_version_stay() {
        let request = |service| {
            let remaining = Duration::from_millis(0x0102);
            encode(Frame::Request { id: 7, service, remaining, body: Bytes::from_static(b"hi") })
        };
        for (service, tag, group) in [
            (Service::Raft(GroupId::Control), 1, [0xff, 0xff]),
            (Service::Store(GroupId::Data(3)), 2, [3, 0]),
            (Service::Call, 3, [0, 0]),
            (Service::Blob, 4, [0, 0]),
            (Service::Join, 5, [0, 0]),
            (Service::Firmware, 6, [0, 0]),
            (Service::Topic, 7, [0, 0]),
            (Service::Clock, 8, [0, 0]),
            (Service::Chronicle, 9, [0, 0]),
            (Service::Move, 10, [0, 0]),
            (Service::Restart, 11, [0, 0]),
            (Service::Handover, 12, [0, 0]),
        ] {
            let head = [18, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, tag];
            let expected = [&head[..], &group, &[2, 1, 0, 0], b"hi"].concat();
            assert_eq!(request(service), expected, "{service:?}");
        }
        let reply = encode(Frame::Reply { id: 7, body: Bytes::from_static(b"ok") });
        assert_eq!(reply, &b"\x0b\0\0\0\x02\x07\0\0\0\0\0\0\0ok"[..]);
        for (error, code) in [
            (ServeError::NoService, 1),
            (ServeError::Expired, 2),
            (ServeError::TooLarge, 3),
            (ServeError::Busy { reason: "".into() }, 4),
            (ServeError::Failed { reason: "".into() }, 5),
        ] {
            let expected = [10, 0, 0, 0, 3, 7, 0, 0, 0, 0, 0, 0, 0, code];
            assert_eq!(encode(Frame::Failure { id: 7, error }), &expected[..], "{code}");
        }
    }

    #[test]
    fn a_lying_length_is_refused_before_its_bytes_come() {
        let mut buf = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        let capacity = buf.capacity();
        assert!(matches!(Frame::decode(&mut buf), Err(FrameError::TooLarge { .. })));
        assert_eq!(buf.capacity(), capacity);
    }

    #[test]
    fn the_largest_body_fits_a_frame() {
        let body = Bytes::from(vec![7; body_limit()]);
        let frame = Frame::Request {
            id: 1,
            service: Service::Call,
            remaining: Duration::from_secs(1),
            body,
        };
        let mut bytes = encode(frame.clone());
        assert_eq!(Frame::decode(&mut bytes), Ok(Some(frame)));
    }

    proptest! {
        #[test]
        fn frames_survive_a_stream_cut_anywhere(
            sent in proptest::collection::vec(frames(), 1..8),
            cut in 1_usize..64,
        ) {
            let stream: Vec<u8> = sent.iter().cloned().flat_map(|f| encode(f).to_vec()).collect();
            let mut buf = BytesMut::new();
            let mut got = Vec::new();
            for piece in stream.chunks(cut) {
                buf.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buf).expect("valid") {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(buf.is_empty());
        }

        #[test]
        fn any_bytes_are_frames_or_errors_but_no_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut buf = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut buf) {}
        }
    }
}
