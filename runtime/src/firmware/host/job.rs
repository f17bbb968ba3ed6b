//! The end of a job, and that it is remembered.
//!
//! That a job has completed is a variable of the firmware, so it does not run again when its node
//! restarts or another takes over. It does when it is deployed again, which removes the variable. A
//! job whose node crashes before the variable is written runs again: at least once.

use odeum_actors::{ActorError, Context};
use odeum_proto::{
    Digest, RequestId, SessionId,
    session::{Commit, DataOutcome, SessionRefusal, Write},
};
use serde::{Deserialize, Serialize};

use super::{HostActor, HostMessage, HostParts, PREPARE_PAUSES, STORE_DEADLINE, Stands};
use crate::firmware::{
    error::GuestFailure,
    job::{Follows, follows},
    module::Module,
    status::{HostState, JOB_SESSION},
};

/// The variable that holds the outcome.
const OUTCOME: &str = "outcome";

/// What a job came to.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    /// The package that ran, as text.
    package: String,
    /// Its exit code.
    code: i32,
}

/// How a job ended.
#[derive(Debug)]
pub(super) enum JobEnd {
    /// It has completed with this exit code, and the store knows it.
    Completed(i32),
    /// It failed and stays so.
    Failed(GuestFailure),
    /// It is to run again.
    Again(GuestFailure),
    /// This activation is over.
    Over,
}

impl HostActor {
    /// Runs a job beside the actor, unless it has completed before.
    pub(super) fn begin_job(&mut self, ctx: &mut Context<Self>, module: Module) {
        self.stands = Stands::Job;
        if let Some(code) = self.parts.outcome(module.digest()) {
            self.parts.facts.completed(code);
            return;
        }
        self.parts.facts.running(0, None);
        let (parts, actor) = (self.parts.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            let end = parts.run_job(&module).await;
            // An error means that the actor ended.
            let _ = actor.tell_control(HostMessage::JobEnded { end });
        });
    }

    pub(super) fn on_job_ended(
        &mut self,
        ctx: &mut Context<Self>,
        end: JobEnd,
    ) -> Result<(), ActorError> {
        let parts = &self.parts;
        match end {
            JobEnd::Completed(code) => {
                tracing::info!(entity = %parts.entity, epoch = %parts.epoch, code, "job completed");
                parts.facts.completed(code);
            }
            JobEnd::Failed(failure) => {
                parts.erred(&failure);
                parts.facts.erred(HostState::Failed, failure.to_string());
            }
            JobEnd::Again(failure) => {
                parts.erred(&failure);
                return Err(failure.into());
            }
            JobEnd::Over => self.end(ctx),
        }
        Ok(())
    }
}

impl HostParts {
    fn job_session(&self) -> Option<SessionId> {
        SessionId::owned_by(&self.entity, JOB_SESSION).ok()
    }

    /// The exit code with which this package has completed before.
    fn outcome(&self, package: Digest) -> Option<i32> {
        let value = self.ledger.variable(&self.job_session()?, OUTCOME)?;
        let outcome: Outcome = serde_json::from_slice(&value).ok()?;
        (outcome.package == package.to_string()).then_some(outcome.code)
    }

    async fn run_job(&self, module: &Module) -> JobEnd {
        let begun = |pid| self.facts.running(0, pid);
        let ended = self.runner(module.clone()).run_job(begun).await;
        match follows(ended, module.manifest().restart.when) {
            Follows::Completed(code) => self.remember(module.digest(), code).await,
            Follows::Failed(failure) => JobEnd::Failed(failure),
            Follows::Again(failure) => JobEnd::Again(failure),
        }
    }

    /// Writes the outcome, however long the store takes: the request makes it safe to repeat.
    async fn remember(&self, package: Digest, code: i32) -> JobEnd {
        let outcome = Outcome { package: package.to_string(), code };
        let (Some(session), Ok(value)) = (self.job_session(), serde_json::to_vec(&outcome)) else {
            return JobEnd::Completed(code);
        };
        let commit = Commit {
            entity: self.entity.clone(),
            epoch: self.epoch,
            request: RequestId::random(),
            session,
            writes: vec![Write::Set { key: OUTCOME.to_owned(), value }],
            reply: Vec::new(),
            carried: Vec::new(),
        };
        let (mut pause, longest) = PREPARE_PAUSES;
        loop {
            match self.ledger.commit(commit.clone(), STORE_DEADLINE).await {
                Ok(DataOutcome::Refused(SessionRefusal::StaleEpoch { .. })) => return JobEnd::Over,
                Ok(DataOutcome::Refused(refusal)) => {
                    tracing::warn!(entity = %self.entity, %refusal, "job's outcome not remembered");
                    return JobEnd::Completed(code);
                }
                Ok(_) => return JobEnd::Completed(code),
                Err(error) => {
                    tracing::warn!(entity = %self.entity, %error, "job's outcome waits");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }
}
