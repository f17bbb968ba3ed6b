//! What is wrong with a value, or with the definition of a variable.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ValueType;
use super::value::{Value, ValueFault};

/// A constraint by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// The least number.
    Min,
    /// The greatest number.
    Max,
    /// The least length.
    MinLength,
    /// The greatest length.
    MaxLength,
    /// A regular expression.
    Pattern,
    /// A list of values.
    Enum,
    /// The length of an embedding, the axes of a tensor.
    Dimensions,
    /// The length of each axis of a tensor.
    Shape,
}

impl Rule {
    /// Its name outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Max => "max",
            Self::MinLength => "min_length",
            Self::MaxLength => "max_length",
            Self::Pattern => "pattern",
            Self::Enum => "enum",
            Self::Dimensions => "dimensions",
            Self::Shape => "shape",
        }
    }

    /// The types it can constrain.
    #[must_use]
    pub const fn kinds(self) -> &'static [ValueType] {
        use ValueType::{
            Bytes, Choice, Embedding, Float, Integer, Json, Module, String as Text, Tensor,
        };
        match self {
            Self::Min | Self::Max => &[Integer, Float],
            Self::MinLength | Self::MaxLength => &[Text, Choice, Module, Json, Bytes],
            Self::Pattern => &[Text, Choice, Module],
            Self::Enum => &[Choice, Text, Module, Integer],
            Self::Dimensions => &[Embedding, Tensor],
            Self::Shape => &[Tensor],
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a length counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LengthUnit {
    /// Unicode characters.
    Characters,
    /// Bytes.
    Bytes,
}

impl fmt::Display for LengthUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Characters => "characters",
            Self::Bytes => "bytes",
        })
    }
}

/// A value that its variable does not allow. Large values are named by their size, long texts by
/// their beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Violation {
    /// Less than the least.
    #[error("{got} is below min {min}")]
    Below {
        /// The value.
        got: Value,
        /// The bound.
        min: Value,
    },
    /// More than the greatest.
    #[error("{got} is above max {max}")]
    Above {
        /// The value.
        got: Value,
        /// The bound.
        max: Value,
    },
    /// Shorter than the least length.
    #[error("{got} {unit} are below min_length {min}")]
    TooShort {
        /// The length.
        got: u64,
        /// What it counts.
        unit: LengthUnit,
        /// The bound.
        min: u64,
    },
    /// Longer than the greatest length.
    #[error("{got} {unit} are above max_length {max}")]
    TooLong {
        /// The length.
        got: u64,
        /// What it counts.
        unit: LengthUnit,
        /// The bound.
        max: u64,
    },
    /// The pattern matches nowhere.
    #[error("{got} does not match pattern {pattern}")]
    NoMatch {
        /// The value.
        got: Box<str>,
        /// The pattern.
        pattern: Box<str>,
    },
    /// Not among the listed values.
    #[error("{got} is not in enum [{allowed}]")]
    NotAllowed {
        /// The value.
        got: Box<str>,
        /// The listed values, as far as there is room.
        allowed: Box<str>,
    },
    /// Another length of an embedding, another number of axes of a tensor.
    #[error("{got} dimensions where dimensions is {dimensions}")]
    Dimensions {
        /// How many there are.
        got: u64,
        /// How many there must be.
        dimensions: u64,
    },
    /// Another shape of a tensor.
    #[error("shape {got:?} does not fit shape {}", shape_text(.shape))]
    Shape {
        /// The value's.
        got: Vec<u64>,
        /// The constraint.
        shape: Vec<Option<u64>>,
    },
}

fn shape_text(shape: &[Option<u64>]) -> String {
    let axes = shape.iter().map(|axis| axis.map_or_else(|| "*".to_owned(), |n| n.to_string()));
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}

fn names(kinds: &[ValueType]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

/// A definition that no variable can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DefinitionFault {
    /// The constraint means nothing for the type.
    #[error("{rule} cannot constrain a {kind}: it is for {}", names(.rule.kinds()))]
    NotFor {
        /// The constraint.
        rule: Rule,
        /// The variable's type.
        kind: ValueType,
    },
    /// The constraint's value is of another type than the variable.
    #[error("{rule} of a {kind} must be a {kind} and is a {got}")]
    OtherType {
        /// The constraint.
        rule: Rule,
        /// The variable's type.
        kind: ValueType,
        /// The constraint's.
        got: ValueType,
    },
    /// The constraint's value is none.
    #[error("{rule}: {fault}")]
    Value {
        /// The constraint.
        rule: Rule,
        /// What is wrong.
        fault: ValueFault,
    },
    /// No value can satisfy both.
    #[error("{low} {min} is above {high} {max}")]
    Contradiction {
        /// The lower bound.
        low: Rule,
        /// The upper bound.
        high: Rule,
        /// Its value.
        min: Box<str>,
        /// Its value.
        max: Box<str>,
    },
    /// The constraint lists too much.
    #[error("{rule} has {got} items where at most {limit} are allowed")]
    TooMany {
        /// The constraint.
        rule: Rule,
        /// How many there are.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// A part of the constraint is too large.
    #[error("{rule} has {got} bytes where at most {limit} are allowed")]
    TooLarge {
        /// The constraint.
        rule: Rule,
        /// How many bytes there are.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// The pattern is no regular expression, or one that becomes too large.
    #[error("pattern {pattern} cannot be used: {reason}")]
    Pattern {
        /// The pattern.
        pattern: Box<str>,
        /// What the compiler says.
        reason: Box<str>,
    },
    /// More earlier values than are kept.
    #[error("a history of {got} values where at most {limit} are kept")]
    History {
        /// How many were asked for.
        got: u8,
        /// The bound.
        limit: u8,
    },
}
