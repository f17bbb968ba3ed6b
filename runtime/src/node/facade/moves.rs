//! Entities that move from node to node, as this one is asked for them.

use std::time::Duration;

use futures::future::join_all;
use odeum_cluster::placement::planner::Wish;
use odeum_proto::{EntityId, NodeId, moves::MoveReport, store::Command};

use super::{NodeFacade, nodes::no_node, placement::why_unfit};
use crate::api::{
    Problem,
    types::{MoveBegun, MoveBody, MoveSummary},
};

/// How long another node may take to say what moves from there.
const REPORT_DEADLINE: Duration = Duration::from_millis(500);

impl NodeFacade {
    pub(super) async fn migrate(&self, body: MoveBody) -> Result<MoveBegun, Problem> {
        let MoveBody { entity, to } = body;
        self.fresh().await?;
        if self.store.view(|state| state.kinds().contains_key(entity.kind())) {
            return Err(self.goes_with_its_shard(&entity));
        }
        let place = self.store.view(|state| state.placements().get(&entity).cloned());
        let Some(place) = place else {
            if let Some(replica) = entity.replica() {
                self.check_replica(&replica)?;
                let reason = format!("{entity} is not placed on a node yet");
                return Err(Problem::Unavailable { reason: reason.into() });
            }
            return Err(Problem::NotFound { what: entity.to_string().into() });
        };
        self.check_target(&entity, &to)?;
        let (from, epoch) = (place.node, place.epoch);
        let (moved, there) = (entity.clone(), to.clone());
        self.write(Command::BeginMove { entity: moved, to: there, expected: epoch }).await?;
        Ok(MoveBegun { entity, from, to, epoch })
    }

    /// Refuses a node that is none, or from which it would go at once.
    fn check_target(&self, entity: &EntityId, to: &NodeId) -> Result<(), Problem> {
        let problem = self.store.view(|state| {
            let may_not = |why: &str| {
                let reason = format!("{to} may not have {entity}: {why}");
                Some(Problem::Conflict { reason: reason.into() })
            };
            let Some(record) = state.nodes().get(to) else { return Some(no_node(to)) };
            if state.leaving().contains(to) {
                return may_not("it is leaving");
            }
            if state.draining().contains(to) {
                return may_not(&format!("it is drained, until `odeum drain {to} --undo`"));
            }
            let spec = state.spec_of(&entity.replica()?)?;
            let wish = Wish::of(entity.clone(), &spec.policy);
            may_not(&why_unfit(wish.unfit(record)?, &wish))
        });
        problem.map_or(Ok(()), Err)
    }

    /// Refuses to move an entity of a program's own kind: what is placed is its shard.
    fn goes_with_its_shard(&self, entity: &EntityId) -> Problem {
        let kind = entity.kind();
        let at = self.store.view(|state| state.placement(entity).map(|place| place.node.clone()));
        let how = match at {
            Some(node) => format!("; `odeum drain {node}` moves all that {node} has"),
            None => String::new(),
        };
        let reason = format!("entities of kind {kind} move with their shards, not one by one{how}");
        Problem::Conflict { reason: reason.into() }
    }

    /// The moves that began lately at any node that answers, the oldest first.
    pub(super) async fn all_moves(&self) -> Vec<MoveSummary> {
        self.reported_moves().await.into_iter().map(MoveSummary::from).collect()
    }

    pub(super) async fn reported_moves(&self) -> Vec<MoveReport> {
        let nodes: Vec<_> = self.store.view(|state| state.nodes().keys().cloned().collect());
        let asked = nodes.iter().map(|node| self.migration.moves_of(node, REPORT_DEADLINE));
        let mut moves: Vec<_> = join_all(asked).await.into_iter().flatten().flatten().collect();
        moves.sort_by(|a, b| (a.began_ms, &a.entity).cmp(&(b.began_ms, &b.entity)));
        moves
    }
}
