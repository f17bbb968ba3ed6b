//! Services: long-running units of an application, and where they run.
//!
//! A [`Service`] is written once; its [`Executor`] decides whether it runs in the
//! application's own loop, on a thread of its own or in a process of its own. Under every
//! executor it is a supervised actor: an error, a panic, an exit code, a signal and silence
//! are crashes alike, and restarts follow the same policies.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::actor::ActorError;
use crate::child::{ChildSpec, child};
use crate::error::TellError;
use crate::event::SubscriptionError;
use crate::handle::Handle;

use self::actor::{ServiceActor, ServiceMessage};
pub use self::catalog::{Catalog, Settings, UnknownKind};
pub use self::context::ServiceContext;

mod actor;
mod catalog;
mod context;
mod entry;
mod frame;
mod local;
mod process;

/// Messages from a service kept for a slow listener before it is told that it lags.
const KEPT_MESSAGES: usize = 256;

/// A long-running unit of an application.
pub trait Service: Send + 'static {
    /// Prepares; the service counts as ready when this returned `Ok`.
    ///
    /// # Errors
    /// An error fails this start.
    fn start(
        &mut self,
        ctx: &mut ServiceContext,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Works until it is done or [`ServiceContext::stopped`] resolves.
    ///
    /// # Errors
    /// An error is a crash.
    fn run(
        &mut self,
        ctx: &mut ServiceContext,
    ) -> impl Future<Output = Result<(), ActorError>> + Send;

    /// Cleans up after `run` returned `Ok`.
    fn stop(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Where a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Executor {
    /// In the application's own runtime. Cheapest; a service that blocks disturbs others.
    #[default]
    Async,
    /// On a thread of its own with a runtime of its own. It may block; it cannot be killed
    /// while it does.
    Thread,
    /// In a child process, on its main thread. Survives nothing together with the others:
    /// an abort or a leak there harms only it.
    Process,
    /// In a child process with a runtime of several threads.
    AsyncProcess,
}

/// How a service is, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It has not said.
    #[default]
    Unknown,
    /// All is well.
    Good,
    /// It works, but not as it should.
    Degraded,
}

/// A service to be: its name, what it is and where it runs.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) executor: Executor,
    pub(crate) settings: Settings,
    pub(crate) heartbeat: Duration,
    pub(crate) silence: Duration,
}

impl ServiceSpec {
    /// A service of a kind that the [`Catalog`] knows.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, kind: impl Into<Arc<str>>, executor: Executor) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            executor,
            settings: Settings::default(),
            // A process that blocks its loop for five seconds serves nobody; ten beats in
            // that time forgive a busy machine.
            heartbeat: Duration::from_millis(500),
            silence: Duration::from_secs(5),
        }
    }

    /// What the service is made with.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// How often a process gives a sign of life, and after how long without one it is
    /// killed and counts as crashed. By default 500 ms and 5 s.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration, silence: Duration) -> Self {
        self.heartbeat = every;
        self.silence = silence;
        self
    }
}

impl Catalog {
    /// Makes a service a child for a supervisor. The handle is valid at once and over
    /// restarts.
    ///
    /// # Errors
    /// If the catalogue does not know the kind.
    pub fn service(&self, spec: ServiceSpec) -> Result<(ServiceHandle, ChildSpec), UnknownKind> {
        self.knows(&spec.kind)?;
        let shared = Arc::new(Shared {
            messages: broadcast::Sender::new(KEPT_MESSAGES),
            health: watch::Sender::new(Health::Unknown),
            pid: AtomicU32::new(0),
        });
        let (catalog, seen) = (self.clone(), Arc::clone(&shared));
        let (handle, child) = child(Arc::clone(&spec.name), move || {
            ServiceActor::new(spec.clone(), catalog.clone(), Arc::clone(&seen))
        });
        Ok((ServiceHandle { handle, shared }, child))
    }
}

/// What handles and incarnations of a service share.
pub(crate) struct Shared {
    messages: broadcast::Sender<Arc<[u8]>>,
    health: watch::Sender<Health>,
    /// Zero: no process.
    pid: AtomicU32,
}

/// The stable address of a service.
#[derive(Clone)]
pub struct ServiceHandle {
    handle: Handle<ServiceMessage>,
    shared: Arc<Shared>,
}

impl ServiceHandle {
    /// Sends the service a message.
    ///
    /// # Errors
    /// The message comes back if the service is not running.
    pub async fn send(&self, message: Vec<u8>) -> Result<(), TellError<Vec<u8>>> {
        let sent = self.handle.tell(ServiceMessage::Send { message }).await;
        sent.map_err(|error| match error {
            TellError::Full(message) => TellError::Full(message.into_bytes()),
            TellError::Down(message) => TellError::Down(message.into_bytes()),
        })
    }

    /// Subscribes to what the service sends from now on, over its restarts.
    #[must_use]
    pub fn messages(&self) -> ServiceMessages {
        ServiceMessages { receiver: self.shared.messages.subscribe() }
    }

    /// How the service says it is.
    #[must_use]
    pub fn health(&self) -> Health {
        *self.shared.health.borrow()
    }

    /// The process id, while it runs as a process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        Some(self.shared.pid.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// Whether it is ready.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.handle.is_running()
    }

    /// Ends it by force, as a crash: its process is killed, its task dropped; a thread ends
    /// at its next await.
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.handle.name()
    }
}

impl fmt::Debug for ServiceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandle").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A bounded subscription to a service's messages.
#[derive(Debug)]
pub struct ServiceMessages {
    receiver: broadcast::Receiver<Arc<[u8]>>,
}

impl ServiceMessages {
    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// A slow listener is told how many it missed; `Closed` when the service is gone for
    /// good.
    pub async fn next(&mut self) -> Result<Arc<[u8]>, SubscriptionError> {
        self.receiver.recv().await.map_err(SubscriptionError::from)
    }
}
