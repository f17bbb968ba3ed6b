//! `/healthz`, `/readyz`, `/v1/status`, `/v1/nodes`, `/v1/links`, `/v1/doctor`,
//! `/v1/actors`, `/v1/nodes/{id}/leave`, `/stay`, `/drain`, `/restart` and `/use`: the node and its
//! neighbours.

use std::time::Duration;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use odeum_actors::{Kind, Phase, Tree};
use odeum_proto::NodeId;
use serde::Deserialize;

use super::Node;
use crate::api::{
    problem::Problem,
    types::{
        ActorNode, DEFAULT_PATIENCE, LinksReport, MAX_PATIENCE, NodeRestart, NodeStatus,
        NodeSummary,
    },
};
use crate::{config::HumanDuration, doctor::Facts};

/// The process is alive and its loop turns.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(node): Node) -> Result<&'static str, Problem> {
    node.ready().map(|()| "ok\n")
}

pub(super) async fn status(State(node): Node) -> Json<NodeStatus> {
    Json(node.status())
}

pub(super) async fn nodes(State(node): Node) -> Json<Vec<NodeSummary>> {
    Json(node.nodes())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaveQuery {
    patience: Option<HumanDuration>,
}

impl LeaveQuery {
    fn patience(self) -> Result<Duration, Problem> {
        let patience = self.patience.map_or(DEFAULT_PATIENCE, |patience| patience.0);
        if patience > MAX_PATIENCE {
            let reason = format!("patience is at most {}", HumanDuration(MAX_PATIENCE)).into();
            return Err(Problem::BadRequest { reason });
        }
        Ok(patience)
    }
}

pub(super) async fn leave(
    State(node): Node,
    id: Result<Path<NodeId>, PathRejection>,
    query: Result<Query<LeaveQuery>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let (Path(id), Query(query)) = (id?, query?);
    node.leave(id, query.patience()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn drain(
    State(node): Node,
    id: Result<Path<NodeId>, PathRejection>,
    query: Result<Query<LeaveQuery>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let (Path(id), Query(query)) = (id?, query?);
    node.drain(id, query.patience()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn restart(
    State(node): Node,
    id: Result<Path<NodeId>, PathRejection>,
    query: Result<Query<LeaveQuery>, QueryRejection>,
) -> Result<Json<NodeRestart>, Problem> {
    let (Path(id), Query(query)) = (id?, query?);
    Ok(Json(node.restart_node(id, query.patience()?).await?))
}

pub(super) async fn use_again(
    State(node): Node,
    id: Result<Path<NodeId>, PathRejection>,
) -> Result<StatusCode, Problem> {
    node.use_again(id?.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn stay(
    State(node): Node,
    id: Result<Path<NodeId>, PathRejection>,
) -> Result<StatusCode, Problem> {
    node.stay(id?.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn facts(State(node): Node) -> Result<Json<Facts>, Problem> {
    node.facts().await.map(Json)
}

pub(super) async fn links(State(node): Node) -> Json<LinksReport> {
    Json(node.links())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActorsQuery {
    #[serde(default)]
    format: ActorsFormat,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ActorsFormat {
    #[default]
    Json,
    Text,
}

pub(super) async fn actors(
    State(node): Node,
    query: Result<Query<ActorsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(ActorsQuery { format }) = query?;
    let tree = node.actors().await?;
    Ok(match format {
        ActorsFormat::Json => Json(summary(&tree)).into_response(),
        ActorsFormat::Text => format!("{tree}\n").into_response(),
    })
}

fn summary(tree: &Tree) -> ActorNode {
    ActorNode {
        name: tree.name.to_string(),
        kind: match tree.kind {
            Kind::Supervisor => "supervisor".to_owned(),
            Kind::Actor => "actor".to_owned(),
        },
        state: match tree.state {
            Phase::Down => "down".to_owned(),
            Phase::Starting => "starting".to_owned(),
            Phase::Running => "running".to_owned(),
            Phase::Stopping => "stopping".to_owned(),
        },
        restarts: tree.restarts,
        mailbox: tree.mailbox,
        handled: tree.handled,
        busy_us: u64::try_from(tree.busy.as_micros()).unwrap_or(u64::MAX),
        children: tree.children.iter().map(summary).collect(),
    }
}
