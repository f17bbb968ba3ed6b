//! What a command would do to a session, before it is done.
//!
//! Operations are carried out on a draft, which sees the session through what earlier operations
//! of the same command did. When all went well the effect is taken over, else it is dropped: so a
//! refused command has changed nothing, and nothing ever has to be undone.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use odeum_proto::session::{Patterns, Program, Quota, Quotas, SessionRefusal, What, note_weight};
use odeum_proto::{SessionId, limits};
use smallvec::SmallVec;

use super::session::{Session, program_bytes};
use super::variable::{Size, Stamp, Variable};

/// What bounds a draft.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) quotas: Quotas,
    /// What the group counts before the command.
    pub(super) group_bytes: u64,
    /// What the group will count beside the session when the command is done: a remembered
    /// answer, a new session.
    pub(super) reserved: u64,
    pub(super) patterns: &'a mut Patterns,
    pub(super) stamp: Stamp,
}

impl Scope<'_> {
    /// Whether the group may grow by `delta` when the command has added `grown` so far.
    ///
    /// What frees passes, also in a group that is over its bound: it is the way out.
    pub(super) fn check_growth(&self, grown: i64, delta: i64) -> Result<(), SessionRefusal> {
        let total = grown.saturating_add(delta).saturating_add_unsigned(self.reserved);
        let (got, limit) = (self.group_bytes.saturating_add_signed(total), self.quotas.group_bytes);
        if delta >= 0 && total > 0 && got > limit {
            return Err(too_much(Quota::GroupBytes, "", got, limit));
        }
        Ok(())
    }
}

pub(super) fn too_much(quota: Quota, what: &str, got: u64, limit: u64) -> SessionRefusal {
    SessionRefusal::TooMuch { quota, what: what.into(), got, limit }
}

pub(super) fn at_most(
    quota: Quota,
    what: impl std::fmt::Display,
    got: usize,
    limit: usize,
) -> Result<(), SessionRefusal> {
    if got <= limit {
        return Ok(());
    }
    Err(too_much(quota, &what.to_string(), got as u64, limit as u64))
}

/// Everything a command, which lives for `'c`, does to a session.
#[derive(Debug, Default)]
pub(super) struct Effect<'c> {
    variables: Rows<'c, Variable>,
    metadata: Rows<'c, Box<str>>,
    programs: Rows<'c, Arc<Program>>,
    last_version: u64,
    /// By how much the session grows, in counted bytes.
    pub(super) grown: i64,
    pub(super) changes: SmallVec<[What; 1]>,
}

/// What is put into a table, `None` for what is removed from it, by key. Mostly there is one, for which
/// nothing is allocated: this is on the way of every write, on every replica.
#[derive(Debug)]
struct Rows<'c, V> {
    rows: SmallVec<[(&'c str, Option<V>); 1]>,
    /// Places in `rows`, by key: less to move than the rows when there are many.
    sorted: SmallVec<[usize; 1]>,
}

impl<V> Default for Rows<'_, V> {
    fn default() -> Self {
        Self { rows: SmallVec::new(), sorted: SmallVec::new() }
    }
}

impl<'c, V> Rows<'c, V> {
    fn place(&self, key: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|at| self.rows[*at].0.cmp(key))
    }

    fn get(&self, key: &str) -> Option<&Option<V>> {
        let place = self.place(key).ok()?;
        Some(&self.rows[self.sorted[place]].1)
    }

    fn put(&mut self, key: &'c str, value: Option<V>) {
        match self.place(key) {
            Ok(there) => self.rows[self.sorted[there]].1 = value,
            Err(place) => {
                self.sorted.insert(place, self.rows.len());
                self.rows.push((key, value));
            }
        }
    }

    fn merge_into<K>(self, table: &mut BTreeMap<K, V>)
    where
        K: Ord + Borrow<str> + From<&'c str>,
    {
        for (key, value) in self.rows {
            match (value, table.get_mut(key)) {
                (Some(value), Some(there)) => *there = value,
                (Some(value), None) => drop(table.insert(key.into(), value)),
                (None, _) => drop(table.remove(key)),
            }
        }
    }
}

/// A session as it would be, while a command that lives for `'c` is carried out.
#[derive(Debug)]
pub(super) struct Draft<'a, 'c> {
    pub(super) id: &'a SessionId,
    base: &'a Session,
    pub(super) scope: Scope<'a>,
    variables: usize,
    notes: usize,
    programs: usize,
    effect: Effect<'c>,
}

impl<'a, 'c> Draft<'a, 'c> {
    pub(super) fn new(id: &'a SessionId, base: &'a Session, scope: Scope<'a>) -> Self {
        Self {
            id,
            base,
            scope,
            variables: base.variables.len(),
            notes: base.metadata.len(),
            programs: base.programs.len(),
            effect: Effect { last_version: base.last_version, ..Effect::default() },
        }
    }

