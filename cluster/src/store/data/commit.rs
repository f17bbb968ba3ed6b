//! The effect of one message to an entity: all of it or nothing, once.
//!
//! The order of the checks is part of the promise. The deduplication window comes first: a
//! request that was carried out is answered with its reply, even when its entity was placed anew
//! in the meantime, because that is what happened. Then the epoch, then the bounds.

use std::collections::BTreeMap;

use odeum_proto::session::{Commit, DataOutcome, SessionRefusal, Write};
use odeum_proto::{Revision, limits};

use super::session::{empty_bytes, variable_bytes};
use super::window::{kept, request_bytes};
use super::{Data, applied, at_most, too_much};

/// What a commit leaves of each variable it touches: a value, or nothing.
type Effect<'a> = BTreeMap<&'a str, Option<&'a [u8]>>;

impl Data {
    pub(super) fn commit(
        &mut self,
        revision: Revision,
        commit: &Commit,
    ) -> Result<DataOutcome, SessionRefusal> {
        if let Some(reply) = self.remembered(&commit.entity, &commit.request) {
            return Ok(DataOutcome::Replayed { reply: reply.clone() });
        }
        self.check_epoch(&commit.entity, commit.epoch)?;
        check_sizes(commit)?;
        let effect = effect(&commit.writes);
        let change = self.check_quotas(commit, &effect)?;

        self.epochs.entry(commit.entity.clone()).or_default().epoch = commit.epoch;
        let window = self.windows.entry(commit.entity.clone()).or_default();
        let window_before = window.bytes();
        window.remember(&commit.request, &commit.reply);
        self.bytes = self.bytes + window.bytes() - window_before + change.grown - change.shrunk;
        if change.creates || self.sessions.contains_key(&commit.session) {
            let session = self.sessions.entry(commit.session.clone()).or_default();
            for (key, value) in effect {
                match value {
                    Some(value) => session.set(key, value, revision),
                    None => session.remove(key),
                }
            }
        }
        Ok(applied(revision))
    }

    /// What `effect` does to the counted bytes, if it stays within all quotas.
    fn check_quotas(&self, commit: &Commit, effect: &Effect<'_>) -> Result<Change, SessionRefusal> {
        let session = self.sessions.get(&commit.session);
        let old = |key: &str| session.and_then(|session| session.variables().get(key));
        let mut change = Change::default();
        let mut variables = session.map_or(0, |session| session.variables().len());
        for (key, value) in effect {
            if let Some(old) = old(key) {
                change.shrunk += variable_bytes(key, &old.value);
                variables -= 1;
            }
            if let Some(value) = value {
                change.grown += variable_bytes(key, value);
                variables += 1;
            }
        }
        at_most("variables in a session", variables, limits::VARIABLES_PER_SESSION)?;
        if session.is_none() && variables > 0 {
            at_most("sessions", self.sessions.len() + 1, limits::SESSIONS)?;
            change.creates = true;
            change.grown += empty_bytes(&commit.session);
        }
        // Counted as if no older request left the window, so that the bound holds either way.
        let would_be = self.bytes + change.grown - change.shrunk
            + request_bytes(&commit.request, kept(&commit.reply));
        // A commit that frees bytes passes: it is the way out of a full store.
        if would_be > limits::GROUP_BYTES && would_be > self.bytes {
            return Err(too_much("bytes in the store", would_be, limits::GROUP_BYTES));
        }
        Ok(change)
    }
}

#[derive(Default)]
struct Change {
    grown: u64,
    shrunk: u64,
    /// Whether the session is new and gets a variable.
    creates: bool,
}

/// The last write to each variable wins.
fn effect(writes: &[Write]) -> Effect<'_> {
    let mut effect = Effect::new();
    for write in writes {
        match write {
            Write::Set { key, value } => effect.insert(key, Some(value)),
            Write::Delete { key } => effect.insert(key, None),
        };
    }
    effect
}

fn check_sizes(commit: &Commit) -> Result<(), SessionRefusal> {
    at_most("writes of one message", commit.writes.len(), limits::WRITES_PER_MESSAGE)?;
    at_most("bytes of a reply", commit.reply.len(), limits::MESSAGE_BYTES)?;
    let mut sum = commit.reply.len();
    for write in &commit.writes {
        let (key, value) = match write {
            Write::Set { key, value } => (key, value.len()),
            Write::Delete { key } => (key, 0),
        };
        at_most("bytes of a variable's name", key.len(), limits::KEY_BYTES)?;
        at_most("bytes of a variable", value, limits::VARIABLE_BYTES)?;
        sum += key.len() + value;
    }
    at_most("bytes of all writes and the reply of one message", sum, limits::COMMIT_BYTES)
}
