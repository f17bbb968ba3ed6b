//! How much an instance may take: memory, tables, instances.
//!
//! A refused `memory.grow` or `table.grow` returns −1 to the guest, as the WebAssembly standard has
//! it; most guests then abort. The refusal is remembered, so that the abort is told as what it is.

use wasmtime::ResourceLimiter;

use super::error::GuestLimit;
use crate::package::manifest::Limits;

/// Most memories and most tables of a core module. Toolchains make one of each.
const ITEMS: usize = 8;

#[derive(Debug)]
pub(super) struct Limiter {
    allowed: u64,
    elements_allowed: u64,
    instances: usize,
    /// Bytes of all memories.
    memory: u64,
    /// Elements of all tables.
    elements: u64,
    refused: Option<GuestLimit>,
}

impl Limiter {
    /// A limiter that lets all memories together have `allowed` bytes.
    pub(super) fn new(allowed: u64, limits: &Limits) -> Self {
        Self {
            allowed,
            elements_allowed: limits.table_elements.number(),
            instances: usize::try_from(limits.instances.number()).unwrap_or(usize::MAX),
            memory: 0,
            elements: 0,
            refused: None,
        }
    }

    /// Bytes of all memories.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory
    }

    /// What was refused since the last call.
    pub(super) fn take_refused(&mut self) -> Option<GuestLimit> {
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
        let (asked, allowed) = (grown(self.memory, current, desired), self.allowed);
        if asked > allowed {
            self.refused = Some(GuestLimit::Memory { asked, allowed });
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
        let (asked, allowed) = (grown(self.elements, current, desired), self.elements_allowed);
        if asked > allowed {
            self.refused = Some(GuestLimit::Table { asked, allowed });
            return Ok(false);
        }
        self.elements = asked;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        ITEMS.max(self.instances)
    }

    fn memories(&self) -> usize {
        ITEMS.max(self.instances)
    }
}

fn grown(all: u64, current: usize, desired: usize) -> u64 {
    all.saturating_add(desired.saturating_sub(current) as u64)
}
