//! Something small behind bytes that may be megabytes, which stay where they are in memory: the bytes,
//! what is behind them, and how long that is.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use odeum_proto::codec::{self, DecodeError, EncodeError};
use serde::{Serialize, de::DeserializeOwned};

/// The bytes with `what` behind them.
///
/// # Errors
/// [`EncodeError`] when that cannot be encoded.
pub(super) fn put_behind<T: Serialize>(bytes: Bytes, what: &T) -> Result<Bytes, EncodeError> {
    let what = codec::encode(what)?;
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|bytes| BytesMut::from(&bytes[..]));
    bytes.extend_from_slice(&what);
    bytes.put_u32_le(u32::try_from(what.len()).unwrap_or(u32::MAX));
    Ok(bytes.freeze())
}

/// The bytes, and what was put behind them in at most `limit` bytes.
///
/// # Errors
/// [`DecodeError`] when there is no such thing.
pub(super) fn split_off<T: DeserializeOwned>(
    mut bytes: Bytes,
    limit: usize,
) -> Result<(Bytes, T), DecodeError> {
    let short = || DecodeError::Malformed {
        expected: std::any::type_name::<T>(),
        reason: "it ends before its end".into(),
    };
    let end = bytes.len().checked_sub(4).ok_or_else(short)?;
    let got = bytes.split_off(end).get_u32_le() as usize;
    if got > limit {
        return Err(DecodeError::TooLarge { got, limit });
    }
    let begin = bytes.len().checked_sub(got).ok_or_else(short)?;
    let what = codec::decode(&bytes.split_off(begin))?;
    Ok((bytes, what))
}
