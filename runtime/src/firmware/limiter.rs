//! How much an instance may take: memory, tables, instances.
//!
//! A refused `memory.grow` returns −1 to the guest, as the WebAssembly standard has it; most
//! guests then abort. The refusal is remembered, so that the abort is told as what it is.

use wasmtime::ResourceLimiter;

/// Most elements of all tables together: 64 Ki functions are many, and 512 KiB.
const TABLE_ELEMENTS: usize = 64 << 10;

/// Most memories and most tables of a module. Toolchains make one of each.
const ITEMS: usize = 8;

#[derive(Debug)]
pub(super) struct Limiter {
    allowed: u64,
    /// Bytes of all memories.
    memory: u64,
    elements: usize,
    refused: Option<u64>,
}

impl Limiter {
    pub(super) fn new(allowed: u64) -> Self {
        Self { allowed, memory: 0, elements: 0, refused: None }
    }

    pub(super) fn allowed(&self) -> u64 {
        self.allowed
    }

    /// Bytes of all memories.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory
    }

    /// What the memory would have been, if growing was refused since the last call.
    pub(super) fn take_refused(&mut self) -> Option<u64> {
        self.refused.take()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let asked = self.memory.saturating_add(desired.saturating_sub(current) as u64);
        if asked > self.allowed {
            self.refused = Some(asked);
            return Ok(false);
        }
        self.memory = asked;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let asked = self.elements.saturating_add(desired.saturating_sub(current));
        if asked > TABLE_ELEMENTS {
            return Ok(false);
        }
        self.elements = asked;
        Ok(true)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        ITEMS
    }

    fn memories(&self) -> usize {
        ITEMS
    }
}
