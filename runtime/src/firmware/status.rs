//! What is known about a firmware on the node that runs it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use odeum_proto::{Digest, Epoch, ReplicaId, chronicle::What};
use tokio::sync::{Notify, watch};

use super::chronicle::GuestLog;

/// Where a host is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// It loads its package and waits until the store confirms its placement.
    Starting,
    /// It handles messages.
    Running,
    /// It crashed, and its supervisor starts it again after a pause.
    Restarting,
    /// It crashed too often, or its manifest says that one failure is enough, and stays down until
    /// it is deployed or placed anew.
    Failed,
    /// It has had no message for a while. Its instance is gone until the next one.
    Idle,
    /// It is a job that ran to its end with this exit code.
    Completed {
        /// 0 is success.
        code: i32,
    },
}

/// The session in which a firmware that is a job has its outcome.
pub const JOB_SESSION: &str = "job";

impl HostState {
    /// The word for it in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Idle => "idle",
            Self::Completed { .. } => "completed",
        }
    }
}

/// A replica of a firmware on the node that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareStatus {
    /// Its name.
    pub name: ReplicaId,
    /// Its package.
    pub digest: Digest,
    /// The package's length in bytes.
    pub size: u64,
    /// Its activation on this node.
    pub epoch: Epoch,
    /// Where it is in its life.
    pub state: HostState,
    /// How often its host was started again in this activation.
    pub restarts: u64,
    /// Memory of the instance.
    pub memory_bytes: u64,
    /// The time for which it computes, in percent of one core, smoothed.
    pub cpu_percent: u32,
    /// The process of its own that it runs in, while it runs and its manifest asks for one.
    pub pid: Option<u32>,
    /// What went wrong last, if anything did.
    pub last_error: Option<Box<str>>,
}

/// What a host tells about itself, over all its restarts. Shared between it and the coordinator.
#[derive(Debug, Clone)]
pub(super) struct Facts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Where what becomes of it is kept.
    log: GuestLog,
    inner: Mutex<Inner>,
    over: Notify,
    /// How often it crashed.
    crashes: watch::Sender<u32>,
}

#[derive(Debug)]
struct Inner {
    state: HostState,
    starts: u64,
    memory_bytes: u64,
    pid: Option<u32>,
    last_error: Option<Box<str>>,
}

impl Inner {
    /// There is no instance.
    fn gone(&mut self) {
        self.memory_bytes = 0;
        self.pid = None;
    }
}

impl Facts {
    pub(super) fn new(log: GuestLog) -> Self {
        let inner = Mutex::new(Inner {
            state: HostState::Starting,
            starts: 0,
            memory_bytes: 0,
            pid: None,
            last_error: None,
        });
        let crashes = watch::Sender::new(0);
        Self(Arc::new(Shared { log, inner, over: Notify::new(), crashes }))
    }

    /// Moves on with every crash.
    pub(super) fn crashes(&self) -> watch::Receiver<u32> {
        self.0.crashes.subscribe()
    }

    /// The host ends in good order, by itself.
    pub(super) fn over(&self) {
        self.0.over.notify_one();
    }

    /// Returns when it does, or did; for one who waits.
    pub(super) async fn are_over(&self) {
        self.0.over.notified().await;
    }

    /// Whether both are of one host.
    pub(super) fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Something became of it that only others see.
    pub(super) fn happened(&self, what: What) {
        self.0.log.happened(what);
    }

    /// A new run of the host begins.
    pub(super) fn started(&self) {
        let mut inner = self.lock();
        inner.starts += 1;
        let times = inner.starts - 1;
        drop(inner);
        self.0.log.happened(if times == 0 { What::Started } else { What::Restarted { times } });
    }

    pub(super) fn starting(&self) {
        let mut inner = self.lock();
        inner.state = HostState::Starting;
        inner.gone();
    }

    pub(super) fn running(&self, memory_bytes: u64, pid: Option<u32>) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.state, HostState::Running);
        inner.memory_bytes = memory_bytes;
        inner.pid = pid;
        drop(inner);
        match before {
            HostState::Running => {}
            HostState::Idle => self.0.log.happened(What::Woken),
            _ => self.0.log.happened(What::Running),
        }
    }

    /// Its instance is gone until there is something for it to do.
    pub(super) fn idle(&self) {
        let mut inner = self.lock();
        inner.state = HostState::Idle;
        inner.gone();
        drop(inner);
        self.0.log.happened(What::Idle);
    }

    /// The process of its own that it runs in.
    pub(super) fn pid(&self) -> Option<u32> {
        self.lock().pid
    }

    /// Linear memory of its instance.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.lock().memory_bytes
    }

    /// Whether it does what it is for, or has done it.
    pub(super) fn is_well(&self) -> bool {
        let state = self.lock().state;
        matches!(state, HostState::Running | HostState::Idle | HostState::Completed { .. })
    }

    /// It crashed, and is started again.
    pub(super) fn crashed(&self, error: impl Into<Box<str>>) {
        self.erred(HostState::Restarting, error);
        self.0.crashes.send_modify(|crashes| *crashes = crashes.wrapping_add(1));
    }

    /// It is a job, and has completed.
    pub(super) fn completed(&self, code: i32) {
        let mut inner = self.lock();
        inner.state = HostState::Completed { code };
        inner.gone();
        drop(inner);
        self.0.log.happened(What::Completed { code });
    }

    /// Something went wrong.
    pub(super) fn erred(&self, state: HostState, error: impl Into<Box<str>>) {
        let error = error.into();
        let reason = error.to_string();
        let mut inner = self.lock();
        inner.state = state;
        inner.last_error = Some(error);
        inner.gone();
        drop(inner);
        self.0.log.happened(match state {
            HostState::Restarting => What::Crashed { reason },
            HostState::Failed => What::GivenUp { reason },
            _ => What::Waits { reason },
        });
    }

    pub(super) fn status(
        &self,
        running: &super::plan::Running,
        cpu_percent: u32,
    ) -> FirmwareStatus {
        let inner = self.lock();
        FirmwareStatus {
            name: running.replica.clone(),
            digest: running.spec.digest,
            size: running.spec.size,
            epoch: running.epoch,
            state: inner.state,
            restarts: inner.starts.saturating_sub(1),
            memory_bytes: inner.memory_bytes,
            cpu_percent,
            pid: inner.pid,
            last_error: inner.last_error.clone(),
        }
    }

    /// Facts are only replaced whole, so a panic while they were held did no harm.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
