//! The transport's parsers under any bytes. See [`crate::fuzz`].

use bytes::{BufMut, BytesMut};
use odeum_proto::codec;
use odeum_proto::wire::{self, HELLO_BYTES, Hello, PREAMBLE_BYTES, Welcome, WireVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{Frame, FrameError};

/// A stream of frames. Its first byte says in pieces of how many bytes it arrives, which must
/// not make a difference.
pub fn frames(input: &[u8]) {
    let Some((piece, stream)) = input.split_first() else { return };
    let cut = read(stream.chunks(usize::from(*piece) + 1));
    let whole = read(std::iter::once(stream));
    assert_eq!(cut, whole, "frames depend on how their stream was cut");
    let bodies: usize = whole.0.iter().map(Frame::body_len).sum();
    assert!(bodies <= stream.len(), "bodies of {bodies} bytes out of {}", stream.len());
    for frame in whole.0 {
        let mut bytes = BytesMut::new();
        let body = frame.clone().encode_header(&mut bytes);
        bytes.put_slice(&body);
        assert_eq!(Frame::decode(&mut bytes), Ok(Some(frame)), "a frame read is a frame written");
        assert!(bytes.is_empty(), "a frame takes all of its bytes");
    }
}

/// What the pieces of a stream hold, and what its reader stopped at.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let (mut buf, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match Frame::decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
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
