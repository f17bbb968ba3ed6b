//! What becomes of one message: from the guest to the store to the caller.

use std::sync::Arc;

use odeum_cluster::{
    lease::LeaseHandle,
    store::{Remembered, StoreError},
};
use odeum_proto::{
    EntityId, Epoch, NodeId, ReplicaId, SessionId,
    call::{CallError, CallReply, CallRequest},
    http, limits,
    session::{Commit, DataOutcome, SessionRefusal},
    store::FirmwareSpec,
};
use tokio::time::Instant;

use super::{Activate, STORE_DEADLINE, prepare::is_present};
use crate::firmware::{
    cache::CacheHandle,
    deeds::{Deed, Reach},
    effect::{Answer, Effect, Variables},
    error::GuestFailure,
    instance::Arrival,
    keeping::{Keeper, Keepers, Unsaved},
    ledger::Ledger,
    module::Module,
    process::Launcher,
    runner::{Runner, Running},
    setting::Setting,
    status::Facts,
    travel::{Arrived, Sent},
};

/// The session of a message that names none.
const DEFAULT_SESSION: &str = "default";

pub(super) type Answered = Result<CallReply, CallError>;

/// What a host works with.
#[derive(Clone)]
pub(in crate::firmware) struct HostParts {
    pub(in crate::firmware) node: NodeId,
    pub(in crate::firmware) replica: ReplicaId,
    pub(in crate::firmware) entity: EntityId,
    /// The session of messages that name none; `None` when its name would be too long.
    pub(in crate::firmware) home: Option<SessionId>,
    pub(in crate::firmware) epoch: Epoch,
    /// Whether a host has run here under this epoch, so that a commit of it may be under way.
    pub(in crate::firmware) again: bool,
    pub(in crate::firmware) spec: Arc<FirmwareSpec>,
    pub(in crate::firmware) cache: CacheHandle,
    pub(in crate::firmware) ledger: Arc<dyn Ledger>,
    /// Has what the guest writes until the store does.
    pub(in crate::firmware) keeper: Arc<Keeper>,
    /// Those of the node.
    pub(in crate::firmware) keepers: Keepers,
    pub(in crate::firmware) activate: Arc<dyn Activate>,
    pub(in crate::firmware) lease: LeaseHandle,
    pub(in crate::firmware) facts: Facts,
    /// What instances run with.
    pub(in crate::firmware) setting: Setting,
    /// The cluster as guests reach it.
    pub(in crate::firmware) reach: Arc<dyn Reach>,
    /// Starts the processes of guests that have one of their own.
    pub(in crate::firmware) launcher: Launcher,
    /// The guest, when it came from another node.
    pub(in crate::firmware) arrived: Arrived,
    /// Whether what it has in memory may go on elsewhere.
    pub(in crate::firmware) sent: Sent,
}

/// How the host goes on after a message.
pub(super) enum Next {
    /// With the same instance.
    Keep(Running),
    /// With a new one, after the store has told what is true.
    Renew,
    /// Under a new epoch: a commit under this one may still be made.
    Fence,
    /// Not at all: this activation is over.
    End,
    /// After a restart by the supervisor.
    Crash(GuestFailure),
}

/// What came of a message.
pub(super) struct Outcome {
    pub(super) answered: Answered,
    pub(super) next: Next,
    /// What is to be done to others if there is an answer.
    pub(super) deeds: Vec<Deed>,
    /// Whether the answer is to be [confirmed](HostParts::confirmed) before it is given. The guest
    /// can go on meanwhile: nothing was changed, so nothing is in doubt.
    pub(super) unconfirmed: bool,
}

impl Outcome {
    fn settled(answered: Answered, next: Next) -> Self {
        Self { answered, next, deeds: Vec::new(), unconfirmed: false }
    }

    fn unconfirmed(answered: Answered, instance: Running, deeds: Vec<Deed>) -> Self {
        Self { answered, next: Next::Keep(instance), deeds, unconfirmed: true }
    }
}

/// The session of messages that name none.
pub(in crate::firmware) fn home(entity: &EntityId) -> Option<SessionId> {
    SessionId::owned_by(entity, DEFAULT_SESSION).ok()
}

impl HostParts {
    /// What runs a module here.
    pub(super) fn runner(&self, module: Module) -> Runner {
        Runner::new(module, self.setting.clone(), self.launcher.clone())
    }

    /// What the guest reads when no message is at hand.
    pub(super) fn variables_of_no_message(&self) -> Option<Arc<dyn Variables>> {
        let session = self.home.clone()?;
        Some(Arc::new(SessionVariables { keeper: Arc::clone(&self.keeper), session }))
    }

