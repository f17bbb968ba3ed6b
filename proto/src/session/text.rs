//! Values and constraints as JSON, for people and programs outside.
//!
//! | type | JSON |
//! |---|---|
//! | float | a number |
//! | integer | a number without a fraction, exact in the whole range of 64 bits |
//! | string, choice, module | a string |
//! | boolean | `true` or `false` |
//! | embedding | an array of numbers |
//! | tensor | `{"shape": [2, 2], "data": [1, 2, 3, 4]}`, the last axis running fastest |
//! | json | anything |
//! | bytes | a string in Base64 with padding |

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value as Json, json};

use super::value::shown;
use super::violation::Rule;
use super::{Constraints, Tensor, Value, ValueFault, ValueType};

/// JSON that is no value of its type, or no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The JSON is of another form than the type has.
    #[error("{got} is no {kind}: expected {form}")]
    Form {
        /// The type.
        kind: ValueType,
        /// What was given, cut where it is long.
        got: Box<str>,
        /// The form, in words.
        form: &'static str,
    },
    /// The form is right, the contents are not.
    #[error("no {kind}: {fault}")]
    Value {
        /// The type.
        kind: ValueType,
        /// What is wrong.
        fault: ValueFault,
    },
    /// Not an object of constraints.
    #[error("constraints are an object, not {got}")]
    NoObject {
        /// What was given, cut where it is long.
        got: Box<str>,
    },
    /// No constraint is called so.
    #[error(
        "no constraint is called {name:?}; there are min, max, min_length, max_length, pattern, \
         enum, dimensions, shape"
    )]
    UnknownConstraint {
        /// The name.
        name: Box<str>,
    },
    /// The constraint is of another form.
    #[error("{rule} cannot be {got}: expected {form}")]
    Constraint {
        /// The constraint.
        rule: &'static str,
        /// What was given, cut where it is long.
        got: Box<str>,
        /// The form, in words.
        form: &'static str,
    },
}

/// The greatest magnitude below which every whole number is a float of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Value {
    /// The value of type `kind` that `json` stands for; see the table above.
    ///
    /// # Errors
    /// [`TextError`] names the type, what was given and what was expected.
    pub fn from_json(kind: ValueType, json: &Json) -> Result<Self, TextError> {
        let form = |form| TextError::Form { kind, got: cut(json), form };
        let text = || json.as_str().ok_or_else(|| form("a string"));
        let value = match kind {
            ValueType::Float => Self::Float(json.as_f64().ok_or_else(|| form("a number"))?),
            ValueType::Integer => Self::Integer(integer(json).ok_or_else(|| {
                form("a whole number from -9223372036854775808 to 9223372036854775807")
            })?),
            ValueType::String => Self::String(text()?.into()),
            ValueType::Choice => Self::Choice(text()?.into()),
            ValueType::Module => Self::Module(text()?.into()),
            ValueType::Boolean => {
                Self::Boolean(json.as_bool().ok_or_else(|| form("true or false"))?)
            }
            ValueType::Embedding => {
                let numbers = numbers(json).ok_or_else(|| form("an array of numbers"))?;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "an embedding has 32 bits a number; what becomes infinite is refused"
                )]
                let elements = numbers.into_iter().map(|x| x as f32).collect::<Vec<_>>();
                Self::Embedding(elements.into())
            }
            ValueType::Tensor => {
                let tensor = tensor(json)
                    .ok_or_else(|| form("an object of `shape` and `data`, both arrays"))?;
                Self::Tensor(Arc::new(tensor))
            }
            ValueType::Json => Self::Json(json.to_string().into()),
            ValueType::Bytes => {
                let bytes = json.as_str().and_then(|text| BASE64.decode(text).ok());
                Self::Bytes(bytes.ok_or_else(|| form("a string in Base64"))?.into())
            }
        };
        value.check().map_err(|fault| TextError::Value { kind, fault })?;
        Ok(value)
    }

    /// The JSON that stands for the value; see the table above. Numbers that JSON does not have,
    /// and no checked value holds, become `null`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Float(number) => float(*number),
            Self::Integer(number) => Json::from(*number),
            Self::Boolean(whether) => Json::Bool(*whether),
            Self::String(text) | Self::Choice(text) | Self::Module(text) => {
                Json::String((**text).to_owned())
            }
            Self::Embedding(elements) => elements.iter().map(|x| short_float(*x)).collect(),
            Self::Tensor(tensor) => {
                let data: Json = tensor.data.iter().map(|x| float(*x)).collect();
                json!({ "shape": tensor.shape, "data": data })
            }
            Self::Json(text) => serde_json::from_str(text).unwrap_or(Json::Null),
            Self::Bytes(bytes) => Json::String(BASE64.encode(bytes)),
        }
    }

    /// The type that a JSON value has by itself, for variables that nobody registered: a whole
    /// number is an integer, an array or an object is json, `null` is json.
    #[must_use]
    pub fn kind_of_json(json: &Json) -> ValueType {
        match json {
            Json::Bool(_) => ValueType::Boolean,
            Json::Number(number) if number.is_i64() => ValueType::Integer,
            Json::Number(_) => ValueType::Float,
            Json::String(_) => ValueType::String,
            Json::Null | Json::Array(_) | Json::Object(_) => ValueType::Json,
        }
    }
}

