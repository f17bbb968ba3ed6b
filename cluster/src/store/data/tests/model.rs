//! The state machine once more, as plainly as it can be said: tables, no bounds, no totals, no
//! index, and every change ever made.

use std::collections::BTreeMap;

use odeum_proto::session::{Change, Ended, Key, Quotas, What};

use super::*;

mod working;

use working::Working;

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) now: u64,
    pub(super) sessions: BTreeMap<SessionId, ModelSession>,
    entities: BTreeMap<EntityId, ModelEntity>,
    /// By node: the start, the lowest number, what came of each.
    clients: BTreeMap<NodeId, (u64, u64, BTreeMap<u64, Answer>)>,
    pub(super) changes: Vec<Change>,
    /// Up to where they are not told any more.
    pub(super) compacted: u64,
    quotas: Quotas,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ModelSession {
    pub(super) ttl: Option<Duration>,
    pub(super) touched: u64,
    pub(super) metadata: Metadata,
    pub(super) variables: BTreeMap<Key, ModelVariable>,
    pub(super) programs: BTreeMap<Box<str>, Arc<Program>>,
    pub(super) last_version: u64,
    answers: BTreeMap<RequestId, (u64, DataAction, Answer)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ModelVariable {
    pub(super) definition: Definition,
    /// Value and version, oldest first; the last one is the present one.
    pub(super) values: Vec<(Value, u64)>,
}

#[derive(Debug, Clone, Default)]
struct ModelEntity {
    epoch: u64,
    /// The last epoch before it came to be.
    born: u64,
    replies: BTreeMap<RequestId, Option<Vec<u8>>>,
}

/// An outcome without the words of refusals.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Refused,
    Done(DataOutcome),
    Batch(Revision, Vec<Option<Done>>),
}

impl From<DataOutcome> for Answer {
    fn from(outcome: DataOutcome) -> Self {
        match outcome {
            DataOutcome::Refused(_) => Self::Refused,
            DataOutcome::Batch { revision, results } => {
                Self::Batch(revision, results.into_iter().map(Result::ok).collect())
            }
            other => Self::Done(other),
        }
    }
}

impl Model {
    pub(super) fn apply(&mut self, revision: u64, at: u64, command: &DataCommand) -> Answer {
        self.now = self.now.max(at);
        if let Some(id) = command.action.session() {
            let due = self.sessions.get(id).and_then(|s| Some((s.touched, s.ttl?)));
            if due.is_some_and(|(touched, ttl)| self.now >= touched + ms(ttl)) {
                self.end(revision, id, Ended::Expired);
            }
        }
        let Some(origin) = &command.origin else { return self.request(revision, command) };
        let start = origin.client.incarnation.0;
        let fresh = (start, 0, BTreeMap::new());
        let client = self.clients.get(&origin.client.node).cloned().unwrap_or(fresh.clone());
        if start < client.0 {
            return Answer::Refused;
        }
        let mut client = if start > client.0 { fresh } else { client };
        client.1 = client.1.max(origin.lowest_outstanding);
        if origin.sequence < client.1 {
            return Answer::Refused;
        }
        let answer = match client.2.get(&origin.sequence) {
            Some(answer) => answer.clone(),
            None => self.request(revision, command),
        };
        client.2.insert(origin.sequence, answer.clone());
        self.clients.insert(origin.client.node.clone(), client);
        answer
    }

    fn request(&mut self, revision: u64, command: &DataCommand) -> Answer {
        let (Some(request), Some(id)) = (&command.request, command.action.session()) else {
            return self.act(revision, &command.action);
        };
        let window = ms(odeum_proto::limits::REQUEST_WINDOW);
        let known = self.sessions.get(id).and_then(|s| s.answers.get(request)).cloned();
        if let Some((at, action, answer)) = known
            && self.now < at + window
        {
            return if action == command.action { answer } else { Answer::Refused };
        }
        let answer = self.act(revision, &command.action);
        if answer != Answer::Refused
            && let Some(session) = self.sessions.get_mut(id)
        {
            let kept = (self.now, command.action.clone(), answer.clone());
            session.answers.insert(request.clone(), kept);
        }
        answer
    }

