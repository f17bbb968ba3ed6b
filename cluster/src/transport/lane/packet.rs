//! What travels on a lane, as bytes and back. Pure.
//!
//! Written by hand, because it is read and written for every message:
//!
//! | bytes | field | in |
//! |---|---|---|
//! | 4 | length of what follows, little endian | all |
//! | 1 | kind | all |
//! | 8 | call number | ask, reply, failure, fence, fenced |
//! | 8 | epoch that the sender believes in | tell, ask |
//! | 4 | what is left of the deadline, in ms | ask |
//! | 1 + n | idempotency key, empty for none | ask |
//! | 2 + n | entity, `kind/key` | tell, ask, fence, pause, resume |
//! | … | body; of a bounce, the packet that came back, whole | tell, ask, reply, failure, bounce |
//!
//! A length is checked before anything is reserved for it.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use odeum_proto::{
    Epoch,
    codec::{self, EncodeError},
    limits,
};
use serde::Serialize;

use crate::transport::frame::FrameError;

/// Bytes of the length field.
const LENGTH: usize = 4;

/// Most bytes of a packet besides its body.
const HEADER: usize = 1 + 8 + 8 + 4 + 1 + limits::REQUEST_ID_BYTES + 2 + PATH_BYTES;

/// Bytes of the length of a path.
const PATH_LENGTH: usize = 2;

/// Longest `kind/key`, in bytes.
const PATH_BYTES: usize = limits::NAME_BYTES + 1 + limits::KEY_BYTES;

/// Longest packet: a bounce around the largest message.
const PACKET_BYTES: usize = limits::MESSAGE_BYTES + 2 * HEADER;

const TELL: u8 = 1;
const ASK: u8 = 2;
const REPLY: u8 = 3;
const FAILURE: u8 = 4;
const BOUNCE: u8 = 5;
const FENCE: u8 = 6;
const FENCED: u8 = 7;
const PAUSE: u8 = 8;
const RESUME: u8 = 9;

/// One packet, its texts and bodies still the bytes they came as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    /// A message that wants no answer.
    Tell(Tell),
    /// A message that wants one.
    Ask(Ask),
    /// The answer to an ask.
    Reply {
        /// Of which.
        call: u64,
        /// The answer.
        body: Bytes,
    },
    /// Why an ask has no answer.
    Failure {
        /// Which.
        call: u64,
        /// An encoded error.
        body: Bytes,
    },
    /// A message comes back: its entity is not here.
    Bounce(Box<Packet>),
    /// Asks to be told when all before it has been taken or bounced.
    Fence {
        /// Matches the answer.
        call: u64,
        /// Whose messages it follows.
        entity: Bytes,
    },
    /// The answer to a fence.
    Fenced {
        /// Of which.
        call: u64,
    },
    /// Send no more messages to this entity until told.
    Pause {
        /// Which.
        entity: Bytes,
    },
    /// It takes messages again.
    Resume {
        /// Which.
        entity: Bytes,
    },
}

/// See [`Packet::Tell`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tell {
    pub(crate) epoch: Epoch,
    pub(crate) letter: Letter,
}

/// See [`Packet::Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) call: u64,
    pub(crate) epoch: Epoch,
    pub(crate) remaining: Duration,
    pub(crate) letter: Letter,
}

/// Whom a message is for, and what it says, in the bytes that it came as: taken apart only where a
/// part of its own is needed, because each part costs as much as a small message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    /// The key of an ask, the length of the path, the path, the body.
    bytes: Bytes,
    path_at: u16,
    body_at: u16,
}

impl Letter {
    /// The idempotency key; empty for none.
    pub(crate) fn key(&self) -> &[u8] {
        let end = usize::from(self.path_at).saturating_sub(PATH_LENGTH);
        self.bytes.get(..end).unwrap_or_default()
    }

    /// The entity, `kind/key`.
    pub(crate) fn entity(&self) -> &[u8] {
        let path = usize::from(self.path_at)..usize::from(self.body_at);
        self.bytes.get(path).unwrap_or_default()
    }

    /// The body alone.
    pub(crate) fn into_body(mut self) -> Bytes {
        self.bytes.advance(usize::from(self.body_at).min(self.bytes.len()));
        self.bytes
    }
}

/// A packet that is none. The connection it came on is closed.
pub(crate) type Malformed = FrameError;

/// A value that cannot be the body of a packet. Nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It cannot be encoded.
    Encode(EncodeError),
    /// It has more than [`limits::MESSAGE_BYTES`].
    TooLarge {
        /// Its length in bytes.
        got: usize,
    },
}

