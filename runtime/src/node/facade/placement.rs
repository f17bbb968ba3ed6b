//! What is where, why, and how it could be better, as this node sees it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use odeum_cluster::placement::{
    hosts,
    planner::{Host, Leased, Table, Wish, rebalance},
    wishes,
};
use odeum_cluster::store::State;
use odeum_proto::{
    EntityId, NodeId,
    moves::MovePhase,
    store::{Command, Move, Outcome, Placement},
};

use super::{NodeFacade, WRITE_DEADLINE, describe::cannot, store_problem};
use crate::api::{
    Problem,
    types::{Explanation, MoveBegun, NodeShare, PlacedEntity, PlacementReport, Possibility},
};

/// How long what has moved stays where it is, so that nothing is moved to and fro.
const DWELL: Duration = Duration::from_secs(30);

impl NodeFacade {
    /// `look` with the state, the nodes and those that have a lease.
    fn with_hosts<R>(&self, look: impl FnOnce(&State, &[Host<'_>], &Leased) -> R) -> R {
        let live = self.membership.now();
        self.store.view(|state| {
            let hosts = hosts(state, &live, &self.record.id, true);
            let leased: Leased = state.leased().map(|(node, ..)| node.clone()).collect();
            look(state, &hosts, &leased)
        })
    }

    pub(super) fn placement_report(&self) -> PlacementReport {
        self.with_hosts(|state, hosts, leased| {
            let share = |host: &Host<'_>| NodeShare {
                node: host.record.id.clone(),
                capacity: host.record.capacity,
                entities: placed_on(state, &host.record.id),
                shards: state
                    .kinds()
                    .values()
                    .map(|kind| kind.shards_of(&host.record.id).count())
                    .sum(),
                takes_nothing: cannot(host, leased),
            };
            let entity = |wish: &Wish<'_>| {
                let place = state.placements().get(&wish.entity);
                PlacedEntity {
                    entity: wish.entity.clone(),
                    node: place.map(|place| place.node.clone()),
                    epoch: place.map(|place| place.epoch),
                    moves_to: moves_to(state, &wish.entity),
                }
            };
            PlacementReport {
                nodes: hosts.iter().map(share).collect(),
                entities: wishes(state, None).iter().map(entity).collect(),
            }
        })
    }

    pub(super) async fn explained(&self, entity: EntityId) -> Result<Explanation, Problem> {
        self.fresh().await?;
        let replica = entity.replica();
        let Some(replica) = replica else {
            let kind = entity.kind();
            let reason = format!("entities of kind {kind} are placed by shard, not one by one");
            return Err(Problem::Conflict { reason: reason.into() });
        };
        self.check_deployed(replica.firmware())?;
        let explained = self.with_hosts(|state, hosts, leased| {
            let spec = state.spec_of(&replica)?;
            let wish = Wish { entity: entity.clone(), labels: &spec.policy.labels };
            let labels: Vec<String> =
                wish.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
            let siblings = |node: &NodeId| {
                let others = state.replicas_of(replica.firmware());
                let others = others.filter(|(other, _)| *other != replica);
                let at = |place: &Placement| place.node == *node;
                others
                    .filter(|(it, _)| state.placements().get(&it.entity()).is_some_and(at))
                    .count()
            };
            let possibility = |host: &Host<'_>| Possibility {
                node: host.record.id.clone(),
                entities: placed_on(state, &host.record.id),
                capacity: host.record.capacity,
                siblings: siblings(&host.record.id),
                cannot: match wish.fits(host.record) {
                    false => Some(format!("it has not the labels {}", labels.join(", "))),
                    true => cannot(host, leased),
                },
            };
            let mut nodes: Vec<Possibility> = hosts.iter().map(possibility).collect();
            nodes.sort_by(|a, b| {
                let busy = |it: &Possibility, other: &Possibility| {
                    (it.entities as u64 + 1).saturating_mul(other.capacity.into())
                };
                (a.cannot.is_some(), a.siblings)
                    .cmp(&(b.cannot.is_some(), b.siblings))
                    .then_with(|| busy(a, b).cmp(&busy(b, a)))
                    .then_with(|| a.node.cmp(&b.node))
            });
            let place = state.placements().get(&entity);
            Some(Explanation {
                entity: entity.clone(),
                node: place.map(|place| place.node.clone()),
                epoch: place.map(|place| place.epoch),
                moves_to: moves_to(state, &entity),
                labels,
                nodes,
            })
        });
        explained.ok_or_else(|| Problem::NotFound { what: entity.to_string().into() })
    }

    pub(super) async fn evened_out(
        &self,
        most: usize,
        dry_run: bool,
    ) -> Result<Vec<MoveBegun>, Problem> {
        self.fresh().await?;
        let rested = self.lately_moved().await;
        let steps: Vec<(Command, MoveBegun)> = self.with_hosts(|state, hosts, leased| {
            let table = Table { placements: state.placements(), moves: state.moves() };
            let wishes = wishes(state, None);
            let steps =
                rebalance(&wishes, table, hosts, leased, most, |entity| rested.contains(entity));
            let begun = |step: Command| {
                let Command::BeginMove { entity, to, expected } = &step else { return None };
                let from = state.placements().get(entity)?.node.clone();
                let (entity, to, epoch) = (entity.clone(), to.clone(), *expected);
                Some((step, MoveBegun { entity, from, to, epoch }))
            };
            steps.into_iter().filter_map(begun).collect()
        });
        let mut begun = Vec::with_capacity(steps.len());
        for (step, told) in steps {
            if dry_run {
                begun.push(told);
                continue;
            }
            match self.store.write(step, WRITE_DEADLINE).await {
                // Something else has become of it meanwhile.
                Ok(Outcome::Refused(refusal)) => {
                    tracing::debug!(entity = %told.entity, %refusal, "not moved");
                }
                Ok(_) => begun.push(told),
                Err(error) => return Err(store_problem(&error)),
            }
        }
        Ok(begun)
    }

    /// What has moved so lately that it is to stay where it is.
    async fn lately_moved(&self) -> BTreeSet<EntityId> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_late = |began_ms: u64| now.saturating_sub(Duration::from_millis(began_ms)) < DWELL;
        let moves = self.reported_moves().await.into_iter();
        let late = moves
            .filter(|made| matches!(made.phase, MovePhase::Moved { .. }) && is_late(made.began_ms));
        late.map(|made| made.entity).collect()
    }
}

fn placed_on(state: &State, node: &NodeId) -> usize {
    state.placements().values().filter(|place| place.node == *node).count()
}

fn moves_to(state: &State, entity: &EntityId) -> Option<NodeId> {
    let made = state.moves().get(entity).filter(|made: &&Move| made.is_under_way());
    made.map(|made| made.to.clone())
}