impl Constraints {
    /// The constraints of a variable of type `kind` that a JSON object stands for, such as
    /// `{"min": 0, "max": 10}` or `{"enum": ["a", "b"]}`.
    ///
    /// # Errors
    /// [`TextError`] names the constraint at fault. Whether they suit the type is for
    /// [`Constraints::check_definition`] to say.
    pub fn from_json(kind: ValueType, json: &Json) -> Result<Self, TextError> {
        let object = json.as_object().ok_or_else(|| TextError::NoObject { got: cut(json) })?;
        let mut constraints = Self::default();
        for (name, value) in object {
            let form = |rule: Rule, form| TextError::Constraint {
                rule: rule.as_str(),
                got: cut(value),
                form,
            };
            let count = |rule| value.as_u64().ok_or_else(|| form(rule, "a whole number from 0"));
            match name.as_str() {
                "min" => constraints.min = Some(bound(kind, value)?),
                "max" => constraints.max = Some(bound(kind, value)?),
                "min_length" => constraints.min_length = Some(count(Rule::MinLength)?),
                "max_length" => constraints.max_length = Some(count(Rule::MaxLength)?),
                "dimensions" => constraints.dimensions = Some(count(Rule::Dimensions)?),
                "pattern" => {
                    let text = value.as_str().ok_or_else(|| form(Rule::Pattern, "a string"))?;
                    constraints.pattern = Some(text.into());
                }
                "enum" => {
                    let values = value.as_array().filter(|values| !values.is_empty());
                    let values =
                        values.ok_or_else(|| form(Rule::Enum, "an array with some values"))?;
                    let values = values.iter().map(|value| Value::from_json(kind, value));
                    constraints.allowed = values.collect::<Result<_, _>>()?;
                }
                "shape" => {
                    let shape = axes(value)
                        .ok_or_else(|| form(Rule::Shape, "an array of whole numbers or null"))?;
                    constraints.shape = Some(shape);
                }
                _ => return Err(TextError::UnknownConstraint { name: name.as_str().into() }),
            }
        }
        Ok(constraints)
    }

    /// The JSON object that stands for the constraints.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let allowed = (!self.allowed.is_empty())
            .then(|| self.allowed.iter().map(Value::to_json).collect::<Json>());
        let entries = [
            (Rule::Min, self.min.as_ref().map(Value::to_json)),
            (Rule::Max, self.max.as_ref().map(Value::to_json)),
            (Rule::MinLength, self.min_length.map(Json::from)),
            (Rule::MaxLength, self.max_length.map(Json::from)),
            (Rule::Pattern, self.pattern.as_deref().map(Json::from)),
            (Rule::Enum, allowed),
            (Rule::Dimensions, self.dimensions.map(Json::from)),
            (Rule::Shape, self.shape.as_ref().map(|shape| json!(shape))),
        ];
        let there = |(rule, value): (Rule, Option<Json>)| Some((rule.as_str().to_owned(), value?));
        Json::Object(entries.into_iter().filter_map(there).collect::<Map<_, _>>())
    }
}

/// A bound is of the variable's type. For a type without order it is taken for what it looks
/// like, so that the refusal speaks of the constraint and not of the form of its value.
fn bound(kind: ValueType, json: &Json) -> Result<Value, TextError> {
    let ordered = Rule::Min.kinds().contains(&kind);
    Value::from_json(if ordered { kind } else { Value::kind_of_json(json) }, json)
}

fn integer(json: &Json) -> Option<i64> {
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() < EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
    json.as_i64().or_else(|| json.as_f64().filter(whole).map(|number| number as i64))
}

fn numbers(json: &Json) -> Option<Vec<f64>> {
    json.as_array()?.iter().map(Json::as_f64).collect()
}

fn axes(json: &Json) -> Option<Vec<Option<u64>>> {
    let axis = |json: &Json| if json.is_null() { Some(None) } else { json.as_u64().map(Some) };
    json.as_array()?.iter().map(axis).collect()
}

fn tensor(json: &Json) -> Option<Tensor> {
    let object = json.as_object().filter(|object| object.len() == 2)?;
    let shape = object.get("shape")?.as_array()?.iter().map(Json::as_u64).collect::<Option<_>>()?;
    Some(Tensor { shape, data: numbers(object.get("data")?)? })
}

fn float(number: f64) -> Json {
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

/// The shortest number that is read back as `number`: 0.1, not 0.10000000149011612.
fn short_float(number: f32) -> Json {
    float(number.to_string().parse().unwrap_or_else(|_| f64::from(number)))
}

fn cut(json: &Json) -> Box<str> {
    shown(&json.to_string()).into()
}
