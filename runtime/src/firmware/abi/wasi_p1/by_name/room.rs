//! Texts in the memory of a guest that is called by name: where they are put, and where they are read.
//!
//! Source: the canonical ABI of the component model, which has lists and strings as an address and a
//! length, and room for them from `cabi_realloc`.

use wasmtime::{Instance, Memory, Store, TypedFunc};

use crate::firmware::abi::{core::Guest, memory::room};

const REALLOC: &str = "cabi_realloc";

/// What a guest must have so that there is a [`Room`].
pub(super) const NEEDS: &str = "its module would have to export `memory` and \
                                `cabi_realloc: (i32, i32, i32, i32) -> i32`";

/// Bytes of a number, an address or a length.
const NUMBER: usize = 4;
/// What their addresses are multiples of.
const ALIGN: i32 = 4;

/// Where texts are put.
pub(super) struct Room {
    memory: Memory,
    realloc: TypedFunc<(i32, i32, i32, i32), i32>,
}

/// Where an address and a length lead is no memory.
#[derive(Debug, thiserror::Error)]
#[error("it said that its result is {len} bytes at {at}, outside of its memory")]
struct Outside {
    at: u32,
    len: usize,
}

impl Room {
    /// That of an instance, if it has one.
    pub(super) fn of<W: Send + 'static>(
        instance: &Instance,
        store: &mut Store<Guest<W>>,
    ) -> Option<Self> {
        let memory = store.data().memory?;
        let realloc = instance.get_typed_func(&mut *store, REALLOC).ok()?;
        Some(Self { memory, realloc })
    }

    /// Where the text is now, and its length.
    pub(super) async fn text<W: Send + 'static>(
        &self,
        store: &mut Store<Guest<W>>,
        text: &str,
    ) -> wasmtime::Result<(i32, i32)> {
        Ok((self.put(store, text.as_bytes(), 1).await?, i32::try_from(text.len())?))
    }

    /// Where the list of the texts is now, and how many there are.
    pub(super) async fn texts<W: Send + 'static>(
        &self,
        store: &mut Store<Guest<W>>,
        texts: &[String],
    ) -> wasmtime::Result<(i32, i32)> {
        let mut list = Vec::new();
        for text in texts {
            let (at, len) = self.text(store, text).await?;
            list.extend(at.to_le_bytes());
            list.extend(len.to_le_bytes());
        }
        Ok((self.put(store, &list, ALIGN).await?, i32::try_from(texts.len())?))
    }

    async fn put<W: Send + 'static>(
        &self,
        store: &mut Store<Guest<W>>,
        bytes: &[u8],
        align: i32,
    ) -> wasmtime::Result<i32> {
        if bytes.is_empty() {
            // Some aligned address: nothing is read there.
            return Ok(align);
        }
        let len = i32::try_from(bytes.len())?;
        let at = self.realloc.call_async(&mut *store, (0, 0, align, len)).await?;
        room(self.memory.data_mut(&mut *store), (at, len), REALLOC)?.copy_from_slice(bytes);
        Ok(at)
    }
}

/// The text whose address and length are at `at`.
///
/// # Errors
/// When either is outside of the memory.
pub(super) fn text_at(memory: &[u8], at: i32) -> wasmtime::Result<&[u8]> {
    match numbers_at(memory, at, 2)?.as_slice() {
        [at, len] => bytes_at(memory, *at, len.cast_unsigned() as usize),
        _ => Ok(&[]),
    }
}

/// So many numbers at `at`.
///
/// # Errors
/// When they are outside of the memory.
pub(super) fn numbers_at(memory: &[u8], at: i32, count: usize) -> wasmtime::Result<Vec<i32>> {
    let bytes = bytes_at(memory, at, count.saturating_mul(NUMBER))?;
    let (numbers, _) = bytes.as_chunks::<NUMBER>();
    Ok(numbers.iter().map(|number| i32::from_le_bytes(*number)).collect())
}

fn bytes_at(memory: &[u8], at: i32, len: usize) -> wasmtime::Result<&[u8]> {
    let at = at.cast_unsigned();
    let bytes = memory.get(at as usize..).and_then(|rest| rest.get(..len));
    bytes.ok_or_else(|| Outside { at, len }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_where_it_is_and_never_outside_of_the_memory() {
        let mut memory = [0_u8; 32];
        memory[0] = 16;
        memory[4] = 3;
        memory[16..19].copy_from_slice(b"abc");
        assert_eq!(text_at(&memory, 0).expect("it is there"), b"abc");
        assert_eq!(numbers_at(&memory, 0, 2).expect("they are there"), [16, 3]);
        memory[4..8].copy_from_slice(&(-1_i32).to_le_bytes());
        let said = text_at(&memory, 0).expect_err("it is outside").to_string();
        assert!(said.contains("4294967295 bytes at 16"), "{said}");
        for at in [25, 32, -1] {
            assert!(text_at(&memory, at).is_err(), "{at}");
        }
    }
}
