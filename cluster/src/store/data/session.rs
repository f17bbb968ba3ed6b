//! A session: named variables, each with a version.

use std::collections::BTreeMap;

use odeum_proto::session::Variable;
use odeum_proto::{Revision, SessionId};
use serde::{Deserialize, Serialize};

/// What a variable costs in a snapshot beside its key and value: two lengths and two counters of
/// at most 9 bytes each as variable-length integers.
const VARIABLE_OVERHEAD: u64 = 36;

/// What a session costs in a snapshot beside its id and variables: the id's length and the
/// number of variables.
const SESSION_OVERHEAD: u64 = 18;

/// Replicated state that outlives the node and the instance that wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    variables: BTreeMap<String, Variable>,
}

impl Session {
    /// Its variables by name.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }

    /// Sets a variable; its version goes up by one.
    pub(super) fn set(&mut self, key: &str, value: &[u8], revision: Revision) {
        let version = self.variables.get(key).map_or(0, |variable| variable.version) + 1;
        self.variables
            .insert(key.to_owned(), Variable { value: value.to_vec(), version, revision });
    }

    /// Removes a variable, if it is there.
    pub(super) fn remove(&mut self, key: &str) {
        self.variables.remove(key);
    }

    /// What the session counts against the group's quota.
    pub(super) fn bytes(&self, id: &SessionId) -> u64 {
        let variables: u64 =
            self.variables.iter().map(|(key, v)| variable_bytes(key, &v.value)).sum();
        empty_bytes(id) + variables
    }
}

/// What a session without variables counts.
pub(super) fn empty_bytes(id: &SessionId) -> u64 {
    id.as_str().len() as u64 + SESSION_OVERHEAD
}

/// What one variable counts.
pub(super) fn variable_bytes(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + VARIABLE_OVERHEAD
}
