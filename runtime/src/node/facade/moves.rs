//! Entities that move from node to node, as this one is asked for them.

use std::time::Duration;

use futures::future::join_all;
use odeum_cluster::placement::planner::Wish;
use odeum_proto::{moves::MoveReport, store::Command};

use super::{NodeFacade, placement::why_unfit};
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
        let kinds = self.store.view(|state| state.kinds().contains_key(entity.kind()));
        if kinds {
            let kind = entity.kind();
            let reason = format!("entities of kind {kind} move by shard, not one by one");
            return Err(Problem::Conflict { reason: reason.into() });
        }
        let place = self.store.view(|state| state.placements().get(&entity).cloned());
        let Some(place) = place else {
            if let Some(replica) = entity.replica() {
                self.check_deployed(replica.firmware())?;
                let reason = format!("{entity} is not placed on a node yet");
                return Err(Problem::Unavailable { reason: reason.into() });
            }
            return Err(Problem::NotFound { what: entity.to_string().into() });
        };
        // It would go from there at once.
        let unfit = self.store.view(|state| {
            let spec = state.spec_of(&entity.replica()?)?;
            let wish = Wish::of(entity.clone(), &spec.policy);
            Some(why_unfit(wish.unfit(state.nodes().get(&to)?)?, &wish))
        });
        if let Some(why) = unfit {
            let reason = format!("{to} may not have {entity}: {why}");
            return Err(Problem::Conflict { reason: reason.into() });
        }
        let (from, epoch) = (place.node, place.epoch);
        let (moved, there) = (entity.clone(), to.clone());
        self.write(Command::BeginMove { entity: moved, to: there, expected: epoch }).await?;
        Ok(MoveBegun { entity, from, to, epoch })
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
