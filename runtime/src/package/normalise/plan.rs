//! What a module must export to be movable, and what stands in the way. Decides; writes nothing.

use std::collections::BTreeSet;

use wasmparser::{
    AbstractHeapType, ExternalKind, GlobalType, HeapType, MemoryType, RefType, TableType, ValType,
};

use super::{
    Obstacle, PREFIX, START,
    scan::{Item, Module},
};

/// A function that is to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// Traps if the data segment, of `end` bytes, was dropped.
    DataDropped { segment: u32, end: u32, memory64: bool },
    /// Drops the data segment.
    DropData { segment: u32 },
    /// Traps if the element segment, of `end` elements, was dropped.
    ElemDropped { segment: u32, end: u32, table: u32, table64: bool },
    /// Drops the element segment.
    DropElem { segment: u32 },
}

/// An export that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Export {
    /// Of an item that is there.
    Item { name: String, item: Item, index: u32 },
    /// Of a function that is appended, too.
    Probe { name: String, probe: Probe },
}

impl Module {
    /// What stands in the way of moving it.
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        let mut obstacles = self.imported.clone();
        let mut shared = |what, is_shared: &mut dyn Iterator<Item = bool>| {
            let which = (0..).zip(is_shared).filter(|(_, shared)| *shared);
            obstacles.extend(which.map(|(index, _)| Obstacle::Shared { what, index }));
        };
        shared("memory", &mut self.memories.iter().map(|memory| memory.shared));
        shared("table", &mut self.tables.iter().map(|table| table.shared));
        shared("global", &mut self.globals.iter().map(|global| global.shared));
        for &index in &self.changed_tables {
            if self.table(index).is_some_and(|table| !is_func(table.element_type)) {
                obstacles.push(Obstacle::Reference { what: "table", index });
            }
        }
        for (index, global) in self.mutable_globals() {
            if matches!(global.content_type, ValType::Ref(ty) if !is_func(ty)) {
                obstacles.push(Obstacle::Reference { what: "global", index });
            }
        }
        obstacles
    }

    /// What is to be exported and is not yet, and names of ours that are something else.
    pub(super) fn exports(&self) -> (Vec<Export>, Vec<Obstacle>) {
        let mut missing = Vec::new();
        let mut own: BTreeSet<&str> = self.own_exports.keys().map(String::as_str).collect();
        for export in self.wanted() {
            let name = export.name();
            let is_there = match (self.own_exports.get(name), &export) {
                (Some((kind, at)), Export::Item { item, index, .. }) => {
                    Item::of(*kind) == Some(*item) && at == index
                }
                (Some((kind, _)), Export::Probe { .. }) => Item::of(*kind) == Some(Item::Func),
                (None, _) => {
                    missing.push(export);
                    continue;
                }
            };
            if is_there {
                own.remove(name);
            }
        }
        // That of a start section that is an export already.
        if self.start.is_none()
            && self.own_exports.get(START).is_some_and(|(kind, _)| *kind == ExternalKind::Func)
        {
            own.remove(START);
        }
        let names = own.into_iter().map(|name| Obstacle::Name { name: name.into() });
        (missing, names.collect())
    }

    /// All that a movable module exports.
    fn wanted(&self) -> Vec<Export> {
        let item = |item: Item| {
            move |index: u32| Export::Item {
                name: format!("{PREFIX}{}.{index}", item.word()),
                item,
                index,
            }
        };
        let mut wanted = Vec::new();
        wanted.extend(self.start.map(|index| Export::Item {
            name: START.to_owned(),
            item: Item::Func,
            index,
        }));
        wanted.extend(self.mutable_globals().map(|(index, _)| index).map(item(Item::Global)));
        wanted.extend((0..).zip(&self.memories).map(|(index, _)| index).map(item(Item::Memory)));
        wanted.extend(self.changed_tables.iter().copied().map(item(Item::Table)));
        // Where no reference can be kept that was not there at the beginning, none has to be found.
        if !self.changed_tables.is_empty()
            || self
                .mutable_globals()
                .any(|(_, global)| matches!(global.content_type, ValType::Ref(_)))
        {
            wanted.extend(self.escaping.iter().copied().map(item(Item::Func)));
        }
        wanted.extend(self.probes());
        wanted
    }

    fn probes(&self) -> Vec<Export> {
        let mut probes = Vec::new();
        let mut both = |what: &str, segment: u32, dropped: Probe, drop: Probe| {
            let name = |end| format!("{PREFIX}{what}.{segment}.{end}");
            probes.push(Export::Probe { name: name("dropped"), probe: dropped });
            probes.push(Export::Probe { name: name("drop"), probe: drop });
        };
        // Whether a segment is dropped is seen by nobody if it is empty, or there is no memory, or no
        // table of its type.
        if let Some(MemoryType { memory64, .. }) = self.memories.first().copied() {
            for &segment in &self.dropped_data {
                let passive = self.passive_data.get(&segment).copied();
                if let Some(end) = passive.filter(|end| *end > 0) {
                    let dropped = Probe::DataDropped { segment, end, memory64 };
                    both("data", segment, dropped, Probe::DropData { segment });
                }
            }
        }
        for &segment in &self.dropped_elements {
            let passive = self.elements.get(segment as usize).copied().flatten();
            let Some((ty, end)) = passive.filter(|(_, end)| *end > 0) else { continue };
            let of_type = (0..).zip(&self.tables).find(|(_, table)| table.element_type == ty);
            if let Some((table, &TableType { table64, .. })) = of_type {
                let dropped = Probe::ElemDropped { segment, end, table, table64 };
                both("elem", segment, dropped, Probe::DropElem { segment });
            }
        }
        probes
    }

    fn mutable_globals(&self) -> impl Iterator<Item = (u32, &GlobalType)> {
        (0..).zip(&self.globals).filter(|(_, global)| global.mutable)
    }

    fn table(&self, index: u32) -> Option<&TableType> {
        self.tables.get(index as usize)
    }
}

impl Export {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Item { name, .. } | Self::Probe { name, .. } => name,
        }
    }
}

/// Whether references of that type are of functions. Without garbage collection, which the engine
/// does not have, a type of its own is that of a function.
fn is_func(ty: RefType) -> bool {
    match ty.heap_type() {
        HeapType::Abstract { ty, .. } => {
            matches!(ty, AbstractHeapType::Func | AbstractHeapType::NoFunc)
        }
        HeapType::Concrete(_) | HeapType::Exact(_) => true,
    }
}
