//! `/v1/sessions/{id}/variables`: typed values, read, written, compared.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header::ETAG},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use odeum_proto::{
    SessionId, limits,
    session::{DataAction, Glob, Operation, ValueType},
};
use serde::Deserialize;

use super::{
    Node,
    decode::{Kinds, register},
    request::{
        self, ReadQuery, bad, body, expected, freshness, glob, json, no_session, page_limit,
        removed, tag, written,
    },
};
use crate::api::{
    node::Sight,
    problem::Problem,
    types::{
        DefinitionBody, Reading, SessionVariable, VariableHistory, VariablePage, Written,
        value_type,
    },
};

/// A variable: its session and its name.
type VariablePath = Result<Path<(SessionId, String)>, PathRejection>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    after: Option<String>,
    #[serde(rename = "match")]
    matching: Option<Glob>,
    #[serde(default)]
    consistency: Reading,
}

pub(super) async fn page(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (Path(id), Query(PageQuery { limit, after, matching, consistency })) = (id?, query?);
    let (limit, matching) = (page_limit(limit)?, glob(matching));
    let sight = node.session(id.clone(), consistency.into()).await?;
    let session = sight.session.as_ref().ok_or_else(|| no_session(&id))?;
    let page = VariablePage::of(session, &matching, after.as_deref(), limit);
    Ok((freshness(&sight), Json(page)).into_response())
}

pub(super) async fn one(
    State(node): Node,
    path: VariablePath,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (Path((id, key)), Query(ReadQuery { consistency })) = (path?, query?);
    let sight = node.session(id.clone(), consistency.into()).await?;
    let variable = SessionVariable::of(found(&sight, &id, &key)?);
    let mut headers = freshness(&sight);
    if let Ok(tag) = HeaderValue::try_from(tag(variable.version)) {
        headers.insert(ETAG, tag);
    }
    Ok((headers, Json(variable)).into_response())
}

pub(super) async fn history(
    State(node): Node,
    path: VariablePath,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (Path((id, key)), Query(ReadQuery { consistency })) = (path?, query?);
    let sight = node.session(id.clone(), consistency.into()).await?;
    let history = VariableHistory::of(found(&sight, &id, &key)?);
    Ok((freshness(&sight), Json(history)).into_response())
}

fn found<'a>(
    sight: &'a Sight,
    id: &SessionId,
    key: &str,
) -> Result<&'a odeum_cluster::store::Variable, Problem> {
    let session = sight.session.as_ref().ok_or_else(|| no_session(id))?;
    let variable = session.variables().get(key);
    variable.ok_or_else(|| Problem::NotFound {
        what: format!("variable {key:?} in session {id}").into(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuery {
    #[serde(rename = "type")]
    kind: Option<String>,
    expected: Option<u64>,
    register: Option<bool>,
}

pub(super) async fn put(
    State(node): Node,
    path: VariablePath,
    query: Result<Query<PutQuery>, QueryRejection>,
    headers: HeaderMap,
    value: Result<Bytes, BytesRejection>,
) -> Result<Json<Written>, Problem> {
    let (Path((session, key)), Query(query)) = (path?, query?);
    let (request, expected) = (request::request(&headers)?, expected(query.expected, &headers)?);
    let kind: Option<ValueType> = query.kind.as_deref().map(value_type).transpose().map_err(bad)?;
    let value: serde_json::Value = json(&body(value, "a value", limits::MESSAGE_BYTES)?)?;
    let untyped = kind.is_none().then_some(&*key);
    let kinds = Kinds::look(&node, &session, untyped).await?;
    let value = kinds.value(&session, &key, kind, &value)?;
    let register = query.register.unwrap_or(true);
    let operation = Operation::Set { key: key.into(), value, expected, register };
    written(node.change(DataAction::Operate { session, operation }, request).await?).map(Json)
}

pub(super) async fn define(
    State(node): Node,
    path: VariablePath,
    headers: HeaderMap,
    definition: Result<Bytes, BytesRejection>,
) -> Result<Json<Written>, Problem> {
    let (Path((session, key)), request) = (path?, request::request(&headers)?);
    let definition: DefinitionBody =
        json(&body(definition, "a definition with its value", limits::MESSAGE_BYTES)?)?;
    let operation = register(&session, key.into(), definition)?;
    written(node.change(DataAction::Operate { session, operation }, request).await?).map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteQuery {
    expected: Option<u64>,
}

pub(super) async fn remove(
    State(node): Node,
    path: VariablePath,
    query: Result<Query<DeleteQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (Path((session, key)), Query(DeleteQuery { expected: given })) = (path?, query?);
    let (request, expected) = (request::request(&headers)?, expected(given, &headers)?);
    let operation = Operation::Delete { key: key.as_str().into(), expected };
    let action = DataAction::Operate { session: session.clone(), operation };
    let outcome = node.change(action, request).await?;
    removed(outcome, || format!("variable {key:?} in session {session}"))
}
