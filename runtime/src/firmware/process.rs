//! Guests in processes of their own: `isolation = "process"`.
//!
//! The sandbox of the engine is around every guest. A guest whose manifest asks for it has a process
//! around that: `odeum host`, this same executable, which runs one instance (or one job, or the
//! requests of one server) and nothing else. A fault of the engine, or of the native code it makes,
//! then costs that firmware one restart, and whoever breaks out of the engine finds a process without
//! files, network, privileges or other processes (`sandbox`), whose node believes nothing it says
//! (`check`).
//!
//! * **Start**: the node has the module compiled already and hands it over as a sealed anonymous file
//!   (`artifact`, `raw`); the process only maps it. It says who it is, is told what to run (`wire`),
//!   shuts itself in, starts the guest and says that it is ready (`child`).
//! * **Connection**: a pair of sockets, of which the process inherits one as its standard input. There
//!   is no path and no port, so nobody else can connect, nothing is left behind, and the end of either
//!   side is the end of the stream.
//! * **Work**: what a host actor does with an [`Instance`](super::Instance) it does with a
//!   [`ProcessInstance`]; commits, deeds and restarts stay in the node. Variables are read through the
//!   socket while the guest waits. What is logged is logged by the node (`log`).
//! * **End**: a process that ends, for whatever reason, costs its firmware one restart by the policy,
//!   and the call at hand is answered with why (`link`). A node that ends takes its processes along,
//!   also by SIGKILL: the kernel kills them (`keeper`), and the end of the stream would (`child`).
//!
//! Not done, and why: a user, namespaces or cgroups of its own, which need privileges that a node is
//! better off without. A bound on what all processes of a node take together: each has its own.

mod artifact;
mod check;
mod child;
mod instance;
mod keeper;
mod link;
mod log;
mod proof;
pub(super) mod raw;
mod sandbox;
pub(super) mod wire;

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tracing::level_filters::LevelFilter;

pub(super) use self::{
    artifact::Artifact,
    instance::{HostProcess, ProcessInstance},
};
use self::{
    check::Terms,
    link::{Ends, Link, Readiness, broken},
    wire::{Order, Setup},
};
pub use self::{
    child::serve as serve_host,
    proof::{Attempt, prove as prove_sandbox},
};
use super::{abi::Kind, bridge::Publisher, error::GuestFailure, module::Module, setting::Setting};

/// How much longer than it may compute a guest may take for a message before its process is held to
/// hang: it may wait ten times as long, on a machine that is busy with others.
const SLACK: u32 = 20;

/// And some time in any case.
const SILENCE: Duration = Duration::from_secs(30);

/// Requests of a server that may be under way at once, each with an instance.
pub(super) const REQUESTS: usize = 64;

/// What a process needs to know of them, which cannot read them itself.
async fn authorities(module: &Module, setting: &Setting) -> std::io::Result<Vec<Bytes>> {
    if module.manifest().capabilities.http.is_empty() {
        return Ok(Vec::new());
    }
    let authorities = setting.grants.authorities.clone();
    let all = tokio::task::spawn_blocking(move || authorities.all()).await;
    Ok(all.map_err(std::io::Error::other)?.into_iter().map(Bytes::from).collect())
}

/// Starts host processes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: Arc<PathBuf>,
    /// Whether it was said what this kernel cannot deny.
    told: Arc<AtomicBool>,
}

impl Launcher {
    /// Host processes are this very executable, which must be `odeum` or do as it does with the
    /// argument `host`; also when its file was replaced by another version in the meantime.
    #[must_use]
    pub fn this_executable() -> Self {
        Self::program("/proc/self/exe")
    }

