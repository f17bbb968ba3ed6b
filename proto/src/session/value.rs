//! Values of variables.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ValueType, json};
use crate::limits;

/// An array of numbers, the last axis running fastest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tensor {
    /// The length of each axis; none for a single number.
    pub shape: Vec<u64>,
    /// The elements.
    pub data: Vec<f64>,
}

/// A value of a variable. Cheap to clone: what is large is shared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Value {
    /// See [`ValueType::Float`].
    Float(f64),
    /// See [`ValueType::Integer`].
    Integer(i64),
    /// See [`ValueType::String`].
    String(Arc<str>),
    /// See [`ValueType::Boolean`].
    Boolean(bool),
    /// See [`ValueType::Choice`].
    Choice(Arc<str>),
    /// See [`ValueType::Module`].
    Module(Arc<str>),
    /// See [`ValueType::Embedding`].
    Embedding(Arc<[f32]>),
    /// See [`ValueType::Tensor`].
    Tensor(Arc<Tensor>),
    /// See [`ValueType::Json`].
    Json(Arc<str>),
    /// See [`ValueType::Bytes`].
    Bytes(#[serde(with = "crate::codec::shared_bytes")] Arc<[u8]>),
}

/// Why something is no value at all, whatever its variable allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ValueFault {
    /// NaN or an infinity, which no text form of numbers has.
    #[error("numbers must be finite; element {at} is not")]
    NotFinite {
        /// Which element, from 0.
        at: u64,
    },
    /// The shape of a tensor and the number of its elements differ.
    #[error("a tensor of shape {shape:?} has {wanted} elements, not {got}")]
    Shape {
        /// The shape.
        shape: Vec<u64>,
        /// How many elements such a tensor has; the largest number when that is beyond counting.
        wanted: u64,
        /// How many there are.
        got: u64,
    },
    /// A tensor with more axes than [`limits::TENSOR_AXES`].
    #[error("a tensor has at most {} axes, not {got}", limits::TENSOR_AXES)]
    Axes {
        /// How many it has.
        got: u64,
    },
    /// The text is not JSON.
    #[error("not JSON: the text is at fault in line {line}, column {column}")]
    Json {
        /// The line, from 1.
        line: u64,
        /// The column, from 1; 0 when the fault is at the line's end.
        column: u64,
    },
}

impl Value {
    /// A value of type string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// A value of type bytes.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> ValueType {
        match self {
            Self::Float(_) => ValueType::Float,
            Self::Integer(_) => ValueType::Integer,
            Self::String(_) => ValueType::String,
            Self::Boolean(_) => ValueType::Boolean,
            Self::Choice(_) => ValueType::Choice,
            Self::Module(_) => ValueType::Module,
            Self::Embedding(_) => ValueType::Embedding,
            Self::Tensor(_) => ValueType::Tensor,
            Self::Json(_) => ValueType::Json,
            Self::Bytes(_) => ValueType::Bytes,
        }
    }

    /// How many bytes it has; what counts against [`super::Quotas::variable_bytes`].
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Float(_) | Self::Integer(_) => 8,
            Self::Boolean(_) => 1,
            Self::String(text) | Self::Choice(text) | Self::Module(text) | Self::Json(text) => {
                text.len()
            }
            Self::Embedding(elements) => elements.len() * 4,
            Self::Tensor(tensor) => (tensor.shape.len() + tensor.data.len()) * 8,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether it can be a value of its type. Constraints are another matter.
    ///
    /// # Errors
    /// [`ValueFault`] says what is wrong with it.
    pub fn check(&self) -> Result<(), ValueFault> {
        let not_finite = |at: usize| ValueFault::NotFinite { at: at as u64 };
        match self {
            Self::Float(number) if !number.is_finite() => Err(not_finite(0)),
            Self::Embedding(elements) => elements
                .iter()
                .position(|x| !x.is_finite())
                .map_or(Ok(()), |at| Err(not_finite(at))),
            Self::Tensor(tensor) => {
                tensor.check_shape()?;
                let fault = tensor.data.iter().position(|x| !x.is_finite());
                fault.map_or(Ok(()), |at| Err(not_finite(at)))
            }
            Self::Json(text) => json::check(text),
            _ => Ok(()),
        }
    }

    /// The value of type `kind` whose [plain](Self::plain) form is `bytes`, if there is one.
    #[must_use]
    pub fn from_plain(kind: ValueType, bytes: &[u8]) -> Option<Self> {
        let value = match kind {
            ValueType::Bytes => Self::bytes(bytes),
            ValueType::String => Self::String(std::str::from_utf8(bytes).ok()?.into()),
            ValueType::Choice => Self::Choice(std::str::from_utf8(bytes).ok()?.into()),
            ValueType::Module => Self::Module(std::str::from_utf8(bytes).ok()?.into()),
            ValueType::Json => Self::Json(std::str::from_utf8(bytes).ok()?.into()),
            kind => Self::from_json(kind, &serde_json::from_slice(bytes).ok()?).ok()?,
        };
        value.check().is_ok().then_some(value)
    }

    /// How a program sees the value that reads and writes bytes and knows no types: bytes as they
    /// are, texts in UTF-8, everything else as JSON.
    #[must_use]
    pub fn plain(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::String(text) | Self::Choice(text) | Self::Module(text) | Self::Json(text) => {
                text.as_bytes().to_vec()
            }
            other => other.to_json().to_string().into_bytes(),
        }
    }

    /// Whether a reader takes the two for the same: as `==`, but 0.0 is -0.0.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Embedding(a), Self::Embedding(b)) => a == b,
            (Self::Tensor(a), Self::Tensor(b)) => a.shape == b.shape && a.data == b.data,
            _ => self == other,
        }
    }
}

impl Tensor {
    fn check_shape(&self) -> Result<(), ValueFault> {
        if self.shape.len() > limits::TENSOR_AXES {
            return Err(ValueFault::Axes { got: self.shape.len() as u64 });
        }
        let product = self.shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n));
        let (wanted, got) = (product.unwrap_or(u64::MAX), self.data.len() as u64);
        if product == Some(got) {
            return Ok(());
        }
        Err(ValueFault::Shape { shape: self.shape.clone(), wanted, got })
    }
}

/// By bits, so that replicas can be compared whatever is in them.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape
            && self.data.len() == other.data.len()
            && self.data.iter().zip(&other.data).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl Eq for Tensor {}

/// By bits, so that replicas can be compared whatever is in them. [`Value::equals`] compares as a
/// reader does.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::String(a), Self::String(b))
            | (Self::Choice(a), Self::Choice(b))
            | (Self::Module(a), Self::Module(b))
            | (Self::Json(a), Self::Json(b)) => a == b,
            (Self::Embedding(a), Self::Embedding(b)) => {
                a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| a.to_bits() == b.to_bits())
            }
            (Self::Tensor(a), Self::Tensor(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// Most characters of a text that a message repeats.
const SHOWN: usize = 64;

/// For messages: texts in quotes and cut, what is large by its size.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(number) => number.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(whether) => whether.fmt(f),
            Self::String(text) | Self::Choice(text) | Self::Module(text) => quoted(f, text),
            Self::Json(text) => f.write_str(&shown(text)),
            Self::Embedding(elements) => write!(f, "an embedding of {}", elements.len()),
            Self::Tensor(tensor) => write!(f, "a tensor of shape {:?}", tensor.shape),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "{:?}", shown(text))
}

/// `text` as far as a message repeats it.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
