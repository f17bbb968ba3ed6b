//! What a user names as a package: a file, a folder, something of a registry, something kept here.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use bytes::Bytes;
use odeum_proto::limits::PACKAGE_BYTES;

use super::{
    ContainerError, EXTENSION, Package,
    build::{BuildError, read_bounded},
    registry::{Place, PlaceError, SCHEME},
};

/// Endings of the files of modules.
const MODULES: [&str; 2] = ["wasm", "wat"];

/// A package as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder with a manifest.
    Folder(PathBuf),
    /// A file: a module, or a package.
    File(PathBuf),
    /// Something of a registry, written as `oci://HOST/NAME:TAG`.
    Registry(Place),
    /// Something of the store: `NAME`, `NAME@VERSION`, the beginning of a digest.
    Kept(String),
}

impl FromStr for Source {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if text.starts_with(SCHEME) {
            return text.parse().map(Self::Registry);
        }
        let path = Path::new(text);
        let ending = path.extension().and_then(|ending| ending.to_str());
        let is_file = ending.is_some_and(|end| end == EXTENSION || MODULES.contains(&end));
        Ok(if path.is_dir() {
            Self::Folder(path.to_owned())
        } else if path.exists() || is_file || text.contains('/') {
            Self::File(path.to_owned())
        } else {
            Self::Kept(text.to_owned())
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::File(path) => path.display().fmt(f),
            Self::Registry(place) => place.fmt(f),
            Self::Kept(text) => f.write_str(text),
        }
    }
}

/// What a file is.
#[derive(Debug, Clone)]
pub enum Contents {
    /// A package, checked.
    Package(Package),
    /// Something else, which may be a module.
    Other(Bytes),
}

/// Reads a file of at most the size of a package.
///
/// # Errors
/// [`BuildError`] when it cannot be read, is too large, or is a damaged package.
pub fn read(path: &Path) -> Result<Contents, BuildError> {
    let unreadable = |reason| BuildError::Unreadable { path: path.to_owned(), reason };
    let file = read_bounded(path, PACKAGE_BYTES)
        .map_err(unreadable)?
        .map_err(|got| ContainerError::TooLarge { got, limit: PACKAGE_BYTES })?;
    let is_named = path.extension().is_some_and(|ending| ending == EXTENSION);
    if is_named || Package::is_meant(&file) {
        return Ok(Contents::Package(Package::read(file)?));
    }
    Ok(Contents::Other(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_by_how_it_is_written_and_what_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("thing");
        std::fs::write(&file, "x").expect("written");
        let source = |text: &str| text.parse::<Source>().expect("a source");
        let text = |path: &Path| path.display().to_string();
        assert_eq!(source(&text(folder.path())), Source::Folder(folder.path().to_owned()));
        assert_eq!(source(&text(&file)), Source::File(file));
        for path in ["gone.wasm", "gone.wat", "gone.odeum", "a/b"] {
            assert_eq!(source(path), Source::File(path.into()));
        }
        for kept in ["counter", "counter@1.0.0", "712a0393"] {
            assert_eq!(source(kept), Source::Kept(kept.to_owned()));
        }
        assert!(matches!(source("oci://localhost:5000/counter:1"), Source::Registry(_)));
        assert!("oci://counter".parse::<Source>().is_err());
    }

    #[test]
    fn a_file_that_is_called_a_package_is_read_as_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.odeum");
        std::fs::write(&path, b"\x1f\x8b\x08 a gzip archive").expect("written");
        let error = read(&path).expect_err("it is refused");
        assert!(matches!(error, BuildError::Container(ContainerError::NoPackage)), "{error}");
    }
}
