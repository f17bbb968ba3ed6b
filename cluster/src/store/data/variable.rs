//! A variable: a value of a type that never changes, with its version, its definition and some of
//! its past.

use std::collections::VecDeque;

use odeum_proto::backup::VariableRow;
use odeum_proto::session::{Constraints, Definition, Metadata, Value, ValueType, metadata_weight};
use odeum_proto::{LogTime, Revision};
use serde::{Deserialize, Serialize};

/// What a variable costs in a snapshot beside its key and value: two lengths, a tag and four
/// numbers of at most 9 bytes each as variable-length integers.
const VARIABLE_OVERHEAD: u64 = 48;

/// What an earlier value costs in a snapshot beside itself: a tag, a length, three numbers.
const PAST_OVERHEAD: u64 = 36;

/// What a variable without constraints, metadata and a past counts against the group's quota.
pub(super) fn plain_bytes(key: &str, value: &Value) -> u64 {
    (key.len() + value.weight()) as u64 + VARIABLE_OVERHEAD
}

/// What an earlier value counts against the group's quota.
pub(super) fn past_bytes(value: &Value) -> u64 {
    value.weight() as u64 + PAST_OVERHEAD
}

/// One variable of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    value: Value,
    version: u64,
    revision: Revision,
    at: LogTime,
    /// Apart, because most variables have none of it; `None` exactly when all of it is empty.
    details: Option<Box<Details>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Details {
    constraints: Constraints,
    history: u8,
    metadata: Metadata,
    /// Oldest first, at most `history` of them.
    past: VecDeque<Past>,
}

/// An earlier value of a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The value.
    pub value: Value,
    /// The version it had.
    pub version: u64,
    /// The change that wrote it.
    pub revision: Revision,
    /// When that was.
    pub at: LogTime,
}

/// When and where in history something is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) revision: Revision,
    pub(super) at: LogTime,
}

/// How large a variable is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Its value alone, in bytes.
    pub(super) weight: u64,
    /// What it counts against the group's quota.
    pub(super) bytes: u64,
}

impl Variable {
    /// A variable with its first value.
    pub(super) fn new(definition: &Definition, value: Value, version: u64, stamp: Stamp) -> Self {
        let Stamp { revision, at } = stamp;
        let mut variable = Self { value, version, revision, at, details: None };
        variable.define(definition);
        variable
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// How often a variable of this name was written in its session, from 1. It goes on after the
    /// variable was deleted and made again, so that no version ever stands for two values.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The change that wrote it last.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// When it was written last.
    #[must_use]
    pub fn at(&self) -> LogTime {
        self.at
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> ValueType {
        self.value.kind()
    }

    /// What it allows beyond its type; `None` when that is everything.
    #[must_use]
    pub fn constraints(&self) -> Option<&Constraints> {
        self.details.as_ref().map(|details| &details.constraints)
    }

    /// What it was registered with.
    #[must_use]
    pub fn definition(&self) -> Definition {
        let mut definition = Definition::untyped(self.kind());
        if let Some(details) = &self.details {
            definition.constraints = details.constraints.clone();
            definition.history = details.history;
            definition.metadata = details.metadata.clone();
        }
        definition
    }

    /// Its earlier values, oldest first, as far as they are kept.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Past> {
        self.details.iter().flat_map(|details| &details.past)
    }

    /// Writes it: the version goes up by one, the former value becomes history.
    pub(super) fn write(&mut self, value: Value, stamp: Stamp) {
        let former = std::mem::replace(&mut self.value, value);
        let Stamp { revision, at } = stamp;
        if let Some(details) = &mut self.details {
            details.past.push_back(Past {
                value: former,
                version: self.version,
                revision: self.revision,
                at: self.at,
            });
            details.trim();
        }
        self.version += 1;
        self.revision = revision;
        self.at = at;
    }

    /// Gives it another definition of the same type.
    pub(super) fn define(&mut self, definition: &Definition) {
        let past = self.details.take().map(|details| details.past).unwrap_or_default();
        let mut details = Details {
            constraints: definition.constraints.clone(),
            history: definition.history,
            metadata: definition.metadata.clone(),
            past,
        };
        details.trim();
        self.details = (details != Details::default()).then(|| Box::new(details));
    }

    /// How large it is.
    pub(super) fn size(&self, key: &str) -> Size {
        Size { weight: self.value.weight() as u64, bytes: self.bytes(key) }
    }

    /// What it counts against the group's quota.
    pub(super) fn bytes(&self, key: &str) -> u64 {
        let details = self.details.as_ref().map_or(0, |details| {
            let past: u64 = details.past.iter().map(|past| past_bytes(&past.value)).sum();
            let defined = details.constraints.weight() + metadata_weight(&details.metadata);
            defined as u64 + past
        });
        plain_bytes(key, &self.value) + details
    }
}

impl Variable {
    /// As it was in a backup; what of its past is kept comes behind it.
    pub(super) fn imported(row: &VariableRow, at: LogTime) -> Self {
        let stamp = Stamp { revision: row.revision, at };
        let untyped;
        let definition = match &row.definition {
            Some(definition) => &**definition,
            None => {
                untyped = Definition::untyped(row.value.kind());
                &untyped
            }
        };
        Self::new(definition, row.value.clone(), row.version, stamp)
    }

    /// Takes back an earlier value, which is later than those it has taken back so far.
    pub(super) fn import_past(&mut self, past: Past) {
        if let Some(details) = &mut self.details {
            details.past.push_back(past);
            details.trim();
        }
    }
}

impl Details {
    fn trim(&mut self) {
        while self.past.len() > usize::from(self.history) {
            self.past.pop_front();
        }
    }
}
