//! Changes to sessions: what a client sends, and what it is told they came to.
//!
//! Types that a client sends refuse fields they do not know: a misspelt `expected` that was passed
//! over would overwrite what somebody else wrote.

use odeum_proto::{
    Revision, SessionId,
    session::{Metadata, ValueType},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use super::{ErrorBody, Text, text};
use crate::config::HumanDuration;

/// `PUT /v1/sessions/{id}`: what a session is created with. Nothing is as good as `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsBody {
    /// How long it lives after the last write or touch; `null` for ever.
    pub ttl: Option<HumanDuration>,
    /// What its owner says of it.
    pub metadata: Metadata,
}

/// `PUT /v1/sessions/{id}/ttl`: another time to live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtlBody {
    /// How long it lives after the last write or touch; `null` for ever, which must be said.
    #[serde(deserialize_with = "said")]
    pub ttl: Option<HumanDuration>,
}

/// `PUT /v1/sessions/{id}/variables/{key}/definition`: a variable of a type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefinitionBody {
    /// Its type.
    #[serde(rename = "type", with = "text")]
    pub kind: ValueType,
    /// Its first value.
    pub value: Json,
    /// What it allows beyond its type, such as `{"min": 0, "max": 10}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Json>,
    /// How many earlier values are kept.
    #[serde(default)]
    pub history: u8,
    /// What its owner says of it.
    #[serde(default)]
    pub metadata: Metadata,
    /// Whether another definition of the same type takes the place of the present one; the value
    /// stays.
    #[serde(default)]
    pub replace: bool,
}

/// `POST /v1/sessions/{id}/batch`: several things in order, as one change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchBody {
    /// Whether all are done or none; else those are done that can be.
    #[serde(default = "yes")]
    pub atomic: bool,
    /// What to do.
    pub operations: Vec<OperationBody>,
}

/// `POST /v1/sessions/{id}/transaction`: one list of things when all comparisons hold, another
/// when one does not; all of that list or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionBody {
    /// What must hold.
    #[serde(default)]
    pub compare: Vec<CompareBody>,
    /// What is done when all of it holds.
    #[serde(default)]
    pub then: Vec<OperationBody>,
    /// What is done when something does not.
    #[serde(default)]
    pub otherwise: Vec<OperationBody>,
}

/// What must hold of a variable: exactly one of `version`, `exists` and `value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareBody {
    /// The variable.
    pub key: Box<str>,
    /// It has this version; 0 when it must not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// It is there, or is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    /// It is there and has this value.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub value: Option<Json>,
    /// The type of the value; that of the variable when it is left out.
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub kind: Option<ValueType>,
}

/// One thing to do in a session: `{"set": {"key": "a", "value": 1}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OperationBody {
    /// Writes a variable.
    Set {
        /// Its name.
        key: Box<str>,
        /// Its value.
        value: Json,
        /// The type of the value; that of the variable, or what it looks like, when it is left
        /// out.
        #[serde(
            default,
            rename = "type",
            skip_serializing_if = "Option::is_none",
            with = "text::optional"
        )]
        kind: Option<ValueType>,
        /// The version it must have; 0 when it must not be there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<u64>,
        /// Whether it is made when it is not there.
        #[serde(default = "yes")]
        register: bool,
    },
    /// Makes a variable of a type.
    Register {
        /// Its name.
        key: Box<str>,
        /// Its type.
        #[serde(rename = "type", with = "text")]
        kind: ValueType,
        /// Its first value.
        value: Json,
        /// What it allows beyond its type.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        constraints: Option<Json>,
        /// How many earlier values are kept.
        #[serde(default)]
        history: u8,
        /// What its owner says of it.
        #[serde(default)]
        metadata: Metadata,
        /// Whether another definition of the same type takes the place of the present one.
        #[serde(default)]
        replace: bool,
    },
    /// Removes a variable.
    Delete {
        /// Its name.
        key: Box<str>,
        /// The version it must have; 0 when it must not be there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<u64>,
    },
    /// Sets an entry of the metadata.
    SetMetadata {
        /// The entry.
        key: Box<str>,
        /// What it says.
        value: Box<str>,
    },
    /// Removes an entry of the metadata.
    DeleteMetadata {
        /// The entry.
        key: Box<str>,
    },
    /// Stores a program.
    PutProgram {
        /// Its name.
        name: Box<str>,
        /// The language it is written in.
        language: Box<str>,
        /// Its text or code: `{"encoding": "utf-8", "value": "…"}`, or `base64`.
        content: Text,
        /// What its owner says of it.
        #[serde(default)]
        metadata: Metadata,
    },
    /// Removes a program.
    DeleteProgram {
        /// Its name.
        name: Box<str>,
    },
}

/// What a `PUT` of a session came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCreated {
    /// Its id.
    pub id: SessionId,
    /// Whether it is new; else it was there with the same settings.
    pub created: bool,
    /// The change.
    pub revision: Revision,
}

/// What a change that has no more to tell came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The change.
    pub revision: Revision,
}

/// What a write of a variable came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its version now.
    pub version: u64,
    /// The change.
    pub revision: Revision,
}

/// What a batch came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// The change.
    pub revision: Revision,
    /// What each operation came to, in order.
    pub results: Vec<OperationResult>,
}

/// What a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionAnswer {
    /// The change.
    pub revision: Revision,
    /// Whether all comparisons held, so that `then` was done.
    pub succeeded: bool,
    /// What each operation of the list that was done came to, in order.
    pub results: Vec<OperationResult>,
}

/// What one operation came to: those fields that mean something for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperationResult {
    /// The version of the variable now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Whether a registration changed anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
    /// Whether what was removed was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existed: Option<bool>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

fn yes() -> bool {
    true
}

/// A field that may be `null` and must be there.
fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HumanDuration>, D::Error> {
    Option::deserialize(from)
}

/// A field that is there, also when it is `null`.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}
