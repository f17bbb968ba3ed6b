//! The core-module ABI, host side: what a guest exports and may import, and the host functions.
//!
//! `runtime/wit/odeum-actor-core.md` is the contract; this file and that one say the same.

use std::sync::Arc;

use odeum_proto::{Name, limits};
use wasmtime::{Caller, Linker, Memory};

use super::effect::{Buffer, Level, Variables};
use super::error::GuestLimit;
use super::limiter::Limiter;

/// The module that guests import from.
pub(super) const MODULE: &str = "odeum";
pub(super) const MEMORY: &str = "a memory";

/// The variable is not there.
const MISSING: i32 = -1;
/// The name is empty, too long or not UTF-8.
const BAD_KEY: i32 = -2;

pub(super) struct Export {
    pub(super) name: &'static str,
    pub(super) signature: &'static str,
    pub(super) required: bool,
}

pub(super) const ALLOC: &str = "odeum_alloc";
pub(super) const HANDLE: &str = "odeum_handle";
pub(super) const START: &str = "odeum_start";

pub(super) const EXPORTS: &[Export] = &[
    Export { name: "memory", signature: MEMORY, required: true },
    Export { name: ALLOC, signature: "(i32) -> i32", required: true },
    Export { name: HANDLE, signature: "(i32, i32) -> i32", required: true },
    Export { name: START, signature: "()", required: false },
];

pub(super) struct Import {
    pub(super) name: &'static str,
    pub(super) signature: &'static str,
}

pub(super) const IMPORTS: &[Import] = &[
    Import { name: "var_get", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "var_set", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "var_delete", signature: "(i32, i32) -> i32" },
    Import { name: "reply", signature: "(i32, i32)" },
    Import { name: "log", signature: "(i32, i32, i32)" },
];

/// What the host keeps beside an instance.
pub(super) struct Guest {
    pub(super) firmware: Name,
    pub(super) memory: Option<Memory>,
    pub(super) limiter: Limiter,
    /// Epochs the guest may still meet on this message.
    pub(super) ticks_left: u64,
    /// The message at hand; `None` at rest and during the start.
    pub(super) message: Option<Message>,
}

/// The message at hand.
pub(super) struct Message {
    pub(super) variables: Arc<dyn Variables>,
    pub(super) buffer: Buffer,
}

/// Why the host ended a call of the guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error(transparent)]
    Limit(#[from] GuestLimit),
    #[error("`odeum.{import}` was given {len} bytes at {ptr}, outside of its memory")]
    Pointer { import: &'static str, ptr: u32, len: u32 },
    #[error("`odeum.{import}` was called outside of a message")]
    NoMessage { import: &'static str },
}

/// Two pieces of guest memory as the ABI passes them.
type Slice = (i32, i32);

/// All host functions.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(MODULE, "var_get", |caller: Caller<'_, Guest>, k, kl, b, bl| {
        var_get(caller, (k, kl), (b, bl))
    })?;
    linker.func_wrap(MODULE, "var_set", |caller: Caller<'_, Guest>, k, kl, v, vl| {
        var_set(caller, (k, kl), (v, vl))
    })?;
    linker.func_wrap(MODULE, "var_delete", |caller: Caller<'_, Guest>, k, kl| {
        var_delete(caller, (k, kl))
    })?;
    linker.func_wrap(MODULE, "reply", |caller: Caller<'_, Guest>, ptr, len| {
        reply(caller, (ptr, len))
    })?;
    linker.func_wrap(MODULE, "log", |caller: Caller<'_, Guest>, level: i32, ptr, len| {
        log(caller, level, (ptr, len))
    })?;
    Ok(linker)
}

fn var_get(mut caller: Caller<'_, Guest>, key: Slice, into: Slice) -> wasmtime::Result<i32> {
    const IMPORT: &str = "var_get";
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

fn var_set(mut caller: Caller<'_, Guest>, key: Slice, value: Slice) -> wasmtime::Result<i32> {
    const IMPORT: &str = "var_set";
    let (memory, guest) = parts(&mut caller)?;
    let message = message(guest, IMPORT)?;
    let value = slice(memory, value, IMPORT)?;
    let Some(key) = key_text(slice(memory, key, IMPORT)?) else { return Ok(BAD_KEY) };
    message.buffer.set(key, value).map_err(Stop::from)?;
    Ok(0)
}

fn var_delete(mut caller: Caller<'_, Guest>, key: Slice) -> wasmtime::Result<i32> {
    const IMPORT: &str = "var_delete";
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

fn reply(mut caller: Caller<'_, Guest>, body: Slice) -> wasmtime::Result<()> {
    const IMPORT: &str = "reply";
    let (memory, guest) = parts(&mut caller)?;
    let message = message(guest, IMPORT)?;
    message.buffer.reply(slice(memory, body, IMPORT)?).map_err(Stop::from)?;
    Ok(())
}

fn log(mut caller: Caller<'_, Guest>, level: i32, text: Slice) -> wasmtime::Result<()> {
    let (memory, guest) = parts(&mut caller)?;
    let text = slice(memory, text, "log")?;
    match &mut guest.message {
        Some(message) => message.buffer.log(&guest.firmware, Level::of(level), text),
        None => super::effect::emit(&guest.firmware, Level::of(level), text),
    }
    Ok(())
}

/// The guest's memory and what the host keeps beside it.
fn parts<'a>(caller: &'a mut Caller<'_, Guest>) -> wasmtime::Result<(&'a mut [u8], &'a mut Guest)> {
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

fn message<'a>(guest: &'a mut Guest, import: &'static str) -> Result<&'a mut Message, Stop> {
    guest.message.as_mut().ok_or(Stop::NoMessage { import })
}

fn slice<'a>(memory: &'a [u8], at: Slice, import: &'static str) -> Result<&'a [u8], Stop> {
    let (ptr, len) = (at.0.cast_unsigned(), at.1.cast_unsigned());
    let bytes = memory.get(ptr as usize..).and_then(|rest| rest.get(..len as usize));
    bytes.ok_or(Stop::Pointer { import, ptr, len })
}

fn slice_mut<'a>(
    memory: &'a mut [u8],
    at: Slice,
    import: &'static str,
) -> Result<&'a mut [u8], Stop> {
    let (ptr, len) = (at.0.cast_unsigned(), at.1.cast_unsigned());
    let bytes = memory.get_mut(ptr as usize..).and_then(|rest| rest.get_mut(..len as usize));
    bytes.ok_or(Stop::Pointer { import, ptr, len })
}

fn key_text(bytes: &[u8]) -> Option<&str> {
    let fits = (1..=limits::KEY_BYTES).contains(&bytes.len());
    std::str::from_utf8(bytes).ok().filter(|_| fits)
}
