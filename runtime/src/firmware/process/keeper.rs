//! Starts a host process, waits for its end and reaps it.
//!
//! A thread of its own does that: the kernel sends the parent-death signal when the *thread* that
//! started a process ends, so only a thread that lives as long as the process makes that signal mean
//! the death of the node. A host process starts none itself, so there is nothing else to reap.

use std::{
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::{Child, ChildStderr, Command, ExitStatus},
    thread,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;

/// Stack of the thread, in bytes. It starts a process and waits.
const STACK: usize = 256 << 10;

/// Bytes of a process's last words that are told.
const LAST_WORDS: usize = 512;

/// A running process, killed when dropped. Named by a descriptor, so a process that got the same
/// number later is never hit.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    handle: OwnedFd,
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn kill(&self) {
        // An error means that it is gone already.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct End {
    status: ExitStatus,
    /// The end of what it wrote to standard error.
    last_words: String,
}

impl End {
    /// It in words, as the end of a sentence about it.
    pub(super) fn reason(&self) -> Box<str> {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("it exited with code {code}"),
            (None, Some(signal)) => match Signal::from_named_raw(signal) {
                Some(named) => {
                    // It is written as the constant that it is, within quotes.
                    let named = format!("{named:?}");
                    let name = named.trim_matches('"').trim_start_matches("Signal::");
                    format!("it was ended by signal {signal} (SIG{name})")
                }
                None => format!("it was ended by signal {signal}"),
            },
            (None, None) => "it ended".to_owned(),
        };
        match self.last_words.trim() {
            "" => how.into(),
            said => format!("{how}; its last words: {said}").into(),
        }
    }
}

/// Starts a process, whose standard error `command` must have as a pipe. How it ends comes later.
///
/// # Errors
/// What the system said.
pub(super) async fn start(command: Command) -> io::Result<(Process, oneshot::Receiver<End>)> {
    let (started, start) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    thread::Builder::new()
        .name("host keeper".to_owned())
        .stack_size(STACK)
        .spawn(move || keep(command, started, ended))?;
    let gone = |_| io::Error::other("the thread that starts processes ended");
    Ok((start.await.map_err(gone)??, end))
}

fn keep(
    mut command: Command,
    started: oneshot::Sender<io::Result<Process>>,
    ended: oneshot::Sender<End>,
) {
    let spawned = command.spawn();
    // Closes this side's copy of the child's end of the socket: its end of file must mean its death.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    match opened(&child) {
        // If nobody waits for it any more, dropping it kills it.
        Ok(process) => drop(started.send(Ok(process))),
        Err(error) => {
            let _ = child.kill();
            let _ = started.send(Err(error));
        }
    }
    let last_words = child.stderr.take().map(last_words).unwrap_or_default();
    if let Ok(status) = child.wait() {
        let _ = ended.send(End { status, last_words });
    }
}

fn opened(child: &Child) -> io::Result<Process> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(rustix::io::Errno::SRCH)?;
    Ok(Process { pid: child.id(), handle: pidfd_open(pid, PidfdFlags::empty())? })
}

/// Reads to the end and keeps the end, in a bounded amount of memory.
fn last_words(mut from: ChildStderr) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; LAST_WORDS]);
    while let Ok(read @ 1..) = from.read(&mut piece) {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
    }
    // One line of the log, whatever it was.
    String::from_utf8_lossy(&kept).split_whitespace().collect::<Vec<_>>().join(" ")
}
