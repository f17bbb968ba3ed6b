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

mod oversight;
mod starts;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use odeum_actors::{
    Actor, ActorError, AskError, ChildSpec, Context, Exit, Handle, Reply, Supervisor, child,
};
use odeum_cluster::lease::LeaseHandle;
use odeum_proto::{
    Digest, EntityId, Epoch, Incarnation, NodeId, ReplicaId, Revision,
    store::{FirmwareSpec, RestartBudget},
};
use tokio::time::Instant;

use super::{
    cache::CacheHandle,
    chronicle::Chronicles,
    crashes::Crashes,
    deeds::Reach,
    host::{Activate, HostHandle},
    keeping::Keepers,
    ledger::Ledger,
    plan::{self, Command, Running, Wanted},
    process::Launcher,
    setting::Grants,
    status::{Facts, FirmwareStatus},
    travel::Arrivals,
    usage::{Gauge, Usage},
};

/// Shortest time between two looks at the store. It changes with every message of every firmware;
/// what this node should run changes seldom, and a failover can wait this long.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Time between two looks when the store does not change: for packages that could not be fetched.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

/// Time between two looks at what each firmware uses of the machine.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

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
    /// For which nothing was left to be done: not every commit is a reason to look at all there is.
    settled: Option<Sight>,
    /// Packages that are here or on their way.
    at_hand: BTreeSet<Digest>,
    /// Of what ran here.
    crashes: BTreeMap<ReplicaId, Crashes>,
}

/// What a look depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sight {
    layout: Revision,
    /// Whether this node has its lease.
    leased: bool,
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
        if !sight.leased {
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
        if !self.sight().leased {
            return Ok(());
        }
        let running = self.entries.get(name).map(|entry| (name.clone(), entry.running.clone()));
        let running = running.into_iter().collect();
        let commands = plan::commands(&[wanted], &running, &self.at_hand);
        self.settled = None;
        self.carry_out(ctx, commands).await
    }

    fn sight(&self) -> Sight {
        let leased = self.parts.lease.holds(Instant::now());
        Sight { layout: self.parts.ledger.layout(), leased }
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
}
