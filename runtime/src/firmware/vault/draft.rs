//! A file that is being written: it is there whole and on the disk, or not at all.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{folder, hold};

/// How often another name is tried: who cleans up may take one for that of the dead.
const ATTEMPTS: usize = 8;

/// A file without its name. It is gone when this is.
#[derive(Debug)]
pub(super) struct Draft {
    file: NamedTempFile,
    folder: PathBuf,
}

impl Draft {
    /// Begins a file in `folder`.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn begin(folder: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let file = named(folder)?;
            // Its lock says that somebody is at it.
            if hold::is_taken(file.as_file())? && file.as_file().metadata()?.nlink() > 0 {
                return Ok(Self { file, folder: folder.to_owned() });
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Writes at its end.
    ///
    /// # Errors
    /// What the system says, as of a full disk.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives it its name, in the place of whatever has it, once all of it is on the disk.
    ///
    /// # Errors
    /// What the system says. There is then what there was.
    pub(super) fn publish(self, path: &Path) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        // A folder cannot be replaced by a file.
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
            folder::remove(path)?;
        }
        self.file.persist(path).map_err(|error| error.error)?;
        sync(&self.folder)
    }
}

/// A new file in `folder` that only the user may read.
pub(super) fn named(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(folder::DRAFT).tempfile_in(folder)
}

/// Puts the names of a folder on the disk.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
