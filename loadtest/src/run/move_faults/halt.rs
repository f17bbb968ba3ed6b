//! Where a move waits for what is to happen to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// How long a move may take to come by a step.
const PATIENCE: Duration = Duration::from_secs(30);

/// A step of a node's moves at which one waits.
pub(super) struct Halt {
    socket: PathBuf,
    listener: UnixListener,
}

/// A move that waits; it goes on when this is dropped.
pub(super) struct Halted(#[expect(dead_code, reason = "its end is what counts")] UnixStream);

impl Halt {
    /// Has the next move wait that comes by this step of the node whose folder of steps it is.
    pub(super) fn at(folder: &Path, step: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let socket = folder.join(step);
        let listener = UnixListener::bind(&socket).context("cannot wait for a step")?;
        Ok(Self { socket, listener })
    }

    /// Waits until one is there. The next one waits until this is dropped.
    pub(super) async fn reached(&self) -> anyhow::Result<Halted> {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let accepted = accepted.with_context(|| format!("it is not reached in {PATIENCE:?}"))?;
        Ok(Halted(accepted.context("cannot wait for a step")?.0))
    }
}

impl Drop for Halt {
    fn drop(&mut self) {
        // An error means that the folder is gone, which is as good.
        let _ = std::fs::remove_file(&self.socket);
    }
}
