//! Blobs on this node's disk: one file for each, named by its content.
//!
//! ```text
//! <data-dir>/blobs/
//! ├─ ab/abcd…      a blob, in the folder of its first two digits
//! ├─ incoming/     what is being written; emptied at start
//! └─ damaged/      files whose bytes were not what their names say, for whoever wants to know
//! ```
//! # Promises
//! * A file appears under its name only when all of its bytes are on the disk (temporary file,
//!   sync, rename, sync of the folder): a crash leaves a whole file or none.
//! * Bytes that are read are what the digest says. A file that is not is set aside, once and with
//!   an error in the log; the blob is then not here.
//! * What is held is never given up for space; copies are, the least recently used first. A blob
//!   that does not fit is refused with [`ShelfError::Quota`] or [`ShelfError::NoSpace`], and leaves
//!   nothing behind.
//! * Nothing is removed that was put or asked for since the time that the remover names.
//!
//! All calls block on the disk. One process uses a folder: the data folder around it is locked.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use odeum_proto::Digest;

mod check;
mod error;
mod table;

#[cfg(test)]
mod tests;

pub use check::{Seen, check};
pub use error::ShelfError;

use error::io_error;
use table::{Item, Table};

const INCOMING: &str = "incoming";
const DAMAGED: &str = "damaged";

const OTHER_BYTES: &str = "other bytes than its digest says";

/// Damaged files that are kept: enough to see a pattern, few enough to need no quota.
const MOST_DAMAGED: usize = 8;

/// What a file is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// It was fetched once, and makes room when that is needed.
    Copy,
    /// This node is one of those that are to have it.
    Held,
}

/// A file of the shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is here for.
    pub purpose: Purpose,
    /// When it was put or read last.
    pub used: Instant,
    /// When its bytes were last seen to be right; `None` since the start of the node.
    pub verified: Option<Instant>,
}

/// How much is on the shelf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those that are merely copies.
    pub spare: u64,
    /// Bytes that all may have.
    pub quota: u64,
    /// Damaged files that were set aside since the start of the node.
    pub damaged: u64,
}

/// This node's shelf. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shelf {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    spare: u64,
    table: Mutex<Table>,
    /// Counts temporary files, so that two writers never share one.
    written: AtomicU64,
}

impl Shelf {
    /// Opens the folder, which is made if it is not there, and removes what a crash left half
    /// written. Everything counts as held until somebody says otherwise.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the folder cannot be made or read.
    pub fn open(folder: PathBuf, quota: u64, spare: u64) -> Result<Self, ShelfError> {
        for folder in [&folder, &folder.join(INCOMING), &folder.join(DAMAGED)] {
            fs::create_dir_all(folder).map_err(io_error("making", folder))?;
        }
        for half in entries(&folder.join(INCOMING))? {
            fs::remove_file(&half).map_err(io_error("removing", &half))?;
        }
        let mut table = Table::new(quota);
        let now = Instant::now();
        for part in entries(&folder)?.iter().filter(|path| is_part(path)) {
            for file in entries(part)? {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let Ok(digest) = name.parse::<Digest>() else {
                    tracing::warn!(path = %file.display(), "file that is no blob left alone");
                    continue;
                };
                let size = fs::metadata(&file).map_err(io_error("reading", &file))?.len();
                table.insert(digest, Item::new(size, Purpose::Held, now, None));
            }
        }
        let inner = Inner { folder, spare, table: Mutex::new(table), written: AtomicU64::new(0) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The bytes of a blob, if it is here and undamaged.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when its file cannot be read.
    pub fn get(&self, digest: Digest) -> Result<Option<Bytes>, ShelfError> {
        let seen = self.table().written(digest);
        let bytes = match fs::read(self.path(digest)) {
            Ok(bytes) if Digest::of(&bytes) == digest => bytes,
            Ok(_) => return self.set_aside(digest, seen, OTHER_BYTES).map(|()| None),
            Err(error) => return self.unreadable(digest, seen, error).map(|()| None),
        };
        let (mut table, now) = (self.table(), Instant::now());
        table.used(digest, Purpose::Copy, now);
        table.verified(digest, now);
        Ok(Some(bytes.into()))
    }

    /// Whether a blob is here and undamaged. It counts as used now, so it is not removed by those
    /// who have thought so before.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn check(&self, digest: Digest, purpose: Purpose) -> Result<bool, ShelfError> {
        if !self.table().used(digest, purpose, Instant::now()) || !self.verify(digest)? {
            return Ok(false);
        }
        // Who wrote it may not have come so far yet.
        sync(self.path(digest).parent().unwrap_or(&self.inner.folder))?;
        Ok(true)
    }

    /// Reads a file and compares it with its digest, without making use of it.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn verify(&self, digest: Digest) -> Result<bool, ShelfError> {
        let seen = self.table().written(digest);
        match File::open(self.path(digest)).and_then(Digest::of_reader) {
            Ok(is) if is == digest => {
                self.table().verified(digest, Instant::now());
                Ok(true)
            }
            Ok(_) => self.set_aside(digest, seen, OTHER_BYTES).map(|()| false),
            Err(error) => self.unreadable(digest, seen, error).map(|()| false),
        }
    }

