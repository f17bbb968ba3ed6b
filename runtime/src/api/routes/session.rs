//! `/v1/sessions`: replicated state, as it is after everything that was acknowledged.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
};
use odeum_proto::SessionId;
use serde::Deserialize;

use super::Node;
use crate::api::{
    problem::Problem,
    types::{DEFAULT_PAGE, MAX_PAGE, Session, SessionPage},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    after: Option<SessionId>,
}

pub(super) async fn page(
    State(node): Node,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<SessionPage>, Problem> {
    let Query(PageQuery { limit, after }) = query?;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if limit == 0 || limit > MAX_PAGE {
        let reason = format!("a page has 1 to {MAX_PAGE} sessions, not {limit}").into();
        return Err(Problem::BadRequest { reason });
    }
    node.sessions(limit, after).await.map(Json)
}

pub(super) async fn one(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
) -> Result<Json<Session>, Problem> {
    let Path(id) = id?;
    node.session(id).await.map(Json)
}

pub(super) async fn remove(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(id) = id?;
    node.delete_session(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
