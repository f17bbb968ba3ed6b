//! What an instance of a movable module has in memory: read out of one instance at rest and written
//! into another one.
//!
//! All state of such an instance is reached by the exports that its package was given
//! ([`crate::package::normalise`]): memories, mutable globals, tables that change, and whether
//! segments were dropped. Memories are copied page by page, and only pages that were written to since
//! they were sent are sent again. Those the kernel notes (`written`); where it does not, what was sent
//! is kept as it was and compared, which costs as much memory again and reads both while the guest
//! stands still, some 0.2 ms for each MiB.
//!
//! The one that is written into is instantiated as any other, but nothing of it runs. So its
//! memories have what the module's segments put there, and pages that are zero in the first one are
//! sent, too, as ranges.

mod items;
mod pages;
mod piece;
#[cfg(test)]
mod tests;
mod written;

use bytes::Bytes;
use wasmtime::{Instance, Store};

use self::{
    items::Items,
    pages::Copying,
    piece::{Piece, Rest},
};
use super::store::{self, Metered};

/// A memory that need not be copied before its guest is frozen, in bytes: to send it takes no longer
/// than to ask for it.
const TINY: u64 = 256 << 10;

/// What a round sent when the next one can be the last, in bytes: in the time that it took, about as
/// much has changed as is sent in a millisecond.
const SMALL: u64 = 2 << 20;

/// What cannot be written into an instance: it is not of the same module, or not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeapError {
    /// The instance lacks something, or something is of another kind.
    #[error("the state that came does not fit: {what}")]
    Misfit {
        /// What of it.
        what: Box<str>,
    },
    /// A call of one of the exports failed.
    #[error("`{export}` failed: {reason}")]
    Failed {
        /// Which.
        export: Box<str>,
        /// How.
        reason: Box<str>,
    },
    /// The memory is more than the instance may have.
    #[error("it needs {asked} bytes of memory, which it is not given there")]
    NoRoom {
        /// How much.
        asked: u64,
    },
}

impl HeapError {
    pub(super) fn misfit(what: impl std::fmt::Display) -> Self {
        Self::Misfit { what: what.to_string().into() }
    }
}

impl From<odeum_proto::codec::DecodeError> for HeapError {
    fn from(error: odeum_proto::codec::DecodeError) -> Self {
        Self::misfit(error)
    }
}

/// What is copied of an instance: which state it has, and what of it was sent.
#[derive(Debug)]
pub(super) struct Packing {
    items: Items,
    memories: Vec<Copying>,
    /// Where the round is: which memory and which slice of it.
    at: (usize, usize),
    /// Bytes of the pages that were sent in this round.
    sent: u64,
}

/// A part of what is packed.
#[derive(Debug)]
pub(super) enum Packed {
    /// A piece. There is more.
    Piece(Bytes),
    /// A round is complete; whether what has changed since is probably little.
    Round {
        /// See there.
        small: bool,
    },
}

impl Packing {
    /// Of an instance at rest.
    pub(super) fn new<T: Metered>(instance: &Instance, store: &mut Store<T>) -> Self {
        let items = Items::of(instance, store);
        let memories = items.memories.iter().map(|_| Copying::default()).collect();
        Self { items, memories, at: (0, 0), sent: 0 }
    }

    /// Whether there is so little that it need not be copied before.
    pub(super) fn is_small<T: Metered>(&self, store: &Store<T>) -> bool {
        let bytes = self.items.memories.iter().map(|(_, memory)| memory.data_size(store) as u64);
        bytes.sum::<u64>() <= TINY
    }

    /// The next piece of what has changed since the last round, or the end of this one.
    pub(super) fn next<T: Metered>(&mut self, store: &mut Store<T>) -> Packed {
        while let Some(piece) = self.slice(store, false) {
            if !piece.is_empty() {
                return Packed::Piece(piece.encode());
            }
        }
        self.at = (0, 0);
        Packed::Round { small: std::mem::take(&mut self.sent) <= SMALL }
    }

    /// What is left, of an instance that does not run any more: at least one piece.
    pub(super) async fn rest<T: Metered>(
        &mut self,
        store: &mut Store<T>,
        host: Vec<u8>,
    ) -> Result<Vec<Bytes>, HeapError> {
        self.at = (0, 0);
        let mut pieces = Vec::new();
        let mut last: Option<Piece> = None;
        while let Some(piece) = self.slice(store, true) {
            if piece.is_empty() {
                continue;
            }
            match &mut last {
                Some(last) if last.joins(&piece) => last.join(piece),
                other => pieces.extend(other.replace(piece).map(Piece::encode)),
            }
        }
        let rest = Rest {
            globals: self.items.read_globals(store)?,
            tables: self.items.read_tables(store)?,
            dropped: self.items.read_dropped(store).await?,
            host,
        };
        let mut last = last.unwrap_or_default();
        last.rest = Some(rest);
        pieces.push(last.encode());
        Ok(pieces)
    }

    /// What has changed in the next slice of the memories; `None` behind the last one.
    fn slice<T: Metered>(&mut self, store: &mut Store<T>, last: bool) -> Option<Piece> {
        loop {
            let (index, slice) = self.at;
            let (_, memory) = self.items.memories.get(index)?;
            let data = memory.data(&*store);
            if slice >= Copying::slices(data.len()) {
                self.at = (index + 1, 0);
                continue;
            }
            let changed = self.memories[index].changed(data, slice, last);
            self.at = (index, slice + 1);
            self.sent += changed.data.len() as u64;
            return Some(Piece::of(index, data.len(), changed));
        }
    }
}

/// Writes what was packed into an instance of the same module in which nothing has run.
#[derive(Debug)]
pub(super) struct Unpacking {
    items: Items,
    rest: Option<Rest>,
}

impl Unpacking {
    pub(super) fn new<T: Metered>(instance: &Instance, store: &mut Store<T>) -> Self {
        Self { items: Items::of(instance, store), rest: None }
    }

    /// A piece that was packed.
    ///
    /// # Errors
    /// [`HeapError`]; the instance cannot be used then.
    pub(super) fn take<T: Metered>(
        &mut self,
        store: &mut Store<T>,
        bytes: Bytes,
    ) -> Result<(), HeapError> {
        let piece = Piece::decode(bytes)?;
        if let Some(pages) = &piece.pages {
            let memory = self.items.memories.get(pages.memory as usize);
            let (_, memory) = memory.ok_or_else(|| HeapError::misfit("another memory"))?;
            items::grow(store, *memory, pages.length)?;
            pages.write(&piece.data, memory.data_mut(&mut *store))?;
        }
        if let Some(rest) = piece.rest {
            self.rest = Some(rest);
        }
        Ok(())
    }

    /// All pieces are there: the instance becomes what the other one was. What its host had beside
    /// it is given back.
    ///
    /// # Errors
    /// [`HeapError`]; the instance cannot be used then.
    pub(super) async fn finish<T: Metered>(
        &mut self,
        store: &mut Store<T>,
    ) -> Result<Vec<u8>, HeapError> {
        let rest = self.rest.take().ok_or_else(|| HeapError::misfit("its end is missing"))?;
        store::wind(store, None);
        self.items.write_globals(store, &rest.globals)?;
        self.items.write_tables(store, &rest.tables)?;
        self.items.drop_segments(store, &rest.dropped).await?;
        Ok(rest.host)
    }
}
