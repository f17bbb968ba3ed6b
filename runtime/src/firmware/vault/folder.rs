//! The folder of a vault: whether it is this user's alone, and what is in it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::OFlags;

use super::hold::Hold;

/// How the names of compiled modules end.
pub(super) const NATIVE: &str = "native";
/// How the names of files end that say who compiles.
pub(super) const LOCK: &str = "lock";
/// How the names of unfinished files begin.
pub(super) const DRAFT: &str = ".draft-";

/// Write permission for the group or for everybody.
pub(super) const OTHERS_WRITE: u32 = 0o022;

/// The folder of compiled modules, or its secret, cannot be used. Nodes compile all modules anew.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Others could put files into it.
    #[error(
        "others may write to {} (mode {mode:03o}): run `chmod go-w {}`, or name another folder in \
         `firmware.cache-dir`",
        path.display(),
        path.display()
    )]
    Writable {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is somebody else's.
    #[error(
        "{} belongs to user {owner}, and this is user {user}: name a folder of your own in \
         `firmware.cache-dir`",
        path.display()
    )]
    Owner {
        /// The folder, or the file of its secret.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs.
        user: u32,
    },
    /// It is no folder.
    #[error("{} is no folder: remove it, or name another in `firmware.cache-dir`", path.display())]
    NoFolder {
        /// What it is instead.
        path: PathBuf,
    },
    /// The secret could have been read.
    #[error(
        "others may use {} (mode {mode:03o}), so that the seals mean nothing: remove it, and a new one \
         is made",
        path.display()
    )]
    Secret {
        /// Its file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What should be the secret is not.
    #[error("{} is no file of 32 bytes: remove it, and a new one is made", path.display())]
    NoSecret {
        /// Its file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The folder or the file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// A compiled module in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// As its file is named.
    pub(super) key: String,
    pub(super) bytes: u64,
    pub(super) last_use: SystemTime,
}

/// Who runs.
pub(super) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// How files are opened: not what a symbolic link leads to, and without waiting for the other end of a
/// pipe.
pub(super) fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// Makes the folder if it is not there.
pub(super) fn prepare(folder: &Path) -> Result<(), VaultError> {
    // The XDG specification: folders for caches are the user's alone.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.or_else(|reason| match folder.exists() {
        // That is told better later.
        true => Ok(()),
        false => Err(VaultError::Unusable { path: folder.to_owned(), reason }),
    })
}

/// Whether nobody but the user can put files into the folder.
///
/// # Errors
/// [`VaultError`] when others can.
pub(super) fn check(folder: &Path) -> Result<(), VaultError> {
    let path = || folder.to_owned();
    let meta =
        fs::metadata(folder).map_err(|reason| VaultError::Unusable { path: path(), reason })?;
    if !meta.is_dir() {
        return Err(VaultError::NoFolder { path: path() });
    }
    let (owner, user, mode) = (meta.uid(), user(), meta.mode() & 0o777);
    if owner != user {
        return Err(VaultError::Owner { path: path(), owner, user });
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(VaultError::Writable { path: path(), mode });
    }
    Ok(())
}

/// The compiled modules in the folder.
///
/// # Errors
/// [`VaultError::Unusable`] when it cannot be read.
pub(super) fn entries(folder: &Path) -> Result<Vec<Entry>, VaultError> {
    let unusable = |reason| VaultError::Unusable { path: folder.to_owned(), reason };
    let mut entries = Vec::new();
    for file in fs::read_dir(folder).map_err(unusable)? {
        let file = file.map_err(unusable)?;
        let name = file.file_name();
        let Some(key) = name.to_str().and_then(key_of) else { continue };
        // What another process has just removed.
        let Ok(meta) = file.metadata() else { continue };
        let last_use = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        entries.push(Entry { key: key.to_owned(), bytes: meta.len(), last_use });
    }
    Ok(entries)
}

/// The key that the name of a compiled module is made of.
fn key_of(name: &str) -> Option<&str> {
    let (key, end) = name.split_once('.')?;
    (end == NATIVE && blake3::Hash::from_hex(key).is_ok()).then_some(key)
}

/// Removes the files of processes that ended before they could.
pub(super) fn sweep_dead(folder: &Path) {
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let is_lock = || Path::new(&name).extension().is_some_and(|end| end == LOCK);
        if name.to_str().is_some_and(|name| name.starts_with(DRAFT)) || is_lock() {
            // Held for a moment, and then gone.
            drop(Hold::take_left(&file.path()));
        }
    }
}

/// Removes what is at `path`, whatever it is; what is not there is removed.
///
/// # Errors
/// What the system says.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
