//! A session: typed variables with their history, programs and metadata.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use odeum_proto::session::{Glob, Key, Metadata, Program, metadata_weight};
use odeum_proto::{LogTime, Revision, SessionId};
use serde::{Deserialize, Serialize};

use super::request::Answers;
use super::variable::{Stamp, Variable};

/// What a session costs in a snapshot beside its id and contents: five numbers, a duration, four
/// lengths.
const SESSION_OVERHEAD: u64 = 72;

/// What a program costs in a snapshot beside its contents: its name's length.
const PROGRAM_OVERHEAD: u64 = 3;

/// What a session with nothing in it counts against the group's quota.
pub(super) fn empty_bytes(id: &SessionId, metadata: &Metadata) -> u64 {
    (id.as_str().len() + metadata_weight(metadata)) as u64 + SESSION_OVERHEAD
}

/// What a program counts against the group's quota.
pub(super) fn program_bytes(name: &str, program: &Program) -> u64 {
    (name.len() + program.weight()) as u64 + PROGRAM_OVERHEAD
}

/// Replicated state that outlives the node and the instance that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub(super) created: Revision,
    pub(super) created_at: LogTime,
    pub(super) changed: Revision,
    pub(super) touched: LogTime,
    pub(super) ttl: Option<Duration>,
    pub(super) metadata: Metadata,
    pub(super) variables: BTreeMap<Key, Variable>,
    pub(super) programs: BTreeMap<Box<str>, Arc<Program>>,
    pub(super) answers: Answers,
    /// The highest version that a deleted variable had: a new one goes on from there.
    pub(super) last_version: u64,
    /// What all of it counts; counted anew when it is read from a snapshot.
    #[serde(skip)]
    pub(super) bytes: u64,
}

impl Session {
    /// A session with nothing in it.
    pub(super) fn new(id: &SessionId, stamp: Stamp) -> Self {
        let mut session = Self {
            created: stamp.revision,
            created_at: stamp.at,
            changed: stamp.revision,
            touched: stamp.at,
            ttl: None,
            metadata: Metadata::new(),
            variables: BTreeMap::new(),
            programs: BTreeMap::new(),
            answers: Answers::default(),
            last_version: 0,
            bytes: 0,
        };
        session.bytes = session.count(id);
        session
    }

    /// The change that created it: two lives of one id differ in it.
    #[must_use]
    pub fn created(&self) -> Revision {
        self.created
    }

    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> LogTime {
        self.created_at
    }

    /// The last change to anything in it.
    #[must_use]
    pub fn changed(&self) -> Revision {
        self.changed
    }

    /// When it was written or touched last.
    #[must_use]
    pub fn touched(&self) -> LogTime {
        self.touched
    }

    /// How long it lives after the last write or touch; `None` for ever.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// When it is due; `None` for never.
    #[must_use]
    pub fn due(&self) -> Option<LogTime> {
        self.ttl.map(|ttl| self.touched.after(ttl))
    }

    /// What its owner says of it.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its variables by name.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<Key, Variable> {
        &self.variables
    }

    /// Its variables whose names `glob` selects, by name.
    pub fn matching<'a>(&'a self, glob: &'a Glob) -> impl Iterator<Item = (&'a str, &'a Variable)> {
        let from = (Bound::Included(glob.prefix()), Bound::Unbounded);
        self.variables
            .range::<str, _>(from)
            .map(|(key, variable)| (&**key, variable))
            .take_while(|(key, _)| key.starts_with(glob.prefix()))
            .filter(|(key, _)| glob.matches(key))
    }

    /// Its programs by name.
    #[must_use]
    pub fn programs(&self) -> &BTreeMap<Box<str>, Arc<Program>> {
        &self.programs
    }

    /// What it counts against the group's quota, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it counts, without the running total.
    pub(super) fn count(&self, id: &SessionId) -> u64 {
        let variables: u64 = self.variables.iter().map(|(key, v)| v.bytes(key)).sum();
        let programs: u64 = self.programs.iter().map(|(name, p)| program_bytes(name, p)).sum();
        empty_bytes(id, &self.metadata) + variables + programs + self.answers.bytes()
    }
}
