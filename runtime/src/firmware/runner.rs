//! Where a guest runs: inside the node, or in a process of its own. Whoever runs one does not see
//! which it is.

use std::sync::Arc;

use odeum_proto::http::{HttpAnswer, HttpRequest};

use super::{
    bridge::Publisher,
    effect::{Answer, Variables},
    error::{GuestFailure, Hint},
    instance::{Arrival, Instance},
    job,
    module::{Linked, Module},
    process::{HostProcess, Launcher, ProcessInstance},
    setting::Setting,
};
use crate::package::manifest::Isolation;

/// Runs guests of one module as its manifest says. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runner {
    module: Module,
    setting: Setting,
    launcher: Launcher,
}

impl Runner {
    /// One for a module in its setting.
    #[must_use]
    pub fn new(module: Module, setting: Setting, launcher: Launcher) -> Self {
        Self { module, setting, launcher }
    }

    /// Starts a guest that handles messages. What it publishes goes to `publisher`.
    ///
    /// # Errors
    /// [`GuestFailure`] when it needs more than it is given, its start fails, its process cannot be
    /// had, or it is a guest of another kind.
    pub async fn start(&self, publisher: Publisher) -> Result<Running, GuestFailure> {
        let (module, setting) = (&self.module, &self.setting);
        Ok(Running(match module.manifest().isolation {
            Isolation::Task => Where::Task(Instance::start(module, setting, publisher).await?),
            Isolation::Process => {
                let started = self.launcher.instance(module, setting, publisher).await?;
                Where::Process(Box::new(started))
            }
        }))
    }

    /// Runs a job to its end: its exit code, and what it was denied. `begun` is told the process it
    /// runs in, if it has one of its own.
    ///
    /// # Errors
    /// [`GuestFailure`] when it ended otherwise than by itself, or is a guest of another kind.
    pub async fn run_job(
        &self,
        begun: impl FnOnce(Option<u32>),
    ) -> Result<(i32, Hint), GuestFailure> {
        match self.module.manifest().isolation {
            Isolation::Task => {
                begun(None);
                job::run(&self.module, &self.setting).await
            }
            Isolation::Process => {
                let host = self.launcher.host(&self.module, &self.setting).await?;
                begun(Some(host.pid()));
                host.run().await
            }
        }
    }

    /// Starts what answers HTTP requests.
    ///
    /// # Errors
    /// [`GuestFailure`] when its process cannot be had.
    pub async fn server(&self) -> Result<Server, GuestFailure> {
        let host = match self.module.manifest().isolation {
            Isolation::Task => None,
            Isolation::Process => {
                Some(Arc::new(self.launcher.host(&self.module, &self.setting).await?))
            }
        };
        Ok(Server { module: self.module.clone(), setting: self.setting.clone(), host })
    }
}

/// One running guest that handles messages, at rest between them.
#[derive(Debug)]
pub struct Running(Where);

#[derive(Debug)]
enum Where {
    /// Inside the node.
    Task(Instance),
    /// In a process of its own.
    Process(Box<ProcessInstance>),
}

impl Running {
    /// Gives the guest one message. `variables` are those of the message's session.
    ///
    /// # Errors
    /// [`GuestFailure`] when the guest trapped, exceeded a limit or lost its process; it is gone then.
    pub async fn handle(
        self,
        arrival: impl Into<Arrival<'_>>,
        variables: Arc<dyn Variables>,
    ) -> Result<(Self, Answer), GuestFailure> {
        match self.0 {
            Where::Task(it) => {
                let (it, answer) = it.handle(arrival, variables).await?;
                Ok((Self(Where::Task(it)), answer))
            }
            Where::Process(it) => {
                let (it, answer) = Box::pin(it.handle(arrival.into(), variables)).await?;
                Ok((Self(Where::Process(Box::new(it))), answer))
            }
        }
    }

    /// One that runs inside the node.
    pub(super) fn inside(instance: Instance) -> Self {
        Self(Where::Task(instance))
    }

    /// The instance, when it runs inside the node.
    pub(super) fn instance(&mut self) -> Option<&mut Instance> {
        match &mut self.0 {
            Where::Task(instance) => Some(instance),
            Where::Process(_) => None,
        }
    }

    /// Bytes of its memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match &self.0 {
            Where::Task(it) => it.memory_bytes(),
            Where::Process(it) => it.memory_bytes(),
        }
    }

    /// The process of its own, if it has one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.0 {
            Where::Task(_) => None,
            Where::Process(it) => Some(it.pid()),
        }
    }

    /// Whether it wants to hear that it has started.
    pub(super) fn hears_of_its_start(&self) -> bool {
        match &self.0 {
            Where::Task(it) => it.hears_of_its_start(),
            Where::Process(it) => it.hears_of_its_start(),
        }
    }

    /// What tells that it has lost its process, and why; `None` when it has none of its own.
    pub(super) fn process_end(&self) -> Option<ProcessEnd> {
        match &self.0 {
            Where::Task(_) => None,
            Where::Process(it) => Some(Box::pin(it.ended())),
        }
    }

    /// Lets the guest take leave, if its ABI has that; it ends in any case.
    pub async fn end(self) {
        match self.0 {
            Where::Task(it) => it.end().await,
            Where::Process(it) => it.end().await,
        }
    }
}

/// Ends when a process has ended; `None` when it was ended because nobody needs it any more.
pub(super) type ProcessEnd = futures::future::BoxFuture<'static, Option<GuestFailure>>;

/// Answers HTTP requests, several at once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    module: Module,
    setting: Setting,
    /// The process of its own, if it has one.
    host: Option<Arc<HostProcess>>,
}

impl Server {
    /// Has one request answered.
    ///
    /// # Errors
    /// [`GuestFailure`] when there is no answer, or it is a guest of another kind.
    pub async fn serve(&self, request: HttpRequest) -> Result<HttpAnswer, GuestFailure> {
        match (self.module.linked(), &self.host) {
            (Linked::Http(_), Some(host)) => host.serve(request).await,
            (Linked::Http(service), None) => {
                service.serve(self.module.manifest(), &self.setting, request).await
            }
            _ => Err(GuestFailure::OtherKind { kind: self.module.kind() }),
        }
    }

    /// The process of its own, if it has one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.host.as_ref().map(|host| host.pid())
    }

    /// As [`Running::process_end`].
    pub(super) fn process_end(&self) -> Option<ProcessEnd> {
        let host = self.host.as_ref()?;
        Some(Box::pin(host.ended()))
    }
}
