//! Makes packages: of a module alone, or of a folder with a manifest.
//!
//! What goes in decides what comes out, byte by byte: no clock, no user and no order of a file
//! system is in a package.

mod folder;

use std::{io, path::PathBuf};

use bytes::Bytes;
use odeum_proto::Name;
use semver::Version;

use super::{
    ContainerError, Package,
    manifest::{Manifest, ManifestError, PackagePath},
    normalise::{self, Movability, NormaliseError},
};
use crate::firmware::{self, PackageError};

pub(crate) use folder::read_bounded;
pub use folder::{MANIFEST_TEMPLATE, of_folder};

/// The version of a package that is made of a module alone.
const NO_VERSION: Version = Version::new(0, 0, 0);

/// A package that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The folder has no manifest.
    #[error("there is no odeum.toml in {}: `odeum package init` makes one", folder.display())]
    NoManifest {
        /// The folder.
        folder: PathBuf,
    },
    /// A link leads out of the folder, or a file is no plain one.
    #[error("{} cannot be in a package: it is no plain file or folder", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The module is none.
    #[error(transparent)]
    Module(#[from] PackageError),
    /// The module cannot be made movable, for a reason that only a broken one has.
    #[error(transparent)]
    Normalise(#[from] NormaliseError),
    /// The parts do not fit together.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

/// A package that was made.
#[derive(Debug, Clone)]
pub struct Built {
    /// The package.
    pub package: Package,
    /// Whether a running instance of it can move.
    pub movability: Movability,
}

/// The package of a module, `.wasm` or `.wat`, that has no manifest: it gets one that grants
/// nothing.
///
/// # Errors
/// [`BuildError`] that says what the file is instead.
pub fn of_module(name: Name, file: Bytes) -> Result<Built, BuildError> {
    let manifest = Manifest::new(name, NO_VERSION);
    assemble(manifest.to_text()?.into(), &manifest, file, Vec::new())
}

/// What a user gives as a file: a package as it is, or the package of a module.
///
/// # Errors
/// [`BuildError`] that says what the file is instead.
pub fn open(name: Name, file: Bytes) -> Result<Package, BuildError> {
    if Package::is_meant(&file) {
        return Ok(Package::read(file)?);
    }
    Ok(of_module(name, file)?.package)
}

/// Puts a package together, its module normalised.
pub(crate) fn assemble(
    manifest_text: Bytes,
    manifest: &Manifest,
    module: Bytes,
    files: Vec<(PackagePath, Bytes)>,
) -> Result<Built, BuildError> {
    let wasm = firmware::to_wasm(module)?;
    firmware::validate(&wasm)?;
    let (module, movability) = normalise::normalise(&wasm)?;
    let files = files.into_iter().chain([(manifest.entry.clone(), module.into())]);
    let package = Package::assemble(manifest_text, files)?;
    Ok(Built { package, movability })
}

#[cfg(test)]
mod tests;
