//! Sessions as a program uses them: typed variables, transactions, programs, watches.
//!
//! ```no_run
//! # async fn example(store: odeum_cluster::store::StoreHandle) -> Result<(), odeum_cluster::store::SessionError> {
//! use odeum_cluster::store::Consistency;
//! use odeum_proto::session::{SessionSettings, Value};
//!
//! let session = store.session("user-42".parse().expect("a session id"));
//! session.create(SessionSettings::default()).await?;
//! let version = session.set("score", Value::Integer(7)).await?;
//! // Only if nobody else has written it since.
//! session.compare_and_set("score", version, Value::Integer(8)).await?;
//! let score = session.get("score", Consistency::Linearizable).await?;
//! assert_eq!(score.map(|variable| variable.value().clone()), Some(Value::Integer(8)));
//! # Ok(())
//! # }
//! ```

mod origin;
mod watch;

use std::time::Duration;

use odeum_proto::session::{
    Compare, DataAction, DataCommand, DataOutcome, Definition, Done, Glob, Operation, Program,
    SessionRefusal, SessionSettings, Value,
};
use odeum_proto::{GroupId, RequestId, Revision, SessionId};

use super::data::{Data, Session, Variable};
use super::error::StoreError;
use super::front::StoreHandle;
use super::rounds::Consistency;

pub(super) use self::origin::Origins;
pub(super) use self::watch::Bells;
pub use self::watch::{Watch, WatchEvent};

/// How long a request may take unless told otherwise: an election and some more.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a request to a session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It was carried out, and all replicas agree that nothing is to be changed. It names the
    /// session, the variable, the rule and both values.
    #[error(transparent)]
    Refused(#[from] SessionRefusal),
    /// The store could not be asked, or did not answer in time.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SessionError {
    /// Whether the same request may succeed a moment later. It is safe to send again when it
    /// names what it expects, or carries an idempotency key.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Store(error) => error.is_retryable(),
        }
    }
}

type Result<T> = std::result::Result<T, SessionError>;

/// One session. Cheap to clone; that it can be named does not mean that it is there.
///
/// Every change is made once, also when this node has to ask two leaders for it. Only when a
/// change ends in a [`StoreError`] is it unknown whether it was made; with
/// [`request`](Self::request) the same change can be asked for again, by any node, and is made
/// once.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    store: StoreHandle,
    id: SessionId,
    deadline: Duration,
    request: Option<RequestId>,
}

impl SessionHandle {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The same session, with another time that each request may take; 10 s is usual.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The same session, for one change that is known by `request`: asked for again under that
    /// key within ten minutes it is not made again, and the first answer is given.
    #[must_use]
    pub fn request(self, request: RequestId) -> Self {
        Self { request: Some(request), ..self }
    }

    /// Creates it; whether it is new. One that is there with the same settings stays as it is.
    ///
    /// # Errors
    /// [`SessionError`]; a refusal when it is there with other settings.
    pub async fn create(&self, settings: SessionSettings) -> Result<bool> {
        match self.act(|session| DataAction::CreateSession { session, settings }).await? {
            DataOutcome::Created { created, .. } => Ok(created),
            other => Err(unexpected(&other)),
        }
    }

