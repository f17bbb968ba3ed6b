//! Brings what is deployed to all replicas, a few at a time, and spreads them over the nodes.
//!
//! Observe → decide → commit → act: the node that leads the group `control` sees in the log which
//! replicas are behind, asks their nodes how they fare, lets [`decide`] say what is next and commits
//! that. Nodes act on what they see in the log. All that an update knows is there: when the leader is
//! killed, the next one goes on where it is; and two at once do no harm, because each step says how
//! many replicas it saw behind, and the log refuses the later one.
//!
//! A new version that fails is undone: by the node where a replica of it crashes too often (its
//! coordinator), or from here when one of them has failed for good. That is an update, too, in the
//! other direction.
//!
//! When no update is under way and all replicas of a firmware are ready, one of them is moved to a
//! zone or a node that has at least two fewer, such as one that has come back.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own task: the store has changed, or time has passed | none |

mod decide;
mod reports;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::future::join_all;
use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_cluster::{
    placement::{self, planner},
    store::{State, StoreHandle},
};
use odeum_proto::{
    Digest, Epoch, Name, NodeId, ReplicaId,
    chronicle::What,
    report::{FirmwareReport, HostState},
    store::{Command, Outcome, Placement},
};
use tokio::time::timeout;

use self::decide::{Fares, Replica, Step, decide};
pub(super) use self::reports::{REPORT_DEADLINE, Reports};
use crate::firmware::Chronicles;

/// How often the replicas are looked at while there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often it is seen whether there is, when the store does not change.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);

/// How long a replica must have been ready with a new version before the next one is updated. What
/// fails at its first message or timer should do so on one of them.
const STEADY: Duration = Duration::from_secs(1);

/// How long the replicas of a firmware must have been ready before one is moved to spread them: what
/// has just been placed should not move at once.
const CALM: Duration = Duration::from_secs(10);

/// How long one step may take to be committed.
const COMMIT_DEADLINE: Duration = Duration::from_secs(2);

/// What the actor works with.
#[derive(Clone)]
pub(super) struct RolloutParts {
    pub(super) store: StoreHandle,
    pub(super) reports: Reports,
    /// Where it says what it does.
    pub(super) chronicles: Chronicles,
}

/// The actor's spec, a child of the `FirmwareSupervisor`.
pub(super) fn spec(parts: RolloutParts) -> ChildSpec {
    let (_, spec) = child("Rollout", move || RolloutActor {
        parts: parts.clone(),
        ready_since: BTreeMap::new(),
        told: BTreeMap::new(),
    });
    spec
}

#[derive(Debug)]
enum RolloutMessage {
    Look,
}

struct RolloutActor {
    parts: RolloutParts,
    /// Since when each activation is seen to be ready.
    ready_since: BTreeMap<(ReplicaId, Epoch), Instant>,
    /// How far each update under way was when that was told.
    told: BTreeMap<Name, (Digest, u32)>,
}

/// What the store says of a firmware that there may be something to do for.
struct Sight {
    name: Name,
    digest: Digest,
    former: Option<Digest>,
    max_unavailable: u32,
    replicas: Vec<(ReplicaId, Option<Placement>, bool)>,
    /// Whether a move would spread them more evenly.
    is_uneven: bool,
}

impl Actor for RolloutActor {
    type Message = RolloutMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let own = ctx.handle().clone();
        let (mut changes, store) = (self.parts.store.changes(), self.parts.store.clone());
        ctx.spawn(async move {
            while own.tell(RolloutMessage::Look).await.is_ok() {
                tokio::time::sleep(LOOK_EVERY).await;
                if store.view(|state| state.updates().next().is_some()) {
                    continue;
                }
                if let Ok(Err(_)) = timeout(LOOK_ANYWAY, changes.changed()).await {
                    // The store is gone, and the node with it.
                    return;
                }
            }
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        _: &mut Context<Self>,
        message: RolloutMessage,
    ) -> Result<(), ActorError> {
        match message {
            RolloutMessage::Look => self.on_look().await,
        }
        Ok(())
    }
}

impl RolloutActor {
    async fn on_look(&mut self) {
        let parts = &self.parts;
        if parts.store.status().leader.as_ref() != Some(&parts.reports.local) {
            self.ready_since.clear();
            self.told.clear();
            return;
        }
        let sights: Vec<Sight> = self.look(|state, even_out| {
            let names = state
                .firmware()
                .values()
                .filter(|spec| spec.replicas > 1 || self.is_told(&spec.name));
            let behind = state.updates().map(|(name, _)| name);
            let names: BTreeSet<&Name> = names.map(|spec| &spec.name).chain(behind).collect();
            let sight = |name| sight(state, name, even_out(name).is_some());
            names.into_iter().filter_map(sight).collect()
        });
        self.told.retain(|name, _| sights.iter().any(|sight| sight.name == *name));
        let is_due = |sight: &&Sight| {
            let is_behind = sight.replicas.iter().any(|(.., is_behind)| *is_behind);
            is_behind || sight.is_uneven || self.told.contains_key(&sight.name)
        };
        let due: Vec<&Sight> = sights.iter().filter(is_due).collect();
        if due.is_empty() {
            self.ready_since.clear();
            return;
        }
        let reports = self.observe(&due).await;
        self.note_ready(&due, &reports);
        for sight in due {
            self.act(sight, &reports).await;
        }
    }

