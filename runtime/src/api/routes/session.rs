//! `/v1/sessions` and `/v1/sessions/{id}`: what there is, its life, its metadata.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use odeum_proto::{
    SessionId, limits,
    session::{DataAction, DataOutcome, Glob, Operation, SessionSettings},
};
use serde::Deserialize;

use super::{
    Node,
    request::{
        self, ReadQuery, body, changed, freshness, glob, json, no_session, page_limit, removed,
        unexpected,
    },
};
use crate::api::{
    node::Listing,
    problem::Problem,
    types::{Changed, Reading, Session, SessionCreated, SessionPage, SettingsBody, TtlBody},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    after: Option<SessionId>,
    #[serde(rename = "match")]
    matching: Option<Glob>,
    #[serde(default)]
    consistency: Reading,
}

pub(super) async fn page(
    State(node): Node,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<SessionPage>, Problem> {
    let Query(PageQuery { limit, after, matching, consistency }) = query?;
    let (limit, consistency) = (page_limit(limit)?, consistency.into());
    let listing = Listing { matching: glob(matching), after, limit, consistency };
    node.sessions(listing).await.map(Json)
}

pub(super) async fn one(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (Path(id), Query(ReadQuery { consistency })) = (id?, query?);
    let sight = node.session(id.clone(), consistency.into()).await?;
    let session = sight.session.as_ref().ok_or_else(|| no_session(&id))?;
    Ok((freshness(&sight), Json(Session::of(&id, session))).into_response())
}

pub(super) async fn create(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    headers: HeaderMap,
    settings: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<SessionCreated>), Problem> {
    let (Path(id), key) = (id?, request::request(&headers)?);
    let settings = body(settings, "settings", limits::MESSAGE_BYTES)?;
    let SettingsBody { ttl, metadata } =
        if settings.is_empty() { SettingsBody::default() } else { json(&settings)? };
    let settings = SessionSettings { ttl: ttl.map(|ttl| ttl.0), metadata };
    let create = DataAction::CreateSession { session: id.clone(), settings };
    match node.change(create, key).await? {
        DataOutcome::Created { revision, created } => {
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(SessionCreated { id, created, revision })))
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn remove(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (Path(id), key) = (id?, request::request(&headers)?);
    let outcome = node.change(DataAction::DeleteSession { session: id.clone() }, key).await?;
    removed(outcome, || format!("session {id}"))
}

pub(super) async fn touch(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Changed>, Problem> {
    let (Path(session), key) = (id?, request::request(&headers)?);
    changed(node.change(DataAction::TouchSession { session }, key).await?).map(Json)
}

pub(super) async fn set_ttl(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    headers: HeaderMap,
    ttl: Result<Bytes, BytesRejection>,
) -> Result<Json<Changed>, Problem> {
    let (Path(session), key) = (id?, request::request(&headers)?);
    let TtlBody { ttl } = json(&body(ttl, "a ttl", limits::MESSAGE_BYTES)?)?;
    let ttl = ttl.map(|ttl| ttl.0);
    changed(node.change(DataAction::SetTtl { session, ttl }, key).await?).map(Json)
}

pub(super) async fn set_note(
    State(node): Node,
    path: Result<Path<(SessionId, String)>, PathRejection>,
    headers: HeaderMap,
    text: Result<Bytes, BytesRejection>,
) -> Result<Json<Changed>, Problem> {
    let (Path((session, key)), request) = (path?, request::request(&headers)?);
    let text: Box<str> = json(&body(text, "an entry of metadata", limits::MESSAGE_BYTES)?)?;
    let operation = Operation::Note { key: key.into(), value: Some(text) };
    changed(node.change(DataAction::Operate { session, operation }, request).await?).map(Json)
}

pub(super) async fn remove_note(
    State(node): Node,
    path: Result<Path<(SessionId, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (Path((session, key)), request) = (path?, request::request(&headers)?);
    let operation = Operation::Note { key: key.as_str().into(), value: None };
    let action = DataAction::Operate { session: session.clone(), operation };
    let outcome = node.change(action, request).await?;
    removed(outcome, || format!("entry {key:?} in the metadata of session {session}"))
}
