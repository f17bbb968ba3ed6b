//! Keeps this node's firmware running: sees what the store says, and starts and ends hosts.
//!
//! Each host has a supervisor of its own, so that a firmware which crashes too often is given up
//! alone. Without the lease of its node nothing runs: what is placed here is started when there is
//! one again. That may be under the same epoch, when the lease was held to be over here and was
//! renewed before anybody ended it; or a new package is deployed. The host that ran under that epoch
//! may have left a commit in doubt which is still under way, so the next one first has the entity
//! placed anew: what an epoch had begun is over before the next host reads ([`super::host`]).
//! Packages of all firmware are fetched and compiled on every node, so that each can take over at
//! once.
//!
//! What only shows over a longer time is seen here, too: an update that crashes more often than it
//! may, which is rolled back, crashes that add up over an hour ([`super::crashes`]), and too much
//! use of the machine ([`super::usage`]).
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | a task of the actor, when the store or the lease changes | none |
//! | `Ended` | a task of the actor, when a host or its supervisor ends | none |
//! | `Crashed` | a task of the actor, when a host crashes | none |
//! | `Stuck` | a task of the actor, when a host does not come to its next message | none |
//! | `Fetched` | a task of the actor | none |
//! | `Sample` | a timer | none |
//! | `GetList` | [`CoordinatorHandle::list`] | the firmware that runs here |
//! | `GetHost`, `LookAt` | who moves firmware from here or to here | its host; when it is started |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use odeum_actors::{
    Actor, ActorError, AskError, ChildSpec, Context, Exit, Handle, Reply, Restart, Strategy,
    Supervisor, SupervisorSpec, child,
};
use odeum_cluster::lease::LeaseHandle;
use odeum_proto::{
    Digest, EntityId, Epoch, Incarnation, NodeId, ReplicaId, Revision,
    chronicle::What,
    store::{FirmwareSpec, Outcome, Remedy, RestartBudget, Threshold},
};
use tokio::time::Instant;

use super::{
    cache::CacheHandle,
    chronicle::Chronicles,
    crashes::{Crashes, Verdict},
    deeds::Reach,
    error::GuestFailure,
    host::{Activate, HostHandle, HostParts, STORE_DEADLINE, host, liveness},
    keeping::{Keeper, Keepers},
    ledger::Ledger,
    plan::{self, Command, Running, Wanted},
    process::Launcher,
    restart,
    setting::{Grants, Setting},
    status::{Facts, FirmwareStatus, HostState},
    travel::{Arrivals, Arrived, Sent},
    usage::{self, Gauge, Usage},
};

/// Shortest time between two looks at the store. It changes with every message of every firmware;
/// what this node should run changes seldom, and a failover can wait this long.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Time between two looks when the store does not change: for packages that could not be fetched.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

/// Time between two looks at what each firmware uses of the machine.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Pause between two tries to tell the store something.
const TELL_PAUSE: Duration = Duration::from_secs(1);

/// Longest wait for the list: the coordinator may be ending a host.
const LIST_DEADLINE: Duration = Duration::from_secs(10);

/// What the coordinator works with.
#[derive(Clone)]
pub(super) struct CoordinatorParts {
    /// This node.
    pub(super) node: NodeId,
    /// This start of it.
    pub(super) life: Incarnation,
    /// Where packages come from.
    pub(super) cache: CacheHandle,
    /// Says what should run here, and keeps what guests write.
    pub(super) ledger: Arc<dyn Ledger>,
    /// Is told what does.
    pub(super) activate: Arc<dyn Activate>,
    /// Until when anything may run here.
    pub(super) lease: LeaseHandle,
    /// What this node gives to guests.
    pub(super) grants: Arc<Grants>,
    /// The cluster as guests reach it.
    pub(super) reach: Arc<dyn Reach>,
    /// Starts the processes of guests that have one of their own.
    pub(super) launcher: Launcher,
    /// Keeps what they say and what becomes of them.
    pub(super) chronicles: Chronicles,
    /// Keep what they write until the store has it.
    pub(super) keepers: Keepers,
    /// What came from other nodes.
    pub(super) arrivals: Arrivals,
}

impl fmt::Debug for CoordinatorParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatorParts").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The coordinator of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CoordinatorHandle {
    actor: Handle<CoordinatorMessage>,
}

