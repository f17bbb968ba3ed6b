//! The transport's parsers under any bytes. See [`crate::fuzz`].

use bytes::{BufMut, BytesMut};
use odeum_proto::codec;
use odeum_proto::wire::{self, HELLO_BYTES, Hello, PREAMBLE_BYTES, Welcome, WireVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{Frame, FrameError};
use super::lane::Packet;

/// A stream of requests and replies.
pub fn frames(input: &[u8]) {
    let (frames, stream) = stream(input, Frame::decode);
    let bodies: usize = frames.iter().map(Frame::body_len).sum();
    assert!(bodies <= stream, "bodies of {bodies} bytes out of {stream}");
    for frame in frames {
        let mut bytes = BytesMut::new();
        let body = frame.clone().encode_header(&mut bytes);
        bytes.put_slice(&body);
        assert_eq!(Frame::decode(&mut bytes), Ok(Some(frame)), "a frame read is a frame written");
        assert!(bytes.is_empty(), "a frame takes all of its bytes");
    }
}

/// A lane: a stream of packets to and from entities.
pub fn lane(input: &[u8]) {
    for packet in stream(input, Packet::decode).0 {
        let mut bytes = BytesMut::new();
        packet.encode(&mut bytes);
        assert_eq!(Packet::decode(&mut bytes), Ok(Some(packet)), "a packet read is one written");
        assert!(bytes.is_empty(), "a packet takes all of its bytes");
    }
}

/// Reads the next thing off a stream, as far as it has come.
type Decode<T> = fn(&mut BytesMut) -> Result<Option<T>, FrameError>;

/// What a stream holds, and its length. The first byte of the input says in pieces of how many
/// bytes it arrives, which must not make a difference.
fn stream<T: PartialEq + std::fmt::Debug>(input: &[u8], decode: Decode<T>) -> (Vec<T>, usize) {
    let Some((piece, stream)) = input.split_first() else { return (Vec::new(), 0) };
    let cut = read(stream.chunks(usize::from(*piece) + 1), decode);
    let whole = read(std::iter::once(stream), decode);
    assert_eq!(cut, whole, "it matters how a stream was cut");
    (whole.0, stream.len())
}

/// What the pieces of a stream hold, and what its reader stopped at.
fn read<'a, T>(
    pieces: impl Iterator<Item = &'a [u8]>,
    decode: Decode<T>,
) -> (Vec<T>, Option<FrameError>) {
    let (mut buf, mut values) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decode(&mut buf) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}

/// The first bytes of a connection: a preamble, and behind it a hello or a welcome.
pub fn introduction(input: &[u8]) {
    let Some((head, rest)) = input.split_first_chunk::<PREAMBLE_BYTES>() else { return };
    let Ok((version, length)) = wire::parse_preamble(head) else { return };
    assert!(length <= HELLO_BYTES, "a hello of {length} bytes is let through");
    let body = rest.get(..length).unwrap_or(rest);
    survives::<Hello>(version, body);
    survives::<Welcome>(version, body);
}

/// A value that was read is the same when it is written and read again.
fn survives<T>(version: WireVersion, body: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let Ok(value) = codec::decode::<T>(body) else { return };
    let bytes = wire::preamble(version, &value);
    let again = bytes.as_deref().ok().and_then(<[u8]>::split_first_chunk::<PREAMBLE_BYTES>);
    let again = again.and_then(|(head, body)| {
        assert_eq!(wire::parse_preamble(head), Ok((version, body.len())));
        codec::decode::<T>(body).ok()
    });
    assert_eq!(again.as_ref(), Some(&value), "an introduction read is one written");
}
