//! `/v1/firmware/{name}/call`: a message to a firmware, wherever it runs.

use std::time::Duration;

use axum::{
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, HeaderName, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use odeum_cluster::router::choice::Choice;
use odeum_proto::{EntityId, Recipient, RequestId, call::CallRequest, limits};

use super::{
    Node,
    request::{self, bad_header, header, parsed},
};
use crate::{
    api::{
        problem::Problem,
        types::{
            DEADLINE_HEADER, DEFAULT_DEADLINE, EPOCH_HEADER, KEY_HEADER, MAX_DEADLINE, NODE_HEADER,
            REPLAYED_HEADER, SESSION_HEADER,
        },
    },
    config::HumanDuration,
};

pub(super) async fn call(
    State(node): Node,
    name: Result<Path<Recipient>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name?;
    let limit = limits::MESSAGE_BYTES;
    let body = body.map_err(|error| Problem::of_body(&error, "a message", limit))?;
    let request = request::request(&headers)?;
    let key = header(&headers, KEY_HEADER)?.map(str::to_owned);
    let key = key.or_else(|| request.as_ref().map(ToString::to_string));
    let (entity, choice) = receiver(&name, key);
    let call = CallRequest {
        entity,
        request: request.unwrap_or_else(RequestId::random),
        session: header(&headers, SESSION_HEADER)?.map(str::to_owned),
        body: body.into(),
        remaining: deadline(header(&headers, DEADLINE_HEADER)?)?,
    };
    let reply = node.call(call, choice).await?;
    let answer = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (HeaderName::from_static(NODE_HEADER), reply.node.to_string()),
        (HeaderName::from_static(EPOCH_HEADER), reply.epoch.to_string()),
        (HeaderName::from_static(REPLAYED_HEADER), reply.replayed.to_string()),
    ];
    Ok((answer, reply.body).into_response())
}

/// Whom a call is for.
pub(super) fn receiver(name: &Recipient, key: Option<String>) -> (EntityId, Choice) {
    match name.replica() {
        Some(replica) => (replica.entity(), Choice::This),
        None => {
            let first = EntityId::firmware(name.firmware().clone());
            (first, key.map_or(Choice::Any, Choice::By))
        }
    }
}

pub(super) fn deadline(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_DEADLINE) };
    let HumanDuration(deadline) = parsed(DEADLINE_HEADER, text)?;
    if deadline.is_zero() || deadline > MAX_DEADLINE {
        let most = HumanDuration(MAX_DEADLINE);
        let reason = format_args!("more than 0s and at most {most}, please");
        return Err(bad_header(DEADLINE_HEADER, &reason));
    }
    Ok(deadline)
}
