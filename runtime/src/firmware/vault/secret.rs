//! The secret that code is sealed with: one for each user and machine, made when it is first needed.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rand::TryRng as _;

use super::{
    draft,
    file::open,
    folder::{self, VaultError},
};

/// Its file.
pub(super) const FILE: &str = "seal.key";

/// What others may not do to it: anything.
const OTHERS: u32 = 0o077;

/// How often its making is tried: who cleans up may take an attempt for one of the dead.
const ATTEMPTS: usize = 8;

/// 32 bytes that nobody but the user knows.
pub(super) struct Secret([u8; blake3::KEY_LEN]);

impl Secret {
    /// That of the folder. Of several processes that make it at once one does, and all get the same.
    ///
    /// # Errors
    /// [`VaultError`] when it cannot be read or made, or others could have read it.
    pub(super) fn of(folder: &Path) -> Result<Self, VaultError> {
        let path = folder.join(FILE);
        let unusable = |reason| VaultError::Unusable { path: path.clone(), reason };
        for _ in 0..ATTEMPTS {
            match open(&path) {
                Ok(file) => return Self::read(&path, file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unusable(error)),
            }
            match make(folder, &path) {
                Ok(()) => {}
                Err(error) => match error.kind() {
                    // Another process was first, or took the attempt for one of the dead.
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => {}
                    _ => return Err(unusable(error)),
                },
            }
        }
        Err(unusable(io::ErrorKind::NotFound.into()))
    }

    fn read(path: &Path, mut file: File) -> Result<Self, VaultError> {
        let unusable = |reason| VaultError::Unusable { path: path.to_owned(), reason };
        let meta = file.metadata().map_err(unusable)?;
        let mut bytes = [0; blake3::KEY_LEN];
        if !meta.is_file() || meta.len() != bytes.len() as u64 {
            return Err(VaultError::NoSecret { path: path.to_owned() });
        }
        let (owner, user, mode) = (meta.uid(), folder::user(), meta.mode() & 0o777);
        if owner != user {
            return Err(VaultError::Owner { path: path.to_owned(), owner, user });
        }
        if mode & OTHERS != 0 {
            return Err(VaultError::Secret { path: path.to_owned(), mode });
        }
        file.read_exact(&mut bytes).map_err(unusable)?;
        Ok(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; blake3::KEY_LEN] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Makes a new one, unless there is one by then.
fn make(folder: &Path, path: &Path) -> io::Result<()> {
    let mut bytes = [0; blake3::KEY_LEN];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    // Such files are of mode 0600.
    let mut file = draft::named(folder)?;
    file.write_all(&bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    draft::sync(folder)
}
