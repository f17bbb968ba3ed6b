//! Firmlets, host side: what one exports and may import, and the host functions.
//!
//! `runtime/wit/firmlet.md` is the contract; this file and that one say the same. What a firmlet
//! publishes is kept aside until it has come to the end of what it was told, as all that guests
//! write; then it goes to the broker.

mod code;
mod devices;
mod instance;
mod scratch;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use odeum_proto::limits;
use rand::TryRng as _;
use wasmtime::{Caller, Linker, Memory};

use self::devices::{Allowed, Device, Devices, Refused};
pub(in crate::firmware) use self::instance::FirmletInstance;
use super::{
    core::{Export, Import, MEMORY},
    memory::{Slice, slice, slice_mut},
};
use crate::{
    firmware::{
        bridge::{Publication, Publisher, is_topic},
        effect::{Buffer, Level},
        store::{Meter, Metered, Stop},
    },
    package::manifest::{Manifest, MqttFilter},
};

/// The module that firmlets import from.
pub(in crate::firmware) const MODULE: &str = "env";

/// What is published under this topic is the reply of the message at hand, and goes nowhere else.
const REPLY_TOPIC: &str = "odeum/reply";

/// Longest topic, in bytes: what MQTT has. Source: MQTT 5.0 §1.5.4.
const TOPIC_BYTES: usize = 65_535;

/// Longest text of `abort`, in bytes of its UTF-16.
const ABORT_BYTES: usize = 1_024;

const INITIALIZE: &str = "_initialize";
const START: &str = "_start";
const DISPOSE: &str = "_dispose";
const ON_MESSAGE: &str = "_on_message_received";

pub(in crate::firmware) const EXPORTS: &[Export] = &[
    Export { name: "memory", signature: MEMORY, required: true },
    Export { name: START, signature: "(i32)", required: true },
    Export { name: INITIALIZE, signature: "(i32, i32)", required: false },
    Export { name: DISPOSE, signature: "(i32)", required: false },
    Export { name: ON_MESSAGE, signature: "(i32, i32, i32, i32)", required: false },
];

pub(in crate::firmware) const IMPORTS: &[Import] = &[
    Import { name: "tw_log", signature: "(i32, i32, i32, i32, i32) -> i32" },
    Import { name: "tw_mqtt_publish", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "tw_open", signature: "(i32, i32, i32, i32) -> i32" },
    Import { name: "tw_close", signature: "(i32) -> i32" },
    Import { name: "tw_read", signature: "(i32, i32, i32, i32, i32) -> i32" },
    Import { name: "tw_write", signature: "(i32, i32, i32, i32, i32) -> i32" },
    Import { name: "abort", signature: "(i32, i32, i32, i32)" },
];

/// What the host keeps beside an instance.
pub(in crate::firmware) struct Firmlet {
    meter: Meter,
    memory: Option<Memory>,
    devices: Devices,
    allowed: Allowed,
    /// Topics it may publish under.
    publish: Vec<MqttFilter>,
    publisher: Publisher,
    /// Bytes it may publish and reply on one message.
    output: u64,
    /// What came of the message at hand: its log lines and its reply.
    buffer: Buffer,
    outbox: Vec<Publication>,
    published: u64,
}

impl Firmlet {
    fn new(meter: Meter, manifest: &Manifest, publisher: Publisher) -> Self {
        let (granted, buffer) = (&manifest.capabilities, meter.buffer());
        Self {
            meter,
            memory: None,
            devices: Devices::default(),
            allowed: Allowed { clock: granted.clock, random: granted.random },
            publish: granted.mqtt.publish.clone(),
            publisher,
            output: manifest.limits.output.bytes(),
            buffer,
            outbox: Vec::new(),
            published: 0,
        }
    }
}

impl Metered for Firmlet {
    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn meter_mut(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

/// Adds all host functions.
pub(in crate::firmware) fn add_to_linker(linker: &mut Linker<Firmlet>) -> wasmtime::Result<()> {
    type C<'a> = Caller<'a, Firmlet>;
    linker.func_wrap(MODULE, "tw_log", |caller: C<'_>, severity: i32, t, tl, m, ml| {
        log(caller, severity, (t, tl), (m, ml))
    })?;
    linker.func_wrap(MODULE, "tw_mqtt_publish", |caller: C<'_>, t, tl, p, pl| {
        publish(caller, (t, tl), (p, pl))
    })?;
    linker.func_wrap(MODULE, "tw_open", |caller: C<'_>, p, pl, mode: i32, flags: i32| {
        open(caller, (p, pl), mode, flags)
    })?;
    linker.func_wrap(MODULE, "tw_close", |mut caller: C<'_>, handle: i32| {
        caller.data_mut().devices.close(handle)
    })?;
    linker.func_wrap(MODULE, "tw_read", |caller: C<'_>, handle, b, bl, count, flags| {
        read(caller, handle, (b, bl), count, flags)
    })?;
    linker.func_wrap(MODULE, "tw_write", |caller: C<'_>, handle, b, bl, count, flags| {
        write(caller, handle, (b, bl), count, flags)
    })?;
    linker.func_wrap(MODULE, "abort", |caller: C<'_>, message, file, line, column| {
        abort(caller, message, file, (line, column))
    })?;
    Ok(())
}

fn log(mut caller: Caller<'_, Firmlet>, severity: i32, topic: Slice, message: Slice) -> i32 {
    let Some((memory, firmlet)) = parts(&mut caller) else { return code::HOST };
    let (Ok(topic), Ok(message)) =
        (slice(memory, topic, "env.tw_log"), slice(memory, message, "env.tw_log"))
    else {
        return code::HOST;
    };
    let line = if topic.is_empty() { message.to_vec() } else { [topic, b": ", message].concat() };
    firmlet.buffer.log(&firmlet.meter.log, Level::of(severity), &line);
    code::OK
}