    /// Renews its time to live.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn touch(&self) -> Result<()> {
        self.act(|session| DataAction::TouchSession { session }).await.map(drop)
    }

    /// Gives it another time to live, from now on; `None` for ever.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn set_ttl(&self, ttl: Option<Duration>) -> Result<()> {
        self.act(|session| DataAction::SetTtl { session, ttl }).await.map(drop)
    }

    /// Deletes it with all that is in it; whether it was there.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn delete(&self) -> Result<bool> {
        match self.act(|session| DataAction::DeleteSession { session }).await? {
            DataOutcome::Deleted { existed, .. } => Ok(existed),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a variable of a type, with constraints; its version. One that is there with the same
    /// definition stays as it is.
    ///
    /// # Errors
    /// [`SessionError`]; a refusal when it is there with another definition or `initial` does not
    /// satisfy its own.
    pub async fn register(&self, key: &str, definition: Definition, initial: Value) -> Result<u64> {
        let (key, definition) = (key.into(), Box::new(definition));
        self.operate(Operation::Register { key, definition, initial, replace: false }).await
    }

    /// Writes a variable, which is made when it is not there; its new version.
    ///
    /// # Errors
    /// [`SessionError`]; a refusal names the constraint and both values.
    pub async fn set(&self, key: &str, value: Value) -> Result<u64> {
        self.operate(set(key, value, None, true)).await
    }

    /// Writes a variable that is there; its new version.
    ///
    /// # Errors
    /// [`SessionError`]; a refusal when it is not there.
    pub async fn update(&self, key: &str, value: Value) -> Result<u64> {
        self.operate(set(key, value, None, false)).await
    }

    /// Writes a variable if it has version `expected`, 0 when it must not be there; its new
    /// version.
    ///
    /// # Errors
    /// [`SessionError`]; a refusal names both versions.
    pub async fn compare_and_set(&self, key: &str, expected: u64, value: Value) -> Result<u64> {
        self.operate(set(key, value, Some(expected), true)).await
    }

    /// Removes a variable; whether it was there.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn remove(&self, key: &str) -> Result<bool> {
        match self.done(Operation::Delete { key: key.into(), expected: None }).await? {
            Done::Removed { existed } => Ok(existed),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets an entry of the metadata, or removes it with `None`.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn note(&self, key: &str, value: Option<&str>) -> Result<()> {
        let note = Operation::Note { key: key.into(), value: value.map(Into::into) };
        self.done(note).await.map(drop)
    }

    /// Stores a program.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn put_program(&self, name: &str, program: Program) -> Result<()> {
        self.done(Operation::PutProgram { name: name.into(), program: program.into() })
            .await
            .map(drop)
    }

    /// Removes a program; whether it was there.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn delete_program(&self, name: &str) -> Result<bool> {
        match self.done(Operation::DeleteProgram { name: name.into() }).await? {
            Done::Removed { existed } => Ok(existed),
            other => Err(unexpected(&other)),
        }
    }

    /// Does several things in order, as one entry of the log: all of them or none.
    ///
    /// # Errors
    /// [`SessionError`]; a refusal is that of the first operation that cannot be done.
    pub async fn batch(&self, operations: Vec<Operation>) -> Result<Vec<Done>> {
        let action = |session| DataAction::Batch { session, atomic: true, operations };
        match self.act(action).await? {
            DataOutcome::Batch { results, .. } => {
                Ok(results.into_iter().collect::<std::result::Result<_, _>>()?)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Does those of several things that can be done, in order, as one entry of the log.
    ///
    /// # Errors
    /// [`SessionError`] when none of them was tried.
    pub async fn each(
        &self,
        operations: Vec<Operation>,
    ) -> Result<Vec<std::result::Result<Done, SessionRefusal>>> {
        let action = |session| DataAction::Batch { session, atomic: false, operations };
        match self.act(action).await? {
            DataOutcome::Batch { results, .. } => Ok(results),
            other => Err(unexpected(&other)),
        }
    }

    /// Does `then` when all comparisons hold, and `otherwise` when one does not; all of that list
    /// or nothing. Which it was, and what its operations came to.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn transaction(
        &self,
        compare: Vec<Compare>,
        then: Vec<Operation>,
        otherwise: Vec<Operation>,
    ) -> Result<(bool, Vec<Done>)> {
        let action = |session| DataAction::Transaction { session, compare, then, otherwise };
        match self.act(action).await? {
            DataOutcome::Transaction { succeeded, results, .. } => Ok((succeeded, results)),
            other => Err(unexpected(&other)),
        }
    }

    /// A variable.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn get(&self, key: &str, consistency: Consistency) -> Result<Option<Variable>> {
        self.read(consistency, |session, _| session?.variables().get(key).cloned()).await
    }

    /// Shows the session to `look`, which should be brief: writes wait. `None` when it is not
    /// there; with it the revision it is as of, from which a [`watch`](Self::watch) goes on.
    ///
    /// # Errors
    /// [`SessionError::Store`]; [`SessionRefusal::Restoring`] while a backup is brought into its
    /// group, of which [`Consistency::Local`] shows what is there.
    pub async fn read<R>(
        &self,
        consistency: Consistency,
        look: impl FnOnce(Option<&Session>, Revision) -> R,
    ) -> Result<R> {
        let group = self.group()?;
        self.store.barrier_of(group, consistency, self.deadline).await?;
        self.store.view_at(group, |data, at| {
            check_whole(data, consistency)?;
            Ok(look(data.session(&self.id), at))
        })
    }

    /// Every change of this session after revision `after`, once and in order, as this node comes
    /// to know of them.
    ///
    /// # Errors
    /// [`SessionError::Store`] while this node does not know its cluster.
    pub fn watch(&self, after: Revision) -> Result<Watch> {
        let seat = self.store.shared.seat(self.group()?);
        Ok(Watch::session(seat, self.id.clone(), after))
    }

    async fn operate(&self, operation: Operation) -> Result<u64> {
        match self.done(operation).await? {
            Done::Registered { version, .. } | Done::Written { version } => Ok(version),
            other => Err(unexpected(&other)),
        }
    }

    async fn done(&self, operation: Operation) -> Result<Done> {
        match self.act(|session| DataAction::Operate { session, operation }).await? {
            DataOutcome::Operated { done, .. } => Ok(done),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the change that `action` says of this session; what it came to, with its revision,
    /// for who passes changes on for others.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn act(&self, action: impl FnOnce(SessionId) -> DataAction) -> Result<DataOutcome> {
        let action = action(self.id.clone());
        let request = self.request.clone();
        self.store.change(self.group()?, action, request, self.deadline).await
    }

    fn group(&self) -> Result<GroupId> {
        Ok(self.store.group_of(&self.id)?)
    }
}

impl StoreHandle {
    /// The session of that id, whether it is there or not.
    #[must_use]
    pub fn session(&self, id: SessionId) -> SessionHandle {
        SessionHandle { store: self.clone(), id, deadline: DEADLINE, request: None }
    }

    /// What `look` gives of each session whose id `glob` selects, by id, from the first one after
    /// `after` on; at most `limit` of them.
    ///
    /// # Errors
    /// As [`SessionHandle::read`], of any group.
    pub async fn list_sessions<R: Send>(
        &self,
        glob: &Glob,
        after: Option<&SessionId>,
        limit: usize,
        consistency: Consistency,
        look: impl Fn(&SessionId, &Session) -> R + Send + Sync,
    ) -> Result<Vec<(SessionId, R)>> {
        let mut found = Vec::new();
        for group in self.data_groups()? {
            self.barrier_of(group, consistency, DEADLINE).await?;
            self.view_data(group, |data: &Data| {
                check_whole(data, consistency)?;
                let matching = data.matching(glob, after).take(limit);
                found.extend(matching.map(|(id, session)| (id.clone(), look(id, session))));
                Ok::<_, SessionRefusal>(())
            })?;
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.truncate(limit);
        Ok(found)
    }

    /// Every change of the sessions of `group` whose ids `glob` selects after revision `after`,
    /// once and in order.
    #[must_use]
    pub fn watch_group(&self, group: GroupId, glob: Glob, after: Revision) -> Watch {
        Watch::matching(self.shared.seat(group), glob, after)
    }

    /// Makes a change to a group of sessions, once.
    ///
    /// # Errors
    /// [`SessionError`].
    pub(super) async fn change(
        &self,
        group: GroupId,
        action: DataAction,
        request: Option<RequestId>,
        deadline: Duration,
    ) -> Result<DataOutcome> {
        let seat = self.shared.seat(group);
        let ticket = seat.origins.begin(&self.shared.config);
        let command = DataCommand { origin: Some(ticket.origin()), request, action };
        match self.send_data(&seat, command, deadline).await?.0 {
            DataOutcome::Refused(refusal) => Err(refusal.into()),
            outcome => Ok(outcome),
        }
    }
}

/// Half of a backup is not the truth: only who asks for no more than what is here sees it.
fn check_whole(data: &Data, consistency: Consistency) -> std::result::Result<(), SessionRefusal> {
    match data.importing() {
        Some(backup) if consistency != Consistency::Local => {
            Err(SessionRefusal::Restoring { backup })
        }
        _ => Ok(()),
    }
}

fn set(key: &str, value: Value, expected: Option<u64>, register: bool) -> Operation {
    Operation::Set { key: key.into(), value, expected, register }
}

fn unexpected(outcome: &impl std::fmt::Debug) -> SessionError {
    StoreError::broken(format!("{outcome:?} to another request")).into()
}
