//! The state of an instance beside the pages of its memories, by the exports that lead to it.

use std::collections::HashMap;

use wasmtime::{
    Extern, Func, Global as Slot, Instance, Memory, Mutability, Ref, Store, Table, Val,
};

use super::{HeapError, piece::Global};
use crate::{
    firmware::store::{self, Metered},
    package::normalise::PREFIX,
};

/// A page of WebAssembly, in bytes.
const WASM_PAGE: u64 = 64 << 10;

/// What an instance has, each sort in the order of the exports' names.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) memories: Vec<(Box<str>, Memory)>,
    globals: Vec<(Box<str>, Slot)>,
    tables: Vec<(Box<str>, Table)>,
    /// What traps when a segment is dropped, and what drops it.
    segments: Vec<(Box<str>, Func, Func)>,
    /// Functions that references can be of, by their number.
    funcs: HashMap<u32, Func>,
}

impl Items {
    pub(super) fn of<T: Metered>(instance: &Instance, store: &mut Store<T>) -> Self {
        let mut found = Self::default();
        let mut funcs = HashMap::new();
        let exports: Vec<(Box<str>, Extern)> = instance
            .exports(&mut *store)
            .filter_map(|export| {
                let name = export.name().strip_prefix(PREFIX)?.into();
                Some((name, export.into_extern()))
            })
            .collect();
        for (name, item) in exports {
            match item {
                Extern::Memory(memory) => found.memories.push((name, memory)),
                Extern::Table(table) => found.tables.push((name, table)),
                Extern::Global(global) if global.ty(&*store).mutability() == Mutability::Var => {
                    found.globals.push((name, global));
                }
                Extern::Func(func) => {
                    if let Some(number) = name.strip_prefix("func.").and_then(|it| it.parse().ok())
                    {
                        found.funcs.insert(number, func);
                    }
                    funcs.insert(name, func);
                }
                _ => {}
            }
        }
        for (name, dropped) in &funcs {
            let segment = name.strip_suffix(".dropped");
            let drop = segment.and_then(|it| funcs.get(format!("{it}.drop").as_str()));
            if let (Some(segment), Some(drop)) = (segment, drop) {
                found.segments.push((segment.into(), *dropped, *drop));
            }
        }
        found.memories.sort_by(|a, b| a.0.cmp(&b.0));
        found.globals.sort_by(|a, b| a.0.cmp(&b.0));
        found.tables.sort_by(|a, b| a.0.cmp(&b.0));
        found.segments.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    pub(super) fn read_globals<T: Metered>(
        &self,
        store: &mut Store<T>,
    ) -> Result<Vec<Global>, HeapError> {
        let numbers = self.numbers(store);
        let read = |(name, slot): &(Box<str>, Slot)| {
            Ok(match slot.get(&mut *store) {
                Val::I32(value) => Global::I32(value),
                Val::I64(value) => Global::I64(value),
                Val::F32(bits) => Global::F32(bits),
                Val::F64(bits) => Global::F64(bits),
                Val::V128(value) => Global::V128(value.as_u128()),
                Val::FuncRef(func) => Global::Func(number_of(func, &numbers, store)?),
                _ => return Err(HeapError::misfit(format_args!("`{name}` is of another type"))),
            })
        };
        self.globals.iter().map(read).collect()
    }

    pub(super) fn write_globals<T: Metered>(
        &self,
        store: &mut Store<T>,
        values: &[Global],
    ) -> Result<(), HeapError> {
        self.fits("globals", self.globals.len(), values.len())?;
        for ((name, slot), value) in self.globals.iter().zip(values) {
            let value = match *value {
                Global::I32(value) => Val::I32(value),
                Global::I64(value) => Val::I64(value),
                Global::F32(bits) => Val::F32(bits),
                Global::F64(bits) => Val::F64(bits),
                Global::V128(value) => Val::V128(value.into()),
                Global::Func(number) => Val::FuncRef(self.func(number)?),
            };
            slot.set(&mut *store, value)
                .map_err(|error| HeapError::misfit(format_args!("`{name}`: {error}")))?;
        }
        Ok(())
    }

    pub(super) fn read_tables<T: Metered>(
        &self,
        store: &mut Store<T>,
    ) -> Result<Vec<Vec<Option<u32>>>, HeapError> {
        let numbers = self.numbers(store);
        let mut tables = Vec::with_capacity(self.tables.len());
        for (name, table) in &self.tables {
            let mut read = Vec::new();
            for at in 0..table.size(&*store) {
                match table.get(&mut *store, at) {
                    Some(Ref::Func(func)) => read.push(number_of(func, &numbers, store)?),
                    _ => {
                        let what = format_args!("`{name}` holds something else than functions");
                        return Err(HeapError::misfit(what));
                    }
                }
            }
            tables.push(read);
        }
        Ok(tables)
    }

    pub(super) fn write_tables<T: Metered>(
        &self,
        store: &mut Store<T>,
        tables: &[Vec<Option<u32>>],
    ) -> Result<(), HeapError> {
        self.fits("tables", self.tables.len(), tables.len())?;
        for ((name, table), values) in self.tables.iter().zip(tables) {
            let misfit =
                |error: wasmtime::Error| HeapError::misfit(format_args!("`{name}`: {error}"));
            let more = (values.len() as u64).saturating_sub(table.size(&*store));
            table.grow(&mut *store, more, Ref::Func(None)).map_err(misfit)?;
            for (at, number) in (0..).zip(values) {
                let func = self.func(*number)?;
                table.set(&mut *store, at, Ref::Func(func)).map_err(misfit)?;
            }
        }
        Ok(())
    }

    /// Which segments are dropped: the probe of one that is traps.
    pub(super) async fn read_dropped<T: Metered>(
        &self,
        store: &mut Store<T>,
    ) -> Result<Vec<bool>, HeapError> {
        store::wind(store, None);
        let mut dropped = Vec::with_capacity(self.segments.len());
        for (_, probe, _) in &self.segments {
            dropped.push(probe.call_async(&mut *store, &[], &mut []).await.is_err());
        }
        Ok(dropped)
    }

    pub(super) async fn drop_segments<T: Metered>(
        &self,
        store: &mut Store<T>,
        dropped: &[bool],
    ) -> Result<(), HeapError> {
        self.fits("segments", self.segments.len(), dropped.len())?;
        for ((name, _, drop), _) in self.segments.iter().zip(dropped).filter(|(_, is)| **is) {
            drop.call_async(&mut *store, &[], &mut []).await.map_err(|error| {
                let (export, reason) = (name.clone(), error.root_cause().to_string().into());
                HeapError::Failed { export, reason }
            })?;
        }
        Ok(())
    }

    fn fits(&self, what: &str, here: usize, came: usize) -> Result<(), HeapError> {
        if here == came {
            return Ok(());
        }
        Err(HeapError::misfit(format_args!("{came} {what} where there are {here}")))
    }

    fn func(&self, number: Option<u32>) -> Result<Option<Func>, HeapError> {
        let Some(number) = number else { return Ok(None) };
        let func = self.funcs.get(&number);
        func.map(|func| Some(*func))
            .ok_or_else(|| HeapError::misfit(format_args!("no function has the number {number}")))
    }

    /// The numbers of functions by where they are.
    fn numbers<T: Metered>(&self, store: &mut Store<T>) -> HashMap<usize, u32> {
        let place = |(number, func): (&u32, &Func)| (func.to_raw(&mut *store) as usize, *number);
        self.funcs.iter().map(place).collect()
    }
}

fn number_of<T: Metered>(
    func: Option<Func>,
    numbers: &HashMap<usize, u32>,
    store: &mut Store<T>,
) -> Result<Option<u32>, HeapError> {
    let Some(func) = func else { return Ok(None) };
    let place = func.to_raw(&mut *store) as usize;
    let number = numbers.get(&place).copied();
    number.map(Some).ok_or_else(|| HeapError::misfit("a reference to a function of somebody else"))
}

/// Makes a memory as long as it was.
pub(super) fn grow<T: Metered>(
    store: &mut Store<T>,
    memory: Memory,
    length: u64,
) -> Result<(), HeapError> {
    let more = length.saturating_sub(memory.data_size(&*store) as u64).div_ceil(WASM_PAGE);
    if more == 0 {
        return Ok(());
    }
    match memory.grow(&mut *store, more) {
        Ok(_) => Ok(()),
        Err(_) => Err(HeapError::NoRoom { asked: length }),
    }
}
