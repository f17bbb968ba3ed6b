//! The core-module ABI, host side: what a guest exports and may import, and the host functions.
//!
//! `runtime/wit/odeum-actor-core.md` is the contract; this file and that one say the same.

mod instance;
mod outward;

use std::sync::Arc;

use odeum_proto::limits;
use wasmtime::{Caller, Linker, Memory};

pub(super) use self::instance::Begin;
pub(in crate::firmware) use self::instance::CoreInstance;
use super::{
    dealings::Dealings,
    memory::{Slice, slice},
};
use crate::{
    firmware::{
        effect::{Buffer, Level, Variables},
        store::{Meter, Metered, Stop},
    },
    package::manifest::Manifest,
};

/// The module that guests import from.
pub(in crate::firmware) const MODULE: &str = "odeum";
pub(in crate::firmware) const MEMORY: &str = "a memory";

/// What is named is not there.
const MISSING: i32 = -1;
/// The name is empty, too long, not UTF-8 or has characters that it cannot have.
const NOT_A_NAME: i32 = -2;
/// There is more of it than there may be.
const TOO_MUCH: i32 = -3;
/// The manifest does not grant it. The log has the line that would.
const DENIED: i32 = -4;
/// What was asked has no reply; what is told instead is the reason.
const FAILED: i32 = -5;

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
/// Told first in a new instance, as a message.
pub(in crate::firmware) const ON_START: &str = "odeum_on_start";
/// A timer has run out.
const ON_TIMER: &str = "odeum_on_timer";
/// An ask has its outcome.
const ON_ANSWER: &str = "odeum_on_answer";
/// Something was published under a topic of its own.
const ON_PUBLISHED: &str = "odeum_on_published";
/// Called last.
const ON_STOP: &str = "odeum_on_stop";
/// What WASI has a reactor called before anything else.
pub(in crate::firmware) const INITIALIZE: &str = "_initialize";

pub(in crate::firmware) const EXPORTS: &[Export] = &[
    Export { name: "memory", signature: MEMORY, required: true },
    Export { name: ALLOC, signature: "(i32) -> i32", required: true },
    Export { name: HANDLE, signature: "(i32, i32) -> i32", required: true },
    Export { name: START, signature: "()", required: false },
    Export { name: ALIVE, signature: "() -> i32", required: false },
    Export { name: ON_START, signature: "() -> i32", required: false },
    Export { name: ON_TIMER, signature: "(i64) -> i32", required: false },
    Export { name: ON_ANSWER, signature: "(i64, i32, i32, i32) -> i32", required: false },
    Export { name: ON_PUBLISHED, signature: "(i32, i32, i32, i32) -> i32", required: false },
    Export { name: ON_STOP, signature: "()", required: false },
];

/// Imports after which the guest is told something, and the exports by which it is.
pub(in crate::firmware) const HEARD: &[(&str, &str)] =
    &[("set_timer", ON_TIMER), ("ask", ON_ANSWER), ("subscribe", ON_PUBLISHED)];

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
    Import { name: "firmware", signature: "(i32, i32) -> i32" },
    Import { name: "config", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "tell", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "ask", signature: "(i32, i32, i32, i32, i32) -> i64" },
    Import { name: "set_timer", signature: "(i64) -> i64" },
    Import { name: "cancel_timer", signature: "(i64) -> i32" },
    Import { name: "random", signature: "(i32, i32) -> i32" },
    Import { name: "now", signature: "() -> i64" },
    Import { name: "monotonic", signature: "() -> i64" },
    Import { name: "publish", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "subscribe", signature: "(i32, i32) -> i32" },
];

/// What the host keeps beside an instance. `W` is what it has of WASI: nothing, or the context.
pub(in crate::firmware) struct Guest<W = ()> {
    pub(in crate::firmware) meter: Meter,
    pub(in crate::firmware) memory: Option<Memory>,
    /// The message at hand; `None` at rest and during the start.
    pub(in crate::firmware) message: Option<Message>,
    pub(in crate::firmware) dealings: Dealings,
    pub(in crate::firmware) wasi: W,
}

impl<W> Guest<W> {
    pub(in crate::firmware) fn new(meter: Meter, manifest: &Manifest, wasi: W) -> Self {
        let dealings = Dealings::new(manifest, Arc::clone(&meter.denials));
        Self { meter, memory: None, message: None, dealings, wasi }
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
    outward::add_to_linker(linker)
}

fn var_get<W: 'static>(
    mut caller: Caller<'_, Guest<W>>,
    key: Slice,
    into: Slice,
) -> wasmtime::Result<i32> {
    const IMPORT: &str = "odeum.var_get";
    let (memory, guest) = parts(&mut caller)?;
    let message = message(guest, IMPORT)?;
    let Some(key) = key_text(slice(memory, key, IMPORT)?) else { return Ok(NOT_A_NAME) };
    let value = match message.buffer.written(key) {
        Some(written) => written.map(<[u8]>::to_vec),
        None => message.variables.get(key),
    };
    let Some(value) = value else { return Ok(MISSING) };
    outward::copied(memory, &value, into, IMPORT)
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
    let Some(key) = key_text(slice(memory, key, IMPORT)?) else { return Ok(NOT_A_NAME) };
    message.buffer.set(key, value).map_err(Stop::from)?;
    Ok(0)
}

fn var_delete<W: 'static>(mut caller: Caller<'_, Guest<W>>, key: Slice) -> wasmtime::Result<i32> {
    const IMPORT: &str = "odeum.var_delete";
    let (memory, guest) = parts(&mut caller)?;
    let message = message(guest, IMPORT)?;
    let Some(key) = key_text(slice(memory, key, IMPORT)?) else { return Ok(NOT_A_NAME) };
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
