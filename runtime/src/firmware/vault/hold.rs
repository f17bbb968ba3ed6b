//! Files that say by their lock that somebody is at work. The system frees the locks of the dead,
//! however they died.
//!
//! Such files are removed by who holds them. A file may be removed after it was opened and before it was
//! locked; the lock of a file that has no name any more means nothing, so that is looked at after it.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{file, folder};

/// How often a file may be removed just when it was opened.
const ATTEMPTS: usize = 64;

/// A file that this process holds. It is gone when this is.
#[derive(Debug)]
pub(in crate::firmware) struct Hold {
    _file: File,
    path: PathBuf,
}

impl Hold {
    /// Takes the file at `path`, which is made if it is not there. `None` when somebody has it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        for _ in 0..ATTEMPTS {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.custom_flags(folder::flags()).open(path)?;
            if !is_taken(&file)? {
                return Ok(None);
            }
            if file.metadata()?.nlink() > 0 {
                return Ok(Some(Self { _file: file, path: path.to_owned() }));
            }
        }
        Ok(None)
    }

    /// Takes the file at `path` if it is there and nobody has it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn take_left(path: &Path) -> io::Result<Option<Self>> {
        let file = file::open(path)?;
        let is_ours = is_taken(&file)? && file.metadata()?.nlink() > 0;
        Ok(is_ours.then(|| Self { _file: file, path: path.to_owned() }))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // What stays is one of the dead, and swept.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks the file, if nobody has.
pub(super) fn is_taken(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
