//! Paths in a package, in a guest and on a node. None of them leads out of where it begins.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use odeum_proto::limits::PACKAGE_PATH_BYTES;
use serde::{Deserialize, Serialize};

/// A path that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Longer than the bound.
    #[error("the path has {got} bytes, at most {limit} are allowed")]
    TooLong {
        /// Its length.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// Begins at the root and must not.
    #[error("the path {path:?} is absolute: name a file beside the manifest")]
    Absolute {
        /// The path.
        path: Box<str>,
    },
    /// Does not begin at the root and must.
    #[error("the path {path:?} is not absolute: begin it with `/`")]
    Relative {
        /// The path.
        path: Box<str>,
    },
    /// Leads elsewhere than it seems.
    #[error("the path {path:?} has {part:?} in it, which is no name of a file or folder")]
    Part {
        /// The path.
        path: Box<str>,
        /// The part at fault.
        part: Box<str>,
    },
    /// A character that not every system takes.
    #[error("the path {path:?} has {character:?} in it, which not every system takes")]
    Character {
        /// The path.
        path: Box<str>,
        /// The first at fault.
        character: char,
    },
}

/// Longest path in a guest or on a node, in bytes: what Linux takes.
const LONGEST: usize = 4_095;

fn check_parts(path: &str, relative: &str) -> Result<(), PathError> {
    // A backslash separates on Windows, a colon names a drive or a stream there.
    if let Some(character) = path.chars().find(|c| c.is_control() || matches!(c, '\\' | ':')) {
        return Err(PathError::Character { path: path.into(), character });
    }
    match relative.split('/').find(|part| matches!(*part, "" | "." | "..")) {
        Some(part) => Err(PathError::Part { path: path.into(), part: part.into() }),
        None => Ok(()),
    }
}

fn check_length(path: &str, limit: usize) -> Result<(), PathError> {
    let got = path.len();
    if got > limit { Err(PathError::TooLong { got, limit }) } else { Ok(()) }
}

fn check_absolute(path: &str) -> Result<(), PathError> {
    check_length(path, LONGEST)?;
    match path.strip_prefix('/') {
        // The root itself has no parts.
        Some("") => Ok(()),
        Some(relative) => check_parts(path, relative),
        None => Err(PathError::Relative { path: path.into() }),
    }
}

fn check_relative(path: &str) -> Result<(), PathError> {
    check_length(path, PACKAGE_PATH_BYTES)?;
    if path.starts_with('/') {
        return Err(PathError::Absolute { path: path.into() });
    }
    check_parts(path, path)
}

macro_rules! path {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The path as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = PathError;
            fn from_str(text: &str) -> Result<Self, PathError> {
                let check: fn(&str) -> Result<(), PathError> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = PathError;
            fn try_from(text: String) -> Result<Self, PathError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(path: $name) -> Self {
                path.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

path! {
    /// A file or folder of a package, such as `assets/logo.png`: relative, without `.` and `..`.
    PackagePath, check_relative
}

path! {
    /// Where a guest sees something, such as `/data`: absolute, without `.` and `..`.
    GuestPath, check_absolute
}

path! {
    /// Something on a node, such as `/srv/data`: absolute, without `.` and `..`.
    HostPath, check_absolute
}

impl PackagePath {
    /// The module of a package that names no other.
    #[must_use]
    pub fn module() -> Self {
        Self("module.wasm".into())
    }

    /// Where it is when the package is the folder at `root`.
    #[must_use]
    pub fn within(&self, root: &Path) -> PathBuf {
        self.0.split('/').fold(root.to_owned(), |path, part| path.join(part))
    }
}

impl HostPath {
    /// Whether it is `folder` or lies in it, as it is written: links are not followed.
    #[must_use]
    pub fn is_within(&self, folder: &Self) -> bool {
        Path::new(self.as_str()).starts_with(folder.as_str())
    }
}