    /// `look` with the state, and what tells the move that would spread a firmware more evenly.
    fn look<R>(&self, look: impl FnOnce(&State, &dyn Fn(&Name) -> Option<Command>) -> R) -> R {
        let reports = &self.parts.reports;
        let live = reports.membership.now();
        self.parts.store.view(|state| {
            let hosts = placement::hosts(state, &live, &reports.local, false);
            let leased: planner::Leased = state.leased().map(|(node, ..)| node.clone()).collect();
            let (placements, moves) = (state.placements(), state.moves());
            let apart = placement::apart(state);
            let table = planner::Table { placements, moves, apart: &apart };
            look(state, &|name| {
                planner::even_out(&placement::wishes(state, Some(name)), table, &hosts, &leased)
            })
        })
    }

    fn is_told(&self, name: &Name) -> bool {
        self.told.contains_key(name)
    }

    /// What the nodes say on which there is one of the replicas.
    async fn observe(&self, due: &[&Sight]) -> BTreeMap<NodeId, Option<Vec<FirmwareReport>>> {
        let places = due.iter().flat_map(|sight| &sight.replicas);
        let nodes: BTreeSet<NodeId> =
            places.filter_map(|(_, at, _)| Some(at.as_ref()?.node.clone())).collect();
        let reports = &self.parts.reports;
        join_all(nodes.into_iter().map(async |node| (node.clone(), reports.of(&node).await)))
            .await
            .into_iter()
            .collect()
    }

    fn note_ready(
        &mut self,
        due: &[&Sight],
        reports: &BTreeMap<NodeId, Option<Vec<FirmwareReport>>>,
    ) {
        let (now, mut before) = (Instant::now(), std::mem::take(&mut self.ready_since));
        for (replica, at, _) in due.iter().flat_map(|sight| &sight.replicas) {
            let Some(at) = at else { continue };
            if fares(replica, Some(at), reports) == Fares::Ready {
                let key = (replica.clone(), at.epoch);
                let since = before.remove(&key).unwrap_or(now);
                self.ready_since.insert(key, since);
            }
        }
    }

    /// Whether it has been ready for so long.
    fn is_ready_for(&self, replica: &ReplicaId, at: Option<&Placement>, time: Duration) -> bool {
        let key = at.map(|at| (replica.clone(), at.epoch));
        let since = key.and_then(|key| self.ready_since.get(&key));
        since.is_some_and(|since| since.elapsed() >= time)
    }

    async fn act(
        &mut self,
        sight: &Sight,
        reports: &BTreeMap<NodeId, Option<Vec<FirmwareReport>>>,
    ) {
        let replica = |(replica, at, is_behind): &(ReplicaId, Option<Placement>, bool)| {
            let fares = match fares(replica, at.as_ref(), reports) {
                // A new one that is ready has to show that it stays so.
                Fares::Ready if !is_behind && !self.is_ready_for(replica, at.as_ref(), STEADY) => {
                    Fares::Down
                }
                fares => fares,
            };
            Replica { number: replica.number(), is_behind: *is_behind, fares }
        };
        let replicas: Vec<Replica> = sight.replicas.iter().map(replica).collect();
        self.tell(sight, &replicas);
        let behind = replicas.iter().filter(|it| it.is_behind).count();
        if behind == 0 {
            self.spread(sight).await;
            return;
        }
        match decide(&replicas, sight.max_unavailable, sight.former.is_some()) {
            Step::Wait => {}
            Step::Advance(numbers) => self.advance(sight, &numbers, behind).await,
            Step::RollBack(number) => self.roll_back(sight, number).await,
        }
    }

