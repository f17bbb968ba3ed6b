//! How hosts begin and end.

use std::sync::Arc;

use odeum_actors::{ActorError, Context, Exit, Restart, Strategy, SupervisorSpec};
use odeum_proto::{Digest, ReplicaId, chronicle::What, store::FirmwareSpec};
use tokio::time::Instant;

use super::{CoordinatorActor, CoordinatorMessage, Entry};
use crate::firmware::{
    crashes::Crashes,
    host::{HostHandle, HostParts, home, host, liveness},
    keeping::Keeper,
    plan::Running,
    restart,
    setting::Setting,
    status::Facts,
    travel::{Arrived, Sent},
    usage::Gauge,
};

impl CoordinatorActor {
    /// What a host that begins runs its guest with.
    fn setting(&self, running: &Running) -> Setting {
        let (replica, limits) = (running.replica.clone(), running.spec.limits.clone());
        let (chronicles, grants) = (&self.parts.chronicles, Arc::clone(&self.parts.grants));
        Setting::new(replica, running.epoch, limits, chronicles, grants)
    }

    pub(super) async fn start(
        &mut self,
        ctx: &mut Context<Self>,
        running: Running,
    ) -> Result<(), ActorError> {
        let name = running.replica.clone();
        let entity = name.entity();
        let thawed = self
            .parts
            .ledger
            .moved_from(&entity, running.epoch)
            .and_then(|former| self.parts.arrivals.take(&entity, former));
        let setting = match &thawed {
            Some(thawed) => thawed.setting.clone(),
            None => self.setting(&running),
        };
        setting.log.goes_on(running.epoch);
        let (facts, usage) = (Facts::new(setting.log.clone()), setting.usage.clone());
        let (digest, now) = (running.spec.digest, Instant::now());
        if !self.crashes.get(&name).is_some_and(|crashes| crashes.are_of(&digest)) {
            self.crashes.insert(name.clone(), Crashes::new(digest, now));
        }
        let again = self.ran().insert(name.clone(), running.epoch) == Some(running.epoch);
        let keeper = Keeper::new(Arc::clone(&self.parts.ledger), entity.clone(), running.epoch);
        let parts = HostParts {
            node: self.parts.node.clone(),
            replica: name.clone(),
            home: home(&entity),
            entity,
            epoch: running.epoch,
            again,
            spec: running.spec.clone(),
            cache: self.parts.cache.clone(),
            ledger: Arc::clone(&self.parts.ledger),
            keeper: Arc::new(keeper),
            keepers: self.parts.keepers.clone(),
            activate: Arc::clone(&self.parts.activate),
            lease: self.parts.lease.clone(),
            facts: facts.clone(),
            setting,
            reach: Arc::clone(&self.parts.reach),
            launcher: self.parts.launcher.clone(),
            arrived: Arrived::of(thawed),
            sent: Sent::default(),
        };
        let restarts = running.spec.policy.restarts.clone();
        let (host, host_spec) = host(format!("Host {name}"), parts);
        let (supervisor, spec) = SupervisorSpec::new(name.to_string(), Strategy::OneForOne)
            .intensity(restart::intensity(&restarts))
            .child(host_spec)
            .nested();
        let gauge = Gauge::new(now, usage.computed());
        let is_stuck = stuck(host.clone(), running.spec.clone());
        self.entries
            .insert(name.clone(), Entry { running, facts: facts.clone(), host, usage, gauge });
        self.hosts.add(spec.restart(Restart::Temporary)).await?;
        let actor = ctx.handle().clone();
        ctx.spawn(async move {
            let (mut crashes, mut is_stuck) = (facts.crashes(), std::pin::pin!(is_stuck));
            let exit = loop {
                tokio::select! {
                    exit = supervisor.finished() => break exit,
                    () = facts.are_over() => break Exit::Normal,
                    () = &mut is_stuck => {
                        let (name, facts) = (name.clone(), facts.clone());
                        let _ = actor.tell(CoordinatorMessage::Stuck { name, facts }).await;
                        return;
                    }
                    Ok(()) = crashes.changed() => {
                        let (name, facts) = (name.clone(), facts.clone());
                        let _ = actor.tell(CoordinatorMessage::Crashed { name, facts }).await;
                    }
                }
            };
            let _ = actor.tell(CoordinatorMessage::Ended { name, facts, exit }).await;
        });
        Ok(())
    }

    /// Ends hosts, all at once: each may be at work on a message for a while.
    pub(super) async fn stop(&mut self, names: Vec<ReplicaId>) {
        for name in &names {
            if let Some(entry) = self.entries.remove(name) {
                let entity = name.entity();
                self.parts.activate.deactivate(&entity, entry.running.epoch);
                entry.facts.happened(What::Stopped);
            }
        }
        // One that was given up is not there.
        let ended = names.iter().map(async |name| {
            self.hosts.remove(&name.to_string()).await.ok();
            self.parts.keepers.finish(name).await;
        });
        futures::future::join_all(ended).await;
    }

    pub(super) fn prefetch(&mut self, ctx: &mut Context<Self>, digest: Digest) {
        self.at_hand.insert(digest);
        let (cache, actor) = (self.parts.cache.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            let loaded = cache.load(digest).await;
            if let Err(error) = &loaded {
                tracing::warn!(package = %digest, %error, "package not fetched");
            }
            let is_here = loaded.is_ok();
            let _ = actor.tell(CoordinatorMessage::Fetched { digest, is_here }).await;
        });
    }
}

/// Has a guest asked whether it is alive as often as its policy says; ends when its host does not
/// come to that.
async fn stuck(host: HostHandle, spec: Arc<FirmwareSpec>) {
    let Some(liveness) = &spec.policy.liveness else { return std::future::pending().await };
    let patience = liveness::patience(&spec, liveness);
    loop {
        tokio::time::sleep(liveness.interval).await;
        if !host.check(patience).await {
            return;
        }
    }
}