    /// Keeps a blob: when this returns, it is on the disk. One that is here already is compared
    /// with its digest, and written anew if it is damaged.
    ///
    /// # Errors
    /// [`ShelfError`]; nothing of it is left behind then.
    pub fn put(&self, digest: Digest, bytes: &[u8], purpose: Purpose) -> Result<(), ShelfError> {
        let is = Digest::of(bytes);
        if is != digest {
            return Err(ShelfError::OtherDigest { is, claimed: digest });
        }
        if self.check(digest, purpose)? {
            return Ok(());
        }
        let size = bytes.len() as u64;
        let room = self.make_room(size, purpose)?;
        match self.write(digest, bytes, purpose) {
            Err(ShelfError::NoSpace { file }) if self.give_up_copies(size)? == 0 => {
                Err(ShelfError::NoSpace { file })
            }
            Err(ShelfError::NoSpace { .. }) => self.write(digest, bytes, purpose),
            done => done,
        }?;
        drop(room);
        Ok(())
    }

    /// Says what a file is here for; `true` when it was here for something else.
    pub fn set_purpose(&self, digest: Digest, purpose: Purpose) -> bool {
        self.table().set_purpose(digest, purpose)
    }

    /// Removes a file, unless it was put or read after `since`. Whether it was removed.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when it cannot be removed.
    pub fn remove(&self, digest: Digest, since: Instant) -> Result<bool, ShelfError> {
        // Under the lock, so that nobody who puts it at this moment takes it for kept.
        let mut table = self.table();
        if table.get(digest).is_none_or(|item| item.used > since) {
            return Ok(false);
        }
        self.unlink(&mut table, digest)?;
        Ok(true)
    }

    /// Removes copies until the rest fits into what copies may have.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when one cannot be removed.
    pub fn trim_copies(&self) -> Result<(), ShelfError> {
        let over = self.usage().spare.saturating_sub(self.inner.spare);
        self.give_up_copies(over).map(drop)
    }

