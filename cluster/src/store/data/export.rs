//! What a group has, as rows of a backup.

use std::collections::VecDeque;
use std::collections::btree_map::IntoIter;
use std::sync::Arc;

use bytes::Bytes;
use odeum_proto::backup::{GroupHead, Row, SessionRow, VariableRow};
use odeum_proto::{EntityId, GroupId, LogTime, Revision, SessionId};

use super::entity::Entity;
use super::{Data, Session, Variable};

/// The rows of a group as it was at one moment, made one session at a time as they are asked for.
/// What is large in them is shared with the group.
#[derive(Debug)]
pub struct Export {
    now: LogTime,
    sessions: IntoIter<SessionId, Arc<Session>>,
    entities: IntoIter<EntityId, Arc<Entity>>,
    rows: VecDeque<Row>,
}

impl Data {
    /// All that a backup keeps of `group`, which this is at `revision`. Sessions that are due are
    /// left out. Its cost is in proportion to the number of sessions and entities.
    #[must_use]
    pub fn export(&self, group: GroupId, revision: Revision) -> (GroupHead, Export) {
        let now = self.state.now;
        let mut sessions = self.state.sessions.clone();
        sessions.retain(|_, session| session.due().is_none_or(|due| due > now));
        let entities = self.state.entities.clone();
        let head = GroupHead {
            group,
            revision,
            time: now,
            floor: self.state.floor,
            quotas: self.state.quotas,
            sessions: sessions.len() as u64,
            entities: entities.len() as u64,
        };
        let (sessions, entities) = (sessions.into_iter(), entities.into_iter());
        (head, Export { now, sessions, entities, rows: VecDeque::new() })
    }
}

impl Iterator for Export {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        while self.rows.is_empty() {
            if let Some((id, session)) = self.sessions.next() {
                self.session(&id, &session);
            } else {
                let (id, entity) = self.entities.next()?;
                self.entity(&id, &entity);
            }
        }
        self.rows.pop_front()
    }
}

impl Export {
    fn session(&mut self, id: &SessionId, session: &Session) {
        let now = self.now;
        let age = |at: LogTime| now.0.saturating_sub(at.0);
        self.rows.push_back(Row::Session(SessionRow {
            id: id.clone(),
            created: session.created,
            created_age: age(session.created_at),
            changed: session.changed,
            touched_age: age(session.touched),
            ttl: session.ttl,
            metadata: session.metadata.clone(),
            last_version: session.last_version,
        }));
        for (key, variable) in &session.variables {
            self.variable(id, key, variable);
        }
        for (name, program) in &session.programs {
            let (name, program) = (name.clone(), Arc::clone(program));
            self.rows.push_back(Row::Program { session: id.clone(), name, program });
        }
        for (answer, at) in session.answers.iter() {
            self.rows.push_back(Row::Answer {
                session: id.clone(),
                request: answer.request.clone(),
                age: age(at),
                action: answer.action,
                outcome: answer.outcome.clone(),
            });
        }
    }

    fn variable(&mut self, id: &SessionId, key: &str, variable: &Variable) {
        let now = self.now;
        let age = |at: LogTime| now.0.saturating_sub(at.0);
        let defined = variable.constraints().is_some();
        self.rows.push_back(Row::Variable(VariableRow {
            session: id.clone(),
            key: key.into(),
            value: variable.value().clone(),
            version: variable.version(),
            revision: variable.revision(),
            age: age(variable.at()),
            definition: defined.then(|| Box::new(variable.definition())),
        }));
        self.rows.extend(variable.history().map(|past| Row::Past {
            session: id.clone(),
            key: key.into(),
            value: past.value.clone(),
            version: past.version,
            revision: past.revision,
            age: age(past.at),
        }));
    }

    fn entity(&mut self, id: &EntityId, entity: &Entity) {
        let Entity { epoch, born, gone, window } = entity;
        let (epoch, born, gone) = (*epoch, *born, *gone);
        self.rows.push_back(Row::Entity { entity: id.clone(), epoch, born, gone });
        self.rows.extend(window.iter().map(|(request, reply)| Row::Reply {
            entity: id.clone(),
            request: request.clone(),
            reply: reply.as_ref().map(|reply| Bytes::copy_from_slice(reply)),
        }));
    }
}
