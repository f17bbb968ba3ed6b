//! `/v1/sessions/{id}/batch` and `/transaction`: several things as one change.

use axum::{
    Json,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::HeaderMap,
};
use bytes::Bytes;
use odeum_proto::{
    SessionId,
    session::{DataAction, DataOutcome},
};

use super::{
    BATCH_BODY, Node,
    decode::{Kinds, untyped, untyped_comparisons},
    request::{self, body, json, result, unexpected},
};
use crate::api::{
    problem::Problem,
    types::{BatchAnswer, BatchBody, OperationResult, TransactionAnswer, TransactionBody},
};

pub(super) async fn batch(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    headers: HeaderMap,
    batch: Result<Bytes, BytesRejection>,
) -> Result<Json<BatchAnswer>, Problem> {
    let (Path(session), request) = (id?, request::request(&headers)?);
    let BatchBody { atomic, operations } = json(&body(batch, "a batch", BATCH_BODY)?)?;
    let mut kinds = Kinds::look(&node, &session, untyped(&operations)).await?;
    let operations = kinds.operations(&session, operations)?;
    match node.change(DataAction::Batch { session, atomic, operations }, request).await? {
        DataOutcome::Batch { revision, results } => {
            let one = |done| match done {
                Ok(done) => result(done),
                Err(refusal) => {
                    let error = Some(Problem::from(refusal).body());
                    OperationResult { error, ..OperationResult::default() }
                }
            };
            Ok(Json(BatchAnswer { revision, results: results.into_iter().map(one).collect() }))
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn transaction(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    headers: HeaderMap,
    transaction: Result<Bytes, BytesRejection>,
) -> Result<Json<TransactionAnswer>, Problem> {
    let (Path(session), request) = (id?, request::request(&headers)?);
    let TransactionBody { compare, then, otherwise } =
        json(&body(transaction, "a transaction", BATCH_BODY)?)?;
    let keys = untyped_comparisons(&compare).chain(untyped(&then)).chain(untyped(&otherwise));
    let kinds = Kinds::look(&node, &session, keys).await?;
    let compare = kinds.comparisons(&session, compare)?;
    // What one list registers is not there for the other.
    let then = kinds.clone().operations(&session, then)?;
    let otherwise = kinds.clone().operations(&session, otherwise)?;
    let action = DataAction::Transaction { session, compare, then, otherwise };
    match node.change(action, request).await? {
        DataOutcome::Transaction { revision, succeeded, results } => {
            let results = results.into_iter().map(result).collect();
            Ok(Json(TransactionAnswer { revision, succeeded, results }))
        }
        other => Err(unexpected(&other)),
    }
}
