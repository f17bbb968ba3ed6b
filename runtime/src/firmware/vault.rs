//! Compiled modules on disk, shared by all processes of a user on a machine.
//!
//! A module of 60 MB takes a minute to compile and some milliseconds to load. So its code is kept
//! in a folder that belongs to the user and not to a node: all nodes of the machine share it, whatever
//! their data folders, and compile a module once among them.
//!
//! | file | what it is |
//! |---|---|
//! | `seal.key` | the secret of the seals, made once (`secret`) |
//! | `KEY.native` | code, sealed (`seal`), by what it was made from ([`Key`]) |
//! | `KEY.lock` | locked by the process that compiles it (`hold`) |
//! | `.draft-…` | what is being written, locked by who writes it (`draft`) |
//!
//! The code runs with all rights of the process, and wasmtime accepts nearly every damage to it. So
//! nothing is loaded that does not carry the seal of this user, over the very bytes that are loaded;
//! and nothing is read or written in a folder that others can write to. Whatever is wrong costs a
//! compilation, never more: the vault says it in the log, and the code is compiled and kept again.
//!
//! It survives the end of any process at any moment: a file is there whole or not at all, and the
//! locks of the dead are free. It is safe to remove the folder, or any file in it, at any time.
//!
//! The bound counts bytes of code. When it is exceeded, what was not used for longest goes first; the
//! time of the last use is the file's modification time, so that it is one order for all processes.
//!
//! Not done, and why: the code is read into memory and not mapped from the file. A mapping shows
//! what others write to the file after the seal was checked.

mod draft;
mod eviction;
mod file;
mod folder;
mod hold;
mod key;
mod seal;
mod secret;

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

pub use self::folder::VaultError;
use self::{draft::Draft, folder::Entry, secret::Secret};
pub(super) use self::{hold::Hold, key::Key, seal::Unsealed};
use super::native::Native;

/// Longest wait for another process that compiles the same module. The largest modules take about a
/// minute; who takes longer is stuck, and compiling twice is then the smaller harm.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether the other process is done: much less than a compilation takes.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Where the vault is in the user's folder for caches.
const FOLDER: &str = "odeum/compiled";

/// Where it is beside the data folder of a node whose user has no folder for caches.
const BESIDE_DATA: &str = "odeum-compiled";

/// Compiled modules on disk. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// Bytes that all code may take together.
    size: u64,
    patience: Duration,
    /// Whether it was said that the folder cannot be used.
    is_told: AtomicBool,
}

