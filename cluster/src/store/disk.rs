//! What the store needs of the machine under it: files that stay, and somebody who waits for them.
//!
//! A trait of its own, so that a test can take the power from it between any two writes, and so
//! that nothing there depends on which thread the system runs first. In a node it is [`System`].

use std::any::Any;
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::future::BoxFuture;

use super::lock::lock_patiently;
use super::wal::{LogWriter, WalConfig};

/// Work that waits for the disk.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// A lock on a file against other processes; given up when it is dropped.
pub(super) type Held = Box<dyn Any + Send>;

/// Which file is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// One that is there.
    There,
    /// One that is not there yet.
    New,
    /// Whichever is there is emptied.
    Anew,
}

/// Files by path, and who works on them. All but the last two block.
pub(super) trait Disk: Debug + Send + Sync + 'static {
    /// Makes a folder and those around it, unless they are there; durable when it returns.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// All of a file.
    fn read(&self, file: &Path) -> io::Result<Vec<u8>>;

    /// Opens a file for reading and writing.
    fn open(&self, file: &Path, which: Open) -> io::Result<Box<dyn DiskFile>>;

    /// Removes a file; durable after [`sync_dir`](Self::sync_dir).
    fn remove(&self, file: &Path) -> io::Result<()>;

    /// Gives a file another name, in the place of what has it; durable after
    /// [`sync_dir`](Self::sync_dir).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes what happened to the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks a file, which is made if it is not there, waiting a moment if it is locked.
    fn lock(&self, file: &Path) -> Result<Held, TryLockError>;

    /// The settings of a log in `dir`.
    fn log_in(&self, dir: PathBuf) -> WalConfig {
        WalConfig::new(dir)
    }

    /// Does `work` where it stalls no actor.
    fn run(&self, work: Work) -> BoxFuture<'static, io::Result<()>>;

    /// Runs the writer of a log until it ends; what to wait for then, if it has a thread.
    fn attend(&self, writer: LogWriter) -> io::Result<Option<JoinHandle<()>>>;
}

/// An open file.
pub(super) trait DiskFile: Debug + Send {
    /// Writes `bytes` from `offset` on.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or lengthens it by zeros.
    fn set_len(&mut self, length: u64) -> io::Result<()>;

    /// Makes what was written durable, and with it what is needed to read it again.
    fn sync_data(&mut self) -> io::Result<()>;

    /// As [`sync_data`](Self::sync_data), with all that is known of the file.
    fn sync_all(&mut self) -> io::Result<()>;
}

/// The answer of `work`, which waits for the disk, done where it stalls no actor.
///
/// # Errors
/// When the work ended without an answer: it panicked, or the runtime ends.
pub(super) async fn wait_for<R: Send + 'static>(
    disk: &Arc<dyn Disk>,
    work: impl FnOnce() -> R + Send + 'static,
) -> io::Result<R> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let work = Box::new(move || {
        // Nobody listens any more when the asker was cancelled.
        let _ = sender.send(work());
    });
    disk.run(work).await?;
    receiver.await.map_err(io::Error::other)
}

/// The machine that this process runs on.
#[derive(Debug)]
pub(super) struct System;

impl System {
    /// To be shared.
    pub(super) fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for System {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
        fs::create_dir_all(dir)?;
        // What is synced in a folder whose own name is not would be lost with that name.
        for parent in missing.into_iter().filter_map(Path::parent) {
            let named = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            self.sync_dir(named)?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        fs::read(file)
    }

    fn open(&self, file: &Path, which: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true).write(true);
        match which {
            Open::There => {}
            Open::New => _ = options.create_new(true),
            Open::Anew => _ = options.create(true).truncate(true),
        }
        Ok(Box::new(options.open(file)?))
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, file: &Path) -> Result<Held, TryLockError> {
        let opened = File::options().create(true).truncate(false).write(true).open(file);
        let file = opened.map_err(TryLockError::Error)?;
        lock_patiently(&file)?;
        Ok(Box::new(file))
    }

    fn run(&self, work: Work) -> BoxFuture<'static, io::Result<()>> {
        let done = tokio::task::spawn_blocking(work);
        Box::pin(async move { done.await.map_err(io::Error::other) })
    }

    fn attend(&self, writer: LogWriter) -> io::Result<Option<JoinHandle<()>>> {
        // For its clock. Nothing else runs on it, so the writer may block.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("odeum-wal".into());
        thread.spawn(move || runtime.block_on(writer.run(|| std::future::ready(())))).map(Some)
    }
}

impl DiskFile for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        File::sync_all(self)
    }
}
