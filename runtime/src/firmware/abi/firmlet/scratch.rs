//! Where a firmlet finds what it is told: topics, payloads, its name.
//!
//! The ABI has no allocator, so the host makes room. A guest that exports `malloc` and `free` is
//! asked; for any other the memory is grown, after the guest was instantiated and never in between
//! its own pages. Some allocators (AssemblyScript's) take all pages that there are when they are
//! first used, and write marks at the end of them. So what the first call is told lies in pages of
//! its own with a page behind them, and those of messages are grown after the guest has started,
//! when its allocator has begun.

use wasmtime::{AsContextMut as _, Instance, Memory, Store, TypedFunc};

use super::Firmlet;

/// A page of WebAssembly, in bytes.
const PAGE: usize = 64 << 10;

/// Room in a guest's memory.
pub(super) struct Scratch {
    memory: Memory,
    malloc: Option<(TypedFunc<i32, i32>, TypedFunc<i32, ()>)>,
    /// Where the grown room begins and how much there is, in bytes.
    room: (usize, usize),
}

/// What was placed: addresses in the order of the parts, and what is to be freed.
pub(super) struct Placed {
    pub(super) at: Vec<(i32, i32)>,
    free: Option<i32>,
}

#[derive(Debug, thiserror::Error)]
#[error("there is no room in its memory for {bytes} bytes")]
struct NoRoom {
    bytes: usize,
}

impl Scratch {
    pub(super) fn of(instance: &Instance, memory: Memory, store: &mut Store<Firmlet>) -> Self {
        let malloc = instance.get_typed_func(&mut *store, "malloc").ok();
        let free = instance.get_typed_func(&mut *store, "free").ok();
        Self { memory, malloc: malloc.zip(free), room: (0, 0) }
    }

    /// Where the grown room is: its first byte, and how many there are.
    pub(super) fn room(&self) -> (u64, u64) {
        (self.room.0 as u64, self.room.1 as u64)
    }

    /// That of another instance of which this one has the memory.
    pub(super) fn put_room(&mut self, (base, bytes): (u64, u64)) {
        let number = |it| usize::try_from(it).unwrap_or_default();
        self.room = (number(base), number(bytes));
    }

    /// Room that was grown so far is the guest's from now on.
    pub(super) fn renew(&mut self) {
        self.room = (0, 0);
    }

    /// Copies `parts` to where the guest can read them, each with a zero behind it.
    pub(super) async fn place(
        &mut self,
        store: &mut Store<Firmlet>,
        parts: &[&[u8]],
    ) -> wasmtime::Result<Placed> {
        let bytes: usize = parts.iter().map(|part| part.len() + 1).sum();
        let (base, free) = match &self.malloc {
            Some((malloc, _)) => {
                let at = malloc.call_async(&mut *store, i32::try_from(bytes)?).await?;
                let at = (at != 0).then_some(at).ok_or(NoRoom { bytes })?;
                (at.cast_unsigned() as usize, Some(at))
            }
            None => (self.grown(store, bytes)?, None),
        };
        let memory = self.memory.data_mut(&mut *store);
        let room = memory.get_mut(base..).and_then(|rest| rest.get_mut(..bytes));
        let room = room.ok_or(NoRoom { bytes })?;
        let (mut at, mut offset) = (Vec::with_capacity(parts.len()), 0);
        for part in parts {
            room[offset..offset + part.len()].copy_from_slice(part);
            room[offset + part.len()] = 0;
            at.push((i32_of(base + offset), i32_of(part.len())));
            offset += part.len() + 1;
        }
        Ok(Placed { at, free })
    }

    pub(super) async fn free(
        &self,
        store: &mut Store<Firmlet>,
        placed: &Placed,
    ) -> wasmtime::Result<()> {
        if let (Some((_, free)), Some(at)) = (&self.malloc, placed.free) {
            free.call_async(store, at).await?;
        }
        Ok(())
    }

    fn grown(&mut self, store: &mut Store<Firmlet>, bytes: usize) -> wasmtime::Result<usize> {
        let (base, room) = self.room;
        if bytes <= room {
            return Ok(base);
        }
        // One page more than it takes, because its end may be written to.
        let pages = bytes.div_ceil(PAGE) + 1;
        let before = self.memory.grow(store.as_context_mut(), pages as u64)?;
        let base = usize::try_from(before)?.saturating_mul(PAGE);
        self.room = (base, (pages - 1) * PAGE);
        Ok(base)
    }
}

/// As the ABI passes unsigned numbers.
fn i32_of(number: usize) -> i32 {
    u32::try_from(number).unwrap_or(u32::MAX).cast_signed()
}
