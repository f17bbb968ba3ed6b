//! `/v1/store`: the groups of the replicated store, and what is done to all of them.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt as _;

use super::Node;
use crate::api::{
    problem::Problem,
    types::{CompactReport, Restored, StoreReport},
};

pub(super) async fn report(State(node): Node) -> Json<StoreReport> {
    Json(node.store())
}

/// The bytes come as they are asked for. When the rest cannot be had the answer is cut off, and what
/// came is no backup: it has no end.
pub(super) async fn backup(State(node): Node) -> Result<Response, Problem> {
    let feed = node.backup().await?;
    let feed = feed.inspect_err(|error| tracing::warn!(%error, "backup not finished"));
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment; filename=\"odeum.backup\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(feed)).into_response())
}

pub(super) async fn restore(State(node): Node, body: Body) -> Result<Json<Restored>, Problem> {
    let broken = |error: axum::Error| Problem::BadRequest { reason: error.to_string().into() };
    node.restore(Box::pin(body.into_data_stream().map_err(broken))).await.map(Json)
}

pub(super) async fn compact(State(node): Node) -> Result<Json<CompactReport>, Problem> {
    node.compact().await.map(Json)
}
