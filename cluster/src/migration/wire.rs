//! Questions about moves as bytes: how long the question is, the question, and what belongs to it
//! as it is, because it may be megabytes.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use odeum_proto::codec::{self, DecodeError, EncodeError};
use odeum_proto::moves::Question;

/// Longest question without what belongs to it, in bytes.
const QUESTION_BYTES: usize = 4 << 10;

/// The question with what belongs to it.
pub(super) fn join(question: &Question, state: &[u8]) -> Result<Bytes, EncodeError> {
    let head = codec::encode(question)?;
    let mut bytes = BytesMut::with_capacity(4 + head.len() + state.len());
    bytes.put_u32_le(u32::try_from(head.len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(state);
    Ok(bytes.freeze())
}

/// The question, and what belongs to it.
pub(super) fn split(mut bytes: Bytes) -> Result<(Question, Bytes), DecodeError> {
    let short = |reason: &str| DecodeError::Malformed {
        expected: "question about a move",
        reason: reason.into(),
    };
    if bytes.len() < 4 {
        return Err(short("it has no length"));
    }
    let (got, limit) = (bytes.get_u32_le() as usize, QUESTION_BYTES);
    if got > limit {
        return Err(DecodeError::TooLarge { got, limit });
    }
    if got > bytes.len() {
        return Err(short("it ends before its end"));
    }
    let head = bytes.split_to(got);
    Ok((codec::decode(&head)?, bytes))
}

#[cfg(test)]
mod tests {
    use odeum_proto::Epoch;
    use proptest::prelude::*;

    use super::*;

    fn piece() -> Question {
        let entity = "firmware/e".parse().expect("valid");
        Question::Piece { entity, epoch: Epoch(4), number: 9 }
    }

    #[test]
    fn a_question_comes_apart_as_it_was_put_together() {
        for state in [&b""[..], b"state"] {
            let bytes = join(&piece(), state).expect("encodes");
            assert_eq!(split(bytes), Ok((piece(), Bytes::copy_from_slice(state))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = split(bytes.into());
        }

        #[test]
        fn a_question_that_was_cut_is_an_error(cut in 0..16_usize) {
            let bytes = join(&piece(), b"").expect("encodes");
            prop_assert!(split(bytes.slice(..bytes.len() - 1 - cut)).is_err());
        }
    }
}