    /// What is to be done to the session.
    pub(super) fn into_effect(self) -> Effect<'c> {
        self.effect
    }

    /// What has been done so far adds so many bytes.
    pub(super) fn grown(&self) -> i64 {
        self.effect.grown
    }

    pub(super) fn variable(&self, key: &str) -> Option<&Variable> {
        match self.effect.variables.get(key) {
            Some(drafted) => drafted.as_ref(),
            None => self.base.variables.get(key),
        }
    }

    fn note(&self, key: &str) -> Option<&str> {
        match self.effect.metadata.get(key) {
            Some(drafted) => drafted.as_deref(),
            None => self.base.metadata.get(key).map(|text| &**text),
        }
    }

    fn program(&self, name: &str) -> Option<&Program> {
        match self.effect.programs.get(name) {
            Some(drafted) => drafted.as_deref(),
            None => self.base.programs.get(name).map(|program| &**program),
        }
    }

    /// The version that a variable which is not there gets when it is made.
    pub(super) fn next_version(&self) -> u64 {
        self.effect.last_version + 1
    }

    fn check_growth(&self, after: u64, before: u64) -> Result<i64, SessionRefusal> {
        let delta = 0_i64.saturating_add_unsigned(after).saturating_sub_unsigned(before);
        self.scope.check_growth(self.effect.grown, delta)?;
        Ok(delta)
    }

    /// Puts a variable in the place of one of this size, or of none, if the quotas let it.
    pub(super) fn put_variable(
        &mut self,
        key: &'c str,
        old: Option<Size>,
        variable: Variable,
        what: What,
    ) -> Result<(), SessionRefusal> {
        let size = variable.size(key);
        let allowed = self.scope.quotas.variable_bytes;
        if size.weight > allowed && old.is_none_or(|old| size.weight > old.weight) {
            let what = format!("{key} of session {}", self.id);
            return Err(too_much(Quota::VariableBytes, &what, size.weight, allowed));
        }
        let new = usize::from(old.is_none());
        let (got, limit) = ((self.variables + new) as u64, self.scope.quotas.variables_per_session);
        if new > 0 && got > limit {
            let what = format!("session {}", self.id);
            return Err(too_much(Quota::VariablesPerSession, &what, got, limit));
        }
        let delta = self.check_growth(size.bytes, old.map_or(0, |old| old.bytes))?;
        self.variables += new;
        self.effect.variables.put(key, Some(variable));
        self.done(delta, what);
        Ok(())
    }

    /// Removes a variable; says whether it was there.
    pub(super) fn remove_variable(&mut self, key: &'c str) -> Result<bool, SessionRefusal> {
        let old = self.variable(key).map(|old| (old.bytes(key), old.version()));
        let delta = self.check_growth(0, old.map_or(0, |(bytes, _)| bytes))?;
        let Some((_, version)) = old else { return Ok(false) };
        self.variables -= 1;
        self.effect.last_version = self.effect.last_version.max(version);
        self.effect.variables.put(key, None);
        self.done(delta, What::Removed { key: key.into() });
        Ok(true)
    }

    /// Sets or removes an entry of the metadata; says whether it was there.
    pub(super) fn put_note(
        &mut self,
        key: &'c str,
        value: Option<&str>,
    ) -> Result<bool, SessionRefusal> {
        let old = self.note(key);
        let there = usize::from(old.is_some());
        let after = self.notes - there + usize::from(value.is_some());
        if after > self.notes {
            let of = format!("session {}", self.id);
            at_most(Quota::MetadataEntries, of, after, limits::METADATA_ENTRIES)?;
        }
        let bytes = |value: Option<&str>| value.map_or(0, |value| note_weight(key, value) as u64);
        let delta = self.check_growth(bytes(value), bytes(old))?;
        if there == 0 && value.is_none() {
            return Ok(false);
        }
        self.notes = after;
        let value: Option<Box<str>> = value.map(Into::into);
        self.effect.metadata.put(key, value.clone());
        self.done(delta, What::Noted { key: key.into(), value });
        Ok(there > 0)
    }

    /// Stores or removes a program; says whether it was there.
    pub(super) fn put_program(
        &mut self,
        name: &'c str,
        program: Option<&Arc<Program>>,
    ) -> Result<bool, SessionRefusal> {
        let old = self.program(name);
        let there = usize::from(old.is_some());
        let after = self.programs - there + usize::from(program.is_some());
        if after > self.programs {
            let of = format!("session {}", self.id);
            at_most(Quota::ProgramsPerSession, of, after, limits::PROGRAMS_PER_SESSION)?;
        }
        let bytes = |program: Option<&Program>| program.map_or(0, |p| program_bytes(name, p));
        let delta = self.check_growth(bytes(program.map(|p| &**p)), bytes(old))?;
        let what = match (program, there) {
            (None, 0) => return Ok(false),
            (None, _) => What::ProgramDeleted { name: name.into() },
            (Some(_), _) => What::ProgramPut { name: name.into() },
        };
        self.programs = after;
        self.effect.programs.put(name, program.cloned());
        self.done(delta, what);
        Ok(there > 0)
    }

    fn done(&mut self, delta: i64, what: What) {
        self.effect.grown += delta;
        self.effect.changes.push(what);
    }
}

impl Session {
    /// Takes an effect over.
    pub(super) fn take(&mut self, effect: Effect<'_>) {
        effect.variables.merge_into(&mut self.variables);
        effect.programs.merge_into(&mut self.programs);
        effect.metadata.merge_into(&mut self.metadata);
        self.last_version = effect.last_version;
        self.bytes = self.bytes.saturating_add_signed(effect.grown);
    }
}
