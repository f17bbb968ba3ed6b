//! The types of variables.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::IdError;

/// The type of a variable. It never changes: a variable of another type is another variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ValueType {
    /// A finite 64-bit floating-point number.
    Float,
    /// A signed 64-bit integer.
    Integer,
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// One of a few texts; which ones is a constraint.
    Choice,
    /// The name of a program or module.
    Module,
    /// A vector of 32-bit numbers.
    Embedding,
    /// An array of 64-bit numbers with a shape.
    Tensor,
    /// A JSON text.
    Json,
    /// Bytes.
    Bytes,
}

impl ValueType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Float,
        Self::Integer,
        Self::String,
        Self::Boolean,
        Self::Choice,
        Self::Module,
        Self::Embedding,
        Self::Tensor,
        Self::Json,
        Self::Bytes,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Integer => "integer",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Choice => "choice",
            Self::Module => "module",
            Self::Embedding => "embedding",
            Self::Tensor => "tensor",
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ValueType {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| IdError::Form {
            what: "type",
            given: text.into(),
            form: "one of float, integer, string, boolean, choice, module, embedding, tensor, \
                   json, bytes",
        })
    }
}
