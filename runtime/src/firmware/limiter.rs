//! How much an instance may take: memory, tables, instances.
//!
//! A refused `memory.grow` or `table.grow` returns −1 to the guest, as the WebAssembly standard has
//! it; most guests then abort. The refusal is remembered, so that the abort is told as what it is.

use wasmtime::ResourceLimiter;

use super::error::GuestLimit;
use crate::package::manifest::Limits;

/// Memories and tables that there may be in any case: a core module, which is one instance, often has
/// more than one of them.
const ITEMS: usize = 8;

/// Bounds of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Bytes of all memories.
    pub(super) memory: u64,
    /// Elements of all tables.
    pub(super) elements: u64,
    /// Core instances, and as many memories and tables.
    pub(super) instances: usize,
}

impl Bounds {
    /// Those of a package, with the memory that the deployment allows.
    pub(super) fn new(memory: u64, limits: &Limits) -> Self {
        let instances = usize::try_from(limits.instances.number()).unwrap_or(usize::MAX);
        Self { memory, elements: limits.table_elements.number(), instances }
    }
}

#[derive(Debug)]
pub(super) struct Limiter {
    bounds: Bounds,
    /// Bytes of all memories.
    memory: u64,
    elements: u64,
    refused: Option<GuestLimit>,
}

impl Limiter {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, memory: 0, elements: 0, refused: None }
    }

    /// Bytes of all memories.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory
    }

    /// What there would have been too many of, when that is the engine's `reason`: it asks once for
    /// these bounds, and its error has no type of its own.
    ///
    /// Source: wasmtime 48.0, `StoreOpaque::bump_resource_counts`.
    pub(super) fn too_many(&self, reason: &str) -> Option<GuestLimit> {
        let counted = reason.strip_prefix("resource limit exceeded: ")?;
        let (what, asked) = counted.split_once(" count too high at ")?;
        let (what, allowed) = match what {
            "instance" => ("core instances", self.instances()),
            "memory" => ("memories", self.memories()),
            "table" => ("tables", self.tables()),
            _ => return None,
        };
        Some(GuestLimit::Items { what: what.into(), asked: asked.parse().ok()?, allowed })
    }

    /// What was refused last since the last call, if anything was.
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
        let asked = grown(self.memory, current, desired);
        let allowed = self.bounds.memory;
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
        let asked = grown(self.elements, current, desired);
        let allowed = self.bounds.elements;
        if asked > allowed {
            self.refused = Some(GuestLimit::Table { asked, allowed });
            return Ok(false);
        }
        self.elements = asked;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.bounds.instances
    }

    fn tables(&self) -> usize {
        ITEMS.max(self.bounds.instances)
    }

    fn memories(&self) -> usize {
        ITEMS.max(self.bounds.instances)
    }
}

fn grown(all: u64, current: usize, desired: usize) -> u64 {
    all.saturating_add(desired.saturating_sub(current) as u64)
}
