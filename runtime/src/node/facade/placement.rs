//! What is where, why, and how it could be better, as this node sees it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use odeum_cluster::placement::{
    apart, hosts,
    planner::{Behind, Choice, Host, Leased, Table, Unfit, Wish, ranked, rebalance},
    wishes,
};
use odeum_cluster::store::State;
use odeum_proto::{
    EntityId, Name, NodeId,
    moves::MovePhase,
    store::{Command, Move, Outcome},
};

use super::{
    NodeFacade, WRITE_DEADLINE,
    describe::{cannot, labels},
    store_problem,
};
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
            return Err(self.placed_by_shard(&entity));
        };
        self.check_replica(&replica)?;
        let explained = self.with_hosts(|state, hosts, leased| {
            let spec = state.spec_of(&replica)?;
            let wish = Wish::of(entity.clone(), &spec.policy);
            let apart = apart(state);
            let table =
                Table { placements: state.placements(), moves: state.moves(), apart: &apart };
            let choices = ranked(&wish, table, hosts, leased);
            let possibility = |choice: &Choice<'_>| Possibility {
                node: choice.host.record.id.clone(),
                zone: choice.host.record.zone.clone(),
                beside: choice.beside.clone(),
                zone_siblings: count(choice.in_zone),
                siblings: count(choice.on_node),
                entities: placed_on(state, &choice.host.record.id),
                capacity: choice.host.record.capacity,
                cannot: match choice.unfit {
                    Some(unfit) => Some(why_unfit(unfit, &wish)),
                    None => cannot(&choice.host, leased),
                },
                later: choices
                    .first()
                    .filter(|_| choice.can())
                    .and_then(|first| Some(why_later(choice.behind(first)?, choice))),
            };
            let nodes = choices.iter().map(possibility).collect();
            let place = state.placements().get(&entity);
            Some(Explanation {
                entity: entity.clone(),
                node: place.map(|place| place.node.clone()),
                epoch: place.map(|place| place.epoch),
                moves_to: moves_to(state, &entity),
                pinned: wish.nodes.iter().cloned().collect(),
                labels: labels(&wish),
                apart: apart.from(replica.firmware()).cloned().collect(),
                nodes,
            })
        });
        explained.ok_or_else(|| Problem::NotFound { what: entity.to_string().into() })
    }

    /// Refuses to explain where an entity of a program's own kind is: what is placed is its shard.
    fn placed_by_shard(&self, entity: &EntityId) -> Problem {
        let kind = entity.kind();
        if !self.store.view(|state| state.kinds().contains_key(kind)) {
            return Problem::NotFound { what: entity.to_string().into() };
        }
        let at = self.store.view(|state| state.placement(entity).map(|place| place.node.clone()));
        let at = at.map(|node| format!("; {entity} is on {node}")).unwrap_or_default();
        let reason = format!("entities of kind {kind} are placed by shard, not one by one{at}");
        Problem::Conflict { reason: reason.into() }
    }

    pub(super) async fn evened_out(
        &self,
        most: usize,
        dry_run: bool,
    ) -> Result<Vec<MoveBegun>, Problem> {
        self.fresh().await?;
        let rested = self.lately_moved().await;
        let steps: Vec<(Command, MoveBegun)> = self.with_hosts(|state, hosts, leased| {
            let apart = apart(state);
            let table =
                Table { placements: state.placements(), moves: state.moves(), apart: &apart };
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

/// Why a node may not have it.
pub(super) fn why_unfit(unfit: Unfit, wish: &Wish<'_>) -> String {
    match unfit {
        Unfit::NotNamed => {
            let named: Vec<&str> = wish.nodes.iter().map(NodeId::as_str).collect();
            format!("it is none of the nodes {}", named.join(", "))
        }
        Unfit::Labels => format!("it has not the labels {}", labels(wish).join(", ")),
    }
}

/// Why a node that could have it comes behind the first one.
fn why_later(behind: Behind, choice: &Choice<'_>) -> String {
    let others = |number: u64| match number {
        1 => "1 other replica".to_owned(),
        number => format!("{number} other replicas"),
    };
    match (behind, &choice.host.record.zone) {
        (Behind::Beside, _) => {
            let names: Vec<&str> = choice.beside.iter().map(Name::as_str).collect();
            format!("it has {}, to be apart from", names.join(", "))
        }
        (Behind::Zone, Some(zone)) => format!("zone {zone} has {}", others(choice.in_zone)),
        (Behind::Zone | Behind::Replicas, _) => format!("it has {}", others(choice.on_node)),
        (Behind::Busy, _) => "it is busier for its capacity".to_owned(),
        (Behind::Id, _) => "only by its name".to_owned(),
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn placed_on(state: &State, node: &NodeId) -> usize {
    state.placements().values().filter(|place| place.node == *node).count()
}

fn moves_to(state: &State, entity: &EntityId) -> Option<NodeId> {
    let made = state.moves().get(entity).filter(|made: &&Move| made.is_under_way());
    made.map(|made| made.to.clone())
}
