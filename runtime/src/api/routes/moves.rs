//! `/v1/moves`: entities that move from node to node.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};

use super::{MOVE_BODY, Node, request};
use crate::api::{
    problem::Problem,
    types::{MoveBegun, MoveSummary},
};

pub(super) async fn list(State(node): Node) -> Result<Json<Vec<MoveSummary>>, Problem> {
    node.moves().await.map(Json)
}

pub(super) async fn begin(
    State(node): Node,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<MoveBegun>), Problem> {
    let body = request::body(body, "what is to move", MOVE_BODY)?;
    let begun = node.begin_move(request::json(&body)?).await?;
    Ok((StatusCode::ACCEPTED, Json(begun)))
}