/// Appends a tell.
pub(crate) fn put_tell<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    epoch: Epoch,
    entity: &str,
    body: &T,
) -> Result<(), BodyError> {
    with_body(out, TELL, body, |out| {
        out.put_u64_le(epoch.0);
        put_path(out, entity.as_bytes());
    })
}

/// The head of an ask.
pub(crate) struct AskHead<'a> {
    pub(crate) call: u64,
    pub(crate) epoch: Epoch,
    pub(crate) remaining: Duration,
    pub(crate) key: &'a str,
    pub(crate) entity: &'a str,
}

/// Appends an ask.
pub(crate) fn put_ask<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    head: &AskHead<'_>,
    body: &T,
) -> Result<(), BodyError> {
    with_body(out, ASK, body, |out| {
        out.put_u64_le(head.call);
        out.put_u64_le(head.epoch.0);
        out.put_u32_le(u32::try_from(head.remaining.as_millis()).unwrap_or(u32::MAX));
        put_short(out, head.key.as_bytes());
        put_path(out, head.entity.as_bytes());
    })
}

/// Appends a reply.
pub(crate) fn put_reply<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    call: u64,
    body: &T,
) -> Result<(), BodyError> {
    with_body(out, REPLY, body, |out| out.put_u64_le(call))
}

/// Appends a packet with an encoded body, or nothing.
fn with_body<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    kind: u8,
    body: &T,
    head: impl FnOnce(&mut BytesMut),
) -> Result<(), BodyError> {
    let before = out.len();
    let mut result = Ok(());
    framed(out, kind, |out| {
        head(out);
        let start = out.len();
        result = codec::append(body, out).map_err(BodyError::Encode);
        let got = out.len() - start;
        if got > limits::MESSAGE_BYTES {
            result = Err(BodyError::TooLarge { got });
        }
    });
    if result.is_err() {
        out.truncate(before);
    }
    result
}

impl Packet {
    /// Appends the packet.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Tell(Tell { epoch, letter }) => framed(out, TELL, |out| {
                out.put_u64_le(epoch.0);
                out.put_slice(&letter.bytes);
            }),
            Self::Ask(Ask { call, epoch, remaining, letter }) => framed(out, ASK, |out| {
                out.put_u64_le(*call);
                out.put_u64_le(epoch.0);
                out.put_u32_le(u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX));
                out.put_u8(u8::try_from(letter.key().len()).unwrap_or(u8::MAX));
                out.put_slice(&letter.bytes);
            }),
            Self::Reply { call, body } => put_numbered(out, REPLY, *call, body),
            Self::Failure { call, body } => put_numbered(out, FAILURE, *call, body),
            Self::Bounce(packet) => framed(out, BOUNCE, |out| packet.encode(out)),
            Self::Fence { call, entity } => framed(out, FENCE, |out| {
                out.put_u64_le(*call);
                put_path(out, entity);
            }),
            Self::Fenced { call } => put_numbered(out, FENCED, *call, &[]),
            Self::Pause { entity } => framed(out, PAUSE, |out| put_path(out, entity)),
            Self::Resume { entity } => framed(out, RESUME, |out| put_path(out, entity)),
        }
    }

    /// Takes the next whole packet off `buf`; `None` when more bytes are needed.
    pub(crate) fn decode(buf: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let Some(length) = buf.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > PACKET_BYTES {
            return Err(Malformed::TooLarge { got: length, limit: PACKET_BYTES });
        }
        if buf.len() < LENGTH + length {
            return Ok(None);
        }
        buf.advance(LENGTH);
        Self::parse(buf.split_to(length).freeze(), true).map(Some)
    }

    fn parse(mut bytes: Bytes, outer: bool) -> Result<Self, Malformed> {
        let mut fields = Fields { got: bytes.len(), bytes: &mut bytes };
        let packet = match fields.u8()? {
            TELL => Self::Tell(Tell { epoch: Epoch(fields.u64()?), letter: fields.letter(0)? }),
            ASK => Self::Ask(Ask {
                call: fields.u64()?,
                epoch: Epoch(fields.u64()?),
                remaining: Duration::from_millis(fields.u32()?.into()),
                letter: {
                    let key = fields.u8()?;
                    fields.letter(key)?
                },
            }),
            REPLY => Self::Reply { call: fields.u64()?, body: fields.body()? },
            FAILURE => Self::Failure { call: fields.u64()?, body: fields.body()? },
            BOUNCE if outer => Self::Bounce(Box::new(fields.inner()?)),
            FENCE => Self::Fence { call: fields.u64()?, entity: fields.path()? },
            FENCED => Self::Fenced { call: fields.u64()? },
            PAUSE => Self::Pause { entity: fields.path()? },
            RESUME => Self::Resume { entity: fields.path()? },
            got => return Err(Malformed::Unknown { what: "packet kind", got }),
        };
        Ok(packet)
    }
}

