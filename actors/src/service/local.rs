//! The executors inside the application's process: its own loop, or a thread.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::actor::ActorError;
use crate::policy::exit::Exit;
use crate::shell::panic_text;

use super::ServiceSpec;
use super::catalog::{AnyService, Catalog};
use super::context::{CHANNEL, Report, ServiceContext};

/// A service under way, seen from its actor.
pub(crate) struct Launched {
    pub(crate) inbox: mpsc::Sender<Vec<u8>>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) stop: watch::Sender<bool>,
    /// Resolves when nothing of it is left.
    pub(crate) ended: oneshot::Receiver<Exit>,
    /// Dropped, it ends the service by force.
    pub(crate) guard: Guard,
}

/// Ends a service when dropped.
#[derive(Debug)]
pub(crate) enum Guard {
    Tasks { _tasks: JoinSet<()> },
    Thread { _abort: oneshot::Sender<()> },
    Process { process: super::process::Process, _tasks: JoinSet<()> },
}

/// Both ends of a service's channel inside one process.
pub(crate) struct Ends {
    pub(crate) ctx: ServiceContext,
    pub(crate) inbox: mpsc::Sender<Vec<u8>>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) stop: watch::Sender<bool>,
}

pub(crate) fn ends(name: std::sync::Arc<str>) -> Ends {
    let (inbox, messages) = mpsc::channel(CHANNEL);
    let (sender, reports) = mpsc::channel(CHANNEL);
    let (stop, stopping) = watch::channel(false);
    let ctx = ServiceContext { name, inbox: messages, reports: sender, stopping };
    Ends { ctx, inbox, reports, stop }
}

/// Runs a service from start to stop.
pub(crate) async fn live(
    mut service: Box<dyn AnyService>,
    ctx: &mut ServiceContext,
) -> Result<(), ActorError> {
    service.start(ctx).await?;
    // An error means that nobody listens any more; then `run` is told to stop as well.
    let _ = ctx.reports.send(Report::Ready).await;
    service.run(ctx).await?;
    service.stop().await;
    Ok(())
}

async fn live_caught(service: Box<dyn AnyService>, mut ctx: ServiceContext) -> Exit {
    match AssertUnwindSafe(live(service, &mut ctx)).catch_unwind().await {
        Ok(Ok(())) => Exit::Normal,
        Ok(Err(error)) => Exit::Failed { reason: error.to_string().into() },
        Err(panic) => Exit::Panicked { reason: panic_text(panic) },
    }
}

pub(crate) fn launch_async(catalog: &Catalog, spec: &ServiceSpec) -> Result<Launched, ActorError> {
    let service = catalog.make(&spec.kind, &spec.settings)?;
    let Ends { ctx, inbox, reports, stop } = ends(spec.name.clone());
    let (end, ended) = oneshot::channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // An error means that the actor is gone.
        let _ = end.send(live_caught(service, ctx).await);
    });
    Ok(Launched { inbox, reports, stop, ended, guard: Guard::Tasks { _tasks: tasks } })
}

pub(crate) fn launch_thread(catalog: &Catalog, spec: &ServiceSpec) -> Result<Launched, ActorError> {
    let service = catalog.make(&spec.kind, &spec.settings)?;
    let Ends { ctx, inbox, reports, stop } = ends(spec.name.clone());
    let (end, ended) = oneshot::channel();
    let (abort, aborted) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(spec.name.to_string()).spawn(move || {
        let exit = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = aborted => Exit::Killed,
                exit = live_caught(service, ctx) => exit,
            }
        });
        // Not waiting for blocking tasks it may have started: they are nobody's any more.
        runtime.shutdown_background();
        let _ = end.send(exit);
    })?;
    Ok(Launched { inbox, reports, stop, ended, guard: Guard::Thread { _abort: abort } })
}
