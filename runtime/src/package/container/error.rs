//! What can be wrong with the file of a package.

use odeum_proto::Digest;

use crate::package::{
    key::KeyId,
    manifest::{ManifestError, PackagePath, PathError},
};

/// A file that is no package, or not the one that was built. Nothing of it was used: get it again
/// from where it came from, or build it anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// Larger than the bound.
    #[error("the package has {got} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its length.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// It does not begin like one.
    #[error("this is no package: `odeum package build` makes one")]
    NoPackage,
    /// It ends before a file in it does.
    #[error("the package is cut off: {path} ends at byte {end}, the file at byte {length}")]
    CutOff {
        /// The file in it, or its header.
        path: Box<str>,
        /// Where it should end.
        end: u64,
        /// Where the package ends.
        length: usize,
    },
    /// Bytes that can have one value have another.
    #[error("the package is damaged at byte {at}: {what}")]
    Damaged {
        /// The byte, from 0.
        at: usize,
        /// What is there.
        what: &'static str,
    },
    /// A link, a device, an extension of the tar format.
    #[error("{path} is no plain file, and a package has no others")]
    NoFile {
        /// Its name.
        path: Box<str>,
    },
    /// A file has a name that leads elsewhere, or that not every system takes.
    #[error("a file of the package cannot be taken: {0}")]
    Path(#[from] PathError),
    /// A file is there twice.
    #[error("{path} is there twice")]
    Twice {
        /// The file.
        path: PackagePath,
    },
    /// A file lies where the package keeps what it needs itself.
    #[error("{path} cannot be in a package: the folder `.odeum` is the package's own")]
    Reserved {
        /// The file.
        path: PackagePath,
    },
    /// A file is there where another one belongs.
    #[error("{found} is where the index has {expected}")]
    OtherFile {
        /// What is there.
        found: Box<str>,
        /// What belongs there.
        expected: Box<str>,
    },
    /// A file of the index is not there.
    #[error("{path} is in the index and not in the package")]
    Missing {
        /// The file.
        path: PackagePath,
    },
    /// A file has another length than the index says.
    #[error("{path} is not what the index says: it has {is} bytes, the index says {claimed}")]
    Size {
        /// The file.
        path: PackagePath,
        /// Its length.
        is: u64,
        /// That of the index.
        claimed: u64,
    },
    /// A file has another content than the index says.
    #[error("{path} is not what the index says: it is {is}, the index says {claimed}")]
    Tampered {
        /// The file.
        path: PackagePath,
        /// Its digest.
        is: Digest,
        /// That of the index.
        claimed: Digest,
    },
    /// A file that is named after its content has another.
    #[error("the file is {is}, and its name says {claimed}")]
    OtherContent {
        /// Its digest.
        is: Digest,
        /// That of its name.
        claimed: Digest,
    },
    /// The index is none.
    #[error("the index of the package cannot be used: {reason}")]
    Index {
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The module that the manifest names is not there.
    #[error("the manifest names the module {entry}, and there is no such file")]
    NoModule {
        /// The module.
        entry: PackagePath,
    },
    /// A file is there that the manifest does not name.
    #[error("{path} is in the package and not in the manifest: add it to `files`")]
    Unlisted {
        /// The file.
        path: PackagePath,
    },
    /// A file that the manifest names is not there.
    #[error("{path} is among the `files` of the manifest and not in the package")]
    Unfilled {
        /// The file or folder.
        path: PackagePath,
    },
    /// The signatures are none.
    #[error("the signatures of the package cannot be used: {reason}")]
    Signatures {
        /// What is wrong with them.
        reason: Box<str>,
    },
    /// A signature is not one of this package.
    #[error("the signature of key {key} is not one of this package, which is {digest}")]
    WrongSignature {
        /// Whose signature it claims to be.
        key: KeyId,
        /// The package's digest.
        digest: Digest,
    },
    /// Cannot be written: a programming error.
    #[error("the package cannot be written: {reason}")]
    Unwritable {
        /// What the serializer said.
        reason: Box<str>,
    },
}

impl ContainerError {
    /// Whether the file is not what somebody built: it was damaged on its way, or tampered with.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::CutOff { .. }
                | Self::Damaged { .. }
                | Self::OtherFile { .. }
                | Self::Missing { .. }
                | Self::Size { .. }
                | Self::Tampered { .. }
                | Self::OtherContent { .. }
                | Self::WrongSignature { .. }
        )
    }
}