impl CoordinatorHandle {
    /// The firmware that runs on this node, or should, by name.
    ///
    /// # Errors
    /// [`AskError`] while the coordinator restarts. Ask again.
    pub async fn list(&self) -> Result<Vec<FirmwareStatus>, AskError> {
        self.actor.ask(LIST_DEADLINE, |reply| CoordinatorMessage::GetList { reply }).await
    }

    /// The host of an entity, if it runs here under that epoch, and what is deployed.
    pub(super) async fn host_of(
        &self,
        entity: &EntityId,
        epoch: Epoch,
    ) -> Result<Option<(HostHandle, Arc<FirmwareSpec>)>, AskError> {
        let entity = entity.clone();
        let get = |reply| CoordinatorMessage::GetHost { entity, epoch, reply };
        self.actor.ask_control(LIST_DEADLINE, get).await
    }

    /// Has it look now at what the store says of an entity, and act on it.
    pub(super) async fn look_at(&self, entity: &EntityId) {
        let Some(name) = entity.replica() else { return };
        let look = |reply| CoordinatorMessage::LookAt { name, reply };
        // One that restarts looks by itself.
        let _ = self.actor.ask_control(LIST_DEADLINE, look).await;
    }
}

/// The coordinator's handle and its spec. It starts its hosts under `hosts`.
pub(super) fn coordinator(
    parts: CoordinatorParts,
    hosts: Supervisor,
) -> (CoordinatorHandle, ChildSpec) {
    let ran = Arc::<Mutex<Ran>>::default();
    let (actor, spec) = child("Coordinator", move || CoordinatorActor {
        parts: parts.clone(),
        hosts: hosts.clone(),
        entries: BTreeMap::new(),
        ran: Arc::clone(&ran),
        wanted: Vec::new(),
        settled: None,
        at_hand: BTreeSet::new(),
        crashes: BTreeMap::new(),
    });
    (CoordinatorHandle { actor }, spec)
}

#[derive(Debug)]
enum CoordinatorMessage {
    Look,
    Ended {
        name: ReplicaId,
        facts: Facts,
        exit: Exit,
    },
    Crashed {
        name: ReplicaId,
        facts: Facts,
    },
    Stuck {
        name: ReplicaId,
        facts: Facts,
    },
    Sample,
    Fetched {
        digest: Digest,
        is_here: bool,
    },
    GetList {
        reply: Reply<Vec<FirmwareStatus>>,
    },
    GetHost {
        entity: EntityId,
        epoch: Epoch,
        reply: Reply<Option<(HostHandle, Arc<FirmwareSpec>)>>,
    },
    LookAt {
        name: ReplicaId,
        reply: Reply<()>,
    },
}

struct CoordinatorActor {
    parts: CoordinatorParts,
    hosts: Supervisor,
    entries: BTreeMap<ReplicaId, Entry>,
    /// Outlives a crash of this actor, as what its hosts have begun does.
    ran: Arc<Mutex<Ran>>,
    /// As of the last look, by name.
    wanted: Vec<Wanted>,
    /// The layout for which nothing was left to be done, and whether this node had its lease then: not
    /// every commit is a reason to look at all there is.
    settled: Option<(Revision, bool)>,
    /// Packages that are here or on their way.
    at_hand: BTreeSet<Digest>,
    /// Of what ran here.
    crashes: BTreeMap<ReplicaId, Crashes>,
}

/// The last epoch under which each firmware ran here.
type Ran = BTreeMap<ReplicaId, Epoch>;

/// A firmware that was started here.
struct Entry {
    running: Running,
    facts: Facts,
    host: HostHandle,
    usage: Usage,
    gauge: Gauge,
}

impl Entry {
    fn status(&self) -> FirmwareStatus {
        self.facts.status(&self.running, self.gauge.cpu_percent())
    }
}