fn publish(mut caller: Caller<'_, Firmlet>, topic: Slice, payload: Slice) -> i32 {
    const IMPORT: &str = "env.tw_mqtt_publish";
    let Some((memory, firmlet)) = parts(&mut caller) else { return code::HOST };
    let (Ok(topic), Ok(payload)) = (slice(memory, topic, IMPORT), slice(memory, payload, IMPORT))
    else {
        return code::HOST;
    };
    let Ok(topic) = std::str::from_utf8(topic) else { return code::INVALID_FORMAT };
    if !is_topic(topic) || topic.len() > TOPIC_BYTES {
        return code::INVALID_ARGUMENT;
    }
    let size = (topic.len() + payload.len()) as u64;
    let is_full = firmlet.outbox.len() >= limits::WRITES_PER_MESSAGE;
    if is_full || firmlet.published.saturating_add(size) > firmlet.output {
        return code::OUT_OF_MEMORY;
    }
    if topic == REPLY_TOPIC {
        firmlet.published += size;
        return if firmlet.buffer.reply(payload).is_ok() { code::OK } else { code::OUT_OF_MEMORY };
    }
    if !firmlet.publish.iter().any(|filter| filter.allows(topic)) {
        firmlet.meter.denials.mqtt(topic);
        return code::NO_ACCESS;
    }
    if !firmlet.publisher.has_broker() {
        firmlet.meter.denials.no_broker();
        return code::NOT_SUPPORTED;
    }
    firmlet.published += size;
    firmlet.outbox.push(Publication { topic: topic.to_owned(), payload: payload.to_vec() });
    code::OK
}

fn open(mut caller: Caller<'_, Firmlet>, path: Slice, mode: i32, flags: i32) -> i32 {
    let Some((memory, firmlet)) = parts(&mut caller) else { return code::HOST };
    let Ok(path) = slice(memory, path, "env.tw_open") else { return code::HOST };
    let Ok(path) = std::str::from_utf8(path) else { return code::INVALID_FORMAT };
    match firmlet.devices.open(path, mode, flags, firmlet.allowed) {
        Ok(handle) => handle,
        Err(Refused::Code(code)) => code,
        Err(Refused::Denied(device)) => {
            let line = match device {
                Device::Clock => "clock = true",
                Device::Random => "random = true",
            };
            firmlet.meter.denials.capability(path, line);
            code::NO_ACCESS
        }
    }
}

/// The bytes of `buffer` that are meant by `count`, or a code.
fn counted(buffer: Slice, count: i32, flags: i32) -> Result<Slice, i32> {
    match usize::try_from(count) {
        Ok(wanted) if wanted <= buffer.1.cast_unsigned() as usize => {}
        _ => return Err(code::OUT_OF_RANGE),
    }
    if flags == 0 { Ok((buffer.0, count)) } else { Err(code::INVALID_ARGUMENT) }
}

fn read(
    mut caller: Caller<'_, Firmlet>,
    handle: i32,
    buffer: Slice,
    count: i32,
    flags: i32,
) -> i32 {
    let Some((memory, firmlet)) = parts(&mut caller) else { return code::HOST };
    let wanted = match counted(buffer, count, flags) {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    let Ok(into) = slice_mut(memory, wanted, "env.tw_read") else { return code::HOST };
    let random = |bytes: &mut [u8]| rand::rngs::SysRng.try_fill_bytes(bytes).is_ok();
    firmlet.devices.read(handle, into, since_1970, random)
}

fn write(
    mut caller: Caller<'_, Firmlet>,
    handle: i32,
    buffer: Slice,
    count: i32,
    flags: i32,
) -> i32 {
    let Some((memory, firmlet)) = parts(&mut caller) else { return code::HOST };
    match counted(buffer, count, flags) {
        Ok(wanted) if slice(memory, wanted, "env.tw_write").is_ok() => {
            firmlet.devices.write(handle)
        }
        Ok(_) => code::HOST,
        Err(code) => code,
    }
}

/// Ends the guest, with what it says of itself.
fn abort(
    mut caller: Caller<'_, Firmlet>,
    message: i32,
    file: i32,
    (line, column): (i32, i32),
) -> wasmtime::Result<()> {
    let (message, file) = match parts(&mut caller) {
        Some((memory, _)) => (text_at(memory, message), text_at(memory, file)),
        None => Default::default(),
    };
    let message = message.unwrap_or_else(|| "abort".to_owned());
    let said = match file {
        Some(file) => format!("{message} ({file}:{line}:{column})"),
        None => message,
    };
    Err(Stop::Aborted { said: said.into() }.into())
}

/// A string of AssemblyScript: UTF-16 whose length in bytes is in the 4 bytes before it.
fn text_at(memory: &[u8], ptr: i32) -> Option<String> {
    let ptr = usize::try_from(ptr.cast_unsigned()).ok()?;
    let len = memory.get(ptr.checked_sub(4)?..ptr)?;
    let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
    let bytes = memory.get(ptr..)?.get(..len.min(ABORT_BYTES))?;
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    Some(char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect())
}

/// The memory of the guest and what is kept beside it; not during its start section.
fn parts<'a>(caller: &'a mut Caller<'_, Firmlet>) -> Option<(&'a mut [u8], &'a mut Firmlet)> {
    let memory = caller
        .data()
        .memory
        .or_else(|| caller.get_export("memory").and_then(wasmtime::Extern::into_memory))?;
    Some(memory.data_and_store_mut(caller))
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