    /// All files, in the order of their digests.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.table().list()
    }

    /// Whether there is a file of that name; its bytes are not looked at.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.table().get(digest).is_some()
    }

    /// How much is here.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.table().usage()
    }

    /// Counts the changes of what is here and what for.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.table().changes()
    }

    /// Sees to it that `size` more bytes are within the quota, and holds them for the caller.
    fn make_room(&self, size: u64, purpose: Purpose) -> Result<Room<'_>, ShelfError> {
        let mut table = self.table();
        let bound = if purpose == Purpose::Copy { self.inner.spare } else { u64::MAX };
        let gone = table.room_for(size, bound).map_err(|used| {
            let quota = bound.min(table.usage().quota);
            ShelfError::Quota { needed: size, used, quota }
        })?;
        for digest in gone {
            self.unlink(&mut table, digest)?;
        }
        table.reserve(size);
        Ok(Room { shelf: self, size })
    }

    /// Removes copies of `size` bytes or more, if there are so many. How many were removed.
    fn give_up_copies(&self, size: u64) -> Result<usize, ShelfError> {
        let mut table = self.table();
        let gone = table.oldest_copies(size);
        for digest in &gone {
            self.unlink(&mut table, *digest)?;
        }
        Ok(gone.len())
    }

    fn write(&self, digest: Digest, bytes: &[u8], purpose: Purpose) -> Result<(), ShelfError> {
        let number = self.inner.written.fetch_add(1, Ordering::Relaxed);
        let half = self.inner.folder.join(INCOMING).join(format!("{digest}.{number}"));
        let written = write_and_sync(&half, bytes).map_err(io_error("writing", &half));
        let placed = written.and_then(|()| self.place(&half, digest, bytes.len(), purpose));
        if placed.is_err() {
            // It may not even have been made; what is left goes at the next start.
            let _ = fs::remove_file(&half);
        }
        placed
    }

    fn place(
        &self,
        half: &Path,
        digest: Digest,
        size: usize,
        purpose: Purpose,
    ) -> Result<(), ShelfError> {
        let path = self.path(digest);
        let part = path.parent().unwrap_or(&self.inner.folder);
        if !part.exists() {
            // Two may make it at once.
            fs::create_dir_all(part).map_err(io_error("making", part))?;
            sync(&self.inner.folder)?;
        }
        {
            let mut table = self.table();
            fs::rename(half, &path).map_err(io_error("renaming", half))?;
            let now = Instant::now();
            table.insert(digest, Item::new(size as u64, purpose, now, Some(now)));
        }
        sync(part)
    }

    /// Moves a file away whose bytes are wrong, unless it was written anew since it was `seen`.
    fn set_aside(&self, digest: Digest, seen: Option<u64>, reason: &str) -> Result<(), ShelfError> {
        let (path, folder) = (self.path(digest), self.inner.folder.join(DAMAGED));
        let aside = folder.join(digest.to_string());
        {
            let mut table = self.table();
            if table.written(digest) != seen {
                return Ok(());
            }
            match fs::rename(&path, &aside) {
                // Somebody else has found it out at the same time.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                done => done.map_err(io_error("setting aside", &path))?,
            }
            table.damaged(digest);
        }
        tracing::error!(
            %digest, path = %path.display(), aside = %aside.display(), reason,
            "damaged blob set aside"
        );
        let mut kept: Vec<_> = entries(&folder)?
            .into_iter()
            .filter_map(|file| Some((fs::metadata(&file).ok()?.modified().ok()?, file)))
            .collect();
        kept.sort();
        let surplus = kept.len().saturating_sub(MOST_DAMAGED);
        for (_, file) in kept.into_iter().take(surplus) {
            fs::remove_file(&file).map_err(io_error("removing", &file))?;
        }
        Ok(())
    }

    fn unreadable(
        &self,
        digest: Digest,
        seen: Option<u64>,
        error: io::Error,
    ) -> Result<(), ShelfError> {
        if error.kind() == ErrorKind::NotFound {
            // Whoever removed it has said so, unless it was none of us.
            let mut table = self.table();
            if table.written(digest) == seen {
                table.remove(digest);
            }
            return Ok(());
        }
        // The disk has lost it: as if the bytes were others.
        if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
            return self.set_aside(digest, seen, "the disk cannot read it");
        }
        Err(io_error("reading", &self.path(digest))(error))
    }

    fn unlink(&self, table: &mut Table, digest: Digest) -> Result<(), ShelfError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io_error("removing", &path)(error));
            }
            _ => {}
        }
        table.remove(digest);
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.inner.folder.join(&name[..2]).join(name)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that are promised to a blob that is being written.
struct Room<'a> {
    shelf: &'a Shelf,
    size: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.shelf.table().unreserve(self.size);
    }
}

/// Whether a path is a folder of blobs: two hex digits.
fn is_part(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ShelfError> {
    let entries = fs::read_dir(folder).map_err(io_error("reading", folder))?;
    let paths: io::Result<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(io_error("reading", folder))
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync(folder: &Path) -> Result<(), ShelfError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("syncing", folder))
}
