//! `/v1/firmware`: what is deployed.

use std::{fmt::Display, str::FromStr, time::Duration};

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
};
use bytes::Bytes;
use odeum_proto::{Name, limits};

use super::Node;
use crate::api::{
    node::Deployment,
    problem::Problem,
    types::{
        DeployOptions, Deployed, FirmwareDescription, FirmwareEvent, FirmwareSummary, MAX_DEADLINE,
        Renewed, RolledBack,
    },
};
use crate::config::{ByteSize, HumanDuration, UnitError};

/// Least and most memory of an instance: one page of WebAssembly, and all that 32 bits address.
const MEMORY: (ByteSize, ByteSize) = (ByteSize(64 << 10), ByteSize(4 << 30));
/// Least and most time for one message: what a busy machine may take to schedule it at all, and
/// the longest anybody waits for the reply.
const MESSAGE_TIME: (HumanDuration, HumanDuration) =
    (HumanDuration(Duration::from_millis(10)), HumanDuration(MAX_DEADLINE));

pub(super) async fn list(State(node): Node) -> Result<Json<Vec<FirmwareSummary>>, Problem> {
    node.firmware().await.map(Json)
}

pub(super) async fn one(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
) -> Result<Json<FirmwareSummary>, Problem> {
    let Path(name) = name?;
    node.known(&name)?;
    let all = node.firmware().await?;
    let found = all.into_iter().find(|firmware| firmware.name == name);
    found.map(Json).ok_or_else(|| Problem::NotFound { what: format!("firmware {name}").into() })
}

pub(super) async fn put(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
    options: Result<Query<DeployOptions>, QueryRejection>,
    package: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Deployed>), Problem> {
    let Path(name) = name?;
    let Query(DeployOptions { memory, time }) = options?;
    let limit = limits::PACKAGE_BYTES;
    let package = package.map_err(|error| Problem::of_body(&error, "a package", limit))?;
    if package.is_empty() {
        let reason = "the body is empty: send the bytes of a .wasm or .wat file".into();
        return Err(Problem::BadPackage { reason });
    }
    let memory: Option<ByteSize> = within("memory", memory, MEMORY)?;
    let message_time: Option<HumanDuration> = within("time", time, MESSAGE_TIME)?;
    let deployment = Deployment { name, package, memory, message_time };
    let deployed = node.deploy(deployment).await?;
    Ok((StatusCode::CREATED, Json(deployed)))
}

pub(super) async fn describe(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
) -> Result<Json<FirmwareDescription>, Problem> {
    let Path(name) = name?;
    node.describe(name).await.map(Json)
}

pub(super) async fn events(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
) -> Result<Json<Vec<FirmwareEvent>>, Problem> {
    let Path(name) = name?;
    node.events(name).await.map(Json)
}

pub(super) async fn restart(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
) -> Result<Json<Renewed>, Problem> {
    let Path(name) = name?;
    node.restart(name).await.map(Json)
}

pub(super) async fn roll_back(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
) -> Result<Json<RolledBack>, Problem> {
    let Path(name) = name?;
    node.roll_back(name).await.map(Json)
}

pub(super) async fn remove(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name?;
    node.remove(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A bound given in the query, if it is one that can be kept.
fn within<T: FromStr<Err = UnitError> + PartialOrd + Display>(
    what: &str,
    text: Option<String>,
    (least, most): (T, T),
) -> Result<Option<T>, Problem> {
    let bad = |reason: String| Problem::BadRequest { reason: reason.into() };
    let Some(text) = text else { return Ok(None) };
    let value: T = text.parse().map_err(|error| bad(format!("{what}: {error}")))?;
    if value < least || value > most {
        return Err(bad(format!("{what}: {value} is not between {least} and {most}")));
    }
    Ok(Some(value))
}