impl Actor for CoordinatorActor {
    type Message = CoordinatorMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        // Hosts of a coordinator that crashed: it no longer knows what they are.
        for left in self.hosts.tree().await.children {
            self.hosts.remove(&left.name).await.ok();
        }
        self.parts.keepers.finish_all().await;
        ctx.tell_every(SAMPLE_EVERY, || CoordinatorMessage::Sample);
        let (mut changes, actor) = (self.parts.ledger.changes(), ctx.handle().clone());
        let mut lease = self.parts.lease.watch();
        ctx.spawn(async move {
            while actor.tell(CoordinatorMessage::Look).await.is_ok() {
                tokio::time::sleep(LOOK_PAUSE).await;
                let change = async {
                    tokio::select! {
                        changed = changes.changed() => changed,
                        changed = lease.changed() => changed,
                    }
                };
                if let Ok(Err(_)) = tokio::time::timeout(LOOK_ANYWAY, change).await {
                    // The store is gone, and the node with it.
                    return;
                }
            }
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: CoordinatorMessage,
    ) -> Result<(), ActorError> {
        match message {
            CoordinatorMessage::Look if self.is_settled() => {}
            CoordinatorMessage::Look => self.on_look(ctx).await?,
            CoordinatorMessage::Ended { name, facts, exit } => {
                self.on_ended(ctx, name, &facts, &exit).await?;
            }
            CoordinatorMessage::Crashed { name, facts } => self.on_crashed(ctx, name, &facts).await,
            CoordinatorMessage::Stuck { name, facts } => self.on_stuck(ctx, name, &facts).await?,
            CoordinatorMessage::Sample => self.on_sample(ctx).await,
            CoordinatorMessage::Fetched { digest, is_here } => self.on_fetched(digest, is_here),
            CoordinatorMessage::GetList { reply } => reply.send(self.list()),
            CoordinatorMessage::GetHost { entity, epoch, reply } => {
                reply.send(self.host_of(&entity, epoch));
            }
            CoordinatorMessage::LookAt { name, reply } => {
                self.on_look_at(ctx, &name).await?;
                reply.send(());
            }
        }
        Ok(())
    }
}

impl CoordinatorActor {
    async fn on_look(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let sight = self.sight();
        let mut wanted = self.parts.ledger.wanted(&self.parts.node, self.parts.life);
        if !sight.1 {
            wanted.iter_mut().for_each(|wanted| wanted.epoch = None);
        }
        if wanted != self.wanted {
            let used: BTreeSet<Digest> = wanted.iter().map(|w| w.spec.digest).collect();
            self.at_hand.retain(|digest| used.contains(digest));
            self.parts.cache.retain(used).await;
            let names: BTreeSet<&ReplicaId> = wanted.iter().map(|wanted| &wanted.replica).collect();
            let is_wanted = |name: &ReplicaId| names.contains(name);
            self.ran().retain(|name, _| is_wanted(name));
            self.crashes.retain(|name, _| is_wanted(name));
            for gone in self.wanted.iter().map(|it| &it.replica).filter(|name| !is_wanted(name)) {
                self.parts.chronicles.forget(gone);
            }
            self.wanted = wanted;
        }
        let running = self.entries.iter().map(|(name, e)| (name.clone(), e.running.clone()));
        let commands = plan::commands(&self.wanted, &running.collect(), &self.at_hand);
        self.settled = commands.is_empty().then_some(sight);
        self.carry_out(ctx, commands).await
    }

    /// As [`on_look`](Self::on_look), for one of them.
    async fn on_look_at(
        &mut self,
        ctx: &mut Context<Self>,
        name: &ReplicaId,
    ) -> Result<(), ActorError> {
        let (node, life) = (&self.parts.node, self.parts.life);
        let Some(wanted) = self.parts.ledger.wanted_of(name, node, life) else { return Ok(()) };
        if !self.sight().1 {
            return Ok(());
        }
        let running = self.entries.get(name).map(|entry| (name.clone(), entry.running.clone()));
        let running = running.into_iter().collect();
        let commands = plan::commands(&[wanted], &running, &self.at_hand);
        self.settled = None;
        self.carry_out(ctx, commands).await
    }

    /// What a look depends on.
    fn sight(&self) -> (Revision, bool) {
        (self.parts.ledger.layout(), self.parts.lease.holds(Instant::now()))
    }

    fn is_settled(&self) -> bool {
        self.settled == Some(self.sight())
    }

    async fn carry_out(
        &mut self,
        ctx: &mut Context<Self>,
        commands: Vec<Command>,
    ) -> Result<(), ActorError> {
        let stopped = |command: &Command| match command {
            Command::Stop { name } => Some(name.clone()),
            _ => None,
        };
        self.stop(commands.iter().filter_map(stopped).collect()).await;
        for command in commands {
            match command {
                Command::Stop { .. } => {}
                Command::Start(running) => self.start(ctx, *running).await?,
                Command::Prefetch { digest } => self.prefetch(ctx, digest),
            }
        }
        Ok(())
    }

