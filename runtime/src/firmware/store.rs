//! What every guest has around it, whatever its ABI: its name, its limits, its time.
//!
//! A guest yields at each epoch that it meets and is charged for it, so what it waits for (a core, a
//! file, a clock) costs it nothing here; who may wait is bounded by its ABI.

use std::{sync::Arc, time::Duration};

use odeum_proto::ReplicaId;
use wasmtime::{Store, Trap, UnknownImportError, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::{
    chronicle::GuestLog,
    denied::Denials,
    effect::Buffer,
    engine::TICK,
    error::{GuestFailure, GuestLimit, Hint},
    limiter::Limiter,
    module::short,
    setting::Setting,
    usage::Usage,
};
use crate::package::manifest::Limits;

/// Frames of a trap that are told, from the innermost. The rest is seldom read.
const FRAMES: usize = 5;

/// What is counted for a guest.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) firmware: ReplicaId,
    /// Where it logs.
    pub(super) log: GuestLog,
    pub(super) limiter: Limiter,
    pub(super) denials: Arc<Denials>,
    /// Those of the package.
    limits: Limits,
    usage: Usage,
    /// Epochs the guest may still meet.
    ticks_left: u64,
    /// The time they come from.
    time: Option<Duration>,
}

impl Meter {
    pub(super) fn new(setting: &Setting, limiter: Limiter, limits: Limits) -> Self {
        let (firmware, usage) = (setting.firmware.clone(), setting.usage.clone());
        let log = setting.log.clone();
        let denials = Arc::new(Denials::new(log.clone()));
        Self { firmware, log, limiter, denials, limits, usage, ticks_left: 0, time: None }
    }

    /// For what comes of the next message.
    pub(super) fn buffer(&self) -> Buffer {
        Buffer::new(&self.limits)
    }
}

/// What the host keeps beside an instance.
pub(super) trait Metered: Send + 'static {
    fn meter(&self) -> &Meter;
    fn meter_mut(&mut self) -> &mut Meter;
}

/// A store whose guest is bounded and yields. It must be [wound](wind) before each call.
pub(super) fn bounded<T: Metered>(engine: &wasmtime::Engine, data: T) -> Store<T> {
    let mut store = Store::new(engine, data);
    store.limiter(|data| &mut data.meter_mut().limiter);
    store.epoch_deadline_callback(|mut context| {
        let meter = context.data_mut().meter_mut();
        meter.usage.tick();
        if meter.ticks_left == 0 {
            let allowed = meter.time.unwrap_or_default();
            return Err(Stop::Limit(GuestLimit::Time { allowed }).into());
        }
        meter.ticks_left -= 1;
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Gives the guest its time, or all the time there is, and its instructions where they are counted.
/// One epoch more than fits, because the first may begin at once.
pub(super) fn wind<T: Metered>(store: &mut Store<T>, time: Option<Duration>) {
    let ticks = time.map_or(u128::MAX, |time| time.as_nanos().div_ceil(TICK.as_nanos()) + 1);
    let meter = store.data_mut().meter_mut();
    meter.ticks_left = u64::try_from(ticks).unwrap_or(u64::MAX);
    meter.time = time;
    meter.limiter.take_refused();
    let fuel = meter.limits.fuel;
    store.set_epoch_deadline(1);
    if let Some(fuel) = fuel {
        // Only an engine that does not count instructions refuses, and this one was chosen by the
        // same limit.
        let _ = store.set_fuel(fuel.number());
    }
}

/// Why the host ended a call of the guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error(transparent)]
    Limit(#[from] GuestLimit),
    #[error("`{import}` was given {len} bytes at {ptr}, outside of its memory")]
    Pointer { import: &'static str, ptr: u32, len: u32 },
    #[error("`{import}` was called outside of a message")]
    NoMessage { import: &'static str },
    #[error("it ended itself: {said}")]
    Aborted { said: Box<str> },
    #[error("it may not use {what}: write `{line}` under `[capabilities]` in its manifest")]
    Denied { what: &'static str, line: &'static str },
}

/// Why the guest did not come to an end.
pub(super) fn failure<T: Metered>(store: &mut Store<T>, error: &wasmtime::Error) -> GuestFailure {
    if let Some(Stop::Limit(limit)) = error.downcast_ref::<Stop>() {
        return limit.clone().into();
    }
    let meter = store.data_mut().meter_mut();
    if let Some(refused) = meter.limiter.take_refused() {
        return refused.into();
    }
    if let (Some(Trap::OutOfFuel), Some(fuel)) = (error.downcast_ref(), meter.limits.fuel) {
        return GuestLimit::Fuel { allowed: fuel.number() }.into();
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return GuestFailure::Exited { code: *code, hint: Hint::default() };
    }
    if let Some(too_many) = meter.limiter.too_many(&error.root_cause().to_string()) {
        return too_many.into();
    }
    let reason = match (error.downcast_ref::<Trap>(), error.downcast_ref::<UnknownImportError>()) {
        (Some(trap), _) => trap.to_string().trim_start_matches("wasm trap: ").into(),
        (None, Some(import)) => format!(
            "it called the import {}.{}, which nothing here has",
            short(import.module()),
            short(import.name())
        )
        .into(),
        (None, None) => error.root_cause().to_string().into(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => short(name),
        None => format!("function {}", frame.func_index()).into(),
    };
    let frames = backtrace
        .map(|backtrace| backtrace.frames().iter().take(FRAMES).map(name).collect())
        .unwrap_or_default();
    GuestFailure::Trapped { reason, frames }
}
