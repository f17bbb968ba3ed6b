//! What a guest of the core ABI asks of its node and does to others.
//!
//! Names and limits are judged by [`Dealings`](crate::firmware::abi::dealings::Dealings); what they
//! come to is a code here.

use wasmtime::{Caller, Linker};

use super::{DENIED, Guest, MISSING, MODULE, NOT_A_NAME, TOO_MUCH, message, parts};
use crate::firmware::abi::{
    dealings::Refused,
    memory::{Slice, slice, slice_mut},
};

/// What names the functions in errors.
type Name = &'static str;

/// Adds the host functions of this file.
pub(super) fn add_to_linker<W: Send + 'static>(
    linker: &mut Linker<Guest<W>>,
) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "firmware", |caller: Caller<'_, Guest<W>>, into, capacity| {
        firmware(caller, (into, capacity))
    })?;
    linker.func_wrap(MODULE, "config", |caller: Caller<'_, Guest<W>>, k, kl, into, capacity| {
        config(caller, (k, kl), (into, capacity))
    })?;
    linker.func_wrap(MODULE, "tell", |caller: Caller<'_, Guest<W>>, t, tl, b, bl| {
        tell(caller, (t, tl), (b, bl))
    })?;
    linker.func_wrap(
        MODULE,
        "ask",
        |caller: Caller<'_, Guest<W>>, t, tl, b, bl, deadline: i32| {
            ask(caller, (t, tl), (b, bl), deadline)
        },
    )?;
    linker.func_wrap(MODULE, "set_timer", |caller: Caller<'_, Guest<W>>, after: i64| {
        set_timer(caller, after)
    })?;
    linker.func_wrap(MODULE, "cancel_timer", |caller: Caller<'_, Guest<W>>, timer: i64| {
        cancel_timer(caller, timer)
    })?;
    linker.func_wrap(MODULE, "random", |caller: Caller<'_, Guest<W>>, into, len| {
        random(caller, (into, len))
    })?;
    linker.func_wrap(MODULE, "now", |caller: Caller<'_, Guest<W>>| {
        number(caller.data().dealings.now())
    })?;
    linker.func_wrap(MODULE, "monotonic", |caller: Caller<'_, Guest<W>>| {
        number(caller.data().dealings.monotonic())
    })?;
    linker.func_wrap(MODULE, "publish", |caller: Caller<'_, Guest<W>>, t, tl, p, pl| {
        publish(caller, (t, tl), (p, pl))
    })?;
    linker.func_wrap(MODULE, "subscribe", |caller: Caller<'_, Guest<W>>, t, tl| {
        subscribe(caller, (t, tl))
    })?;
    Ok(())
}

fn firmware<W: 'static>(mut caller: Caller<'_, Guest<W>>, into: Slice) -> wasmtime::Result<i32> {
    let (memory, guest) = parts(&mut caller)?;
    let name = guest.meter.firmware.to_string();
    copied(memory, name.as_bytes(), into, "odeum.firmware")
}

fn config<W: 'static>(
    mut caller: Caller<'_, Guest<W>>,
    key: Slice,
    into: Slice,
) -> wasmtime::Result<i32> {
    const IMPORT: Name = "odeum.config";
    let (memory, guest) = parts(&mut caller)?;
    let Some(key) = text(memory, key, IMPORT)? else { return Ok(NOT_A_NAME) };
    match guest.dealings.config(key) {
        Some(value) => copied(memory, value.as_bytes(), into, IMPORT),
        None => Ok(MISSING),
    }
}

fn tell<W: 'static>(
    mut caller: Caller<'_, Guest<W>>,
    to: Slice,
    body: Slice,
) -> wasmtime::Result<i32> {
    const IMPORT: Name = "odeum.tell";
    let (memory, guest) = parts(&mut caller)?;
    message(guest, IMPORT)?;
    let body = slice(memory, body, IMPORT)?;
    let Some(to) = text(memory, to, IMPORT)? else { return Ok(NOT_A_NAME) };
    Ok(code(guest.dealings.tell(to, body)))
}