    /// Says how far an update is, when it has gone on.
    fn tell(&mut self, sight: &Sight, replicas: &[Replica]) {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (to, of) = (sight.digest, count(replicas.len()));
        let done = count(replicas.iter().filter(|it| !it.is_behind).count());
        let (told, name) = (self.told.get(&sight.name).copied(), &sight.name);
        if done < of {
            if told != Some((to, done)) {
                tracing::info!(%name, package = %to, done, of, "update goes on");
                self.happened(name, What::Updating { to, done, of });
                self.told.insert(name.clone(), (to, done));
            }
        } else if told.is_some() && replicas.iter().all(|it| it.fares == Fares::Ready) {
            tracing::info!(%name, package = %to, of, "update is done");
            self.happened(name, What::Updated { to });
            self.told.remove(name);
        }
    }

    async fn advance(&self, sight: &Sight, numbers: &[u32], mut behind: usize) {
        for number in numbers {
            let is_it = |(replica, ..): &&(ReplicaId, _, _)| replica.number() == *number;
            let Some((replica, at, _)) = sight.replicas.iter().find(is_it) else { continue };
            let step = Command::Advance {
                replica: replica.clone(),
                expected: at.as_ref().map(|at| at.epoch),
                behind: u32::try_from(behind).unwrap_or(u32::MAX),
            };
            // What comes behind it counts on it.
            if !self.commit(step).await {
                return;
            }
            behind -= 1;
        }
    }

    async fn roll_back(&self, sight: &Sight, number: u32) {
        let Some(to) = sight.former else { return };
        let (name, failed) = (sight.name.clone(), sight.digest);
        if self.commit(Command::RollBack { name: name.clone(), failed }).await {
            let reason = format!("replica {number} of it failed");
            tracing::error!(%name, package = %failed, reason, "update fails: the package before comes back");
            self.happened(&name, What::RolledBack { from: failed, to, reason });
        }
    }

    /// Moves one of the replicas to where there are fewer, when all of them can do without it.
    async fn spread(&self, sight: &Sight) {
        let is_calm = sight
            .replicas
            .iter()
            .all(|(replica, at, _)| self.is_ready_for(replica, at.as_ref(), CALM));
        if !(sight.is_uneven && is_calm) {
            return;
        }
        // What was seen is older than the moves of others that were begun in this turn, which this one is
        // not to end up beside.
        if let Some(step) = self.look(|_, even_out| even_out(&sight.name)) {
            self.commit(step).await;
        }
    }

    /// Whether it is so now because of this.
    async fn commit(&self, step: Command) -> bool {
        let text = step.to_string();
        match self.parts.store.write(step, COMMIT_DEADLINE).await {
            Ok(Outcome::Refused(reason)) => {
                tracing::debug!(step = %text, %reason, "step overtaken");
                false
            }
            Ok(_) => {
                tracing::info!(step = %text, "step taken");
                true
            }
            Err(error) => {
                tracing::warn!(step = %text, %error, "step not committed");
                false
            }
        }
    }

    /// Of the whole firmware, which is told as of its first replica.
    fn happened(&self, name: &Name, what: What) {
        self.parts.chronicles.happened(&ReplicaId::first(name.clone()), Epoch(0), what);
    }
}

fn sight(state: &State, name: &Name, is_uneven: bool) -> Option<Sight> {
    let spec = state.firmware().get(name)?;
    let behind = state.update(name).map(|update| update.behind());
    let replica = |(replica, _): (ReplicaId, _)| {
        let is_behind = behind.is_some_and(|behind| behind.contains_key(&replica.number()));
        let at = state.placements().get(&replica.entity()).cloned();
        (replica, at, is_behind)
    };
    Some(Sight {
        name: name.clone(),
        digest: spec.digest,
        former: state.former(name).map(|former| former.digest),
        max_unavailable: spec.policy.max_unavailable,
        replicas: state.replicas_of(name).map(replica).collect(),
        is_uneven,
    })
}

/// How a replica fares, by what its node says.
fn fares(
    replica: &ReplicaId,
    at: Option<&Placement>,
    reports: &BTreeMap<NodeId, Option<Vec<FirmwareReport>>>,
) -> Fares {
    let Some(at) = at else { return Fares::Down };
    let Some(Some(of_node)) = reports.get(&at.node) else { return Fares::Unknown };
    let report = of_node.iter().find(|it| it.name == *replica && it.epoch == at.epoch);
    match report.map(|report| report.state) {
        // Its node has not seen yet that it is to run it.
        None | Some(HostState::Starting | HostState::Restarting) => Fares::Down,
        Some(HostState::Failed) => Fares::Failed,
        Some(
            HostState::Running
            | HostState::RunningApart { .. }
            | HostState::Idle
            | HostState::Completed { .. },
        ) => Fares::Ready,
    }
}
