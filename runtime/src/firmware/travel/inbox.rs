//! What goes with a guest that moves beside what it has in memory.

use bytes::Bytes;
use odeum_proto::{
    RequestId, Revision,
    codec::{DecodeError, EncodeError},
    handover::Answered,
    limits,
};
use serde::{Deserialize, Serialize};

use crate::firmware::{bridge::Publication, trailer};

/// What of a guest is in no memory.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::firmware) struct Inbox {
    /// Whether it has no instance, and needs none until the next message.
    pub(in crate::firmware) asleep: bool,
    /// Topics and payloads of what was published to it.
    published: Vec<(String, Vec<u8>)>,
    /// Requests that its memory has seen, and their replies, the oldest first.
    answered: Vec<(RequestId, Answered)>,
    /// A change of its sessions' group that was made after all that it wrote.
    pub(super) saved_at: Option<Revision>,
}

impl Inbox {
    /// Of a guest that is at rest: `saved_at` is the last change of its sessions' group that its node
    /// knows, which has all that it wrote.
    pub(in crate::firmware) fn new(
        asleep: bool,
        published: impl IntoIterator<Item = Publication>,
        saved_at: Option<Revision>,
    ) -> Self {
        let published = published.into_iter().map(|it| (it.topic, it.payload));
        Self { asleep, published: published.collect(), answered: Vec::new(), saved_at }
    }

    /// The same with what was answered by the memory that goes with it.
    pub(in crate::firmware) fn with_answers(self, answered: Vec<(RequestId, Answered)>) -> Self {
        Self { answered, ..self }
    }

    /// What was answered by the memory that came with it.
    pub(super) fn answers(&mut self) -> Vec<(RequestId, Answered)> {
        std::mem::take(&mut self.answered)
    }

    /// Puts it behind a piece of what it has in memory, so that both are sent in one go.
    pub(in crate::firmware) fn behind(&self, piece: Bytes) -> Result<Bytes, EncodeError> {
        trailer::put_behind(piece, self)
    }

    /// A piece of what it has in memory, and what was behind it.
    pub(super) fn split(bytes: Bytes) -> Result<(Bytes, Self), DecodeError> {
        trailer::split_off(bytes, limits::BULK_BYTES)
    }

    pub(in crate::firmware) fn publications(self) -> impl Iterator<Item = Publication> {
        self.published.into_iter().map(|(topic, payload)| Publication { topic, payload })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inbox() -> Inbox {
        let published = Publication { topic: "in/lamp".into(), payload: b"on".to_vec() };
        let answered = ("r1".parse().expect("valid"), Answered::Reply(b"reply".to_vec()));
        Inbox::new(true, [published], Some(Revision(7))).with_answers(vec![answered])
    }

    #[test]
    fn an_inbox_comes_off_the_piece_that_it_was_put_behind() {
        for piece in [&b""[..], b"a piece"] {
            let bytes = inbox().behind(Bytes::copy_from_slice(piece)).expect("encodes");
            assert_eq!(Inbox::split(bytes), Ok((Bytes::copy_from_slice(piece), inbox())));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_inbox_behind_them_or_are_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            let _ = Inbox::split(bytes.into());
        }
    }
}