fn ask<W: 'static>(
    mut caller: Caller<'_, Guest<W>>,
    to: Slice,
    body: Slice,
    deadline_ms: i32,
) -> wasmtime::Result<i64> {
    const IMPORT: Name = "odeum.ask";
    let (memory, guest) = parts(&mut caller)?;
    message(guest, IMPORT)?;
    let body = slice(memory, body, IMPORT)?;
    let Some(to) = text(memory, to, IMPORT)? else { return Ok(NOT_A_NAME.into()) };
    Ok(number(guest.dealings.ask(to, body, deadline_ms.cast_unsigned())))
}

fn set_timer<W>(mut caller: Caller<'_, Guest<W>>, after_ms: i64) -> wasmtime::Result<i64> {
    let guest = caller.data_mut();
    message(guest, "odeum.set_timer")?;
    Ok(number(guest.dealings.set_timer(after_ms.cast_unsigned())))
}

fn cancel_timer<W>(mut caller: Caller<'_, Guest<W>>, timer: i64) -> wasmtime::Result<i32> {
    let guest = caller.data_mut();
    message(guest, "odeum.cancel_timer")?;
    let was_set = guest.dealings.cancel_timer(timer.cast_unsigned());
    Ok(if was_set { 0 } else { MISSING })
}

fn random<W: 'static>(mut caller: Caller<'_, Guest<W>>, into: Slice) -> wasmtime::Result<i32> {
    let (memory, guest) = parts(&mut caller)?;
    match guest.dealings.random(into.1.cast_unsigned())? {
        Ok(bytes) => {
            slice_mut(memory, into, "odeum.random")?.copy_from_slice(&bytes);
            Ok(0)
        }
        Err(refused) => Ok(code(Err(refused))),
    }
}

fn publish<W: 'static>(
    mut caller: Caller<'_, Guest<W>>,
    topic: Slice,
    payload: Slice,
) -> wasmtime::Result<i32> {
    const IMPORT: Name = "odeum.publish";
    let (memory, guest) = parts(&mut caller)?;
    message(guest, IMPORT)?;
    let payload = slice(memory, payload, IMPORT)?;
    let Some(topic) = text(memory, topic, IMPORT)? else { return Ok(NOT_A_NAME) };
    Ok(code(guest.dealings.publish(topic, payload)))
}

fn subscribe<W: 'static>(mut caller: Caller<'_, Guest<W>>, topic: Slice) -> wasmtime::Result<i32> {
    const IMPORT: Name = "odeum.subscribe";
    let (memory, guest) = parts(&mut caller)?;
    message(guest, IMPORT)?;
    let Some(topic) = text(memory, topic, IMPORT)? else { return Ok(NOT_A_NAME) };
    Ok(code(guest.dealings.subscribe(topic)))
}

/// Copies `bytes` if there is room; their length.
pub(super) fn copied(
    memory: &mut [u8],
    bytes: &[u8],
    into: Slice,
    import: Name,
) -> wasmtime::Result<i32> {
    let into = slice_mut(memory, into, import)?;
    if let Some(into) = into.get_mut(..bytes.len()) {
        into.copy_from_slice(bytes);
    }
    Ok(i32::try_from(bytes.len()).unwrap_or(i32::MAX))
}

/// The text at `at`; `None` when it is none.
fn text(memory: &[u8], at: Slice, import: Name) -> wasmtime::Result<Option<&str>> {
    Ok(std::str::from_utf8(slice(memory, at, import)?).ok())
}

fn code(done: Result<(), Refused>) -> i32 {
    match done {
        Ok(()) => 0,
        Err(Refused::NotAName) => NOT_A_NAME,
        Err(Refused::TooMuch) => TOO_MUCH,
        Err(Refused::Denied) => DENIED,
    }
}

fn number(number: Result<u64, Refused>) -> i64 {
    match number {
        Ok(number) => i64::try_from(number).unwrap_or(i64::MAX),
        Err(refused) => code(Err(refused)).into(),
    }
}
