//! The file of a package, `NAME-VERSION.odeum`: a tar file with exactly one way to write it.
//!
//! ```text
//! .odeum/index.json        path, size and BLAKE3 of every file below
//! .odeum/signatures.json   who vouches for the index; not there when nobody does
//! odeum.toml               the manifest
//! module.wasm              the module, under the name that the manifest gives it
//! LICENSE                  the other files, by path
//! ```
//!
//! The digest of a package is that of its index, which signatures sign: they can be added without
//! changing what they vouch for, and it stands for every byte of the rest. Equal contents give equal
//! files, on every machine.
//!
//! The reader trusts nothing. There is one place where each byte of the file can be and one value
//! for each that is not content, so links, paths that lead elsewhere, names that come twice, files
//! that the index does not have and bytes between files are refused by construction. Sizes are
//! checked against what is there before anything is read. Nothing is compressed, so nothing grows.
//!
//! ```
//! use odeum_runtime::package::{Package, manifest::Manifest};
//!
//! let manifest = Manifest::new("counter".parse()?, "1.0.0".parse()?).to_text()?;
//! let module = &b"\0asm\x01\0\0\0"[..];
//! let package = Package::assemble(manifest.into(), [("module.wasm".parse()?, module.into())])?;
//! assert_eq!(package.file_name(), "counter-1.0.0.odeum");
//! let again = Package::read(package.file().clone())?;
//! assert_eq!((again.digest(), &again.module()[..]), (package.digest(), module));
//!
//! let mut tampered = package.file().to_vec();
//! let at = tampered.windows(4).position(|bytes| bytes == b"\0asm").expect("it is there");
//! tampered[at + 4] = 2;
//! let refused = Package::read(tampered.into()).expect_err("it is refused").to_string();
//! assert!(refused.starts_with("module.wasm is not what the index says: it is "), "{refused}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod index;
mod layout;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use odeum_proto::{Digest, limits::PACKAGE_BYTES};

pub use self::{
    error::ContainerError,
    index::{FileEntry, Index},
};
use super::{
    key::Signature,
    manifest::{Manifest, PackagePath},
};
use layout::{Walk, Writer};

/// Where the index is.
const INDEX: &str = ".odeum/index.json";
/// Where the signatures are.
const SIGNATURES: &str = ".odeum/signatures.json";
/// What no file of a user can lie in.
const RESERVED: &str = ".odeum";

/// Ending of the file of a package.
pub const EXTENSION: &str = "odeum";

/// A package whose every byte was checked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Package(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    file: Bytes,
    digest: Digest,
    index: Index,
    manifest: Manifest,
    signatures: Vec<Signature>,
    places: BTreeMap<PackagePath, Range<usize>>,
}

impl Package {
    /// Whether a file was meant as a package: what it begins with.
    #[must_use]
    pub fn is_meant(file: &[u8]) -> bool {
        file.starts_with(INDEX.as_bytes())
    }

    /// Puts a package together: a manifest, the module that it names, further files. Their order
    /// does not matter.
    ///
    /// # Errors
    /// [`ContainerError`] when they do not fit together.
    pub fn assemble(
        manifest: Bytes,
        files: impl IntoIterator<Item = (PackagePath, Bytes)>,
    ) -> Result<Self, ContainerError> {
        let entry = Manifest::parse(&manifest)?.entry;
        let manifest_path = index::manifest_path()?;
        let mut contents = BTreeMap::from([(manifest_path.clone(), manifest)]);
        for (path, content) in files {
            if contents.insert(path.clone(), content).is_some() {
                return Err(ContainerError::Twice { path });
            }
        }
        let others = contents.keys().filter(|path| **path != manifest_path && **path != entry);
        let order: Vec<PackagePath> =
            [manifest_path.clone(), entry.clone()].into_iter().chain(others.cloned()).collect();
        let file_entry = |path: &PackagePath| {
            let content = contents
                .get(path)
                .ok_or_else(|| ContainerError::NoModule { entry: path.clone() })?;
            Ok::<_, ContainerError>(FileEntry::of(path.clone(), content))
        };
        let index = Index::new(order.iter().map(file_entry).collect::<Result<_, _>>()?);
        Self::write(&index, &[], |path| contents.get(path).cloned())
    }

    /// The package of an index, signatures and contents that came apart, such as from a registry.
    ///
    /// # Errors
    /// [`ContainerError`] when they do not fit together.
    pub fn rejoin(
        index: &[u8],
        signatures: Option<&[u8]>,
        contents: &BTreeMap<PackagePath, Bytes>,
    ) -> Result<Self, ContainerError> {
        let index = Index::parse(index)?;
        let signatures = signatures.map(index::parse_signatures).transpose()?.unwrap_or_default();
        Self::write(&index, &signatures, |path| contents.get(path).cloned())
    }

