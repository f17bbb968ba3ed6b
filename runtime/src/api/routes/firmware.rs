//! `/v1/firmware`: what is deployed.

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
    types::{DeployOptions, Deployed, FirmwareSummary},
};

pub(super) async fn list(State(node): Node) -> Result<Json<Vec<FirmwareSummary>>, Problem> {
    node.firmware().await.map(Json)
}

pub(super) async fn one(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
) -> Result<Json<FirmwareSummary>, Problem> {
    let Path(name) = name?;
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
    let deployment = Deployment { name, package, memory: unit(memory)?, message_time: unit(time)? };
    let deployed = node.deploy(deployment).await?;
    Ok((StatusCode::CREATED, Json(deployed)))
}

pub(super) async fn remove(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(name) = name?;
    node.remove(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn unit<T: std::str::FromStr<Err = crate::config::UnitError>>(
    text: Option<String>,
) -> Result<Option<T>, Problem> {
    let parse = |text: String| {
        text.parse()
            .map_err(|error: T::Err| Problem::BadRequest { reason: error.to_string().into() })
    };
    text.map(parse).transpose()
}