    fn act(&mut self, revision: u64, action: &DataAction) -> Answer {
        let at = Revision(revision);
        match action {
            DataAction::CreateSession { session, settings } => {
                if let Some(there) = self.sessions.get_mut(session) {
                    if there.ttl != settings.ttl || there.metadata != settings.metadata {
                        return Answer::Refused;
                    }
                    there.touched = self.now;
                    return Answer::Done(DataOutcome::Created { revision: at, created: false });
                }
                if self.is_full() {
                    return Answer::Refused;
                }
                self.create(revision, session, settings);
                Answer::Done(DataOutcome::Created { revision: at, created: true })
            }
            DataAction::TouchSession { session } => {
                let Some(there) = self.sessions.get_mut(session) else { return Answer::Refused };
                there.touched = self.now;
                Answer::Done(DataOutcome::Applied { revision: at })
            }
            DataAction::DeleteSession { session } => {
                let existed = self.end(revision, session, Ended::Deleted);
                Answer::Done(DataOutcome::Deleted { revision: at, existed })
            }
            DataAction::SetTtl { session, ttl } => {
                let Some(there) = self.sessions.get_mut(session) else { return Answer::Refused };
                there.touched = self.now;
                if there.ttl != *ttl {
                    there.ttl = *ttl;
                    self.tell(revision, session, What::Ttl(*ttl));
                }
                Answer::Done(DataOutcome::Applied { revision: at })
            }
            DataAction::Operate { session, operation } => self.tried(revision, session, |s| {
                let done = s.operate(operation)?;
                Some(Answer::Done(DataOutcome::Operated { revision: at, done }))
            }),
            DataAction::Batch { session, atomic, operations } => {
                self.tried(revision, session, |s| {
                    let results: Vec<_> = operations.iter().map(|o| s.operate(o)).collect();
                    let all = results.iter().all(Option::is_some);
                    (all || !atomic).then_some(Answer::Batch(at, results))
                })
            }
            DataAction::Transaction { session, compare, then, otherwise } => {
                self.tried(revision, session, |s| {
                    let succeeded = compare.iter().all(|compare| s.holds(compare));
                    let list = if succeeded { then } else { otherwise };
                    let results = list.iter().map(|o| s.operate(o)).collect::<Option<_>>()?;
                    let revision = at;
                    Some(Answer::Done(DataOutcome::Transaction { revision, succeeded, results }))
                })
            }
            DataAction::Expire { max } => self.expire(revision, *max),
            DataAction::Commit(commit) => self.commit(revision, commit),
            DataAction::Fence { entity, epoch, born } => {
                self.fence(revision, entity, epoch.0, born.0)
            }
            DataAction::Forget { entity, epoch } => self.forget(revision, entity, epoch.0),
            // Histories have none; what an import does has tests of its own.
            DataAction::Import(_) => Answer::Refused,
            DataAction::SetQuotas(quotas) => {
                self.quotas = *quotas;
                Answer::Done(DataOutcome::Applied { revision: at })
            }
            DataAction::Compact { upto } => {
                if *upto > at {
                    return Answer::Refused;
                }
                self.compacted = self.compacted.max(upto.0);
                Answer::Done(DataOutcome::Applied { revision: at })
            }
        }
    }

    fn expire(&mut self, revision: u64, max: u32) -> Answer {
        let due = |(id, s): (&SessionId, &ModelSession)| {
            Some((s.touched + ms(s.ttl?), id.clone())).filter(|(due, _)| *due <= self.now)
        };
        let mut due: Vec<_> = self.sessions.iter().filter_map(due).collect();
        due.sort();
        due.truncate(max as usize);
        let sessions = due.len() as u32;
        for (_, id) in due {
            self.end(revision, &id, Ended::Expired);
        }
        Answer::Done(DataOutcome::Expired { revision: Revision(revision), sessions })
    }

    fn fence(&mut self, revision: u64, entity: &EntityId, epoch: u64, born: u64) -> Answer {
        if !self.current(entity, epoch) {
            return Answer::Refused;
        }
        let row = self.entities.entry(entity.clone()).or_default();
        row.epoch = epoch;
        if row.born < born {
            row.replies.clear();
            row.born = born;
        }
        Answer::Done(DataOutcome::Applied { revision: Revision(revision) })
    }

    fn forget(&mut self, revision: u64, entity: &EntityId, epoch: u64) -> Answer {
        if let Some(row) = self.entities.get_mut(entity)
            && row.epoch <= epoch
        {
            row.epoch = epoch + 1;
            row.replies.clear();
        }
        Answer::Done(DataOutcome::Applied { revision: Revision(revision) })
    }

