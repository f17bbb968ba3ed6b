//! The core-module ABI, host side: what a guest exports and may import, and the host functions.
//!
//! `runtime/wit/odeum-actor-core.md` is the contract; this file and that one say the same.

mod instance;

use std::sync::Arc;

use odeum_proto::limits;
use wasmtime::{Caller, Linker, Memory};

pub(super) use self::instance::Begin;
pub(in crate::firmware) use self::instance::CoreInstance;
use super::memory::{Slice, slice, slice_mut};
use crate::firmware::{
    effect::{Buffer, Level, Variables},
    store::{Meter, Metered, Stop},
};

/// The module that guests import from.
pub(in crate::firmware) const MODULE: &str = "odeum";
pub(in crate::firmware) const MEMORY: &str = "a memory";

/// The variable is not there.
const MISSING: i32 = -1;
/// The name is empty, too long or not UTF-8.
const BAD_KEY: i32 = -2;

pub(in crate::firmware) struct Export {
    pub(in crate::firmware) name: &'static str,
    pub(in crate::firmware) signature: &'static str,
    pub(in crate::firmware) required: bool,
}

pub(in crate::firmware) const ALLOC: &str = "odeum_alloc";
pub(in crate::firmware) const HANDLE: &str = "odeum_handle";
pub(in crate::firmware) const START: &str = "odeum_start";
/// Says whether the guest is well.
pub(in crate::firmware) const ALIVE: &str = "odeum_alive";
/// What WASI has a reactor called before anything else.
pub(in crate::firmware) const INITIALIZE: &str = "_initialize";

pub(in crate::firmware) const EXPORTS: &[Export] = &[
    Export { name: "memory", signature: MEMORY, required: true },
    Export { name: ALLOC, signature: "(i32) -> i32", required: true },
    Export { name: HANDLE, signature: "(i32, i32) -> i32", required: true },
    Export { name: START, signature: "()", required: false },
    Export { name: ALIVE, signature: "() -> i32", required: false },
];

pub(in crate::firmware) struct Import {
    pub(in crate::firmware) name: &'static str,
    pub(in crate::firmware) signature: &'static str,
}

pub(in crate::firmware) const IMPORTS: &[Import] = &[
    Import { name: "var_get", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "var_set", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "var_delete", signature: "(i32, i32) -> i32" },
    Import { name: "reply", signature: "(i32, i32)" },
    Import { name: "log", signature: "(i32, i32, i32)" },
];

/// What the host keeps beside an instance. `W` is what it has of WASI: nothing, or the context.
pub(in crate::firmware) struct Guest<W = ()> {
    pub(in crate::firmware) meter: Meter,
    pub(in crate::firmware) memory: Option<Memory>,
    /// The message at hand; `None` at rest and during the start.
    pub(in crate::firmware) message: Option<Message>,
    pub(in crate::firmware) wasi: W,
}

impl<W> Guest<W> {
    pub(in crate::firmware) fn new(meter: Meter, wasi: W) -> Self {
        Self { meter, memory: None, message: None, wasi }
    }
}

impl<W: Send + 'static> Metered for Guest<W> {
    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn meter_mut(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

/// The message at hand.
pub(in crate::firmware) struct Message {
    pub(in crate::firmware) variables: Arc<dyn Variables>,
    pub(in crate::firmware) buffer: Buffer,
}

/// Adds all host functions.
pub(in crate::firmware) fn add_to_linker<W: Send + 'static>(
    linker: &mut Linker<Guest<W>>,
) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "var_get", |caller: Caller<'_, Guest<W>>, k, kl, b, bl| {
        var_get(caller, (k, kl), (b, bl))
    })?;
    linker.func_wrap(MODULE, "var_set", |caller: Caller<'_, Guest<W>>, k, kl, v, vl| {
        var_set(caller, (k, kl), (v, vl))
    })?;
    linker.func_wrap(MODULE, "var_delete", |caller: Caller<'_, Guest<W>>, k, kl| {
        var_delete(caller, (k, kl))
    })?;
    linker.func_wrap(MODULE, "reply", |caller: Caller<'_, Guest<W>>, ptr, len| {
        reply(caller, (ptr, len))
    })?;
    linker.func_wrap(MODULE, "log", |caller: Caller<'_, Guest<W>>, level: i32, ptr, len| {
        log(caller, level, (ptr, len))
    })?;
    Ok(())
}

