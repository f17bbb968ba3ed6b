//! What only shows over a longer time: an update that crashes more often than it may, crashes that add
//! up, a host that is stuck, and too much use of the machine.

use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{ActorError, Context};
use odeum_proto::{
    Digest, ReplicaId,
    chronicle::What,
    store::{Outcome, Remedy, Threshold},
};
use tokio::time::Instant;

use super::CoordinatorActor;
use crate::firmware::{
    crashes::Verdict,
    error::GuestFailure,
    host::STORE_DEADLINE,
    status::{Facts, HostState},
    usage,
};

/// Pause between two tries to tell the store something.
const TELL_PAUSE: Duration = Duration::from_secs(1);

impl CoordinatorActor {
    /// A crash that the host's supervisor bears.
    pub(super) async fn on_crashed(
        &mut self,
        ctx: &mut Context<Self>,
        name: ReplicaId,
        facts: &Facts,
    ) {
        self.save(ctx, &name);
        let can_roll_back = self.can_roll_back(&name);
        let Some(entry) = self.entries.get(&name).filter(|entry| entry.facts.are(facts)) else {
            return;
        };
        let (policy, now) = (entry.running.spec.policy.clone(), Instant::now());
        let Some(crashes) = self.crashes.get_mut(&name) else { return };
        match crashes.one_more(now, &policy, can_roll_back) {
            Verdict::GoesOn => {}
            Verdict::RollsBack => self.roll_back(ctx, &name),
            Verdict::IsGivenUp => {
                let why = format!("{} restarts in an hour", policy.restarts.per_hour);
                self.end_for_good(&name, &why).await;
            }
        }
    }

    /// A host that does not come to its next message: it is ended and another one begins.
    pub(super) async fn on_stuck(
        &mut self,
        ctx: &mut Context<Self>,
        name: ReplicaId,
        facts: &Facts,
    ) -> Result<(), ActorError> {
        if !self.entries.get(&name).is_some_and(|entry| entry.facts.are(facts)) {
            return Ok(());
        }
        let reason = "its host does not come to its next message";
        tracing::error!(%name, reason, "firmware is not alive");
        facts.happened(What::NotAlive { reason: reason.to_owned() });
        facts.crashed(reason);
        self.on_crashed(ctx, name.clone(), facts).await;
        self.stop(vec![name]).await;
        self.on_look(ctx).await
    }

    /// Looks at what each firmware uses, and whether an update has stood the test.
    pub(super) async fn on_sample(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let mut exceeded = Vec::new();
        for (name, entry) in &mut self.entries {
            let of_process = entry.facts.pid().and_then(usage::of_process);
            let computed = of_process.unwrap_or_else(|| entry.usage.computed());
            let memory = entry.facts.memory_bytes();
            let thresholds = &entry.running.spec.policy.thresholds;
            let due = entry.gauge.sample(now, computed, memory, thresholds);
            exceeded.extend(due.into_iter().map(|it| (name.clone(), it.clone())));
        }
        for (name, threshold) in exceeded {
            self.on_exceeded(&name, threshold).await;
        }
        let settled: Vec<(ReplicaId, Digest)> = self
            .entries
            .iter()
            .filter(|(name, entry)| entry.facts.is_well() && self.can_roll_back(name))
            .filter(|(name, entry)| {
                let crashes = self.crashes.get(*name);
                crashes.is_some_and(|it| it.is_settled(now, &entry.running.spec.policy))
            })
            .map(|(name, entry)| (name.clone(), entry.running.spec.digest))
            .collect();
        for (name, kept) in settled {
            let ledger = Arc::clone(&self.parts.ledger);
            // The next sample tries again.
            ctx.spawn(async move {
                if let Err(error) = ledger.settle(&name, kept, STORE_DEADLINE).await {
                    tracing::debug!(%name, %error, "update not settled yet");
                }
            });
        }
    }

    async fn on_exceeded(&mut self, name: &ReplicaId, threshold: Threshold) {
        let failure = GuestFailure::Exceeded { threshold: threshold.clone() };
        if let Some(entry) = self.entries.get(name) {
            entry.facts.happened(What::Exceeded { reason: failure.to_string() });
        }
        match threshold.then {
            Remedy::Warn => tracing::warn!(%name, %failure, "firmware uses too much"),
            Remedy::Restart => {
                if let Some(entry) = self.entries.get(name) {
                    entry.host.fail(failure);
                }
            }
            Remedy::Stop => self.end_for_good(name, &failure.to_string()).await,
        }
    }

    /// Has a checkpoint made of what a firmware wrote that is not there to do it for a while.
    pub(super) fn save(&self, ctx: &mut Context<Self>, name: &ReplicaId) {
        let (keepers, name) = (self.parts.keepers.clone(), name.clone());
        ctx.spawn(async move { keepers.checkpoint(&name).await });
    }

    /// The package before the one that is deployed.
    fn former(&self, name: &ReplicaId) -> Option<Digest> {
        let at = self.wanted.binary_search_by(|wanted| wanted.replica.cmp(name)).ok()?;
        self.wanted.get(at)?.former
    }

    pub(super) fn can_roll_back(&self, name: &ReplicaId) -> bool {
        self.former(name).is_some()
    }

    /// Has the package before come back, however long the store takes: it is safe to repeat.
    pub(super) fn roll_back(&self, ctx: &mut Context<Self>, name: &ReplicaId) {
        let (Some(entry), Some(to)) = (self.entries.get(name), self.former(name)) else { return };
        let (name, failed) = (name.clone(), entry.running.spec.digest);
        let facts = entry.facts.clone();
        let last = entry.status().last_error.unwrap_or_default();
        tracing::error!(%name, package = %failed, last, "update fails: the package before comes back");
        let ledger = Arc::clone(&self.parts.ledger);
        ctx.spawn(async move {
            loop {
                match ledger.roll_back(name.firmware(), failed, STORE_DEADLINE).await {
                    Ok(Outcome::Refused(refusal)) => {
                        tracing::warn!(%name, %refusal, "not rolled back");
                        return;
                    }
                    Ok(_) => {
                        facts.happened(What::RolledBack {
                            from: failed,
                            to,
                            reason: last.to_string(),
                        });
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%name, %error, "rollback waits");
                        tokio::time::sleep(TELL_PAUSE).await;
                    }
                }
            }
        });
    }

    /// Ends a host that its supervisor would start again.
    async fn end_for_good(&mut self, name: &ReplicaId, why: &str) {
        self.hosts.remove(&name.to_string()).await.ok();
        self.give_up(name, why);
    }

    /// It stays among what runs, so that it is tried again only when it is deployed or placed anew.
    pub(super) fn give_up(&self, name: &ReplicaId, why: &str) {
        let Some(entry) = self.entries.get(name) else { return };
        let (entity, epoch) = (name.entity(), entry.running.epoch);
        let last = entry.status().last_error.unwrap_or_default();
        tracing::error!(%entity, %epoch, why, "firmware given up");
        entry.facts.erred(HostState::Failed, format!("given up after {why}: {last}"));
        self.parts.activate.deactivate(&entity, epoch);
    }
}
