//! What a variable allows beyond its type.

use serde::{Deserialize, Serialize};

use super::ValueType;
use super::pattern::Patterns;
use super::value::{Value, shown};
use super::violation::{DefinitionFault, LengthUnit, Rule, Violation};
use crate::limits;

/// Constraints of one variable. Those that make no sense for its type are refused when it is
/// registered, so that none is ever silently without effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    /// The least number; of the variable's type. For integer, float.
    pub min: Option<Value>,
    /// The greatest number; of the variable's type. For integer, float.
    pub max: Option<Value>,
    /// The least length: characters of a string, choice or module, bytes of bytes or a JSON text.
    pub min_length: Option<u64>,
    /// The greatest length, as `min_length`.
    pub max_length: Option<u64>,
    /// A regular expression that matches somewhere in the text; `^` and `$` make it match all of
    /// it. For string, choice, module.
    pub pattern: Option<Box<str>>,
    /// The values that are allowed, of the variable's type; empty for no such constraint. For
    /// choice, string, module, integer. Called `enum` outside.
    pub allowed: Vec<Value>,
    /// The length of an embedding; how many axes a tensor has.
    pub dimensions: Option<u64>,
    /// The length of each axis of a tensor; `None` for any length.
    pub shape: Option<Vec<Option<u64>>>,
}

