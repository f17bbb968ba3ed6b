//! Sessions of the replicated store.

use std::collections::BTreeMap;

use odeum_cluster::store;
use odeum_proto::{
    Revision, SessionId,
    session::{Glob, Metadata, Value, ValueType},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{ProgramSummary, text};
use crate::config::HumanDuration;

/// Sessions, variables or blobs on one page when the client does not say.
pub const DEFAULT_PAGE: usize = 100;
/// Most sessions, variables or blobs on one page.
pub const MAX_PAGE: usize = 1_000;

/// Header of an answer that was read: the revision of the session's group that it is as of. A
/// watch after it misses nothing.
pub const REVISION_HEADER: &str = "odeum-revision";
/// Header of a local answer: for how many milliseconds the node has heard nothing of a leader. The
/// answer may be behind by as much.
pub const LEADER_HEARD_HEADER: &str = "odeum-leader-heard-ms";

/// `GET /v1/sessions`: a page of sessions, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionSummary>,
    /// The `after` of the next page; `None` when this is the last.
    pub next: Option<SessionId>,
}

/// A session without its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// How many variables it has.
    pub variables: usize,
    /// How many programs it has.
    #[serde(default)]
    pub programs: usize,
    /// What it counts against the bounds of the store, in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// How long it lives after the last write or touch; `None` for ever.
    #[serde(default)]
    pub ttl: Option<HumanDuration>,
    /// The last change to it.
    pub revision: Revision,
}

/// `GET /v1/sessions/{id}`: a session with its variables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The change that created it.
    #[serde(default)]
    pub created: Revision,
    /// The last change to it.
    #[serde(default)]
    pub revision: Revision,
    /// How long it lives after the last write or touch; `None` for ever.
    #[serde(default)]
    pub ttl: Option<HumanDuration>,
    /// What it counts against the bounds of the store, in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// What its owner says of it.
    #[serde(default)]
    pub metadata: Metadata,
    /// Its variables by name.
    pub variables: BTreeMap<String, SessionVariable>,
    /// Its programs by name, without their contents.
    #[serde(default)]
    pub programs: BTreeMap<String, ProgramSummary>,
}

/// One variable of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionVariable {
    /// Its type.
    #[serde(rename = "type", with = "text")]
    pub kind: ValueType,
    /// Its value, in the form that its type has in JSON.
    pub value: Json,
    /// Bytes as a text, where they are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How often it was written, from 1.
    pub version: u64,
    /// The change that wrote it last.
    pub revision: Revision,
    /// What it allows beyond its type: an object, empty when that is everything.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub constraints: Json,
    /// How many earlier values are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub history: u8,
    /// What its owner says of it.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// `GET /v1/sessions/{id}/variables`: a page of variables, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VariablePage {
    /// The variables.
    pub variables: BTreeMap<String, SessionVariable>,
    /// The `after` of the next page; `None` when this is the last.
    pub next: Option<String>,
}

/// `GET /v1/sessions/{id}/variables/{key}/history`: a variable's values, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariableHistory {
    /// Its type.
    #[serde(rename = "type", with = "text")]
    pub kind: ValueType,
    /// The values as far as they are kept; the present one is the last.
    pub values: Vec<PastValue>,
}

/// A value that a variable had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastValue {
    /// The version it had.
    pub version: u64,
    /// The change that wrote it.
    pub revision: Revision,
    /// The value.
    pub value: Json,
    /// Bytes as a text, where they are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

fn nothing() -> Json {
    Json::Object(serde_json::Map::new())
}

fn is_nothing(constraints: &Json) -> bool {
    constraints.as_object().is_some_and(serde_json::Map::is_empty)
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// Bytes as a text, where they are one that can be shown.
pub(crate) fn readable(value: &Value) -> Option<String> {
    let Value::Bytes(bytes) = value else { return None };
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

impl SessionVariable {
    /// As the API shows `variable`.
    #[must_use]
    pub fn of(variable: &store::Variable) -> Self {
        let definition = variable.definition();
        Self {
            kind: definition.kind,
            value: variable.value().to_json(),
            text: readable(variable.value()),
            version: variable.version(),
            revision: variable.revision(),
            constraints: definition.constraints.to_json(),
            history: definition.history,
            metadata: definition.metadata,
        }
    }

    /// How a firmware sees the value, see [`Value::plain`]; `None` when the JSON is no value of
    /// the type.
    #[must_use]
    pub fn plain(&self) -> Option<Vec<u8>> {
        Value::from_json(self.kind, &self.value).ok().map(|value| value.plain())
    }
}

impl VariableHistory {
    /// As the API shows the values of `variable`.
    #[must_use]
    pub fn of(variable: &store::Variable) -> Self {
        let past = variable.history().map(|past| (past.version, past.revision, &past.value));
        let present = (variable.version(), variable.revision(), variable.value());
        let values = past.chain([present]).map(|(version, revision, value)| PastValue {
            version,
            revision,
            value: value.to_json(),
            text: readable(value),
        });
        Self { kind: variable.kind(), values: values.collect() }
    }
}

impl VariablePage {
    /// At most `limit` of the variables of `session` that `glob` selects, behind `after`.
    #[must_use]
    pub fn of(session: &store::Session, glob: &Glob, after: Option<&str>, limit: usize) -> Self {
        let behind = |key: &str| after.is_none_or(|after| key > after);
        let mut matching = session.matching(glob).filter(|(key, _)| behind(key)).peekable();
        let shown = |(key, variable): (&str, &store::Variable)| {
            (key.to_owned(), SessionVariable::of(variable))
        };
        let variables: BTreeMap<_, _> = matching.by_ref().take(limit).map(shown).collect();
        let more = matching.peek().is_some();
        let next = variables.last_key_value().filter(|_| more).map(|(key, _)| key.clone());
        Self { variables, next }
    }
}

impl SessionSummary {
    /// As the API shows `session` in a list.
    #[must_use]
    pub fn of(id: &SessionId, session: &store::Session) -> Self {
        Self {
            id: id.clone(),
            variables: session.variables().len(),
            programs: session.programs().len(),
            bytes: session.bytes(),
            ttl: session.ttl().map(HumanDuration),
            revision: session.changed(),
        }
    }
}

impl Session {
    /// As the API shows `session`.
    #[must_use]
    pub fn of(id: &SessionId, session: &store::Session) -> Self {
        let variables = session.variables().iter();
        let programs = session.programs().iter();
        Self {
            id: id.clone(),
            created: session.created(),
            revision: session.changed(),
            ttl: session.ttl().map(HumanDuration),
            bytes: session.bytes(),
            metadata: session.metadata().clone(),
            variables: variables
                .map(|(key, variable)| (key.to_string(), SessionVariable::of(variable)))
                .collect(),
            programs: programs
                .map(|(name, program)| (name.to_string(), ProgramSummary::of(program)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_a_text_where_they_are_one() {
        assert_eq!(readable(&Value::bytes(b"41")).as_deref(), Some("41"));
        assert_eq!(readable(&Value::bytes(&[0xff])), None);
        assert_eq!(readable(&Value::string("41")), None);
    }
}
