//! The WebAssembly engine: how guests are compiled, interrupted and bounded.
//!
//! Preemption is by epochs: a thread of the engine advances the epoch every [`TICK`], and a guest
//! that meets a new epoch yields to the tokio scheduler, so a busy guest never keeps a worker to
//! itself. Counting the epochs it met also measures the time it really ran: a guest is not
//! charged for the time it waited for a core on a loaded machine.
//!
//! Instances are allocated on demand, not pooled. A pool starts an instance 5 µs sooner but must
//! be sized at start from `vm.max_map_count`; an activation starts one instance and keeps it.

use std::{
    fmt,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::Semaphore;
use wasmtime::Config;

use super::error::EngineError;

/// How long a guest runs before it yields. A ping beside two busy guests on two cores then takes
/// about this long; half of it would double the cost of the ticker for nobody's benefit.
pub const TICK: Duration = Duration::from_millis(5);

/// Stack of a guest, in bytes: what wasmtime's own default is, deep enough for recursive parsers.
const STACK_BYTES: usize = 512 << 10;

/// Stack on which a guest and the host functions it calls run, in bytes: the guest's own and as
/// much again for the host. It is address space; pages are only touched when used.
const FIBER_STACK_BYTES: usize = 2 * STACK_BYTES;

/// Modules that are compiled at once. One compilation uses every core already.
const COMPILATIONS: usize = 1;

/// The engine of a node. Cheap to clone; its ticker ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    engine: wasmtime::Engine,
    compilations: Semaphore,
    /// Held for its end: dropping it stops the thread.
    _ticker: Ticker,
}

impl Engine {
    /// An engine with its ticker running.
    ///
    /// # Errors
    /// [`EngineError`] when the machine cannot run guests, or cannot start a thread.
    pub fn new() -> Result<Self, EngineError> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(STACK_BYTES)
            .async_stack_size(FIBER_STACK_BYTES)
            // Pointers of the ABI are 32 bits wide.
            .wasm_memory64(false);
        let engine = wasmtime::Engine::new(&config)
            .map_err(|error| EngineError::Unsupported { reason: format!("{error:#}").into() })?;
        let ticker = Ticker::start(engine.weak())?;
        let compilations = Semaphore::new(COMPILATIONS);
        Ok(Self { inner: Arc::new(Inner { engine, compilations, _ticker: ticker }) })
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.engine
    }

    /// Runs `work` (a compilation) on a thread for blocking work, when it is its turn. `None`
    /// when it did not come to its end.
    pub(super) async fn compile<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _turn = self.inner.compilations.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// The thread that advances the epoch.
struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: wasmtime::EngineWeak) -> Result<Self, EngineError> {
        let (stop, stopped) = mpsc::channel();
        let tick = move || {
            while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        };
        let thread = std::thread::Builder::new()
            .name("odeum-epoch".into())
            .spawn(tick)
            .map_err(|source| EngineError::Ticker { source })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only ever sleeps; it cannot have panicked in a way that matters here.
            let _ = thread.join();
        }
    }
}
