//! The WebAssembly engine: how guests are compiled, interrupted and bounded.
//!
//! Preemption is by epochs: a thread of the engine advances the epoch every [`TICK`], and a guest
//! that meets a new epoch yields to the tokio scheduler, so a busy guest never keeps a worker to
//! itself. Counting the epochs it met also measures the time it really ran: a guest is not
//! charged for the time it waited for a core on a loaded machine.
//!
//! Instances are allocated on demand, not pooled. A pool starts an instance 5 µs sooner but must
//! be sized at start from `vm.max_map_count`; an activation starts one instance and keeps it.
//!
//! The size of the stack and whether instructions are counted are settings of an engine, and limits
//! of a package. So there are several, made when the first package asks for one: stacks are rounded
//! up to a power of two, which leaves 8 sizes.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use wasmtime::Config;

use super::{error::EngineError, vault::Vault};
use crate::package::manifest::Limits;

/// How long a guest runs before it yields. A ping beside two busy guests on two cores then takes
/// about this long; half of it would double the cost of the ticker for nobody's benefit.
pub const TICK: Duration = Duration::from_millis(5);

/// How much more stack there is than a guest may use, for the host functions that it calls: as much
/// again. It is address space; pages are only touched when used.
const FIBER_STACKS: usize = 2;

/// Modules that are compiled at once. One compilation uses every core already.
const COMPILATIONS: usize = 1;

/// The engine of a node. Cheap to clone; its ticker ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    /// One for each sort of packages.
    engines: Mutex<BTreeMap<Sort, wasmtime::Engine>>,
    compilations: Semaphore,
    ticker: Ticker,
    /// Where compiled modules are kept, if they are.
    vault: Option<Vault>,
}

/// The engine of packages with some limits, and what these ask of it.
#[derive(Clone)]
pub(super) struct Sorted {
    pub(super) engine: wasmtime::Engine,
    pub(super) sort: Sort,
}

/// What packages can ask of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sort {
    /// Stack of a guest, in bytes.
    stack: usize,
    /// Whether instructions are counted.
    fuel: bool,
}

impl Sort {
    fn of(limits: &Limits) -> Self {
        let stack = limits.stack.bytes().next_power_of_two();
        Self { stack: usize::try_from(stack).unwrap_or(usize::MAX), fuel: limits.fuel.is_some() }
    }

    fn engine(self) -> Result<wasmtime::Engine, EngineError> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .consume_fuel(self.fuel)
            .max_wasm_stack(self.stack)
            .async_stack_size(self.stack.saturating_mul(FIBER_STACKS))
            // Pointers of the ABI are 32 bits wide.
            .wasm_memory64(false);
        wasmtime::Engine::new(&config)
            .map_err(|error| EngineError::Unsupported { reason: format!("{error:#}").into() })
    }
}

/// An engine that only looks at modules.
pub(super) fn validator() -> Result<wasmtime::Engine, EngineError> {
    Sort::of(&Limits::default()).engine()
}

impl Engine {
    /// An engine with its ticker running. It keeps no compiled modules.
    ///
    /// # Errors
    /// [`EngineError`] when the machine cannot run guests, or cannot start a thread.
    pub fn new() -> Result<Self, EngineError> {
        Self::started(None)
    }

    /// An engine with its ticker running, which takes compiled modules from a vault and keeps them
    /// there.
    ///
    /// # Errors
    /// As of [`Engine::new`]; a vault that cannot be used is none.
    pub fn with_vault(vault: Vault) -> Result<Self, EngineError> {
        vault.sweep();
        Self::started(Some(vault))
    }

    fn started(vault: Option<Vault>) -> Result<Self, EngineError> {
        let ticker = Ticker::start()?;
        let compilations = Semaphore::new(COMPILATIONS);
        let engines = Mutex::default();
        let engine = Self { inner: Arc::new(Inner { engines, compilations, ticker, vault }) };
        // A machine that can run no guests says so now.
        engine.for_limits(&Limits::default())?;
        Ok(engine)
    }

    /// That of packages with such limits.
    ///
    /// # Errors
    /// [`EngineError`] when the machine has none for them.
    pub(super) fn for_limits(&self, limits: &Limits) -> Result<Sorted, EngineError> {
        let sort = Sort::of(limits);
        // A panic elsewhere leaves the map as it was.
        let mut engines = self.inner.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(&sort) {
            return Ok(Sorted { engine: engine.clone(), sort });
        }
        let engine = sort.engine()?;
        self.inner.ticker.tick(&engine);
        engines.insert(sort, engine.clone());
        Ok(Sorted { engine, sort })
    }

    /// Where compiled modules are kept, if they are.
    pub(super) fn vault(&self) -> Option<&Vault> {
        self.inner.vault.as_ref()
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

/// The thread that advances the epochs of all engines.
struct Ticker {
    /// Gone when the thread is to end.
    more: Option<mpsc::Sender<wasmtime::EngineWeak>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start() -> Result<Self, EngineError> {
        let (more, coming) = mpsc::channel::<wasmtime::EngineWeak>();
        let tick = move || {
            let mut engines = Vec::new();
            let mut next = Instant::now() + TICK;
            loop {
                match coming.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(engine) => engines.push(engine),
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        next = Instant::now() + TICK;
                        for engine in engines.iter().filter_map(|engine| engine.upgrade()) {
                            engine.increment_epoch();
                        }
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("odeum-epoch".into())
            .spawn(tick)
            .map_err(|source| EngineError::Ticker { source })?;
        Ok(Self { more: Some(more), thread: Some(thread) })
    }

    /// Advances the epoch of one more engine.
    fn tick(&self, engine: &wasmtime::Engine) {
        if let Some(more) = &self.more {
            // The thread ends with the sender, and not before.
            let _ = more.send(engine.weak());
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.more.take());
        if let Some(thread) = self.thread.take() {
            // It only ever sleeps; it cannot have panicked in a way that matters here.
            let _ = thread.join();
        }
    }
}
