//! A file of compiled code, as far as it is this user's: it is opened once, looked at and read as what
//! was opened, and nothing of it is believed before its seal was checked.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::SystemTime,
};

use super::{
    folder,
    key::Key,
    seal::{self, SealError, Unsealed},
    secret::Secret,
};

/// Why code on disk is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("it is {found} and no file")]
    NoFile { found: &'static str },
    #[error("it belongs to user {owner}, not to {user}")]
    Owner { owner: u32, user: u32 },
    #[error("others may write to it (mode {mode:03o})")]
    Mode { mode: u32 },
    #[error("it has {bytes} bytes, more than all may have together")]
    TooLarge { bytes: u64 },
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

/// The code in the file at `path`, which has at most `limit` bytes and was kept by that key. `None` when
/// there is no such file. Its use is noted.
///
/// # Errors
/// [`Fault`] when it is not what was kept.
pub(super) fn read(
    path: &Path,
    limit: u64,
    secret: &Secret,
    key: Key,
) -> Result<Option<Unsealed>, Fault> {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if path.is_symlink() => return Err(Fault::NoFile { found: "a symbolic link" }),
        Err(error) => return Err(error.into()),
    };
    let bytes = check(&file, limit)?;
    let length = usize::try_from(bytes).map_err(|_| Fault::TooLarge { bytes })?;
    let mut content = Vec::new();
    content.try_reserve_exact(length).map_err(io::Error::from)?;
    // Not more than was looked at, should it grow.
    Read::by_ref(&mut file).take(bytes).read_to_end(&mut content)?;
    let unsealed = seal::unseal(secret, key, content)?;
    // Who cannot be told of the use is not worse off than before.
    let _ = file.set_modified(SystemTime::now());
    Ok(Some(unsealed))
}

/// Whether an opened file is one that only this user can write to; its length.
fn check(file: &File, limit: u64) -> Result<u64, Fault> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        let found = if meta.is_dir() { "a folder" } else { "something special" };
        return Err(Fault::NoFile { found });
    }
    let (owner, user, mode) = (meta.uid(), folder::user(), meta.mode() & 0o777);
    if owner != user {
        return Err(Fault::Owner { owner, user });
    }
    if mode & folder::OTHERS_WRITE != 0 {
        return Err(Fault::Mode { mode });
    }
    if meta.len() > limit {
        return Err(Fault::TooLarge { bytes: meta.len() });
    }
    Ok(meta.len())
}

/// Opens what is itself at `path`, without waiting for anybody.
pub(super) fn open(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(folder::flags()).open(path)
}
