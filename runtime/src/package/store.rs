//! The packages of a user, in a folder: what was built and pulled here.
//!
//! ```text
//! ~/.local/share/odeum/packages/712a03932495….odeum
//! ```
//!
//! A file is named after its content, so that it is written once and two commands never disagree
//! about it: it is written beside its place and renamed, and what was cut off by a crash is never
//! taken for a package. Each is checked whenever it is read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use odeum_proto::{Digest, Name, limits::PACKAGE_BYTES};
use semver::Version;

use super::{ContainerError, EXTENSION, Package, build::read_bounded};

/// What the folder is called in the user's data directory.
const FOLDER: &str = "odeum/packages";

/// A store that cannot be used, or has not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no user's data directory.
    #[error("nobody says where your packages are: set HOME, or name a folder with --store")]
    NoFolder,
    /// The folder or a file in it cannot be read or written.
    #[error("cannot use {}: {reason}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// It has no such package.
    #[error("there is no package {wanted} in {}: `odeum package ls` shows those there are", folder.display())]
    Missing {
        /// What was asked for.
        wanted: Box<str>,
        /// The store.
        folder: PathBuf,
    },
    /// More than one package is meant.
    #[error("{wanted} may be {first} or {second}: name it by its digest")]
    Ambiguous {
        /// What was asked for.
        wanted: Box<str>,
        /// One that is meant.
        first: Box<str>,
        /// Another.
        second: Box<str>,
    },
}

/// A package in a store, or a file there that is none.
#[derive(Debug)]
pub struct Kept {
    /// Its file.
    pub path: PathBuf,
    /// The digest of the file, after which it is named.
    pub file_digest: Digest,
    /// What it is.
    pub package: Result<Package, ContainerError>,
}

/// A folder of packages.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store at `folder`, or else that of the user.
    ///
    /// # Errors
    /// [`StoreError::NoFolder`] when the user has none.
    pub fn at(folder: Option<PathBuf>) -> Result<Self, StoreError> {
        let of_user = || {
            let absolute = |name: &str| {
                let path = PathBuf::from(std::env::var_os(name)?);
                // The XDG specification: what is not absolute does not count.
                path.is_absolute().then_some(path)
            };
            let data = absolute("XDG_DATA_HOME")
                .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
            Some(data.join(FOLDER))
        };
        let folder = folder.or_else(of_user).ok_or(StoreError::NoFolder)?;
        Ok(Self { folder })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a package, and returns its file.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it cannot be written.
    pub fn keep(&self, package: &Package) -> Result<PathBuf, StoreError> {
        fs::create_dir_all(&self.folder).map_err(|reason| self.unusable(&self.folder, reason))?;
        let path = self.path_of(Digest::of(package.file()));
        write_whole(&path, package.file()).map_err(|reason| self.unusable(&path, reason))?;
        Ok(path)
    }

    /// What is kept, by name, then from the newest version to the oldest.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it cannot be read.
    pub fn list(&self) -> Result<Vec<Kept>, StoreError> {
        let unusable = |reason| self.unusable(&self.folder, reason);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unusable(error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(unusable)?.path();
            let digest = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            // Whatever else is there is not ours.
            if let (Some(digest), Some(true)) = (digest, path.extension().map(|e| e == EXTENSION)) {
                all.push(self.kept(path, digest)?);
            }
        }
        let key = |kept: &Kept| {
            let manifest = kept.package.as_ref().ok().map(Package::manifest);
            let named = manifest.map(|m| (m.name.clone(), std::cmp::Reverse(m.version.clone())));
            // Damaged ones last.
            (named.is_none(), named, kept.file_digest.to_string())
        };
        all.sort_by_cached_key(key);
        Ok(all)
    }

    /// The package that `wanted` means: `NAME`, `NAME@VERSION`, or the beginning of a digest with 6
    /// digits at least. Of several versions the newest is meant.
    ///
    /// # Errors
    /// [`StoreError`] when it is not there, or more than one is meant.
    pub fn find(&self, wanted: &str) -> Result<Kept, StoreError> {
        let mut found: Vec<Kept> =
            self.list()?.into_iter().filter(|kept| is_meant(kept, wanted)).collect();
        let version = |kept: &Kept| {
            let manifest = kept.package.as_ref().ok().map(Package::manifest);
            manifest.map(|manifest| (manifest.name.clone(), manifest.version.clone()))
        };
        // By name they are sorted by version already; by digest not even two are meant.
        if let [first, second, ..] = &found[..]
            && (begins(first, wanted) || version(first) == version(second))
        {
            let short = |kept: &Kept| kept.file_digest.to_string()[..12].into();
            let (first, second) = (short(first), short(second));
            return Err(StoreError::Ambiguous { wanted: wanted.into(), first, second });
        }
        let missing = || StoreError::Missing { wanted: wanted.into(), folder: self.folder.clone() };
        if found.is_empty() { Err(missing()) } else { Ok(found.swap_remove(0)) }
    }

    /// Removes a package.
    ///
    /// # Errors
    /// [`StoreError`] when it is not there, more than one is meant, or it cannot be removed.
    pub fn remove(&self, wanted: &str) -> Result<Kept, StoreError> {
        let kept = self.find(wanted)?;
        fs::remove_file(&kept.path).map_err(|reason| self.unusable(&kept.path, reason))?;
        Ok(kept)
    }

    fn path_of(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.{EXTENSION}"))
    }

    fn kept(&self, path: PathBuf, file_digest: Digest) -> Result<Kept, StoreError> {
        let read = read_bounded(&path, PACKAGE_BYTES);
        let package = match read.map_err(|reason| self.unusable(&path, reason))? {
            Ok(file) => match Digest::of(&file) {
                is if is == file_digest => Package::read(file),
                is => Err(ContainerError::OtherContent { is, claimed: file_digest }),
            },
            Err(got) => Err(ContainerError::TooLarge { got, limit: PACKAGE_BYTES }),
        };
        Ok(Kept { path, file_digest, package })
    }

    fn unusable(&self, path: &Path, reason: io::Error) -> StoreError {
        StoreError::Unusable { path: path.to_owned(), reason }
    }
}

/// Fewest digits of a digest that mean a package: a name may look like fewer.
const DIGITS: usize = 6;

/// Whether `wanted` is the beginning of its digest.
fn begins(kept: &Kept, wanted: &str) -> bool {
    wanted.len() >= DIGITS && kept.file_digest.to_string().starts_with(wanted)
}

fn is_meant(kept: &Kept, wanted: &str) -> bool {
    if begins(kept, wanted) {
        return true;
    }
    let Ok(package) = &kept.package else { return false };
    let (name, version) = match wanted.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (wanted, None),
    };
    let manifest = package.manifest();
    let is_version =
        version.is_none_or(|text| text.parse::<Version>().ok().as_ref() == Some(&manifest.version));
    name.parse::<Name>().ok().as_ref() == Some(&manifest.name) && is_version
}

/// Writes a file so that it is there whole or not at all.
///
/// # Errors
/// What the system says.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    io::Write::write_all(&mut file, content)?;
    file.as_file().sync_all()?;
    // Others may read what the user's umask lets them, which a temporary file does not.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests;