fn var_get<W: 'static>(
    mut caller: Caller<'_, Guest<W>>,
    key: Slice,
    into: Slice,
) -> wasmtime::Result<i32> {
    const IMPORT: &str = "odeum.var_get";
    let (memory, guest) = parts(&mut caller)?;
    let message = message(guest, IMPORT)?;
    let Some(key) = key_text(slice(memory, key, IMPORT)?) else { return Ok(BAD_KEY) };
    let value = match message.buffer.written(key) {
        Some(written) => written.map(<[u8]>::to_vec),
        None => message.variables.get(key),
    };
    let Some(value) = value else { return Ok(MISSING) };
    let into = slice_mut(memory, into, IMPORT)?;
    if let Some(into) = into.get_mut(..value.len()) {
        into.copy_from_slice(&value);
    }
    Ok(i32::try_from(value.len()).unwrap_or(i32::MAX))
}

fn var_set<W: 'static>(
    mut caller: Caller<'_, Guest<W>>,
    key: Slice,
    value: Slice,
) -> wasmtime::Result<i32> {
    const IMPORT: &str = "odeum.var_set";
    let (memory, guest) = parts(&mut caller)?;
    let message = message(guest, IMPORT)?;
    let value = slice(memory, value, IMPORT)?;
    let Some(key) = key_text(slice(memory, key, IMPORT)?) else { return Ok(BAD_KEY) };
    message.buffer.set(key, value).map_err(Stop::from)?;
    Ok(0)
}

fn var_delete<W: 'static>(mut caller: Caller<'_, Guest<W>>, key: Slice) -> wasmtime::Result<i32> {
    const IMPORT: &str = "odeum.var_delete";
    let (memory, guest) = parts(&mut caller)?;
    let message = message(guest, IMPORT)?;
    let Some(key) = key_text(slice(memory, key, IMPORT)?) else { return Ok(BAD_KEY) };
    let is_there = match message.buffer.written(key) {
        Some(written) => written.is_some(),
        None => message.variables.get(key).is_some(),
    };
    if !is_there {
        return Ok(MISSING);
    }
    message.buffer.delete(key).map_err(Stop::from)?;
    Ok(0)
}

fn reply<W: 'static>(mut caller: Caller<'_, Guest<W>>, body: Slice) -> wasmtime::Result<()> {
    const IMPORT: &str = "odeum.reply";
    let (memory, guest) = parts(&mut caller)?;
    let message = message(guest, IMPORT)?;
    message.buffer.reply(slice(memory, body, IMPORT)?).map_err(Stop::from)?;
    Ok(())
}

fn log<W: 'static>(
    mut caller: Caller<'_, Guest<W>>,
    level: i32,
    text: Slice,
) -> wasmtime::Result<()> {
    let (memory, guest) = parts(&mut caller)?;
    let text = slice(memory, text, "odeum.log")?;
    match &mut guest.message {
        Some(message) => message.buffer.log(&guest.meter.log, Level::of(level), text),
        None => crate::firmware::effect::emit(&guest.meter.log, Level::of(level), text),
    }
    Ok(())
}

/// The guest's memory and what the host keeps beside it.
fn parts<'a, W: 'static>(
    caller: &'a mut Caller<'_, Guest<W>>,
) -> wasmtime::Result<(&'a mut [u8], &'a mut Guest<W>)> {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        // Only while the module's start section runs. The check of the package promises the export.
        None => caller
            .get_export("memory")
            .and_then(wasmtime::Extern::into_memory)
            .ok_or_else(|| wasmtime::Error::msg("the memory is not there yet"))?,
    };
    Ok(memory.data_and_store_mut(caller))
}

fn message<'a, W>(guest: &'a mut Guest<W>, import: &'static str) -> Result<&'a mut Message, Stop> {
    guest.message.as_mut().ok_or(Stop::NoMessage { import })
}

pub(in crate::firmware) fn key_text(bytes: &[u8]) -> Option<&str> {
    let fits = (1..=limits::KEY_BYTES).contains(&bytes.len());
    std::str::from_utf8(bytes).ok().filter(|_| fits)
}
