//! What the log of a data group says: sessions with their typed variables, programs and metadata.
//!
//! One [`DataCommand`] is one log entry. It is applied by a pure state machine, so everything that
//! decides about it is in it: the time by its envelope ([`LogTime`](crate::LogTime)), who
//! sent it ([`Origin`], so that a resend is applied once), and which request of a user it carries
//! out ([`RequestId`], so that a retry is answered with the first answer).

mod change;
mod command;
mod commit;
mod constraint;
mod json;
mod kind;
mod name;
mod operation;
mod outcome;
mod pattern;
mod quota;
mod refusal;
mod text;
mod value;
mod violation;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, NodeId, RequestId};

pub use change::{Change, Ended, What};
pub use command::{Compare, DataAction, DataCommand, Test};
pub use commit::{Carried, Commit, Write};
pub use constraint::Constraints;
pub use kind::ValueType;
pub use name::{Key, NameFault, Part};
pub use operation::{Definition, Operation, Program};
pub use outcome::{DataOutcome, Done};
pub use pattern::{Glob, Patterns};
pub use quota::{Quota, Quotas, Setting};
pub use refusal::SessionRefusal;
pub use text::TextError;
pub use value::{Tensor, Value, ValueFault};
pub use violation::{DefinitionFault, LengthUnit, Rule, Violation};

/// Who sends commands to a group: a start of a node. A later start has nothing outstanding of an
/// earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId {
    /// The node.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
}

/// Which command of which client this is, so that the same one sent again is applied once and
/// answered with its first outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Who sends it.
    pub client: ClientId,
    /// Its number among the client's commands to this group, from 1.
    pub sequence: u64,
    /// The client's lowest number without an outcome. It sends none below it again, and their
    /// outcomes are forgotten.
    pub lowest_outstanding: u64,
}

/// What a session is created with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSettings {
    /// How long it lives after the last write or touch; `None` for ever.
    pub ttl: Option<Duration>,
    /// What its owner says of it.
    pub metadata: Metadata,
}

/// Short texts by name.
pub type Metadata = std::collections::BTreeMap<Box<str>, Box<str>>;

/// What a text counts in a snapshot beside its bytes: its length.
const LENGTH: usize = 3;

/// What metadata count against quotas, in bytes.
#[must_use]
pub fn metadata_weight(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| note_weight(key, value)).sum()
}

/// What one entry of metadata counts against quotas, in bytes.
#[must_use]
pub fn note_weight(key: &str, value: &str) -> usize {
    key.len() + value.len() + 2 * LENGTH
}

/// What an idempotency key counts.
fn request_weight(request: Option<&RequestId>) -> usize {
    request.map_or(0, |request| request.as_str().len() + LENGTH)
}

#[cfg(test)]
mod tests;