impl Constraints {
    /// Whether they allow everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What they count against quotas, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let value = |value: &Option<Value>| value.as_ref().map_or(1, |value| value.weight() + 3);
        value(&self.min)
            + value(&self.max)
            + 40
            + self.pattern.as_ref().map_or(0, |pattern| pattern.len())
            + self.allowed.iter().map(|value| value.weight() + 4).sum::<usize>()
            + self.shape.as_ref().map_or(0, |shape| shape.len() * 10)
    }

    /// Whether a variable of type `kind` can have them.
    ///
    /// # Errors
    /// [`DefinitionFault`] names the constraint and the type.
    pub fn check_definition(
        &self,
        kind: ValueType,
        patterns: &mut Patterns,
    ) -> Result<(), DefinitionFault> {
        for (rule, there) in self.present() {
            if there && !rule.kinds().contains(&kind) {
                return Err(DefinitionFault::NotFor { rule, kind });
            }
        }
        self.check_bounds(kind)?;
        self.check_allowed(kind)?;
        if let Some(shape) = &self.shape {
            let (got, limit) = (shape.len() as u64, limits::TENSOR_AXES as u64);
            if got > limit {
                return Err(DefinitionFault::TooMany { rule: Rule::Shape, got, limit });
            }
        }
        match &self.pattern {
            Some(pattern) => patterns.get(pattern).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether they allow `value`, which is of the variable's type.
    ///
    /// # Errors
    /// [`Violation`] names the first constraint that does not, and both values.
    pub fn check(&self, value: &Value, patterns: &mut Patterns) -> Result<(), Violation> {
        if self.is_empty() {
            return Ok(());
        }
        self.check_range(value)?;
        self.check_length(value)?;
        self.check_text(value, patterns)?;
        if !self.allowed.is_empty() && !self.allowed.iter().any(|allowed| allowed.equals(value)) {
            let allowed = self.allowed.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
            let allowed = shown(&allowed).into();
            return Err(Violation::NotAllowed { got: value.to_string().into(), allowed });
        }
        self.check_extent(value)
    }

    fn present(&self) -> [(Rule, bool); 8] {
        [
            (Rule::Min, self.min.is_some()),
            (Rule::Max, self.max.is_some()),
            (Rule::MinLength, self.min_length.is_some()),
            (Rule::MaxLength, self.max_length.is_some()),
            (Rule::Pattern, self.pattern.is_some()),
            (Rule::Enum, !self.allowed.is_empty()),
            (Rule::Dimensions, self.dimensions.is_some()),
            (Rule::Shape, self.shape.is_some()),
        ]
    }

    fn check_bounds(&self, kind: ValueType) -> Result<(), DefinitionFault> {
        for (rule, bound) in [(Rule::Min, &self.min), (Rule::Max, &self.max)] {
            if let Some(bound) = bound {
                of_kind(rule, kind, bound)?;
            }
        }
        let contradiction = |low, high, min: String, max: String| {
            Err(DefinitionFault::Contradiction { low, high, min: min.into(), max: max.into() })
        };
        if let (Some(min), Some(max)) = (&self.min, &self.max)
            && below(max, min)
        {
            return contradiction(Rule::Min, Rule::Max, min.to_string(), max.to_string());
        }
        if let (Some(min), Some(max)) = (self.min_length, self.max_length)
            && max < min
        {
            let (min, max) = (min.to_string(), max.to_string());
            return contradiction(Rule::MinLength, Rule::MaxLength, min, max);
        }
        Ok(())
    }

    fn check_allowed(&self, kind: ValueType) -> Result<(), DefinitionFault> {
        let (got, limit) = (self.allowed.len() as u64, limits::ALLOWED_VALUES as u64);
        if got > limit {
            return Err(DefinitionFault::TooMany { rule: Rule::Enum, got, limit });
        }
        for value in &self.allowed {
            of_kind(Rule::Enum, kind, value)?;
            let (got, limit) = (value.weight() as u64, limits::METADATA_BYTES as u64);
            if got > limit {
                return Err(DefinitionFault::TooLarge { rule: Rule::Enum, got, limit });
            }
        }
        Ok(())
    }

    fn check_range(&self, value: &Value) -> Result<(), Violation> {
        if let Some(min) = &self.min
            && below(value, min)
        {
            return Err(Violation::Below { got: value.clone(), min: min.clone() });
        }
        if let Some(max) = &self.max
            && below(max, value)
        {
            return Err(Violation::Above { got: value.clone(), max: max.clone() });
        }
        Ok(())
    }

    fn check_length(&self, value: &Value) -> Result<(), Violation> {
        if self.min_length.is_none() && self.max_length.is_none() {
            return Ok(());
        }
        let (got, unit) = match value {
            Value::String(text) | Value::Choice(text) | Value::Module(text) => {
                (text.chars().count() as u64, LengthUnit::Characters)
            }
            value => (value.weight() as u64, LengthUnit::Bytes),
        };
        match (self.min_length, self.max_length) {
            (Some(min), _) if got < min => Err(Violation::TooShort { got, unit, min }),
            (_, Some(max)) if got > max => Err(Violation::TooLong { got, unit, max }),
            _ => Ok(()),
        }
    }

    fn check_text(&self, value: &Value, patterns: &mut Patterns) -> Result<(), Violation> {
        let Some(pattern) = &self.pattern else { return Ok(()) };
        let (Value::String(text) | Value::Choice(text) | Value::Module(text)) = value else {
            return Ok(());
        };
        // A pattern that does not compile was refused at registration.
        match patterns.get(pattern) {
            Ok(compiled) if compiled.is_match(text) => Ok(()),
            _ => {
                Err(Violation::NoMatch { got: value.to_string().into(), pattern: pattern.clone() })
            }
        }
    }

    fn check_extent(&self, value: &Value) -> Result<(), Violation> {
        let got = match value {
            Value::Embedding(elements) => elements.len() as u64,
            Value::Tensor(tensor) => tensor.shape.len() as u64,
            _ => return Ok(()),
        };
        if let Some(dimensions) = self.dimensions
            && got != dimensions
        {
            return Err(Violation::Dimensions { got, dimensions });
        }
        if let (Some(shape), Value::Tensor(tensor)) = (&self.shape, value) {
            let fits = |(wanted, got): (&Option<u64>, &u64)| wanted.is_none_or(|n| n == *got);
            let alike = shape.len() == tensor.shape.len();
            if !alike || !shape.iter().zip(&tensor.shape).all(fits) {
                let (got, shape) = (tensor.shape.clone(), shape.clone());
                return Err(Violation::Shape { got, shape });
            }
        }
        Ok(())
    }
}

/// Whether the number `a` is less than the number `b` of its type.
fn below(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a < b,
        (Value::Integer(a), Value::Integer(b)) => a < b,
        _ => false,
    }
}

fn of_kind(rule: Rule, kind: ValueType, value: &Value) -> Result<(), DefinitionFault> {
    let got = value.kind();
    if got != kind {
        return Err(DefinitionFault::OtherType { rule, kind, got });
    }
    value.check().map_err(|fault| DefinitionFault::Value { rule, fault })
}
