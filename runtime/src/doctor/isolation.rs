//! What the kernel of this machine gives to shut in processes that host firmware. It is tried out by
//! such a process: what a kernel says of itself and what its settings leave of that differ.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::IsolationFacts;

/// How long the process may take that tries: it does a dozen system calls.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Most of its answer that is read, in bytes.
const ANSWER_BYTES: u64 = 64 << 10;

/// What one attempt came to, as `odeum host --check -o json` tells.
#[derive(Deserialize)]
struct Attempt {
    what: String,
    denied: bool,
}

/// Has a process of this executable shut itself in and try to get out. Blocks.
pub(crate) fn isolation() -> IsolationFacts {
    match tried() {
        Ok(attempts) => {
            let (denied, allowed): (Vec<_>, Vec<_>) =
                attempts.into_iter().partition(|it| it.denied);
            let what = |all: Vec<Attempt>| all.into_iter().map(|it| it.what).collect();
            IsolationFacts { problem: None, denied: what(denied), allowed: what(allowed) }
        }
        Err(problem) => IsolationFacts { problem: Some(problem), ..IsolationFacts::default() },
    }
}

fn tried() -> Result<Vec<Attempt>, String> {
    let said = |error: std::io::Error| format!("`odeum host --check` cannot be run: {error}");
    // Also when the file was replaced by another version in the meantime.
    let mut process = Command::new("/proc/self/exe")
        .args(["host", "--check", "-o", "json"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(said)?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match process.try_wait().map_err(said)? {
            Some(status) => break status,
            None if Instant::now() < end => sleep(LOOK_EVERY),
            None => {
                // It has ended when this fails.
                let _ = process.kill();
                let _ = process.wait();
                return Err(format!("`odeum host --check` has not ended within {PATIENCE:?}"));
            }
        }
    };
    // Less than a pipe holds, so it was not kept from its end.
    let mut answer = Vec::new();
    if let Some(stdout) = process.stdout.take() {
        stdout.take(ANSWER_BYTES).read_to_end(&mut answer).map_err(said)?;
    }
    serde_json::from_slice(&answer)
        .map_err(|error| format!("`odeum host --check` ended with {status} and no answer: {error}"))
}