    /// What can be said of a call without the guest; else its session.
    pub(super) fn check(&self, call: &CallRequest) -> Result<SessionId, Answered> {
        self.check_lease().map_err(Err)?;
        if call.session.as_deref() == Some(http::SESSION) {
            return Err(Err(self.refused("it serves no HTTP requests")));
        }
        if let Some(remembered) = self.keeper.remembered(&call.request) {
            return Err(self.replayed(call, remembered));
        }
        let (got, limit) = (call.body.len(), limits::MESSAGE_BYTES);
        if got > limit {
            return Err(Err(CallError::TooLarge { got, limit }));
        }
        if let (None, Some(home)) = (&call.session, &self.home) {
            return Ok(home.clone());
        }
        let name = call.session.as_deref().unwrap_or(DEFAULT_SESSION);
        SessionId::owned_by(&self.entity, name)
            .map_err(|error| Err(self.refused(error.to_string())))
    }

    /// Whether anything may be begun here.
    pub(super) fn check_lease(&self) -> Result<(), CallError> {
        if self.lease.holds(Instant::now()) {
            return Ok(());
        }
        let (entity, reason) = (self.entity.clone(), "the lease of its node is over".into());
        Err(CallError::Unavailable { entity, reason })
    }

    /// Gives the guest a call, or another thing that `arrival` says.
    pub(super) async fn run(
        &self,
        instance: Running,
        call: CallRequest,
        session: SessionId,
        arrival: Option<Arrival<'_>>,
    ) -> Outcome {
        let variables =
            SessionVariables { keeper: Arc::clone(&self.keeper), session: session.clone() };
        let called = Arrival::Called { topic: call.session.as_deref(), body: &call.body };
        match instance.handle(arrival.unwrap_or(called), Arc::new(variables)).await {
            Err(failure) => Outcome::settled(Err(self.failed(&failure)), Next::Crash(failure)),
            Ok((instance, Answer::Refused { reason, .. })) => {
                Outcome::unconfirmed(Err(self.refused(reason)), instance, Vec::new())
            }
            Ok((instance, Answer::Done(mut effect))) => {
                let deeds = std::mem::take(&mut effect.deeds);
                if effect.writes.is_empty() {
                    let answered = Ok(self.reply(effect.reply, false));
                    return Outcome::unconfirmed(answered, instance, deeds);
                }
                let (answered, next) = match self.keeper.is_durable() {
                    true => self.commit(instance, call, session, effect).await,
                    false => Box::pin(self.keep(instance, call, session, effect)).await,
                };
                Outcome { deeds, ..Outcome::settled(answered, next) }
            }
        }
    }

    /// The answer of a message that changed nothing, if what the guest read was the newest; and
    /// whether this activation is over.
    async fn confirmed(&self, answered: Answered) -> (Answered, bool) {
        if !self.keeper.is_durable() {
            return (self.check_lease().and(answered), false);
        }
        let seen = self.ledger.confirm(&self.entity, STORE_DEADLINE).await;
        settled(answered, seen, self.epoch, (&self.entity, &self.node))
    }

    /// The same outcome with an answer that can be given.
    pub(super) async fn confirm(&self, outcome: Outcome) -> Outcome {
        if !outcome.unconfirmed {
            return outcome;
        }
        let (answered, is_over) = self.confirmed(outcome.answered).await;
        let next = if is_over { Next::End } else { outcome.next };
        Outcome { answered, next, unconfirmed: false, ..outcome }
    }

    /// As [`Self::commit`], for what need not be in the store before its reply.
    async fn keep(
        &self,
        instance: Running,
        call: CallRequest,
        session: SessionId,
        effect: Effect,
    ) -> (Answered, Next) {
        // From when it is over somebody else may begin who knows nothing of this.
        if let Err(error) = self.check_lease() {
            return (Err(error), Next::Renew);
        }
        let Effect { writes, reply, deeds } = effect;
        let kept = self.keeper.keep(session, call.request.clone(), writes, reply.clone()).await;
        match kept {
            Ok(None) => (Ok(self.reply(reply, false)), Next::Keep(instance)),
            Ok(Some((session, writes))) => {
                self.commit(instance, call, session, Effect { writes, reply, deeds }).await
            }
            Err(Unsaved::Later(reason)) => (Err(CallError::NoQuorum { reason }), Next::Renew),
            Err(Unsaved::Over) => (Err(self.not_here()), Next::End),
            Err(Unsaved::Refused(refusal)) => {
                let failure = not_kept(&refusal);
                (Err(self.failed(&failure)), Next::Crash(failure))
            }
        }
    }

