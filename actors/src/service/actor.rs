//! The actor that keeps one service: launches it, watches it, ends it.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Send` | a handle | – |
//! | `Ended` | its own watch | – |
//! | `Silent` | its own watch | – |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::actor::{Actor, ActorError};
use crate::context::Context;
use crate::mailbox::Mailbox;
use crate::policy::exit::Exit;

use super::catalog::Catalog;
use super::context::Report;
use super::local::{Guard, Launched, launch_async, launch_thread};
use super::{Executor, Health, ServiceSpec, Shared, process};

pub(crate) enum ServiceMessage {
    Send { message: Vec<u8> },
    Ended { exit: Exit },
    Silent,
}

impl ServiceMessage {
    /// The bytes of a message that was not taken.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Send { message } => message,
            Self::Ended { .. } | Self::Silent => Vec::new(),
        }
    }
}

pub(crate) struct ServiceActor {
    spec: ServiceSpec,
    catalog: Catalog,
    shared: Arc<Shared>,
    live: Option<Live>,
}

/// A service that is ready.
struct Live {
    inbox: mpsc::Sender<Vec<u8>>,
    stop: watch::Sender<bool>,
    gone: watch::Receiver<bool>,
    guard: Guard,
}

impl ServiceActor {
    pub(crate) fn new(spec: ServiceSpec, catalog: Catalog, shared: Arc<Shared>) -> Self {
        Self { spec, catalog, shared, live: None }
    }

    async fn launch(&self) -> Result<Launched, ActorError> {
        match self.spec.executor {
            Executor::Async => launch_async(&self.catalog, &self.spec),
            Executor::Thread => launch_thread(&self.catalog, &self.spec),
            Executor::Process | Executor::AsyncProcess => process::launch(&self.spec).await,
        }
    }

    fn is_process(&self) -> bool {
        matches!(self.spec.executor, Executor::Process | Executor::AsyncProcess)
    }
}

impl Drop for ServiceActor {
    fn drop(&mut self) {
        self.shared.pid.store(0, Ordering::Release);
        self.shared.health.send_replace(Health::Unknown);
    }
}

impl Actor for ServiceActor {
    type Message = ServiceMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let Launched { inbox, mut reports, stop, mut ended, guard } = self.launch().await?;
        if let Guard::Process { process, .. } = &guard {
            self.shared.pid.store(process.pid, Ordering::Release);
        }
        loop {
            let report = tokio::select! {
                biased;
                report = reports.recv() => report,
                exit = &mut ended => return Err(early(exit)),
            };
            match report {
                Some(Report::Ready) => break,
                Some(report) => self.shared.take(report),
                None => return Err(early((&mut ended).await)),
            }
        }
        let (went, gone) = watch::channel(false);
        let silence = self.is_process().then_some(self.spec.silence);
        let mailbox = Arc::clone(&ctx.origin.handle.mailbox);
        let shared = Arc::clone(&self.shared);
        ctx.spawn(watch_over(Watched { reports, ended, silence, went }, shared, mailbox));
        self.live = Some(Live { inbox, stop, gone, guard });
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: ServiceMessage,
    ) -> Result<(), ActorError> {
        match message {
            ServiceMessage::Send { message } => {
                if let Some(live) = &self.live {
                    // An error means that it has ended, which is told next.
                    let _ = live.inbox.send(message).await;
                }
            }
            ServiceMessage::Ended { exit } => ctx.end(exit),
            ServiceMessage::Silent => {
                if let Some(Live { guard: Guard::Process { process, .. }, .. }) = &self.live {
                    process.kill();
                }
                ctx.end(Exit::Silent);
            }
        }
        Ok(())
    }

    async fn stopping(&mut self, _: &mut Context<Self>) {
        if let Some(live) = &mut self.live {
            live.stop.send_replace(true);
            // An error means that the watch itself has ended.
            let _ = live.gone.wait_for(|gone| *gone).await;
        }
    }
}

fn early(exit: Result<Exit, oneshot::error::RecvError>) -> ActorError {
    match exit {
        Ok(Exit::Failed { reason }) => ActorError::msg(reason),
        Ok(exit) => ActorError::msg(format!("it {exit} before it was ready")),
        Err(_) => ActorError::msg("it ended before it was ready"),
    }
}

impl Shared {
    fn take(&self, report: Report) {
        match report {
            Report::Health(health) => {
                self.health.send_replace(health);
            }
            Report::Message(message) => {
                // An error means that nobody listens.
                let _ = self.messages.send(message.into());
            }
            Report::Ready | Report::Heartbeat | Report::Failed(_) => {}
        }
    }
}

struct Watched {
    reports: mpsc::Receiver<Report>,
    ended: oneshot::Receiver<Exit>,
    silence: Option<Duration>,
    went: watch::Sender<bool>,
}

/// Takes what the service says until it has ended.
async fn watch_over(watched: Watched, shared: Arc<Shared>, mailbox: Arc<Mailbox<ServiceMessage>>) {
    let Watched { mut reports, ended, silence, went } = watched;
    loop {
        let next = match silence {
            Some(limit) => tokio::time::timeout(limit, reports.recv()).await,
            None => Ok(reports.recv().await),
        };
        match next {
            Ok(Some(report)) => shared.take(report),
            Ok(None) => break,
            Err(_) => {
                mailbox.push_note(ServiceMessage::Silent);
                break;
            }
        }
    }
    let exit = ended.await.unwrap_or(Exit::Killed);
    went.send_replace(true);
    mailbox.push_note(ServiceMessage::Ended { exit });
}
