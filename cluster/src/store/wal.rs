//! The write-ahead log: one for all Raft groups of a process.
//!
//! One, because a disk's flushes are its scarcest good: every group's appends that wait at the
//! same moment share one `fdatasync` (FACTS: with 64 groups a shared log writes 30 times what one
//! log per group does). A thread of its own writes, so that a slow disk stalls no actor.
//!
//! # Promises
//! * A write that was reported as done is on the disk and is there at the next open.
//! * A torn tail (power loss in the middle of a write) is cut at open; nothing in it was reported.
//! * Damage anywhere else is refused with the file and the offset ([`WalError::Corrupt`]). The
//!   rule that tells one from the other is in `wal/frame.rs`.
//! * A full disk stops writes without harm: the tail is cut back to the last whole batch, the
//!   batch is tried again until there is space, and [`Wal::health`] says [`Health::Full`] so that
//!   nobody queues up behind it. Waiting, not failing, because a replica whose log fails is
//!   finished, while one that waits goes on where it stopped.
//! * Any other I/O error ends the log for this process: after a failed flush nobody knows what
//!   the disk has, so nothing more is reported as done until the log is opened anew.
//!
//! # Files
//! Segments of [`WalConfig::segment_bytes`]. Each begins with what older segments said last about
//! votes, commit and purge of every group, so the oldest can go as soon as all entries in it are
//! purged.
//!
//! # Zeros ahead
//! A flush of a file that has grown makes the file system write its own records too, at twice the
//! time and more. So the file grows by [`WalConfig::ahead_bytes`] of zeros at a time, and most
//! flushes find the place they write to already there. Zeros behind the last record are no tail;
//! a closed segment has none.
//!
//! # Not done, and why
//! Segments are not recycled. It would save the zeros, and cost the certainty that what stands
//! behind the last record is nothing: a record of a former use would have to be told from one of
//! this.

mod frame;
mod inspect;
mod lazy;
mod open;
mod replay;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use odeum_proto::GroupId;
use odeum_proto::log::Record;
use tokio::sync::{mpsc, watch};

pub(super) use inspect::{SegmentSight, inspect};
pub use replay::GroupLog;

pub(in crate::store) use writer::LogWriter;

use super::disk::{Disk, System};
use lazy::Lazy;
use writer::{Batch, Signs};

/// Batches that may wait for the writer. Each waiter is a Raft group or one of its tasks, so a
/// few hundred never wait in practice; the bound is there for a stuck disk.
const QUEUE: usize = 1_024;

/// Where the log is and how it is cut into files.
#[derive(Debug, Clone)]
pub struct WalConfig {
    /// The folder of the segments; made if it is not there.
    pub dir: PathBuf,
    /// A segment is closed when it would grow beyond this many bytes. More keeps purged entries
    /// longer, less makes more files.
    pub segment_bytes: u64,
    /// By how many bytes the file grows at a time. More makes fewer flushes slow, and those few
    /// slower; 0 lets it grow with each write.
    pub ahead_bytes: u64,
    /// So many closed segments are kept without a word. When there are more, the groups that still
    /// need the oldest are named, so that they make snapshots and purge: a group that seldom
    /// writes would keep what all others have written since.
    pub keep_segments: usize,
}

impl WalConfig {
    /// The usual settings for a log in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, segment_bytes: 64 << 20, ahead_bytes: 512 << 10, keep_segments: 4 }
    }
}

/// Why the log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes that were on the disk have changed. Restore the file, or remove the data folder and
    /// let the node join anew under another name.
    #[error(
        "{} is damaged at byte {offset}: {reason}; restore the file, or remove the data folder and \
         join anew under another name", file.display()
    )]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: Box<str>,
    },
    /// The log was written by another version of Odeum. Use that version.
    #[error("{} has format {found}, this version writes format {ours}", file.display())]
    Version {
        /// The segment.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this program.
        ours: u32,
    },
    /// The disk is full. Free some space.
    #[error("no space left for {}", file.display())]
    NoSpace {
        /// What could not be written.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("{operation} {} failed: {source}", file.display())]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another log of this or another process is open in the folder. Stop it first.
    #[error("{} is in use", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// An earlier error ended the log; it must be opened anew.
    #[error("the log was closed after an earlier error")]
    Closed,
}