/// A compiled module that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is kept by: what it was made from and for.
    pub key: String,
    /// The BLAKE3 hash of the WebAssembly binary, as its file claims it; `None` when the file is too
    /// short to.
    pub module: Option<String>,
    /// Length of its file, in bytes.
    pub bytes: u64,
    /// When it was last used.
    pub last_use: SystemTime,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleared {
    /// How many modules.
    pub modules: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Vault {
    /// The vault in `folder`, which is made when something is first kept. All code in it takes at
    /// most `size` bytes; with 0 nothing is kept.
    #[must_use]
    pub fn new(folder: PathBuf, size: u64) -> Self {
        Self::with_patience(folder, size, PATIENCE)
    }

    fn with_patience(folder: PathBuf, size: u64, patience: Duration) -> Self {
        let is_told = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { folder, size, patience, is_told }) }
    }

    /// Where the user's vault is unless told otherwise: `odeum/compiled` in `$XDG_CACHE_HOME`, else in
    /// `~/.cache`. A user without a home, as a system service has none, has it beside the data folder
    /// of its nodes.
    #[must_use]
    pub fn default_folder(data_dir: &Path) -> PathBuf {
        let absolute = |name: &str| {
            let path = PathBuf::from(std::env::var_os(name)?);
            // The XDG specification: what is not absolute does not count.
            path.is_absolute().then_some(path)
        };
        let caches =
            absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        let beside = || {
            let data = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
            data.parent().unwrap_or(&data).join(BESIDE_DATA)
        };
        caches.map_or_else(beside, |caches| caches.join(FOLDER))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Bytes that all code in it may take together.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// What is kept, the last used first.
    ///
    /// # Errors
    /// [`VaultError`] when the folder cannot be read, or others can write to it.
    pub fn list(&self) -> Result<Vec<Kept>, VaultError> {
        let mut kept: Vec<Kept> = self.entries()?.into_iter().map(|it| self.shown(it)).collect();
        kept.sort_by(|a, b| b.last_use.cmp(&a.last_use).then_with(|| a.key.cmp(&b.key)));
        Ok(kept)
    }

    fn shown(&self, entry: Entry) -> Kept {
        let Entry { key, bytes, last_use } = entry;
        let module = file::open(&self.path_of(&key)).ok().and_then(|file| {
            let mut header = Vec::new();
            file.take(seal::HEADER as u64).read_to_end(&mut header).ok()?;
            seal::module(&header)
        });
        Kept { module: module.map(|hash| hash.to_string()), key, bytes, last_use }
    }

    /// Removes everything that is kept, and what the dead left. The secret stays, and so does what
    /// another process is about to write.
    ///
    /// # Errors
    /// [`VaultError`] when the folder cannot be used, or a file not be removed.
    pub fn clear(&self) -> Result<Cleared, VaultError> {
        let mut cleared = Cleared::default();
        for Entry { key, bytes, .. } in self.entries()? {
            let path = self.path_of(&key);
            folder::remove(&path).map_err(|reason| VaultError::Unusable { path, reason })?;
            cleared.modules += 1;
            cleared.bytes += bytes;
        }
        folder::sweep_dead(&self.inner.folder);
        Ok(cleared)
    }

    /// Removes what the dead left, and what is too much.
    pub(super) fn sweep(&self) {
        let Ok(entries) = self.entries() else { return };
        folder::sweep_dead(&self.inner.folder);
        for key in eviction::victims(entries, self.inner.size, SystemTime::now()) {
            let removed = folder::remove(&self.path_of(&key));
            tracing::debug!(key, removed = removed.is_ok(), "compiled module evicted");
        }
    }

    /// The code of that key. Why there is none, if it is not that none was kept, is in the log.
    pub(super) fn find(&self, key: Key) -> Option<Unsealed> {
        let path = self.path_of(&key.to_string());
        // The folder is made with the first module.
        if !self.inner.folder.exists() {
            return None;
        }
        let secret = self.opened()?;
        let found = file::read(&path, self.inner.size, &secret, key);
        found.inspect_err(|fault| self.refused(key, &fault.to_string())).ok().flatten()
    }

    /// Says that code is not taken.
    pub(super) fn refused(&self, key: Key, reason: &str) {
        let path = self.path_of(&key.to_string());
        tracing::warn!(
            path = %path.display(), reason,
            "a compiled module on disk is not taken; it is compiled anew and replaced"
        );
    }

    /// Keeps what the compiler made, if it can; if not, the log says why.
    pub(super) fn keep(&self, key: Key, native: &Native) {
        self.keep_code(key, native.code());
    }

    fn keep_code(&self, key: Key, code: &[u8]) {
        let bytes = (seal::HEADER + code.len()) as u64;
        if bytes > self.inner.size {
            let allowed = self.inner.size;
            tracing::debug!(bytes, allowed, "a compiled module is too large to be kept");
            return;
        }
        let Some(secret) = self.opened() else { return };
        let path = self.path_of(&key.to_string());
        match self.write(&path, &seal::header(&secret, key, code), code) {
            Ok(()) => tracing::debug!(%key, bytes, "compiled module kept"),
            Err(error) => tracing::warn!(
                path = %path.display(), bytes, %error,
                "a compiled module cannot be kept on disk; it is compiled again when it is needed again"
            ),
        }
        self.sweep();
    }

    fn write(&self, path: &Path, header: &[u8], code: &[u8]) -> io::Result<()> {
        let mut draft = Draft::begin(&self.inner.folder)?;
        draft.write(header)?;
        draft.write(code)?;
        draft.publish(path)
    }

    /// Waits until no other process compiles the module of that key, and keeps others from it as long
    /// as the result lives. `None` when the other is stuck, or nothing can be locked.
    pub(super) async fn hold(&self, key: Key) -> Option<Hold> {
        let until = Instant::now() + self.inner.patience;
        loop {
            let vault = self.clone();
            let taken = tokio::task::spawn_blocking(move || {
                // Said when it is to be kept, if not before.
                vault.opened()?;
                Hold::take(&vault.inner.folder.join(format!("{key}.{}", folder::LOCK))).ok()
            });
            match taken.await {
                Ok(Some(Some(hold))) => return Some(hold),
                Ok(Some(None)) => {}
                Ok(None) | Err(_) => return None,
            }
            if Instant::now() >= until {
                tracing::warn!(
                    %key, elapsed_ms = self.inner.patience.as_millis(),
                    "another process compiles this module for too long; it is compiled here, too"
                );
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The secret, in a folder that is fit to be used. Otherwise the log says once what to do.
    fn opened(&self) -> Option<Secret> {
        // Nothing is kept.
        if self.inner.size == 0 {
            return None;
        }
        let opened = folder::prepare(&self.inner.folder).and_then(|()| {
            let is_others = folder::check(&self.inner.folder);
            is_others.and_then(|()| Secret::of(&self.inner.folder))
        });
        match opened {
            Ok(secret) => {
                self.inner.is_told.store(false, Ordering::Relaxed);
                Some(secret)
            }
            Err(error) => {
                if !self.inner.is_told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "compiled modules are not kept on disk");
                }
                None
            }
        }
    }

    fn entries(&self) -> Result<Vec<Entry>, VaultError> {
        match fs::symlink_metadata(&self.inner.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            _ => folder::check(&self.inner.folder)?,
        }
        folder::entries(&self.inner.folder)
    }

    fn path_of(&self, key: &str) -> PathBuf {
        self.inner.folder.join(format!("{key}.{}", folder::NATIVE))
    }
}

#[cfg(test)]
mod tests;
