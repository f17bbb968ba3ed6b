//! Tries what a host process must not be able to do: `odeum host --check`.
//!
//! The sandbox is the kernel's, and kernels differ. So what it is worth on a machine is best told by a
//! process that shuts itself in as a host does, for a guest without any grant, and then tries.

use std::{
    env, fs,
    fs::File,
    io::{self, Read as _},
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    process::Command,
};

use rustix::process::{getppid, test_kill_process};
use serde::Serialize;

use super::sandbox::{self, Needs};

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// What was tried.
    pub what: &'static str,
    /// Whether it failed, as it should.
    pub denied: bool,
    /// What the system said.
    pub said: String,
}

/// Shuts this process in for the rest of its life and tries to get out. To be called while it has one
/// thread. What the kernel lacks comes beside.
#[must_use]
pub fn prove() -> (Vec<Attempt>, Vec<String>) {
    // Opened before, because nothing can be afterwards; it tells what is true when it is read.
    let status = File::open("/proc/self/status");
    let file = env::temp_dir().join(format!("odeum-host-check-{}", std::process::id()));
    let lacks = sandbox::enter(&Needs::default());
    let parent = getppid();
    let memory = parent.map_or(1, |parent| parent.as_raw_nonzero().get());
    let attempts = vec![
        attempt("write a file", File::create(&file)),
        attempt("read a folder", fs::read_dir("/")),
        attempt("read a file", fs::read("/proc/self/exe")),
        attempt("change who may use a file", chmod()),
        attempt("open a UDP socket", UdpSocket::bind("127.0.0.1:0")),
        attempt("listen on a TCP port", TcpListener::bind("127.0.0.1:0")),
        attempt("listen on a Unix socket", UnixListener::bind(file.with_extension("sock"))),
        attempt("start a program", Command::new("/proc/self/exe").arg("--version").status()),
        attempt(
            "signal another process",
            match parent {
                Some(parent) => test_kill_process(parent).map_err(io::Error::from),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        ),
        attempt("read another process's memory", File::open(format!("/proc/{memory}/mem"))),
        attempt("gain privileges", privileged(status)),
    ];
    (attempts, lacks)
}

fn attempt<T>(what: &'static str, tried: io::Result<T>) -> Attempt {
    match tried {
        Ok(_) => Attempt { what, denied: false, said: "done".to_owned() },
        Err(error) => Attempt { what, denied: true, said: error.to_string() },
    }
}

/// As they are, which is allowed to its owner anywhere else.
fn chmod() -> io::Result<()> {
    let folder = env::temp_dir();
    fs::set_permissions(&folder, fs::metadata(&folder)?.permissions())
}

fn privileged(status: io::Result<File>) -> io::Result<()> {
    let mut text = String::new();
    status?.read_to_string(&mut text)?;
    let cannot = text.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"]));
    match cannot {
        true => Err(io::Error::new(io::ErrorKind::PermissionDenied, "no_new_privs is set")),
        false => Ok(()),
    }
}
