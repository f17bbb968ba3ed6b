//! The index of a package and its signatures, as JSON with one way to write each.

use odeum_proto::{
    Digest,
    limits::{MANIFEST_BYTES, PACKAGE_FILES, PACKAGE_INDEX_BYTES, PACKAGE_SIGNATURES},
};
use serde::{Deserialize, Serialize};

use super::{ContainerError, RESERVED};
use crate::{
    api::types::text,
    package::{
        key::Signature,
        manifest::{FILE as MANIFEST, Manifest, PackagePath},
    },
};

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path.
    pub path: PackagePath,
    /// Its length in bytes.
    pub size: u64,
    /// Its content.
    #[serde(with = "text")]
    pub blake3: Digest,
}

impl FileEntry {
    pub(super) fn of(path: PackagePath, content: &[u8]) -> Self {
        Self { path, size: content.len() as u64, blake3: Digest::of(content) }
    }

    pub(super) fn check(&self, content: &[u8]) -> Result<(), ContainerError> {
        let (path, is, claimed) = (self.path.clone(), content.len() as u64, self.size);
        if is != claimed {
            return Err(ContainerError::Size { path, is, claimed });
        }
        match (Digest::of(content), self.blake3) {
            (is, claimed) if is == claimed => Ok(()),
            (is, claimed) => Err(ContainerError::Tampered { path, is, claimed }),
        }
    }
}

/// All files of a package: the manifest, the module, the others by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    format: u32,
    files: Vec<FileEntry>,
}

impl Index {
    pub(super) fn new(files: Vec<FileEntry>) -> Self {
        Self { format: FORMAT, files }
    }

    /// The files, in their order in the package.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Its bytes. Equal indices have the same ones.
    ///
    /// # Errors
    /// [`ContainerError::Unwritable`], which is a programming error.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ContainerError> {
        serde_json::to_vec(self).map_err(|error| unwritable(&error))
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ContainerError> {
        let bad = |reason: String| ContainerError::Index { reason: reason.into() };
        if bytes.len() > PACKAGE_INDEX_BYTES {
            let got = bytes.len();
            return Err(bad(format!("it has {got} bytes, at most {PACKAGE_INDEX_BYTES} are")));
        }
        let index: Self = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        if index.format != FORMAT {
            let format = index.format;
            return Err(bad(format!("it is of format {format}, and this odeum reads {FORMAT}")));
        }
        if index.to_bytes()? != bytes {
            return Err(bad("it is not written as an index is".to_owned()));
        }
        if index.files.len() > PACKAGE_FILES {
            let got = index.files.len();
            return Err(bad(format!("it has {got} files, at most {PACKAGE_FILES} are allowed")));
        }
        index.check_paths()?;
        Ok(index)
    }

    fn check_paths(&self) -> Result<(), ContainerError> {
        let bad = |reason: &str| ContainerError::Index { reason: reason.into() };
        let [manifest, module, others @ ..] = &self.files[..] else {
            return Err(bad("a manifest and a module are the least"));
        };
        if manifest.path.as_str() != MANIFEST || manifest.size > MANIFEST_BYTES as u64 {
            return Err(bad("a small odeum.toml must be first"));
        }
        if !others.is_sorted_by_key(|entry| &entry.path) {
            return Err(bad("the files are not in their order"));
        }
        let mut paths: Vec<&PackagePath> = self.files.iter().map(|entry| &entry.path).collect();
        // By parts, so that a folder comes right before what is in it.
        paths.sort_by(|a, b| a.as_str().split('/').cmp(b.as_str().split('/')));
        for pair in paths.windows(2) {
            let [first, second] = pair else { continue };
            if first == second {
                return Err(ContainerError::Twice { path: (*second).clone() });
            }
            if is_within(second, first) {
                return Err(bad("a file and a folder have one name"));
            }
        }
        let first_part = |path: &PackagePath| path.as_str().split('/').next() == Some(RESERVED);
        if let Some(path) = paths.into_iter().find(|path| first_part(path)) {
            return Err(ContainerError::Reserved { path: path.clone() });
        }
        if module.size == 0 {
            return Err(bad("the module is empty"));
        }
        Ok(())
    }

    /// Whether it has what the manifest names, and nothing else.
    pub(super) fn check_against(&self, manifest: &Manifest) -> Result<(), ContainerError> {
        let Manifest { entry, files, .. } = manifest;
        if self.files.get(1).is_none_or(|module| module.path != *entry) {
            return Err(ContainerError::NoModule { entry: entry.clone() });
        }
        let others = self.files.get(2..).unwrap_or_default();
        let unlisted =
            others.iter().find(|file| !files.iter().any(|named| is_within(&file.path, named)));
        if let Some(file) = unlisted {
            return Err(ContainerError::Unlisted { path: file.path.clone() });
        }
        let is_there =
            |named: &PackagePath| self.files.iter().any(|file| is_within(&file.path, named));
        match files.iter().find(|named| !is_there(named)) {
            Some(path) => Err(ContainerError::Unfilled { path: path.clone() }),
            None => Ok(()),
        }
    }
}

/// Whether `path` is `folder` or lies in it.
fn is_within(path: &PackagePath, folder: &PackagePath) -> bool {
    let rest = path.as_str().strip_prefix(folder.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where the manifest is.
pub(super) fn manifest_path() -> Result<PackagePath, ContainerError> {
    Ok(MANIFEST.parse()?)
}

/// The bytes of signatures, which are sorted by key.
pub(super) fn signature_bytes(signatures: &[Signature]) -> Result<Vec<u8>, ContainerError> {
    serde_json::to_vec(signatures).map_err(|error| unwritable(&error))
}

pub(super) fn parse_signatures(bytes: &[u8]) -> Result<Vec<Signature>, ContainerError> {
    let bad = |reason: String| ContainerError::Signatures { reason: reason.into() };
    // A signature has some 180 bytes.
    if bytes.len() > PACKAGE_SIGNATURES * 256 {
        return Err(bad(format!("they have {} bytes", bytes.len())));
    }
    let signatures: Vec<Signature> =
        serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let got = signatures.len();
    if got == 0 || got > PACKAGE_SIGNATURES {
        return Err(bad(format!("there are {got}, 1 to {PACKAGE_SIGNATURES} are allowed")));
    }
    let keys: Vec<String> = signatures.iter().map(|one| one.key().to_string()).collect();
    if signature_bytes(&signatures)? != bytes || !keys.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(bad("they are not written as signatures are".to_owned()));
    }
    Ok(signatures)
}

fn unwritable(error: &serde_json::Error) -> ContainerError {
    ContainerError::Unwritable { reason: error.to_string().into() }
}