    fn current(&self, entity: &EntityId, epoch: u64) -> bool {
        self.entities.get(entity).is_none_or(|there| epoch >= there.epoch)
    }

    fn commit(&mut self, revision: u64, commit: &Commit) -> Answer {
        let known = self.entities.get(&commit.entity).and_then(|e| e.replies.get(&commit.request));
        if let Some(reply) = known {
            return Answer::Done(DataOutcome::Replayed { reply: reply.clone() });
        }
        if !self.current(&commit.entity, commit.epoch.0) {
            return Answer::Refused;
        }
        let mut last = BTreeMap::new();
        for write in &commit.writes {
            match write {
                Write::Set { key, value } => last.insert(key.as_str(), Some(value)),
                Write::Delete { key } => last.insert(key.as_str(), None),
            };
        }
        let before = self.clone();
        let sets = last.values().any(Option::is_some);
        if sets && !self.sessions.contains_key(&commit.session) {
            if self.is_full() {
                return Answer::Refused;
            }
            self.create(revision, &commit.session, &SessionSettings::default());
        }
        if self.sessions.contains_key(&commit.session) {
            let answer = self.tried(revision, &commit.session, |s| {
                for (key, value) in last.iter().filter(|(_, value)| value.is_none()) {
                    assert!(value.is_none());
                    s.operate(&delete(key))?;
                }
                // New ones are counted as growing by all they have.
                let mut sets: Vec<_> =
                    last.iter().filter_map(|(key, value)| Some((*key, (*value)?))).collect();
                let size = |key: &str, value: &Vec<u8>, s: &Working| {
                    let old = s.session.variables.get(key).map_or(0, |v| v.value().weight());
                    value.len() as i64 - old as i64
                };
                sets.sort_by_key(|(key, value)| (size(key, value, s), *key));
                for (key, value) in sets {
                    let kind = s.session.variables.get(key).map(|v| v.value().kind());
                    let kind = kind.unwrap_or(ValueType::Bytes);
                    s.operate(&set(key, Value::from_plain(kind, value)?))?;
                }
                Some(Answer::Done(DataOutcome::Applied { revision: Revision(revision) }))
            });
            if answer == Answer::Refused {
                *self = before;
                return answer;
            }
        }
        let row = self.entities.entry(commit.entity.clone()).or_default();
        row.epoch = commit.epoch.0;
        for Carried { request, reply } in &commit.carried {
            let reply = reply.clone().map(Vec::from);
            row.replies.entry(request.clone()).or_insert(reply);
        }
        row.replies.insert(commit.request.clone(), Some(commit.reply.clone()));
        Answer::Done(DataOutcome::Applied { revision: Revision(revision) })
    }

    fn is_full(&self) -> bool {
        self.sessions.len() as u64 >= self.quotas.sessions
    }

    fn create(&mut self, revision: u64, id: &SessionId, settings: &SessionSettings) {
        let session = ModelSession {
            ttl: settings.ttl,
            touched: self.now,
            metadata: settings.metadata.clone(),
            ..ModelSession::default()
        };
        self.sessions.insert(id.clone(), session);
        self.tell(revision, id, What::Created);
    }

    fn end(&mut self, revision: u64, id: &SessionId, reason: Ended) -> bool {
        let existed = self.sessions.remove(id).is_some();
        if existed {
            self.tell(revision, id, What::Deleted(reason));
        }
        existed
    }

    /// Works on a copy, which takes the session's place unless the work was refused.
    fn tried(
        &mut self,
        revision: u64,
        id: &SessionId,
        work: impl FnOnce(&mut Working) -> Option<Answer>,
    ) -> Answer {
        let Some(session) = self.sessions.get(id).cloned() else { return Answer::Refused };
        let mut working = Working { session, told: Vec::new(), quotas: self.quotas };
        let Some(answer) = work(&mut working) else { return Answer::Refused };
        if !working.told.is_empty() {
            working.session.touched = self.now;
            self.sessions.insert(id.clone(), working.session);
        }
        for what in working.told {
            self.tell(revision, id, what);
        }
        answer
    }

    fn tell(&mut self, revision: u64, session: &SessionId, what: What) {
        let same = |change: &&Change| change.revision.0 == revision;
        let index = self.changes.iter().filter(same).count() as u32;
        let (revision, session) = (Revision(revision), session.clone());
        self.changes.push(Change { revision, index, session, what });
    }
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
