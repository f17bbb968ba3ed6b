//! Packages on disk: one file for each, named by its content.
//!
//! A file appears under its name only when all of its bytes are on disk (temporary file, fsync,
//! rename, fsync of the folder), so a crash at any moment leaves either nothing or a whole file.
//! What the disk did to it later is found by its digest at every read.

use std::{
    fs::{self, File, FileTimes},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use odeum_proto::Digest;

use crate::firmware::error::CacheError;

const SUFFIX: &str = ".wasm";
const TEMPORARY: &str = ".tmp";

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole(Bytes),
    Nothing,
    /// The file's bytes are not what its name says. It was removed.
    Damaged(PathBuf),
}

/// The folder. All calls block.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Opens the folder; makes it if it is not there; removes what a crash left half written.
    pub(super) fn open(folder: PathBuf) -> Result<Self, CacheError> {
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let files = Self { folder };
        for entry in files.entries()? {
            if entry.extension().is_some_and(|extension| extension == "tmp") {
                remove(&entry)?;
            }
        }
        Ok(files)
    }

    /// Writes a package, unless it is there.
    pub(super) fn write(&self, digest: Digest, bytes: &[u8]) -> Result<(), CacheError> {
        let path = self.path(digest);
        if let Found::Whole(_) = self.read(digest)? {
            return Ok(());
        }
        let mut file = tempfile::Builder::new()
            .suffix(TEMPORARY)
            .tempfile_in(&self.folder)
            .map_err(io_error(&self.folder))?;
        file.write_all(bytes).map_err(io_error(file.path()))?;
        file.as_file().sync_all().map_err(io_error(file.path()))?;
        file.persist(&path).map_err(|error| io_error(&path)(error.error))?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error(&self.folder))
    }

    /// A package's bytes, checked.
    pub(super) fn read(&self, digest: Digest) -> Result<Found, CacheError> {
        let path = self.path(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(Found::Whole(bytes.into())),
            Ok(_) => {
                remove(&path)?;
                Ok(Found::Damaged(path))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    /// Marks a package as used now.
    pub(super) fn touch(&self, digest: Digest) -> Result<(), CacheError> {
        let path = self.path(digest);
        let file = File::options().write(true).open(&path).map_err(io_error(&path))?;
        file.set_times(FileTimes::new().set_modified(SystemTime::now())).map_err(io_error(&path))
    }

    /// Removes a package; it is no error when it is not there.
    pub(super) fn remove(&self, digest: Digest) -> Result<(), CacheError> {
        remove(&self.path(digest))
    }

    /// The packages that are there, the one that was used last at the end, with their sizes.
    pub(super) fn list(&self) -> Result<Vec<(Digest, u64)>, CacheError> {
        let mut found = Vec::new();
        for path in self.entries()? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest = name.strip_suffix(SUFFIX).and_then(|hex| hex.parse().ok());
            let Some(digest) = digest else { continue };
            let facts = fs::metadata(&path).map_err(io_error(&path))?;
            let used = facts.modified().map_err(io_error(&path))?;
            found.push((used, digest, facts.len()));
        }
        found.sort_unstable_by_key(|&(used, ..)| used);
        Ok(found.into_iter().map(|(_, digest, size)| (digest, size)).collect())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}{SUFFIX}"))
    }

    fn entries(&self) -> Result<Vec<PathBuf>, CacheError> {
        let entries = fs::read_dir(&self.folder).map_err(io_error(&self.folder))?;
        let paths: io::Result<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        paths.map_err(io_error(&self.folder))
    }
}

fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> CacheError + use<> {
    let path = path.to_owned();
    move |source| CacheError::Io { path: path.clone(), source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_written_is_a_package_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::open(folder.path().join("packages")).expect("opens");
        let digest = Digest::of(b"package");
        assert_eq!(files.read(digest).expect("reads"), Found::Nothing);
        files.write(digest, b"package").expect("writes");
        files.write(digest, b"package").expect("writes again");
        assert_eq!(
            files.read(digest).expect("reads"),
            Found::Whole(Bytes::from_static(b"package"))
        );
        assert_eq!(files.list().expect("lists"), [(digest, 7)]);
        files.remove(digest).expect("removes");
        assert_eq!(files.list().expect("lists"), []);
    }

    #[test]
    fn a_damaged_file_is_named_and_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::open(folder.path().to_owned()).expect("opens");
        let digest = Digest::of(b"package");
        files.write(digest, b"package").expect("writes");
        let path = folder.path().join(format!("{digest}.wasm"));
        fs::write(&path, b"pockage").expect("damages");
        assert_eq!(files.read(digest).expect("reads"), Found::Damaged(path));
        assert_eq!(files.read(digest).expect("reads"), Found::Nothing);
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed_at_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let half = folder.path().join(".abc.tmp");
        fs::write(&half, b"half").expect("writes");
        Files::open(folder.path().to_owned()).expect("opens");
        assert!(!half.exists());
    }
}
