//! A piece of an instance's state as bytes: pages as they are, what they are, and how long that is.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    HeapError,
    pages::{Changed, PAGE, is_zero},
};
use crate::firmware::trailer;

/// Longest head, in bytes: a table of a million elements, with room.
const HEAD_BYTES: usize = 32 << 20;

/// Pages in one piece at most, joined: the pieces stay far below what one transfer may have.
const DATA_BYTES: usize = 32 << 20;

/// A piece.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) pages: Option<Pages>,
    pub(super) data: Bytes,
    pub(super) rest: Option<Rest>,
}

/// Pages of one memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pages {
    /// Which memory.
    pub(super) memory: u32,
    /// How long it is, in bytes.
    pub(super) length: u64,
    full: Vec<(u32, u32)>,
    zero: Vec<(u32, u32)>,
}

/// What is not in pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rest {
    /// In the order of their exports' names.
    pub(super) globals: Vec<Global>,
    /// In the order of their exports' names: what each element refers to.
    pub(super) tables: Vec<Vec<Option<u32>>>,
    /// In the order of their exports' names: whether each segment is dropped.
    pub(super) dropped: Vec<bool>,
    /// What the host has beside the instance.
    pub(super) host: Vec<u8>,
}

/// The value of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Global {
    I32(i32),
    I64(i64),
    /// Its bits.
    F32(u32),
    /// Its bits.
    F64(u64),
    V128(u128),
    /// The number of a function.
    Func(Option<u32>),
}

#[derive(Serialize, Deserialize)]
struct Head {
    pages: Option<Pages>,
    rest: Option<Rest>,
}

impl Piece {
    pub(super) fn of(memory: usize, length: usize, changed: Changed) -> Self {
        let Changed { full, zero, data } = changed;
        let memory = u32::try_from(memory).unwrap_or(u32::MAX);
        let pages = Pages { memory, length: length as u64, full, zero };
        Self { pages: Some(pages), data: data.into(), rest: None }
    }

    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        let says_nothing = |it: &Pages| it.full.is_empty() && it.zero.is_empty();
        self.rest.is_none() && self.pages.as_ref().is_none_or(says_nothing)
    }

    /// Whether another piece of the same memory fits into this one.
    pub(super) fn joins(&self, other: &Self) -> bool {
        let memory = |piece: &Self| piece.pages.as_ref().map(|pages| pages.memory);
        memory(self) == memory(other) && self.data.len() + other.data.len() <= DATA_BYTES
    }

    pub(super) fn join(&mut self, other: Self) {
        if let (Some(pages), Some(more)) = (&mut self.pages, other.pages) {
            pages.full.extend(more.full);
            pages.zero.extend(more.zero);
            self.data = [&self.data[..], &other.data].concat().into();
        }
    }

    pub(super) fn encode(self) -> Bytes {
        let head = Head { pages: self.pages, rest: self.rest };
        // Only a sequence of unknown length cannot be encoded.
        trailer::put_behind(self.data, &head).unwrap_or_default()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, HeapError> {
        let (data, Head { pages, rest }) = trailer::split_off(bytes, HEAD_BYTES)?;
        Ok(Self { pages, data, rest })
    }
}

impl Pages {
    /// How many they are.
    #[cfg(test)]
    pub(super) fn count(&self) -> u32 {
        self.full.iter().chain(&self.zero).map(|(_, count)| count).sum()
    }

    /// Writes them into a memory of their length.
    pub(super) fn write(&self, mut data: &[u8], memory: &mut [u8]) -> Result<(), HeapError> {
        for (first, count) in &self.full {
            let pages = range_of(memory, *first, *count)?;
            let bytes = data.split_at_checked(pages.len());
            let (bytes, rest) = bytes.ok_or_else(|| HeapError::misfit("a page is missing"))?;
            pages.copy_from_slice(bytes);
            data = rest;
        }
        for (first, count) in &self.zero {
            for page in range_of(memory, *first, *count)?.chunks_mut(PAGE) {
                // What was never used stays unused.
                if !is_zero(page) {
                    page.fill(0);
                }
            }
        }
        match data {
            [] => Ok(()),
            _ => Err(HeapError::misfit("more pages than it says")),
        }
    }
}

fn range_of(memory: &mut [u8], first: u32, count: u32) -> Result<&mut [u8], HeapError> {
    let start = (first as usize).saturating_mul(PAGE);
    let end = start.saturating_add((count as usize).saturating_mul(PAGE)).min(memory.len());
    memory.get_mut(start..end).ok_or_else(|| HeapError::misfit("a page behind its end"))
}