    async fn on_ended(
        &mut self,
        ctx: &mut Context<Self>,
        name: ReplicaId,
        facts: &Facts,
        exit: &Exit,
    ) -> Result<(), ActorError> {
        // The word of a host that was replaced in the meantime comes too late.
        let Some(entry) = self.entries.get(&name).filter(|entry| entry.facts.are(facts)) else {
            return Ok(());
        };
        match exit {
            Exit::GaveUp(report) => {
                let RestartBudget { max_restarts, within, .. } = entry.running.spec.policy.restarts;
                tracing::error!(%name, %report, "firmware crashes too fast");
                self.save(ctx, &name);
                let why = format!("{max_restarts} restarts in {within:?}");
                if self.can_roll_back(&name) {
                    self.roll_back(ctx, &name);
                } else {
                    self.give_up(&name, &why);
                }
            }
            // Its activation was over. Whether there is a next one here is for the store to say.
            Exit::Normal => {
                self.stop(vec![name]).await;
                self.on_look(ctx).await?;
            }
            // The node is stopping.
            _ => {}
        }
        Ok(())
    }

    /// A crash that the host's supervisor bears.
    async fn on_crashed(&mut self, ctx: &mut Context<Self>, name: ReplicaId, facts: &Facts) {
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
    async fn on_stuck(
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
    async fn on_sample(&mut self, ctx: &mut Context<Self>) {
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
    fn save(&self, ctx: &mut Context<Self>, name: &ReplicaId) {
        let (keepers, name) = (self.parts.keepers.clone(), name.clone());
        ctx.spawn(async move { keepers.checkpoint(&name).await });
    }

    /// The package before the one that is deployed.
    fn former(&self, name: &ReplicaId) -> Option<Digest> {
        let at = self.wanted.binary_search_by(|wanted| wanted.replica.cmp(name)).ok()?;
        self.wanted.get(at)?.former
    }

    fn can_roll_back(&self, name: &ReplicaId) -> bool {
        self.former(name).is_some()
    }

    /// Has the package before come back, however long the store takes: it is safe to repeat.
    fn roll_back(&self, ctx: &mut Context<Self>, name: &ReplicaId) {
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
    fn give_up(&self, name: &ReplicaId, why: &str) {
        let Some(entry) = self.entries.get(name) else { return };
        let (entity, epoch) = (name.entity(), entry.running.epoch);
        let last = entry.status().last_error.unwrap_or_default();
        tracing::error!(%entity, %epoch, why, "firmware given up");
        entry.facts.erred(HostState::Failed, format!("given up after {why}: {last}"));
        self.parts.activate.deactivate(&entity, epoch);
    }

    fn on_fetched(&mut self, digest: Digest, is_here: bool) {
        if !is_here {
            // The next look tries again.
            self.at_hand.remove(&digest);
            self.settled = None;
        }
    }

    /// Only replaced whole, so a panic while it was held did no harm.
    fn ran(&self) -> MutexGuard<'_, Ran> {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> Vec<FirmwareStatus> {
        self.entries.values().map(Entry::status).collect()
    }

    fn host_of(&self, entity: &EntityId, epoch: Epoch) -> Option<(HostHandle, Arc<FirmwareSpec>)> {
        let entry = self.entries.get(&entity.replica()?)?;
        let is_it = entry.running.epoch == epoch;
        is_it.then(|| (entry.host.clone(), entry.running.spec.clone()))
    }

    /// What a host that begins runs its guest with.
    fn setting(&self, running: &Running) -> Setting {
        let (replica, limits) = (running.replica.clone(), running.spec.limits.clone());
        let (chronicles, grants) = (&self.parts.chronicles, Arc::clone(&self.parts.grants));
        Setting::new(replica, running.epoch, limits, chronicles, grants)
    }

    async fn start(&mut self, ctx: &mut Context<Self>, running: Running) -> Result<(), ActorError> {
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
    async fn stop(&mut self, names: Vec<ReplicaId>) {
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

    fn prefetch(&mut self, ctx: &mut Context<Self>, digest: Digest) {
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
