//! What is done inside a session.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Constraints, Key, LENGTH, Metadata, Value, ValueType, metadata_weight};

/// One thing to do in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Makes a variable. One that is there with the same definition stays as it is.
    Register {
        /// Its name.
        key: Key,
        /// What it may be.
        definition: Box<Definition>,
        /// Its first value.
        initial: Value,
        /// Whether another definition of the same type takes the place of the present one, if the
        /// present value satisfies it. The value stays.
        replace: bool,
    },
    /// Writes a variable.
    Set {
        /// Its name.
        key: Key,
        /// Its new value.
        value: Value,
        /// The version it must have: 0 when it must not be there.
        expected: Option<u64>,
        /// Whether a variable that is not there is made, with the value's type and without
        /// constraints.
        register: bool,
    },
    /// Removes a variable; removing what is not there is no error.
    Delete {
        /// Its name.
        key: Key,
        /// The version it must have: 0 when it must not be there.
        expected: Option<u64>,
    },
    /// Sets an entry of the session's metadata, or removes it.
    Note {
        /// The entry.
        key: Box<str>,
        /// What it says; `None` removes it.
        value: Option<Box<str>>,
    },
    /// Stores a program.
    PutProgram {
        /// Its name.
        name: Box<str>,
        /// The program.
        program: Arc<Program>,
    },
    /// Removes a program; removing what is not there is no error.
    DeleteProgram {
        /// Its name.
        name: Box<str>,
    },
}

/// What a variable may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its type.
    pub kind: ValueType,
    /// What it allows beyond its type.
    pub constraints: Constraints,
    /// How many earlier values are kept, at most [`crate::limits::HISTORY_DEPTH`].
    pub history: u8,
    /// What its owner says of it.
    pub metadata: Metadata,
}

impl Definition {
    /// A type alone.
    #[must_use]
    pub fn untyped(kind: ValueType) -> Self {
        Self { kind, constraints: Constraints::default(), history: 0, metadata: Metadata::new() }
    }

    /// What it counts against quotas, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.constraints.weight() + metadata_weight(&self.metadata)
    }
}

/// A program that a session keeps for whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The language it is written in, in its users' words.
    pub language: Box<str>,
    /// Its text or code.
    #[serde(with = "crate::codec::shared_bytes")]
    pub content: Arc<[u8]>,
    /// What its owner says of it.
    pub metadata: Metadata,
}

impl Program {
    /// What it counts against quotas, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.language.len() + self.content.len() + metadata_weight(&self.metadata) + 3 * LENGTH
    }
}

impl Operation {
    /// How many bytes it has.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Tags, numbers and lengths.
        const SMALL: usize = 24;
        let contents = match self {
            Self::Register { key, definition, initial, .. } => {
                key.len() + definition.weight() + initial.weight()
            }
            Self::Set { key, value, .. } => key.len() + value.weight(),
            Self::Delete { key, .. } => key.len(),
            Self::Note { key, value } => key.len() + value.as_ref().map_or(0, |text| text.len()),
            Self::PutProgram { name, program } => name.len() + program.weight(),
            Self::DeleteProgram { name } => name.len(),
        };
        SMALL + contents
    }
}

impl fmt::Display for Operation {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { key, definition, .. } => {
                write!(f, "register {} {key}", definition.kind)
            }
            Self::Set { key, .. } => write!(f, "set {key}"),
            Self::Delete { key, .. } => write!(f, "delete {key}"),
            Self::Note { key, .. } => write!(f, "note {key}"),
            Self::PutProgram { name, .. } => write!(f, "put program {name}"),
            Self::DeleteProgram { name } => write!(f, "delete program {name}"),
        }
    }
}
