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
use odeum_proto::{EntityId, Name, RequestId, call::CallRequest, limits};

use super::Node;
use crate::{
    api::{
        problem::Problem,
        types::{
            DEADLINE_HEADER, DEFAULT_DEADLINE, EPOCH_HEADER, MAX_DEADLINE, NODE_HEADER,
            REPLAYED_HEADER, REQUEST_HEADER, SESSION_HEADER,
        },
    },
    config::HumanDuration,
};

pub(super) async fn call(
    State(node): Node,
    name: Result<Path<Name>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name?;
    let limit = limits::MESSAGE_BYTES;
    let body = body.map_err(|error| Problem::of_body(&error, "a message", limit))?;
    let request = text(&headers, REQUEST_HEADER)?.map(parse::<RequestId>(REQUEST_HEADER));
    let reply = node
        .call(CallRequest {
            entity: EntityId::firmware(name),
            request: request.transpose()?.unwrap_or_else(RequestId::random),
            session: text(&headers, SESSION_HEADER)?.map(str::to_owned),
            body: body.into(),
            remaining: deadline(text(&headers, DEADLINE_HEADER)?)?,
        })
        .await?;
    let answer = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (HeaderName::from_static(NODE_HEADER), reply.node.to_string()),
        (HeaderName::from_static(EPOCH_HEADER), reply.epoch.to_string()),
        (HeaderName::from_static(REPLAYED_HEADER), reply.replayed.to_string()),
    ];
    Ok((answer, reply.body).into_response())
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let text = headers.get(name).map(|value| value.to_str());
    text.transpose().map_err(|_| bad(name, &"it is not ASCII"))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &'static str,
) -> impl Fn(&str) -> Result<T, Problem> {
    move |text| text.parse().map_err(|error| bad(name, &error))
}

fn deadline(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_DEADLINE) };
    let HumanDuration(deadline) = parse(DEADLINE_HEADER)(text)?;
    if deadline.is_zero() || deadline > MAX_DEADLINE {
        let most = HumanDuration(MAX_DEADLINE);
        return Err(bad(DEADLINE_HEADER, &format_args!("more than 0s and at most {most}, please")));
    }
    Ok(deadline)
}

fn bad(name: &'static str, reason: &dyn std::fmt::Display) -> Problem {
    Problem::BadRequest { reason: format!("header {name}: {reason}").into() }
}
