//! One running guest, at rest between messages.
//!
//! [`Instance::handle`] takes the instance and only gives it back when the guest came to the end
//! of the message, so an instance that trapped or exceeded a limit cannot be used again.

use std::{fmt, sync::Arc, time::Duration};

use odeum_proto::{Name, store::FirmwareLimits};
use wasmtime::{Store, Trap, TypedFunc, UpdateDeadline, WasmBacktrace};

use super::{
    abi::{self, Guest, Message, Stop},
    effect::{Answer, Buffer, Variables},
    engine::TICK,
    error::{GuestFailure, GuestLimit},
    limiter::Limiter,
    module::Module,
};
use crate::package::{manifest::Limits, normalise};

/// Frames of a trap that are told, from the innermost. The rest is seldom read.
const FRAMES: usize = 5;

/// One running guest.
pub struct Instance {
    store: Store<Guest>,
    bounds: Bounds,
    alloc: TypedFunc<i32, i32>,
    handle: TypedFunc<(i32, i32), i32>,
}

impl Instance {
    /// A new instance, after its start section and `odeum_start` ran within the limits of one
    /// message. `firmware` names it in its log lines.
    ///
    /// # Errors
    /// [`GuestFailure`] when it needs more memory than allowed, or its start fails.
    pub async fn start(
        module: &Module,
        firmware: Name,
        limits: &FirmwareLimits,
    ) -> Result<Self, GuestFailure> {
        let guest = Guest {
            firmware,
            memory: None,
            limiter: Limiter::new(limits.memory_bytes, module.limits()),
            ticks_left: 0,
            message: None,
        };
        let mut store = Store::new(module.pre().module().engine(), guest);
        store.limiter(|guest| &mut guest.limiter);
        let time = limits.message_time;
        store.epoch_deadline_callback(move |mut context| {
            let guest = context.data_mut();
            if guest.ticks_left == 0 {
                return Err(Stop::Limit(GuestLimit::Time { allowed: time }).into());
            }
            guest.ticks_left -= 1;
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        let bounds = Bounds { time, package: Arc::clone(module.limits()) };
        bounds.wind(&mut store);
        match instantiate(module, &mut store).await {
            Ok((alloc, handle)) => Ok(Self { store, bounds, alloc, handle }),
            Err(error) => Err(bounds.failure(&mut store, &error)),
        }
    }

    /// Gives the guest one message. `variables` are those of the message's session.
    ///
    /// # Errors
    /// [`GuestFailure`] when the guest trapped or exceeded a limit; the instance is gone then.
    pub async fn handle(
        mut self,
        message: &[u8],
        variables: Arc<dyn Variables>,
    ) -> Result<(Self, Answer), GuestFailure> {
        self.bounds.wind(&mut self.store);
        let buffer = Buffer::new(&self.bounds.package);
        self.store.data_mut().message = Some(Message { variables, buffer });
        let code = self.call(message).await;
        let guest = self.store.data_mut();
        let message = guest.message.take();
        let buffer =
            message.map_or_else(|| Buffer::new(&self.bounds.package), |message| message.buffer);
        buffer.finish_log(&guest.firmware);
        match code {
            Ok(0) => Ok((self, Answer::Done(buffer.effect()?))),
            Ok(code) => Ok((self, buffer.refusal(code))),
            Err(error) => Err(self.bounds.failure(&mut self.store, &error)),
        }
    }

    /// Bytes of its memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.store.data().limiter.memory_bytes()
    }

    async fn call(&mut self, message: &[u8]) -> wasmtime::Result<i32> {
        // The caller bounds a message to `limits::MESSAGE_BYTES`, far from i32's end.
        let len = i32::try_from(message.len())?;
        if len == 0 {
            return self.handle.call_async(&mut self.store, (0, 0)).await;
        }
        let ptr = self.alloc.call_async(&mut self.store, len).await?;
        let memory = self.store.data().memory.filter(|_| ptr != 0);
        let into = memory.and_then(|memory| {
            let rest = memory.data_mut(&mut self.store).get_mut(ptr.cast_unsigned() as usize..)?;
            rest.get_mut(..message.len())
        });
        match into {
            Some(into) => into.copy_from_slice(message),
            None => return Err(wasmtime::Error::new(BadAlloc { len, ptr })),
        }
        self.handle.call_async(&mut self.store, (ptr, len)).await
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("firmware", &self.store.data().firmware)
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`odeum_alloc` was asked for {len} bytes and gave {ptr}, which is not such a place")]
struct BadAlloc {
    len: i32,
    ptr: i32,
}

type Functions = (TypedFunc<i32, i32>, TypedFunc<(i32, i32), i32>);

async fn instantiate(module: &Module, store: &mut Store<Guest>) -> wasmtime::Result<Functions> {
    let instance = module.pre().instantiate_async(&mut *store).await?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    // The start section, which is an export in a package, and the start of the ABI.
    for name in [normalise::START, abi::START] {
        if instance.get_func(&mut *store, name).is_some() {
            let start = instance.get_typed_func::<(), ()>(&mut *store, name)?;
            start.call_async(&mut *store, ()).await?;
        }
    }
    let alloc = instance.get_typed_func(&mut *store, abi::ALLOC)?;
    let handle = instance.get_typed_func(&mut *store, abi::HANDLE)?;
    Ok((alloc, handle))
}

/// What the guest may take for one message.
#[derive(Debug)]
struct Bounds {
    time: Duration,
    package: Arc<Limits>,
}

impl Bounds {
    /// Gives the guest its time. One epoch more than fits, because the first may begin at once.
    fn wind(&self, store: &mut Store<Guest>) {
        let ticks = self.time.as_nanos().div_ceil(TICK.as_nanos()) + 1;
        store.data_mut().ticks_left = u64::try_from(ticks).unwrap_or(u64::MAX);
        store.data_mut().limiter.take_refused();
        store.set_epoch_deadline(1);
        if let Some(fuel) = self.package.fuel {
            // Only an engine that does not count instructions refuses, and this one was chosen by
            // the same limit.
            let _ = store.set_fuel(fuel.number());
        }
    }

    /// Why the guest did not come to an end.
    fn failure(&self, store: &mut Store<Guest>, error: &wasmtime::Error) -> GuestFailure {
        if let Some(Stop::Limit(limit)) = error.downcast_ref::<Stop>() {
            return limit.clone().into();
        }
        if let Some(limit) = store.data_mut().limiter.take_refused() {
            return limit.into();
        }
        if let (Some(Trap::OutOfFuel), Some(fuel)) = (error.downcast_ref(), self.package.fuel) {
            return GuestLimit::Fuel { allowed: fuel.number() }.into();
        }
        trapped(error)
    }
}

fn trapped(error: &wasmtime::Error) -> GuestFailure {
    let reason = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").into(),
        None => error.root_cause().to_string().into(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => name.into(),
        None => format!("function {}", frame.func_index()).into(),
    };
    let frames = backtrace
        .map(|backtrace| backtrace.frames().iter().take(FRAMES).map(name).collect())
        .unwrap_or_default();
    GuestFailure::Trapped { reason, frames }
}
