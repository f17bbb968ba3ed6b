//! `/v1/sessions/{id}/programs`: what a session keeps for whoever runs it.

use std::collections::BTreeMap;

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
    session::{DataAction, Metadata, Operation, Program},
};
use serde::Deserialize;

use super::{
    Node,
    request::{self, ReadQuery, body, changed, freshness, no_session, removed},
};
use crate::api::{
    problem::Problem,
    types::{Changed, ProgramSummary, SessionProgram},
};

/// A program: its session and its name.
type ProgramPath = Result<Path<(SessionId, String)>, PathRejection>;

pub(super) async fn list(
    State(node): Node,
    id: Result<Path<SessionId>, PathRejection>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (Path(id), Query(ReadQuery { consistency })) = (id?, query?);
    let sight = node.session(id.clone(), consistency.into()).await?;
    let session = sight.session.as_ref().ok_or_else(|| no_session(&id))?;
    let programs = session.programs().iter();
    let programs: BTreeMap<_, _> =
        programs.map(|(name, program)| (name.clone(), ProgramSummary::of(program))).collect();
    Ok((freshness(&sight), Json(programs)).into_response())
}

pub(super) async fn one(
    State(node): Node,
    path: ProgramPath,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (Path((id, name)), Query(ReadQuery { consistency })) = (path?, query?);
    let sight = node.session(id.clone(), consistency.into()).await?;
    let session = sight.session.as_ref().ok_or_else(|| no_session(&id))?;
    let program = session.programs().get(&*name).ok_or_else(|| missing(&id, &name))?;
    Ok((freshness(&sight), Json(SessionProgram::of(program))).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuery {
    language: String,
}

pub(super) async fn put(
    State(node): Node,
    path: ProgramPath,
    query: Result<Query<PutQuery>, QueryRejection>,
    headers: HeaderMap,
    content: Result<Bytes, BytesRejection>,
) -> Result<Json<Changed>, Problem> {
    let (Path((session, name)), Query(PutQuery { language })) = (path?, query?);
    let request = request::request(&headers)?;
    let content = body(content, "a program", limits::MESSAGE_BYTES)?;
    let program = Program {
        language: language.into(),
        content: (*content).into(),
        metadata: Metadata::new(),
    };
    let operation = Operation::PutProgram { name: name.into(), program: program.into() };
    changed(node.change(DataAction::Operate { session, operation }, request).await?).map(Json)
}

pub(super) async fn remove(
    State(node): Node,
    path: ProgramPath,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (Path((session, name)), request) = (path?, request::request(&headers)?);
    let operation = Operation::DeleteProgram { name: name.as_str().into() };
    let action = DataAction::Operate { session: session.clone(), operation };
    let outcome = node.change(action, request).await?;
    removed(outcome, || format!("program {name:?} in session {session}"))
}

fn missing(id: &SessionId, name: &str) -> Problem {
    Problem::NotFound { what: format!("program {name:?} in session {id}").into() }
}
