//! The effect of one message to an entity: all of it or nothing, once.
//!
//! The order of the checks is part of the promise. The deduplication window comes first: a
//! request that was carried out is answered with its reply, even when its entity was placed anew
//! in the meantime, because that is what happened. Then the epoch, then the bounds.

use std::collections::BTreeMap;

use odeum_proto::limits;
use odeum_proto::session::{
    Carried, Commit, DataOutcome, Quota, SessionRefusal, Value, ValueType, Write,
};

use super::draft::{Draft, Scope, at_most};
use super::session::Session;
use super::variable::{Stamp, Variable};
use super::window::{kept, request_bytes};
use super::{Data, Effect};

impl Data {
    pub(super) fn commit(
        &mut self,
        stamp: Stamp,
        commit: &Commit,
    ) -> Result<DataOutcome, SessionRefusal> {
        if let Some(reply) = self.remembered(&commit.entity, &commit.request) {
            return Ok(DataOutcome::Replayed { reply: reply.clone() });
        }
        self.check_epoch(&commit.entity, commit.epoch)?;
        check_sizes(commit)?;
        let reserved = self.reserve_entity(&commit.entity)?
            // Counted as if no older request left the window, so that the bound holds either way.
            + request_bytes(&commit.request, kept(&commit.reply))
            + commit.carried.iter().map(carried_bytes).sum::<u64>();
        let (created, effect) = self.draft_commit(stamp, commit, reserved)?;

        let entity = self.entity(&commit.entity, commit.epoch);
        let before = entity.window.bytes();
        for Carried { request, reply } in &commit.carried {
            if entity.window.get(request).is_none() && *request != commit.request {
                entity.window.remember(request, reply.as_deref(), stamp.at);
            }
        }
        entity.window.remember(&commit.request, Some(&commit.reply), stamp.at);
        let (after, is_long) = (entity.window.bytes(), entity.window.is_long());
        self.index.bytes = self.index.bytes + after - before;
        self.index.note_window(&commit.entity, is_long);
        if let Some(session) = created {
            self.insert(stamp.revision, &commit.session, session);
        }
        self.take(stamp, &commit.session, effect);
        Ok(DataOutcome::Applied { revision: stamp.revision })
    }

    /// What the commit does to its session, and that session if it is a new one.
    fn draft_commit<'c>(
        &mut self,
        stamp: Stamp,
        commit: &'c Commit,
        reserved: u64,
    ) -> Result<(Option<Session>, Effect<'c>), SessionRefusal> {
        let id = &commit.session;
        let (sets, deletes) = effect(&commit.writes);
        let there = self.state.sessions.get(id).cloned();
        let creates = there.is_none() && !sets.is_empty();
        if creates {
            self.check_sessions()?;
        }
        let new = Session::new(id, stamp);
        let reserved = reserved + if creates { new.bytes } else { 0 };
        let base = there.as_deref().unwrap_or(&new);
        let (quotas, group_bytes) = (self.state.quotas, self.bytes());
        let scope = Scope { quotas, group_bytes, reserved, patterns: &mut self.patterns, stamp };
        let mut draft = Draft::new(id, base, scope);
        // What frees comes first, so that the bounds are those of the whole.
        for key in deletes {
            draft.remove_variable(key)?;
        }
        let mut sets: Vec<(i64, &str, &[u8])> = sets
            .into_iter()
            .map(|(key, value)| {
                let before = draft.variable(key).map_or(0, |variable| variable.value().weight());
                let grown = 0_i64
                    .saturating_add_unsigned(value.len() as u64)
                    .saturating_sub_unsigned(before as u64);
                (grown, key, value)
            })
            .collect();
        sets.sort_by_key(|(grown, key, _)| (*grown, *key));
        for (_, key, value) in sets {
            let value = typed(&draft, key, value)?;
            draft.write(key, &value)?;
        }
        draft.scope.check_growth(draft.grown(), 0)?;
        let effect = draft.into_effect();
        Ok((creates.then_some(new), effect))
    }
}

/// What an entity writes as bytes, in the type of the variable if that is there.
fn typed(draft: &Draft<'_, '_>, key: &str, bytes: &[u8]) -> Result<Value, SessionRefusal> {
    let is = draft.variable(key).map_or(ValueType::Bytes, Variable::kind);
    Value::from_plain(is, bytes).ok_or_else(|| SessionRefusal::TypeMismatch {
        session: draft.id.clone(),
        key: key.into(),
        is,
        got: ValueType::Bytes,
    })
}

/// What is set, what is deleted.
type Writes<'a> = (BTreeMap<&'a str, &'a [u8]>, Vec<&'a str>);

/// The last write to each variable wins.
fn effect(writes: &[Write]) -> Writes<'_> {
    let mut last = BTreeMap::<&str, Option<&[u8]>>::new();
    for write in writes {
        match write {
            Write::Set { key, value } => last.insert(key, Some(value)),
            Write::Delete { key } => last.insert(key, None),
        };
    }
    let sets = last.iter().filter_map(|(key, value)| Some((*key, (*value)?))).collect();
    let deletes = last.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| *key).collect();
    (sets, deletes)
}

fn carried_bytes(carried: &Carried) -> u64 {
    request_bytes(&carried.request, carried.reply.as_deref().and_then(kept))
}

fn check_sizes(commit: &Commit) -> Result<(), SessionRefusal> {
    at_most(Quota::Writes, &commit.entity, commit.writes.len(), limits::WRITES_PER_MESSAGE)?;
    at_most(Quota::ReplyBytes, &commit.entity, commit.reply.len(), limits::MESSAGE_BYTES)?;
    at_most(Quota::Requests, &commit.entity, commit.carried.len(), limits::CARRIED_PER_COMMIT)?;
    let carried: usize = commit.carried.iter().map(Carried::weight).sum();
    let mut sum = commit.reply.len() + carried;
    for write in &commit.writes {
        let (key, value) = match write {
            Write::Set { key, value } => (key, value.len()),
            Write::Delete { key } => (key, 0),
        };
        at_most(Quota::KeyBytes, &commit.session, key.len(), limits::KEY_BYTES)?;
        sum += key.len() + value;
    }
    at_most(Quota::CommandBytes, &commit.entity, sum, limits::COMMIT_BYTES)
}
