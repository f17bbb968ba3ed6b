//! `/v1/blobs`: packages and other bytes that are kept on several nodes.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;

use super::Node;
use crate::api::{
    problem::Problem,
    types::{BlobPage, DEFAULT_PAGE, MAX_PAGE},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    after: Option<String>,
}

pub(super) async fn page(
    State(node): Node,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<BlobPage>, Problem> {
    let Query(PageQuery { limit, after }) = query?;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if limit == 0 || limit > MAX_PAGE {
        let reason = format!("a page has 1 to {MAX_PAGE} blobs, not {limit}").into();
        return Err(Problem::BadRequest { reason });
    }
    let after = after.map(|text| text.parse()).transpose();
    let after = after.map_err(|error: odeum_proto::IdError| Problem::BadRequest {
        reason: error.to_string().into(),
    })?;
    node.blobs(limit, after).await.map(Json)
}