impl WalError {
    pub(super) fn io(file: &Path, operation: &'static str, source: io::Error) -> Self {
        if is_no_space(&source) {
            return Self::NoSpace { file: file.to_owned() };
        }
        Self::Io { operation, file: file.to_owned(), source }
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the log can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Good,
    /// The disk is full; the log goes on when there is space.
    Full,
    /// It failed for good.
    Failed,
}

/// Groups that keep the oldest segment, each with its last entry there.
pub(super) type Pinned = BTreeMap<GroupId, u64>;

/// Called once, when a batch is on the disk or the log has failed.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The open log. Cheap to clone; the writer ends, after what is queued, with the last clone.
#[derive(Debug, Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    batches: Option<mpsc::Sender<Batch>>,
    lazy: Arc<Lazy>,
    health: watch::Receiver<Health>,
    pinned: watch::Receiver<Pinned>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Wal {
    /// Opens the log and reads what it holds. Blocks on the disk.
    ///
    /// # Errors
    /// [`WalError`] when a file is damaged, of another version, or cannot be read or made.
    pub fn open(config: &WalConfig) -> Result<(Self, BTreeMap<GroupId, GroupLog>), WalError> {
        Self::open_on(&System::shared(), config)
    }

    /// As [`open`](Self::open), on `disk`.
    pub(super) fn open_on(
        disk: &Arc<dyn Disk>,
        config: &WalConfig,
    ) -> Result<(Self, BTreeMap<GroupId, GroupLog>), WalError> {
        let (writer, groups) = open::open(disk, config)?;
        let (batches, queue) = mpsc::channel(QUEUE);
        let (health_sender, health) = watch::channel(Health::Good);
        let (pinned_sender, pinned) = watch::channel(Pinned::new());
        let signs = Signs { health: health_sender, pinned: pinned_sender };
        let lazy = Arc::<Lazy>::default();
        let thread = disk
            .attend(LogWriter { writer, queue, signs, lazy: Arc::clone(&lazy) })
            .map_err(|source| WalError::io(&config.dir, "starting the writer of", source))?;
        let writer = Mutex::new(thread);
        let inner = Inner { batches: Some(batches), lazy, health, pinned, writer };
        Ok((Self { inner: Arc::new(inner) }, groups))
    }

    /// Writes `records` behind all earlier ones and calls `done` when they are on the disk.
    pub(super) async fn write(&self, records: Vec<Record>, done: Done) {
        self.send(Batch { records, done: Some(done) }).await;
    }

    /// Writes `records` and returns when they are on the disk.
    pub(super) async fn write_and_wait(&self, records: Vec<Record>) -> io::Result<()> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| {
            // Nobody listens any more when the asker was cancelled.
            let _ = sender.send(result);
        });
        self.write(records, done).await;
        receiver.await.unwrap_or_else(|_| Err(io::Error::other(WalError::Closed)))
    }

    /// Writes `records` behind all earlier ones without waiting for the disk, with the next batch
    /// or some milliseconds later. They are on the disk at the latest with the next write that
    /// waits, and may be lost before.
    pub(super) async fn write_lazily(&self, records: Vec<Record>) {
        if self.inner.lazy.put(records) {
            self.send(Batch { records: Vec::new(), done: None }).await;
        }
    }

    /// Whether the log can be written, as it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.clone()
    }

    /// The last entry of `group` in the oldest segment, when that should go and the group keeps it.
    pub(super) fn pinned_by(&self, group: GroupId) -> Option<u64> {
        self.inner.pinned.borrow().get(&group).copied()
    }

    /// What ends when the writer has ended, which is after the last clone of this is gone.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut health = self.health();
        async move { while health.changed().await.is_ok() {} }
    }

    async fn send(&self, batch: Batch) {
        let unsent = match &self.inner.batches {
            Some(batches) => batches.send(batch).await.err().map(|error| error.0),
            None => Some(batch),
        };
        if let Some(done) = unsent.and_then(|batch| batch.done) {
            done(Err(io::Error::other(WalError::Closed)));
        }
    }
}

impl Drop for Inner {
    /// Waits for the writer, so that the log can be opened anew right after.
    fn drop(&mut self) {
        self.batches = None;
        let writer = self.writer.lock().ok().and_then(|mut writer| writer.take());
        if let Some(writer) = writer {
            // A panic of the writer was reported when it happened.
            let _ = writer.join();
        }
    }
}
