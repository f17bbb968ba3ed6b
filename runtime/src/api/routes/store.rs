//! `/v1/store`: the groups of the replicated store, and what is done to all of them.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::{Body, HttpBody as _},
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt as _;
use tokio::sync::Semaphore;

use super::{Node, paced::paced};
use crate::api::{
    problem::Problem,
    types::{CompactReport, Restored, StoreReport},
};

/// Most backups that are made at once: each holds a copy of the store's index, and a blob.
const BACKUPS: usize = 2;

/// How long a client may leave a backup unread: longer than any that comes back needs to.
const UNREAD: Duration = Duration::from_secs(300);

/// The places of the backups that a server makes.
#[derive(Debug, Clone)]
pub(super) struct Backups {
    room: Arc<Semaphore>,
}

impl Backups {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(BACKUPS)) }
    }
}

pub(super) async fn report(State(node): Node) -> Json<StoreReport> {
    Json(node.store())
}

/// The bytes come as they are asked for. When the rest cannot be had the answer is cut off, and what
/// came is no backup: it has no end.
pub(super) async fn backup(
    State(node): Node,
    Extension(backups): Extension<Backups>,
) -> Result<Response, Problem> {
    let Ok(permit) = backups.room.try_acquire_owned() else {
        return Err(Problem::Overloaded { limit: BACKUPS });
    };
    let feed = paced(node.backup().await?, permit, UNREAD);
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
    let length = body.size_hint().exact();
    node.restore(Box::pin(body.into_data_stream().map_err(broken)), length).await.map(Json)
}

pub(super) async fn compact(State(node): Node) -> Result<Json<CompactReport>, Problem> {
    node.compact().await.map(Json)
}
