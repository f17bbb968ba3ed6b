//! What can be wrong with settings, and where a setting came from.

use std::{fmt, path::PathBuf};

/// Settings that cannot be used. Each names the place to correct.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file cannot be read.
    #[error("cannot read the configuration {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        reason: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{at}: {reason}")]
    Syntax {
        /// Where the parser stopped.
        at: Origin,
        /// What it expected.
        reason: Box<str>,
    },
    /// No setting has that name.
    #[error("{at}: there is no setting `{key}`; the nearest is `{nearest}`")]
    UnknownKey {
        /// The key as `section.key`.
        key: Box<str>,
        /// Where it stands.
        at: Origin,
        /// The known key that looks most like it.
        nearest: Box<str>,
    },
    /// No section has that name.
    #[error("{at}: there is no section [{section}]; the nearest is [{nearest}]")]
    UnknownSection {
        /// The name.
        section: Box<str>,
        /// Where it stands.
        at: Origin,
        /// The section that looks most like it.
        nearest: Box<str>,
    },
    /// A setting cannot have that value.
    #[error("{at}: `{key}`: {reason}")]
    BadValue {
        /// The key as `section.key`.
        key: Box<str>,
        /// Where the value stands.
        at: Origin,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// There cannot be a file of that profile.
    #[error("there is no profile `{profile}`: {reason}")]
    Profile {
        /// The profile.
        profile: Box<str>,
        /// Why not.
        reason: &'static str,
    },
    /// Each value fits, but something is missing that has no default.
    #[error("the configuration is not complete: {reason}")]
    Incomplete {
        /// What is missing.
        reason: Box<str>,
    },
    /// The settings themselves cannot be laid out as sections and keys: a programming error.
    #[error("the settings have no keys: {reason}")]
    Schema {
        /// What the serializer said.
        reason: Box<str>,
    },
}

impl ConfigError {
    /// Whether the user wrote something wrong, as opposed to a file that cannot be read.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Unreadable { .. } | Self::Schema { .. })
    }
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file. Line and column count from 1, the column in characters.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        name: Box<str>,
    },
    /// The program was told so, such as on its command line.
    Flag {
        /// The flag, such as `--data-dir`.
        name: Box<str>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment { name } => write!(f, "environment {name}"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}