/// Reads the fields of one packet.
struct Fields<'a> {
    /// Length of the whole packet, for errors.
    got: usize,
    bytes: &'a mut Bytes,
}

impl Fields<'_> {
    fn need(&self, length: usize) -> Result<(), Malformed> {
        if self.bytes.len() < length {
            return Err(Malformed::TooShort { got: self.got });
        }
        Ok(())
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.need(2)?;
        Ok(self.bytes.get_u16_le())
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.need(4)?;
        Ok(self.bytes.get_u32_le())
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.need(8)?;
        Ok(self.bytes.get_u64_le())
    }

    fn text(&mut self, length: usize, limit: usize) -> Result<Bytes, Malformed> {
        if length > limit {
            return Err(Malformed::TooLarge { got: length, limit });
        }
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    /// All that is left, behind the length of the key.
    fn letter(&mut self, key: u8) -> Result<Letter, Malformed> {
        let limited = |got: usize, limit| match got <= limit {
            true => Ok(got),
            false => Err(Malformed::TooLarge { got, limit }),
        };
        let path_at = limited(key.into(), limits::REQUEST_ID_BYTES)? + PATH_LENGTH;
        self.need(path_at)?;
        let bytes = std::mem::take(self.bytes);
        let length = bytes.get(path_at - PATH_LENGTH..).and_then(|rest| rest.first_chunk());
        let length = u16::from_le_bytes(length.copied().unwrap_or_default()).into();
        let body_at = path_at + limited(length, PATH_BYTES)?;
        let Some(body) = bytes.len().checked_sub(body_at) else {
            return Err(Malformed::TooShort { got: self.got });
        };
        limited(body, limits::MESSAGE_BYTES)?;
        // Both are far below by the limits above.
        let at = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        Ok(Letter { bytes, path_at: at(path_at), body_at: at(body_at) })
    }

    fn path(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::from(self.u16()?);
        self.text(length, PATH_BYTES)
    }

    fn body(&mut self) -> Result<Bytes, Malformed> {
        let got = self.bytes.len();
        if got > limits::MESSAGE_BYTES {
            return Err(Malformed::TooLarge { got, limit: limits::MESSAGE_BYTES });
        }
        Ok(std::mem::take(self.bytes))
    }

    /// The packet that a bounce carries: a tell, an ask or a fence, with a length of its own.
    fn inner(&mut self) -> Result<Packet, Malformed> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if length != self.bytes.len() {
            return Err(Malformed::TooShort { got: self.got });
        }
        match Packet::parse(std::mem::take(self.bytes), false)? {
            packet @ (Packet::Tell(_) | Packet::Ask(_)) => Ok(packet),
            _ => Err(Malformed::Unknown { what: "bounced packet", got: BOUNCE }),
        }
    }
}

fn framed(out: &mut BytesMut, kind: u8, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    write(out);
    let length = u32::try_from(out.len() - start - LENGTH).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + LENGTH) {
        field.copy_from_slice(&length.to_le_bytes());
    }
}

fn put_numbered(out: &mut BytesMut, kind: u8, call: u64, body: &[u8]) {
    framed(out, kind, |out| {
        out.put_u64_le(call);
        out.put_slice(body);
    });
}

fn put_short(out: &mut BytesMut, text: &[u8]) {
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text);
}