    fn write(
        index: &Index,
        signatures: &[Signature],
        content: impl Fn(&PackagePath) -> Option<Bytes>,
    ) -> Result<Self, ContainerError> {
        // Before anything is copied: whoever gives the contents may give any amount.
        let sizes = index.files().iter().map(|file| usize::try_from(file.size));
        let got = sizes.fold(0_usize, |sum, size| sum.saturating_add(size.unwrap_or(usize::MAX)));
        if got > PACKAGE_BYTES {
            return Err(ContainerError::TooLarge { got, limit: PACKAGE_BYTES });
        }
        let mut writer = Writer::default();
        writer.file(INDEX, &index.to_bytes()?)?;
        if !signatures.is_empty() {
            writer.file(SIGNATURES, &index::signature_bytes(signatures)?)?;
        }
        for entry in index.files() {
            let missing = || ContainerError::Missing { path: entry.path.clone() };
            writer.file(entry.path.as_str(), &content(&entry.path).ok_or_else(missing)?)?;
        }
        // What is written is read back: there is one set of checks.
        Self::read(writer.finish())
    }

    /// Reads the file of a package.
    ///
    /// # Errors
    /// [`ContainerError`] that says what is wrong with it, and where.
    pub fn read(file: Bytes) -> Result<Self, ContainerError> {
        let (got, limit) = (file.len(), PACKAGE_BYTES);
        if got > limit {
            return Err(ContainerError::TooLarge { got, limit });
        }
        if !Self::is_meant(&file) {
            return Err(ContainerError::NoPackage);
        }
        let mut walk = Walk::new(&file);
        let index_bytes = &file[walk.named(INDEX)?];
        let index = Index::parse(index_bytes)?;
        let digest = Digest::of(index_bytes);
        let signatures = match walk.if_named(SIGNATURES)? {
            Some(place) => index::parse_signatures(&file[place])?,
            None => Vec::new(),
        };
        let mut places = BTreeMap::new();
        for entry in index.files() {
            let place = walk.named(entry.path.as_str())?;
            entry.check(&file[place.clone()])?;
            places.insert(entry.path.clone(), place);
        }
        walk.end()?;
        // The index has it first.
        let manifest = places.get(&index::manifest_path()?).cloned().unwrap_or_default();
        let manifest = Manifest::parse(&file[manifest])?;
        index.check_against(&manifest)?;
        if let Some(wrong) = signatures.iter().find(|signature| !signature.is_of(digest)) {
            return Err(ContainerError::WrongSignature { key: wrong.key().id(), digest });
        }
        Ok(Self(Arc::new(Parts { file, digest, index, manifest, signatures, places })))
    }

    /// The same package with one more signature; one of the same key is replaced.
    ///
    /// # Errors
    /// [`ContainerError`] when it is not one of this package, or there are too many.
    pub fn signed(&self, signature: Signature) -> Result<Self, ContainerError> {
        let others = self.0.signatures.iter().filter(|old| old.key() != signature.key());
        let mut signatures: Vec<Signature> = others.cloned().collect();
        signatures.push(signature);
        signatures.sort_by_key(|signature| signature.key().to_string());
        Self::write(&self.0.index, &signatures, |path| self.content(path))
    }

    /// Its digest, that of its index: what signatures sign. The digest of its file changes with
    /// every signature.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The bytes of its file.
    #[must_use]
    pub fn file(&self) -> &Bytes {
        &self.0.file
    }

    /// What its file is called unless somebody calls it otherwise.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}.{EXTENSION}", self.0.manifest.name, self.0.manifest.version)
    }

    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Which files it has.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.0.index
    }

    /// Who vouches for it. Each signature is one of this package, which says nothing of whether
    /// anybody trusts its key.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.0.signatures
    }

    /// Its signatures as they are in the file, if there are any.
    ///
    /// # Errors
    /// [`ContainerError::Unwritable`], which is a programming error.
    pub fn signature_bytes(&self) -> Result<Option<Vec<u8>>, ContainerError> {
        let are = (!self.0.signatures.is_empty()).then_some(&self.0.signatures);
        are.map(|signatures| index::signature_bytes(signatures)).transpose()
    }

    /// The bytes of one of its files.
    #[must_use]
    pub fn content(&self, path: &PackagePath) -> Option<Bytes> {
        self.0.places.get(path).map(|place| self.0.file.slice(place.clone()))
    }

    /// The bytes of its module.
    #[must_use]
    pub fn module(&self) -> Bytes {
        self.content(&self.0.manifest.entry).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
