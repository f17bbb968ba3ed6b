//! Files of keys: the private half, which only its owner may read, and beside it the public one.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::SigningKey;

use super::{KeyError, PublicKey, SecretKey, decoded};

/// What the file of a private key begins with.
const SECRET: &str = "odeum-secret-key:";

/// What the name of the public key's file ends with.
pub const PUBLIC_EXTENSION: &str = "pub";

/// Longest file of a key, in bytes: what is longer is something else.
const LONGEST: u64 = 1_024;

/// A key's file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read the key {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the key {}: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// There is a file of that name: a key is never overwritten.
    #[error("{} is there already, and a key is never overwritten: name another file with --out", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others can read the private key.
    #[error("others can read the private key {0}: `chmod 600 {0}`, and make a new one if somebody may have", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It is no key.
    #[error("{}: {reason}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: KeyError,
    },
}

impl SecretKey {
    /// Writes the key to `path`, readable by its owner alone, and its public half beside it, with
    /// `.pub` at the end of its name. Returns the path of that.
    ///
    /// # Errors
    /// [`KeyFileError`] when one of them is there, or cannot be written.
    pub fn save(&self, path: &Path) -> Result<PathBuf, KeyFileError> {
        let mut public = path.as_os_str().to_owned();
        public.push(format!(".{PUBLIC_EXTENSION}"));
        let public = PathBuf::from(public);
        if public.exists() {
            return Err(KeyFileError::Exists { path: public });
        }
        let secret = BASE64_URL_SAFE_NO_PAD.encode(self.0.to_bytes());
        create(path, 0o600, &format!("{SECRET}{secret}\n"))?;
        create(&public, 0o644, &format!("{}\n", self.public()))?;
        Ok(public)
    }

    /// Reads the key from `path`.
    ///
    /// # Errors
    /// [`KeyFileError`] when it cannot be read, others can read it, or it is no private key.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = read(path)?;
        let no_key = || KeyFileError::NoKey { path: path.to_owned(), reason: KeyError::Secret };
        let seed = text.trim_end().strip_prefix(SECRET).and_then(decoded::<32>);
        let key = Self(SigningKey::from_bytes(&seed.ok_or_else(no_key)?));
        let unreadable = |reason| KeyFileError::Unreadable { path: path.to_owned(), reason };
        if fs::metadata(path).map_err(unreadable)?.mode() & 0o077 != 0 {
            return Err(KeyFileError::Open { path: path.to_owned() });
        }
        Ok(key)
    }
}

impl PublicKey {
    /// Reads the key from `path`.
    ///
    /// # Errors
    /// [`KeyFileError`] when it cannot be read, or is no public key.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = read(path)?;
        text.trim_end()
            .parse()
            .map_err(|reason| KeyFileError::NoKey { path: path.to_owned(), reason })
    }
}

fn read(path: &Path) -> Result<String, KeyFileError> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| io::Read::read_to_string(&mut io::Read::take(file, LONGEST), &mut text))
        .map_err(|reason| KeyFileError::Unreadable { path: path.to_owned(), reason })?;
    Ok(text)
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), KeyFileError> {
    let failed = |reason: io::Error| match reason.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => KeyFileError::Unwritable { path: path.to_owned(), reason },
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
