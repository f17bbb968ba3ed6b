//! `/v1/placement`: what is where, why, and how it could be better.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use odeum_proto::EntityId;
use serde::Deserialize;

use super::Node;
use crate::api::{
    problem::Problem,
    types::{Explanation, MoveBegun, PlacementReport},
};

pub(super) async fn show(State(node): Node) -> Json<PlacementReport> {
    Json(node.placement())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    entity: String,
}

pub(super) async fn explain(
    State(node): Node,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Explanation>, Problem> {
    let Query(ExplainQuery { entity }) = query?;
    let entity: EntityId = entity.parse().map_err(|error: odeum_proto::IdError| {
        Problem::BadRequest { reason: format!("entity: {error}").into() }
    })?;
    node.explain(entity).await.map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RebalanceQuery {
    most: usize,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn rebalance(
    State(node): Node,
    query: Result<Query<RebalanceQuery>, QueryRejection>,
) -> Result<Json<Vec<MoveBegun>>, Problem> {
    let Query(RebalanceQuery { most, dry_run }) = query?;
    node.rebalance(most, dry_run).await.map(Json)
}
