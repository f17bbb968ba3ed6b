//! The executors that run a service in a process of its own, seen from the application.
//!
//! The child is this same program, told by its environment to run one service
//! ([`Catalog::enter`](super::Catalog::enter)). A thread of its own starts it, waits for it
//! and reaps it: the kernel sends the parent-death signal when the *thread* that started a
//! process ends, and only a thread that lives as long as the child makes that mean what it
//! should. The private channel is a socket pair that the child finds as its standard input.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::actor::ActorError;
use crate::policy::exit::Exit;
use crate::sync::lock;

use super::context::{CHANNEL, Report};
use super::frame::{self, HEADER, Order};
use super::local::{Guard, Launched};
use super::{Executor, ServiceSpec};

/// What tells a child which service it is.
pub(crate) const KIND: &str = "ODEUM_SERVICE_KIND";
pub(crate) const NAME: &str = "ODEUM_SERVICE_NAME";
pub(crate) const PARENT: &str = "ODEUM_SERVICE_PARENT";
pub(crate) const THREADS: &str = "ODEUM_SERVICE_THREADS";
pub(crate) const HEARTBEAT_MS: &str = "ODEUM_SERVICE_HEARTBEAT_MS";

/// A child process, killed when dropped. Named by a file descriptor, so a process that got
/// the same number later is never hit.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    handle: OwnedFd,
}

impl Process {
    pub(crate) fn kill(&self) {
        // An error means that it is gone already.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) async fn launch(spec: &ServiceSpec) -> Result<Launched, ActorError> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (started, start) = oneshot::channel();
    let (exited, exit) = oneshot::channel();
    let command = command(spec, theirs.into())?;
    std::thread::Builder::new()
        .name(format!("keeper of {}", spec.name))
        .spawn(move || keep(command, started, exited))?;
    let process = start.await??;

    let (read, write) = tokio::net::UnixStream::from_std(ours)?.into_split();
    let (inbox, messages) = mpsc::channel(CHANNEL);
    let (sender, reports) = mpsc::channel(CHANNEL);
    let (stop, stopping) = watch::channel(false);
    let (end, ended) = oneshot::channel();
    let failure = Arc::new(Mutex::new(None));
    let said = Arc::clone(&failure);
    let setup = Order::Setup(toml::to_string(&spec.settings.0)?);
    let mut tasks = JoinSet::new();
    tasks.spawn(write_orders(write, setup, messages, stopping.clone()));
    tasks.spawn(async move {
        // Read to the end before the exit is judged: the reason may be in the last frame.
        let read = read_reports(read, sender, &said);
        let waited = exit;
        let (_, status) = tokio::join!(read, waited);
        let reason = lock(&failure).take();
        let exit = status.map_or(Exit::Killed, |status| exit_of(status, reason));
        // An error means that the actor is gone.
        let _ = end.send(exit);
    });
    let guard = Guard::Process { process, _tasks: tasks };
    Ok(Launched { inbox, reports, stop, ended, guard })
}

fn command(spec: &ServiceSpec, channel: OwnedFd) -> Result<Command, ActorError> {
    let mut command = Command::new(std::env::current_exe()?);
    let threads = if spec.executor == Executor::AsyncProcess { "many" } else { "one" };
    command
        .env(KIND, &*spec.kind)
        .env(NAME, &*spec.name)
        .env(PARENT, std::process::id().to_string())
        .env(THREADS, threads)
        .env(HEARTBEAT_MS, spec.heartbeat.as_millis().to_string())
        .stdin(Stdio::from(channel))
        // A Ctrl-C at the terminal is for the application, which then stops its services; and
        // what the process starts itself is found by its group.
        .process_group(0);
    Ok(command)
}

/// Starts a process and stays until it has been reaped.
fn keep(
    mut command: Command,
    started: oneshot::Sender<std::io::Result<Process>>,
    exited: oneshot::Sender<ExitStatus>,
) {
    let spawned = command.spawn();
    // Closes this side's copy of the child's end: its end of file must mean its death.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let opened = Pid::from_raw(child.id().cast_signed())
        .ok_or(Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match opened {
        // If nobody waits for it any more, dropping the process kills it.
        Ok(handle) => drop(started.send(Ok(Process { pid: child.id(), handle }))),
        Err(errno) => {
            let _ = child.kill();
            let _ = started.send(Err(errno.into()));
        }
    }
    end_group(child.id());
    if let Ok(status) = child.wait() {
        let _ = exited.send(status);
    }
}

/// Waits for the end of a process and kills what it started itself and left behind, as far as
/// that stayed in its process group. Before the process is reaped: until then its number
/// cannot be that of another group.
fn end_group(leader: u32) {
    let Some(leader) = Pid::from_raw(leader.cast_signed()) else { return };
    let end = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(Errno::INTR) = waitid(WaitId::Pid(leader), end) {}
    // An error means that nothing is left.
    let _ = kill_process_group(leader, Signal::KILL);
}

fn exit_of(status: ExitStatus, reason: Option<Box<str>>) -> Exit {
    match (status.code(), status.signal(), reason) {
        (_, _, Some(reason)) => Exit::Failed { reason },
        (Some(0), _, None) => Exit::Normal,
        (Some(code), _, None) => Exit::Code { code },
        (None, Some(signal), None) => Exit::Signal { signal },
        (None, None, None) => Exit::Killed,
    }
}

async fn write_orders(
    mut stream: OwnedWriteHalf,
    setup: Order,
    mut messages: mpsc::Receiver<Vec<u8>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut next = Some(setup);
    while let Some(order) = next {
        // An error means that the process is gone; its exit tells the rest.
        if stream.write_all(&frame::order(&order)).await.is_err() {
            return;
        }
        if order == Order::Stop {
            break;
        }
        next = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => Some(Order::Stop),
            message = messages.recv() => message.map(Order::Message),
        };
    }
    // Held open until the task is aborted: closing it would tell the process that the
    // application has died.
    std::future::pending::<()>().await;
}

async fn read_reports(
    mut stream: OwnedReadHalf,
    reports: mpsc::Sender<Report>,
    failure: &Mutex<Option<Box<str>>>,
) -> std::io::Result<()> {
    loop {
        let mut bytes = [0; HEADER];
        stream.read_exact(&mut bytes).await?;
        let (length, tag) = frame::header(bytes)?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        match frame::parse_report(tag, body)? {
            Report::Failed(reason) => *lock(failure) = Some(reason),
            report => {
                if reports.send(report).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
