//! Whether the rows of a part come in an order in which each has something to belong to.

use std::collections::BTreeSet;

use odeum_proto::backup::Row;
use odeum_proto::{EntityId, SessionId};

use crate::store::data::Snapshot;

/// What rows have brought that others may belong to.
#[derive(Debug, Default)]
pub(super) struct Brought<'a> {
    sessions: BTreeSet<&'a SessionId>,
    variables: BTreeSet<(&'a SessionId, &'a str)>,
    entities: BTreeSet<&'a EntityId>,
}

impl<'a> Brought<'a> {
    /// Whether `row` belongs to something that it brought or that is in `state`.
    pub(super) fn takes(&mut self, row: &'a Row, state: &Snapshot) -> bool {
        let there = |sessions: &BTreeSet<_>, id: &SessionId| {
            sessions.contains(id) || state.sessions.contains_key(id)
        };
        match row {
            Row::Session(row) => {
                self.sessions.insert(&row.id);
                true
            }
            Row::Variable(row) => {
                self.variables.insert((&row.session, &row.key));
                there(&self.sessions, &row.session)
            }
            Row::Past { session, key, .. } => {
                let known = state.sessions.get(session);
                self.variables.contains(&(session, key))
                    || known.is_some_and(|known| known.variables.contains_key(key))
            }
            Row::Program { session, .. } | Row::Answer { session, .. } => {
                there(&self.sessions, session)
            }
            Row::Entity { entity, .. } => {
                self.entities.insert(entity);
                true
            }
            Row::Reply { entity, .. } => {
                self.entities.contains(entity) || state.entities.contains_key(entity)
            }
        }
    }
}
