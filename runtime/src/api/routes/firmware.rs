//! `/v1/firmware`: what is deployed.

use std::{fmt::Display, str::FromStr};

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use odeum_proto::{Name, Recipient, limits};

use super::{APPLY_BODY, Node, SCALE_BODY, request};
use crate::api::{
    node::Deployment,
    problem::Problem,
    types::{
        Applied, DeployOptions, Deployed, FirmwareDescription, FirmwareEvent, FirmwareSettings,
        FirmwareSummary, Renewed, RolledBack, SETTINGS_HEADER, ScaleBody, Scaled,
    },
};
use crate::config::{ByteSize, HumanDuration, UnitError};

pub(super) async fn list(State(node): Node) -> Result<Json<Vec<FirmwareSummary>>, Problem> {
    node.firmware().await.map(Json)
}

pub(super) async fn one(
    State(node): Node,
    of: Result<Path<Recipient>, PathRejection>,
) -> Result<Json<FirmwareSummary>, Problem> {
    let Path(of) = of?;
    node.known(of.firmware())?;
    let all = node.firmware().await?;
    let found = all.into_iter().find(|firmware| firmware.name == *of.firmware());
    let found = found.and_then(|firmware| match of.replica() {
        None => Some(firmware),
        Some(replica) => firmware.of_one(replica.number()),
    });
    found.map(Json).ok_or_else(|| Problem::NotFound { what: format!("firmware {of}").into() })
}

pub(super) async fn put(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
    options: Result<Query<DeployOptions>, QueryRejection>,
    headers: HeaderMap,
    package: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Deployed>), Problem> {
    let Path(name) = name?;
    let Query(DeployOptions { memory, time, .. }) = options?;
    let said = request::header(&headers, SETTINGS_HEADER)?.map(settings);
    let mut settings = said.transpose()?.unwrap_or_default();
    let limit = limits::PACKAGE_BYTES;
    let package = package.map_err(|error| Problem::of_body(&error, "a package", limit))?;
    if package.is_empty() {
        let reason = "the body is empty: send the bytes of a .wasm or .wat file".into();
        return Err(Problem::BadPackage { reason });
    }
    if let Some(memory) = bound("memory", memory, ByteSize::from_str)? {
        settings.limits.memory = Some(memory);
    }
    if let Some(time) = bound("time", time, HumanDuration::from_str)? {
        settings.limits.message_time = Some(time);
    }
    let deployment = Deployment { name, package, settings };
    let deployed = node.deploy(deployment).await?;
    Ok((StatusCode::CREATED, Json(deployed)))
}

pub(super) async fn apply(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Applied>, Problem> {
    let Path(name) = name?;
    let body = request::body(body, "what is applied", APPLY_BODY)?;
    node.apply(name, request::json(&body)?).await.map(Json)
}

/// What the header says.
fn settings(text: &str) -> Result<FirmwareSettings, Problem> {
    serde_json::from_str(text).map_err(|error| request::bad_header(SETTINGS_HEADER, &error))
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
    of: Result<Path<Recipient>, PathRejection>,
) -> Result<Json<Vec<FirmwareEvent>>, Problem> {
    let Path(of) = of?;
    node.events(of).await.map(Json)
}

pub(super) async fn scale(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Scaled>, Problem> {
    let Path(name) = name?;
    let body = request::body(body, "a number of replicas", SCALE_BODY)?;
    let ScaleBody { replicas } = request::json(&body)?;
    // It is bounded by its type.
    let replicas = u32::try_from(replicas.number()).unwrap_or(limits::REPLICAS);
    node.scale(name, replicas).await.map(Json)
}

pub(super) async fn restart(
    State(node): Node,
    of: Result<Path<Recipient>, PathRejection>,
) -> Result<Json<Renewed>, Problem> {
    let Path(of) = of?;
    node.restart(of).await.map(Json)
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
fn bound<T: Display, B: TryFrom<T, Error: Display>>(
    what: &str,
    text: Option<String>,
    read: impl FnOnce(&str) -> Result<T, UnitError>,
) -> Result<Option<B>, Problem> {
    let bad = |reason: &dyn Display| request::bad(format_args!("{what}: {reason}"));
    let Some(text) = text else { return Ok(None) };
    let value = read(&text).map_err(|error| bad(&error))?;
    B::try_from(value).map(Some).map_err(|error| bad(&error))
}
