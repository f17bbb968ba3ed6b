//! What a host does with its guest, done by hand with wasmtime and nothing else: an engine of the same
//! settings, a store with the same limits in the place of ours, the same calls.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use odeum_runtime::package::Package;
use wasmtime::{
    Caller, Config, Engine, InstancePre, Linker, Memory, Module, Store, StoreLimits,
    StoreLimitsBuilder, TypedFunc, UpdateDeadline,
};

use crate::report::median;

/// As `odeum_runtime::firmware::TICK`.
const TICK: Duration = odeum_runtime::firmware::TICK;
/// The default of a manifest.
const STACK: usize = 512 << 10;
const MEMORY: usize = 64 << 20;

struct State {
    limits: StoreLimits,
    memory: Option<Memory>,
    reply: Vec<u8>,
}

/// A module that is instantiated and called by hand.
pub(super) struct ByHand {
    engine: Engine,
    pre: InstancePre<State>,
    /// Ends the ticker with it.
    _ticker: std::sync::mpsc::Sender<()>,
}

/// One instance.
pub(super) struct Kept {
    store: Store<State>,
    alloc: TypedFunc<i32, i32>,
    handle: TypedFunc<(i32, i32), i32>,
}

impl ByHand {
    pub(super) fn new(package: &Package) -> anyhow::Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(STACK)
            .async_stack_size(2 * STACK)
            .wasm_memory64(false);
        let engine = known(Engine::new(&config))?;
        let module = known(Module::from_binary(&engine, &package.module()))?;
        let mut linker = Linker::new(&engine);
        let reply = linker.func_wrap(
            "odeum",
            "reply",
            |mut caller: Caller<'_, State>, ptr: u32, len: u32| -> wasmtime::Result<()> {
                let memory = caller.data().memory.context("no memory").map_err(outside)?;
                let (memory, state) = memory.data_and_store_mut(&mut caller);
                let bytes = memory.get(ptr as usize..).and_then(|rest| rest.get(..len as usize));
                state.reply.clear();
                state.reply.extend_from_slice(bytes.context("a pointer").map_err(outside)?);
                Ok(())
            },
        );
        known(reply.map(drop))?;
        let pre = known(linker.instantiate_pre(&module))?;
        let (ticker, ended) = std::sync::mpsc::channel::<()>();
        let weak = engine.weak();
        std::thread::spawn(move || {
            while ended.recv_timeout(TICK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                if let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                }
            }
        });
        Ok(Self { engine, pre, _ticker: ticker })
    }

    pub(super) async fn start(&self) -> anyhow::Result<Kept> {
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY).build();
        let state = State { limits, memory: None, reply: Vec::new() };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| {
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        let instance = known(self.pre.instantiate_async(&mut store).await)?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        let alloc = known(instance.get_typed_func(&mut store, "odeum_alloc"))?;
        let handle = known(instance.get_typed_func(&mut store, "odeum_handle"))?;
        Ok(Kept { store, alloc, handle })
    }

    /// Microseconds from the compiled module to the first message handled, by the median.
    pub(super) async fn cold_start(&self, count: usize) -> anyhow::Result<f64> {
        let mut micros = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            let mut kept = self.start().await?;
            kept.handle(b"hello").await?;
            micros.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok(median(micros.into_iter()))
    }

    /// Nanoseconds of a message, given by a task.
    pub(super) async fn messages(&self, count: u64) -> anyhow::Result<f64> {
        let mut kept = self.start().await?;
        let given = tokio::spawn(async move {
            let began = Instant::now();
            for _ in 0..count {
                kept.handle(b"hello").await?;
            }
            Ok(began.elapsed().as_nanos() as f64 / count as f64)
        });
        given.await?
    }
}

impl Kept {
    async fn handle(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.store.set_epoch_deadline(1);
        let len = i32::try_from(message.len())?;
        let ptr = known(self.alloc.call_async(&mut self.store, len).await)?;
        let memory = self.store.data().memory.context("no memory")?;
        let at = usize::try_from(ptr)?;
        let into = memory.data_mut(&mut self.store).get_mut(at..at + message.len());
        into.context("a place")?.copy_from_slice(message);
        let code = known(self.handle.call_async(&mut self.store, (ptr, len)).await)?;
        anyhow::ensure!(code == 0 && self.store.data().reply == message, "another reply");
        Ok(())
    }
}

/// wasmtime has an error type of its own.
fn known<T>(result: wasmtime::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| anyhow::anyhow!("{error:#}"))
}

fn outside(error: anyhow::Error) -> wasmtime::Error {
    wasmtime::Error::msg(error.to_string())
}