    async fn commit(
        &self,
        instance: Running,
        call: CallRequest,
        session: SessionId,
        effect: Effect,
    ) -> (Answered, Next) {
        let commit = Commit {
            entity: self.entity.clone(),
            epoch: self.epoch,
            request: call.request.clone(),
            session,
            writes: effect.writes,
            reply: effect.reply.clone(),
            carried: Vec::new(),
        };
        match self.ledger.commit(commit, STORE_DEADLINE).await {
            Ok(DataOutcome::Applied { revision }) => {
                // The next message must read what this one wrote. The store shows it at once
                // unless this node's replica fell behind.
                let is_shown = self.ledger.shows(&self.entity, revision);
                let next = if is_shown { Next::Keep(instance) } else { Next::Renew };
                (Ok(self.reply(effect.reply, false)), next)
            }
            // Carried out before, unknown to this node when the call came. The guest has now seen
            // it twice, so its memory goes.
            Ok(DataOutcome::Replayed { reply }) => (self.replayed(&call, reply), Next::Renew),
            Ok(DataOutcome::Refused(SessionRefusal::StaleEpoch { .. })) => {
                (Err(self.not_here()), Next::End)
            }
            Ok(DataOutcome::Refused(refusal @ SessionRefusal::TooMuch { .. })) => {
                let (entity, reason) = (self.entity.clone(), refusal.to_string().into());
                (Err(CallError::LimitExceeded { entity, reason }), Next::Renew)
            }
            // A variable that the guest writes has a type or constraints that somebody gave it.
            Ok(DataOutcome::Refused(refusal)) => {
                (Err(self.refused(refusal.to_string())), Next::Renew)
            }
            Ok(outcome) => (Err(self.refused(format!("the store said {outcome:?}"))), Next::Renew),
            Err(error) => (Err(no_quorum(&error)), Next::Fence),
        }
    }

    pub(super) fn reply(&self, body: Vec<u8>, replayed: bool) -> CallReply {
        CallReply { body, node: self.node.clone(), epoch: self.epoch, replayed }
    }

    fn replayed(&self, call: &CallRequest, remembered: Remembered) -> Answered {
        let forgotten = || CallError::ReplyForgotten { request: call.request.clone() };
        remembered.map(|body| self.reply(body, true)).ok_or_else(forgotten)
    }

    pub(super) fn refused(&self, reason: impl Into<Box<str>>) -> CallError {
        CallError::Refused { entity: self.entity.clone(), reason: reason.into() }
    }

    pub(super) fn not_here(&self) -> CallError {
        CallError::NotHere { entity: self.entity.clone(), node: self.node.clone() }
    }

    pub(super) fn failed(&self, failure: &GuestFailure) -> CallError {
        let (entity, reason) = (self.entity.clone(), failure.to_string().into());
        match failure {
            GuestFailure::Trapped { .. } => CallError::Trapped { entity, reason },
            GuestFailure::Limit(_) => CallError::LimitExceeded { entity, reason },
            GuestFailure::NotKept { .. } => CallError::Refused { entity, reason },
            GuestFailure::Process { .. }
            | GuestFailure::NotGranted { .. }
            | GuestFailure::Exited { .. }
            | GuestFailure::NotStarted { .. }
            | GuestFailure::NotAlive { .. }
            | GuestFailure::Exceeded { .. }
            | GuestFailure::OtherKind { .. } => CallError::Trapped { entity, reason },
        }
    }
}

/// What a caller is told when the last activation that the store has seen is `seen`; and whether the one of
/// `epoch` is over.
pub(super) fn settled(
    answered: Answered,
    seen: Result<Option<Epoch>, StoreError>,
    epoch: Epoch,
    (entity, node): (&EntityId, &NodeId),
) -> (Answered, bool) {
    match seen {
        Ok(seen) if is_present(epoch, seen) => (answered, false),
        Ok(_) => (Err(CallError::NotHere { entity: entity.clone(), node: node.clone() }), true),
        Err(error) => (Err(no_quorum(&error)), false),
    }
}

/// What the store refuses to a guest that is not there to hear it any more.
pub(super) fn not_kept(refusal: &SessionRefusal) -> GuestFailure {
    GuestFailure::NotKept { reason: refusal.to_string().into() }
}

/// No majority, no answer in time, no replica: for the caller all the same. The outcome of a write
/// is unknown then, and a retry with the same request id tells it.
fn no_quorum(error: &StoreError) -> CallError {
    CallError::NoQuorum { reason: error.to_string().into() }
}

/// The variables of one session, as far as this node knows. The host holds the entity's epoch, so
/// nobody else writes them.
struct SessionVariables {
    keeper: Arc<Keeper>,
    session: SessionId,
}

impl Variables for SessionVariables {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.keeper.variable(&self.session, key)
    }
}