    /// Host processes are this executable, which must be of the same build.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self { program: Arc::new(program.into()), told: Arc::default() }
    }

    /// Starts a process for a guest that handles messages, and that guest.
    pub(super) async fn instance(
        &self,
        module: &Module,
        setting: &Setting,
        publisher: Publisher,
    ) -> Result<ProcessInstance, GuestFailure> {
        let terms = Terms::new(module.manifest(), module.abi(), setting.limits.memory_bytes);
        let (link, ready) = self.start(module, setting, publisher, terms.clone()).await?;
        let hears = module.hears_of_its_start();
        Ok(ProcessInstance::new(link, terms, ready.memory_bytes, hears))
    }

    /// Starts a process for a job or a server, which begins nothing by itself.
    pub(super) async fn host(
        &self,
        module: &Module,
        setting: &Setting,
    ) -> Result<HostProcess, GuestFailure> {
        let terms = Terms::new(module.manifest(), module.abi(), setting.limits.memory_bytes);
        let (link, _) = self.start(module, setting, Publisher::none(), terms).await?;
        Ok(HostProcess::new(link))
    }

    async fn start(
        &self,
        module: &Module,
        setting: &Setting,
        publisher: Publisher,
        terms: Terms,
    ) -> Result<(Link, Readiness), GuestFailure> {
        let artifact = module.artifact().await.map_err(|error| broken(&error))?;
        let manifest = module.manifest();
        let text = manifest.to_text().map_err(|error| link::process(error.to_string()))?;
        let grants = &setting.grants;
        let authorities = authorities(module, setting).await.map_err(|error| broken(&error))?;
        let setup = Order::Setup(Box::new(Setup {
            firmware: setting.firmware.clone(),
            limits: setting.limits.clone(),
            digest: module.digest(),
            manifest: text,
            is_component: artifact.is_component(),
            instances: if module.kind() == Kind::Http { REQUESTS as u64 } else { 1 },
            folders: grants.folders.iter().map(|it| it.as_str().to_owned()).collect(),
            environment: grants.environment.iter().map(|it| it.as_str().to_owned()).collect(),
            authorities,
            has_broker: publisher.has_broker(),
            log: LevelFilter::current().to_string(),
        }));
        let begun = Instant::now();
        let opened = || {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let ours = tokio::net::UnixStream::from_std(ours)?;
            std::io::Result::Ok((ours, self.command(module, setting, theirs.into(), &artifact)?))
        };
        let (stream, command) = opened().map_err(|error| broken(&error))?;
        let started = keeper::start(command).await;
        let (process, ended) = started.map_err(|error| {
            link::process(format!("{} cannot be started: {error}", self.program.display()))
        })?;
        let time = setting.limits.message_time;
        let patience = match module.kind() {
            Kind::Job => None,
            Kind::Messages | Kind::Http => Some(time.saturating_mul(SLACK) + SILENCE),
        };
        let log = setting.log.clone();
        let ends = Ends { log, process, ended, stream, publisher, terms, patience };
        let (link, ready) = Link::open(ends, &setup).await?;
        tracing::debug!(
            firmware = %setting.firmware, pid = link.pid(), elapsed_ms = begun.elapsed().as_millis(),
            "host process ready"
        );
        self.tell(&ready.lacks);
        Ok((link, ready))
    }

    fn command(
        &self,
        module: &Module,
        setting: &Setting,
        theirs: OwnedFd,
        artifact: &Artifact,
    ) -> std::io::Result<Command> {
        let mut command = Command::new(&*self.program);
        command
            .arg0("odeum")
            .arg("host")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(artifact.descriptor()?))
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for the node, which then stops what it runs.
            .process_group(0);
        for name in &module.manifest().capabilities.environment {
            // What is not given is told by the guest's start, as for every guest.
            let is_given = setting.grants.environment.contains(name);
            if let (true, Ok(value)) = (is_given, std::env::var(name.as_str())) {
                command.env(name.as_str(), value);
            }
        }
        Ok(command)
    }

    /// Says once what this kernel cannot deny to host processes.
    fn tell(&self, lacks: &[String]) {
        if !lacks.is_empty() && !self.told.swap(true, Ordering::Relaxed) {
            let lacks: Vec<&str> =
                lacks.iter().take(8).map(|it| &it[..it.floor_char_boundary(200)]).collect();
            tracing::warn!(
                lacks = lacks.join("; "),
                "host processes are less shut in than they could be on this machine"
            );
        }
    }
}
