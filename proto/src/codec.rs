//! The one place that turns values into bytes and back: bincode 2, little endian, variable
//! length integers, bounded.
//!
//! bincode is no longer developed (RUSTSEC-2025-0141); keeping it in one file keeps the day we
//! leave it small. A format change is a change of [`crate::wire::MAJOR`].

use ::bytes::{BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use crate::limits;

/// Bytes that are not what they should be. The connection or file they came from is at fault;
/// retrying with the same bytes cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are longer than the bound of their place.
    #[error("{got} bytes where at most {limit} are allowed")]
    TooLarge {
        /// Length of what came.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// The bytes do not form a value of the expected type.
    #[error("not a valid {expected}: {reason}")]
    Malformed {
        /// The type that was expected.
        expected: &'static str,
        /// What the decoder stumbled over.
        reason: Box<str>,
    },
    /// A value was read and bytes were left over.
    #[error("{extra} bytes behind a complete {expected}")]
    Trailing {
        /// The type that was expected.
        expected: &'static str,
        /// How many bytes were left.
        extra: usize,
    },
}

/// A value that cannot be written, such as a sequence whose length is unknown. This is a
/// programming error in the type, never a matter of its contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode {what}: {reason}")]
pub struct EncodeError {
    /// The type that was to be written.
    pub what: &'static str,
    /// What the encoder said.
    pub reason: Box<str>,
}

/// `value` as bytes.
///
/// # Errors
/// [`EncodeError`] when the type itself cannot be written.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends `value` to `bytes`, so that a caller who has a frame header there needs no copy.
///
/// # Errors
/// [`EncodeError`] when the type itself cannot be written; `bytes` is then as before.
pub fn encode_into<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let before = bytes.len();
    bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard())
        .map(drop)
        .map_err(|error| {
            bytes.truncate(before);
            EncodeError { what: std::any::type_name::<T>(), reason: error.to_string().into() }
        })
}

/// Appends `value` to a buffer that is on its way to a stream.
///
/// # Errors
/// As [`encode_into`].
pub fn append<T: Serialize + ?Sized>(value: &T, bytes: &mut BytesMut) -> Result<(), EncodeError> {
    let before = bytes.len();
    let mut writer = bytes.writer();
    bincode::serde::encode_into_std_write(value, &mut writer, bincode::config::standard())
        .map(drop)
        .map_err(|error| {
            bytes.truncate(before);
            EncodeError { what: std::any::type_name::<T>(), reason: error.to_string().into() }
        })
}

/// The value that `bytes` hold, exactly: bytes left over are an error.
///
/// # Errors
/// [`DecodeError`] when `bytes` are longer than [`limits::BULK_BYTES`], malformed, or have more
/// than one value in them. Allocation is bounded by the length of `bytes`, whatever they claim.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > limits::BULK_BYTES {
        return Err(DecodeError::TooLarge { got: bytes.len(), limit: limits::BULK_BYTES });
    }
    let expected = std::any::type_name::<T>();
    let config = bincode::config::standard().with_limit::<{ limits::BULK_BYTES }>();
    let (value, read) = bincode::serde::decode_from_slice::<T, _>(bytes, config)
        .map_err(|error| DecodeError::Malformed { expected, reason: error.to_string().into() })?;
    match bytes.len() - read {
        0 => Ok(value),
        extra => Err(DecodeError::Trailing { expected, extra }),
    }
}

/// For fields of type `Vec<u8>`: `#[serde(with = "crate::codec::bytes")]`. The bytes are the same
/// as without it, but copied at once instead of one by one.
pub(crate) mod bytes {
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(from).map(Vec::from)
    }
}

/// As [`bytes`], for fields of type `Arc<[u8]>`.
pub(crate) mod shared_bytes {
    use std::fmt;
    use std::sync::Arc;

    use serde::de::{self, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &Arc<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[u8]>, D::Error> {
        from.deserialize_bytes(Shared)
    }

    /// Copies once, from where they stand.
    struct Shared;

    impl<'de> Visitor<'de> for Shared {
        type Value = Arc<[u8]>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(bytes.into())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Self::Value, A::Error> {
            // By what comes, not by what is claimed.
            let mut all = Vec::new();
            while let Some(byte) = bytes.next_element::<u8>()? {
                all.push(byte);
            }
            Ok(all.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7_u32).expect("encodes");
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(DecodeError::Trailing { extra: 1, .. })));
    }

    #[test]
    fn a_lying_length_is_refused_without_allocating() {
        // A vector that claims 2^62 elements, with nothing behind the claim.
        let lie = encode(&(1_u64 << 62)).expect("encodes");
        assert!(decode::<Vec<u8>>(&lie).is_err());
        assert!(decode::<Vec<String>>(&lie).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_err_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Vec<(String, Option<u64>)>>(&bytes);
            let _ = decode::<crate::store::Command>(&bytes);
            let _ = decode::<crate::call::CallRequest>(&bytes);
        }
    }
}
