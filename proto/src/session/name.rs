//! Names inside a session: of variables, programs and entries of metadata.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The name of a variable. One of up to 24 bytes has no memory of its own, so that maps by name find it
/// where they look and no write allocates for it.
pub type Key = compact_str::CompactString;

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// A variable.
    Variable,
    /// A program.
    Program,
    /// An entry of metadata.
    Metadata,
    /// The language of a program.
    Language,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => "variable",
            Self::Program => "program",
            Self::Metadata => "entry of metadata",
            Self::Language => "language",
        })
    }
}

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NameFault {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// More bytes than [`limits::KEY_BYTES`].
    #[error("it has {got} bytes where at most {} are allowed", limits::KEY_BYTES)]
    TooLong {
        /// How many it has.
        got: u64,
    },
    /// A control character, which would disturb whoever prints it.
    #[error("{character:?} cannot be in it")]
    Control {
        /// The first one.
        character: char,
    },
}

impl Part {
    /// Whether `text` can name such a thing: any text of 1 to [`limits::KEY_BYTES`] bytes without
    /// control characters.
    ///
    /// # Errors
    /// [`NameFault`] says why not.
    pub fn check(self, text: &str) -> Result<(), NameFault> {
        match text.len() {
            0 => return Err(NameFault::Empty),
            got if got > limits::KEY_BYTES => return Err(NameFault::TooLong { got: got as u64 }),
            _ => {}
        }
        match text.chars().find(|c| c.is_control()) {
            Some(character) => Err(NameFault::Control { character }),
            None => Ok(()),
        }
    }
}