fn put_path(out: &mut BytesMut, text: &[u8]) {
    out.put_u16_le(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(limit: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..limit).prop_map(Bytes::from)
    }

    fn letter(key: &[u8], entity: &[u8], body: &[u8]) -> Letter {
        let mut bytes = BytesMut::from(key);
        put_path(&mut bytes, entity);
        bytes.put_slice(body);
        let path_at = key.len() + PATH_LENGTH;
        let at = |at: usize| u16::try_from(at).expect("within the limits");
        let (path_at, body_at) = (at(path_at), at(path_at + entity.len()));
        let letter = Letter { bytes: bytes.freeze(), path_at, body_at };
        assert_eq!((letter.key(), letter.entity()), (key, entity));
        assert_eq!(letter.clone().into_body(), body);
        letter
    }

    fn messages() -> impl Strategy<Value = Packet> {
        prop_oneof![
            (any::<u64>(), text(PATH_BYTES), text(200)).prop_map(|(epoch, entity, body)| {
                Packet::Tell(Tell { epoch: Epoch(epoch), letter: letter(b"", &entity, &body) })
            }),
            (any::<(u64, u64, u32)>(), text(64), text(PATH_BYTES), text(200)).prop_map(
                |((call, epoch, ms), key, entity, body)| Packet::Ask(Ask {
                    call,
                    epoch: Epoch(epoch),
                    remaining: Duration::from_millis(ms.into()),
                    letter: letter(&key, &entity, &body),
                })
            ),
        ]
    }

    fn packets() -> impl Strategy<Value = Packet> {
        prop_oneof![
            messages(),
            messages().prop_map(|packet| Packet::Bounce(Box::new(packet))),
            (any::<u64>(), text(200)).prop_map(|(call, body)| Packet::Reply { call, body }),
            (any::<u64>(), text(200)).prop_map(|(call, body)| Packet::Failure { call, body }),
            (any::<u64>(), text(50)).prop_map(|(call, entity)| Packet::Fence { call, entity }),
            any::<u64>().prop_map(|call| Packet::Fenced { call }),
            text(50).prop_map(|entity| Packet::Pause { entity }),
            text(50).prop_map(|entity| Packet::Resume { entity }),
        ]
    }

    /// When this fails, undo the change or raise `wire::MAJOR`.
    #[test]
    fn the_bytes_of_this_wire_version_stay() {
        let mut out = BytesMut::new();
        put_tell(&mut out, Epoch(3), "k/e", &"hi").expect("fits");
        assert_eq!(out, &b"\x11\0\0\0\x01\x03\0\0\0\0\0\0\0\x03\0k/e\x02hi"[..]);
        let head = AskHead {
            call: 7,
            epoch: Epoch(3),
            remaining: Duration::from_millis(258),
            key: "r",
            entity: "k/e",
        };
        let mut out = BytesMut::new();
        put_ask(&mut out, &head, &"hi").expect("fits");
        assert_eq!(
            out,
            &b"\x1f\0\0\0\x02\x07\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02\x01\0\0\x01r\x03\0k/e\x02hi"
                [..]
        );
        let mut out = BytesMut::new();
        put_reply(&mut out, 7, &"ok").expect("fits");
        assert_eq!(out, &b"\x0c\0\0\0\x03\x07\0\0\0\0\0\0\0\x02ok"[..]);
    }

    #[test]
    fn a_lying_length_is_refused_before_its_bytes_come() {
        let mut buf = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        let capacity = buf.capacity();
        assert!(matches!(Packet::decode(&mut buf), Err(Malformed::TooLarge { .. })));
        assert_eq!(buf.capacity(), capacity);
    }

    #[test]
    fn a_body_that_is_too_large_leaves_nothing_behind() {
        let mut out = BytesMut::from(&b"before"[..]);
        let body = vec![0_u8; limits::MESSAGE_BYTES + 1];
        let refused = put_tell(&mut out, Epoch(1), "k/e", &body);
        assert!(matches!(refused, Err(BodyError::TooLarge { .. })));
        assert_eq!(out, &b"before"[..]);
    }

    #[test]
    fn a_bounce_in_a_bounce_is_refused() {
        let tell = Packet::Tell(Tell { epoch: Epoch(1), letter: letter(b"", b"k/e", b"") });
        let mut out = BytesMut::new();
        Packet::Bounce(Box::new(Packet::Bounce(Box::new(tell)))).encode(&mut out);
        assert!(matches!(Packet::decode(&mut out), Err(Malformed::Unknown { .. })));
    }

    proptest! {
        #[test]
        fn packets_survive_a_stream_cut_anywhere(
            sent in proptest::collection::vec(packets(), 1..8),
            cut in 1_usize..64,
        ) {
            let mut stream = BytesMut::new();
            for packet in &sent {
                packet.encode(&mut stream);
            }
            let mut buf = BytesMut::new();
            let mut got = Vec::new();
            for piece in stream.chunks(cut) {
                buf.extend_from_slice(piece);
                while let Some(packet) = Packet::decode(&mut buf).expect("valid") {
                    got.push(packet);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(buf.is_empty());
        }

        #[test]
        fn any_bytes_are_packets_or_errors_but_no_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut buf = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Packet::decode(&mut buf) {}
        }
    }
}
