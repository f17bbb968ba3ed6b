//! The other side: what a child process does to be a service.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, getpid, getppid, kill_process, set_parent_process_death_signal};
use tokio::sync::{mpsc, watch};

use crate::actor::ActorError;

use super::catalog::{Catalog, Settings};
use super::context::Report;
use super::frame::{self, Order};
use super::local::{Ends, ends, live};
use super::process::{HEARTBEAT_MS, KIND, NAME, PARENT, THREADS};

impl Catalog {
    /// Must be the first thing `main` does if a service may run as a process: in such a
    /// child process it runs the service and returns its exit code, which `main` returns at
    /// once; in the application itself it returns `None`.
    ///
    /// ```no_run
    /// # use std::process::ExitCode;
    /// # use odeum_actors::Catalog;
    /// fn main() -> ExitCode {
    ///     let catalog = Catalog::new(); // .with(…)
    ///     if let Some(code) = catalog.enter() {
    ///         return code;
    ///     }
    ///     // … the application …
    ///     ExitCode::SUCCESS
    /// }
    /// ```
    #[must_use]
    pub fn enter(&self) -> Option<ExitCode> {
        let kind = std::env::var(KIND).ok()?;
        let code = match self.serve(&kind.into()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_reported) => ExitCode::FAILURE,
        };
        Some(code)
    }

    fn serve(&self, kind: &Arc<str>) -> Result<(), ActorError> {
        die_with_parent()?;
        let mut channel = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let null = std::fs::File::open("/dev/null")?;
        // The service must not read the channel by reading its standard input.
        rustix::stdio::dup2_stdin(&null)?;
        let Order::Setup(settings) = frame::read_order(&mut channel)? else {
            return Err(ActorError::msg("the first frame is no setup"));
        };
        let settings = Settings(toml::from_str(&settings)?);
        let name: Arc<str> = std::env::var(NAME)?.into();
        let Ends { mut ctx, inbox, reports, stop } = ends(name);
        let mut failed = channel.try_clone()?;
        let writer = std::thread::Builder::new().name("channel writer".into()).spawn({
            let channel = channel.try_clone()?;
            move || write_reports(channel, reports)
        })?;
        std::thread::Builder::new()
            .name("channel reader".into())
            .spawn(move || read_orders(channel, &inbox, &stop))?;

        let runtime = runtime()?;
        let beat = Duration::from_millis(std::env::var(HEARTBEAT_MS)?.parse()?);
        let lived = runtime.block_on(async {
            let service = self.make(kind, &settings)?;
            let mut heart = tokio::task::JoinSet::new();
            heart.spawn(heartbeat(beat, ctx.reports.clone()));
            // On the runtime's own loop, so that a service that blocks it falls silent.
            live(service, &mut ctx).await
        });
        drop(ctx);
        drop(runtime);
        // What the service said before its end is still on its way.
        let _ = writer.join();
        if let Err(error) = &lived {
            let _ = failed.write_all(&frame::report(&Report::Failed(error.to_string().into())));
        }
        lived
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, ActorError> {
    let many = std::env::var(THREADS).is_ok_and(|threads| threads == "many");
    let mut builder = if many {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    Ok(builder.enable_all().build()?)
}

/// From here on the kernel kills this process when its parent ends, however that ends.
fn die_with_parent() -> Result<(), ActorError> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent: i32 = std::env::var(PARENT)?.parse()?;
    // It may have ended before the line above.
    if getppid().is_none_or(|pid| pid.as_raw_nonzero().get() != parent) {
        return Err(ActorError::msg("the application has ended"));
    }
    Ok(())
}

async fn heartbeat(every: Duration, reports: mpsc::Sender<Report>) {
    let mut interval = tokio::time::interval(every.max(Duration::from_millis(1)));
    loop {
        interval.tick().await;
        // A full channel is a sign of life by itself.
        let _ = reports.try_send(Report::Heartbeat);
    }
}

fn write_reports(mut channel: UnixStream, mut reports: mpsc::Receiver<Report>) {
    while let Some(report) = reports.blocking_recv() {
        if frame::write(&mut channel, &frame::report(&report)).is_err() {
            return;
        }
    }
}

fn read_orders(mut channel: UnixStream, inbox: &mpsc::Sender<Vec<u8>>, stop: &watch::Sender<bool>) {
    loop {
        match frame::read_order(&mut channel) {
            Ok(Order::Message(message)) => {
                // An error means that the service is stopping.
                let _ = inbox.blocking_send(message);
            }
            Ok(Order::Stop) => {
                stop.send_replace(true);
            }
            Ok(Order::Setup(_)) => {}
            Err(_) => {
                // The application is gone. The kernel says so too; this also covers a
                // program that was started by hand with our variables set.
                let _ = kill_process(getpid(), Signal::KILL);
                return;
            }
        }
    }
}
