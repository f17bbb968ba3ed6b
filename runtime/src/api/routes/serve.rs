//! `/f/{name}/…`: HTTP requests to a firmware that serves them, wherever it runs.
//!
//! The request is a message to the entity and its answer the reply, so any node takes it. Bodies are in
//! memory as a whole, at most [`BODY_BYTES`] of each; of those that are not small, only [`LARGE`] at once.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::HOST},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use odeum_proto::{
    Recipient, RequestId,
    call::CallRequest,
    codec,
    http::{
        BODY_BYTES, HEAD_BYTES, HttpAnswer, HttpRequest, OF_CONNECTION, SESSION, SMALL_BODY_BYTES,
    },
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Node,
    call::{deadline, receiver},
    request::{bad_header, header},
};
use crate::api::{
    problem::Problem,
    types::{DEADLINE_HEADER, KEY_HEADER, NODE_HEADER},
};

/// Requests with bodies that are not small that are under way at once: with the answers to them they
/// take some 300 MB of a node.
pub(super) const LARGE: usize = 8;

/// Places for them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LARGE)))
    }

    /// The whole body, and its place if it is not small.
    async fn read(&self, body: Body) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Problem> {
        const WHAT: &str = "the body of a request";
        let too_large = || Problem::TooLarge { what: WHAT, limit: BODY_BYTES };
        let (mut pieces, mut bytes, mut place) = (body.into_data_stream(), Vec::new(), None);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| Problem::BadRequest {
                reason: format!("the body broke off: {error}").into(),
            })?;
            let length = bytes.len() + piece.len();
            if length > BODY_BYTES {
                return Err(too_large());
            }
            if place.is_none() && length > SMALL_BODY_BYTES {
                let taken = Arc::clone(&self.0).acquire_owned().await;
                let closed = |_| Problem::Unavailable { reason: "the node stops".into() };
                place = Some(taken.map_err(closed)?);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((bytes, place))
    }
}

pub(super) async fn serve(
    State(node): Node,
    Extension(places): Extension<Places>,
    name: Result<Path<Vec<(String, String)>>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(parameters) = name?;
    let name = parameters.into_iter().find(|(key, _)| key == "name").map(|(_, name)| name);
    let bad_name = |error: odeum_proto::IdError| Problem::BadRequest {
        reason: format!("the path names no firmware: {error}").into(),
    };
    let name: Recipient = name.unwrap_or_default().parse().map_err(bad_name)?;
    let remaining = deadline(header(request.headers(), DEADLINE_HEADER)?)?;
    let key = header(request.headers(), KEY_HEADER)?.map(str::to_owned);
    // Who sends slowly does not keep a place for ever.
    let read = timeout(remaining, taken(&name, request, &places)).await;
    let (request, _place) = read.map_err(|_| Problem::Deadline { after: remaining })??;
    let internal =
        |error: codec::EncodeError| Problem::Internal { reason: error.to_string().into() };
    let (entity, choice) = receiver(&name, key);
    let call = CallRequest {
        entity,
        request: RequestId::random(),
        session: Some(SESSION.to_owned()),
        body: codec::encode(&request).map_err(internal)?,
        remaining,
    };
    let reply = node.call(call, choice).await?;
    let answer: HttpAnswer = codec::decode(&reply.body).map_err(|error| Problem::Internal {
        reason: format!("the firmware's node answered with {error}").into(),
    })?;
    Ok(given(answer, &reply.node.to_string()))
}

/// The request as it travels.
async fn taken(
    name: &Recipient,
    request: Request,
    places: &Places,
) -> Result<(HttpRequest, Option<OwnedSemaphorePermit>), Problem> {
    let (head, body) = request.into_parts();
    let own = format!("/f/{name}");
    let path = head.uri.path_and_query().map_or("/", |it| it.as_str());
    let path = path.strip_prefix(&own).unwrap_or(path);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let headers = sent(&head.headers);
    let size = |headers: &[(String, Vec<u8>)]| -> usize {
        headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum()
    };
    if path.len() + size(&headers) > HEAD_BYTES {
        return Err(Problem::TooLarge { what: "the path and headers", limit: HEAD_BYTES });
    }
    let (body, place) = places.read(body).await?;
    let authority = match head.headers.get(HOST) {
        Some(host) => host.to_str().map_err(|error| bad_header(HOST.as_str(), &error))?.to_owned(),
        None => "localhost".to_owned(),
    };
    let method = head.method.as_str().to_owned();
    Ok((HttpRequest { method, authority, path, headers, body }, place))
}

/// The headers without those of the connection.
fn sent(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let kept = headers.iter().filter(|(name, _)| !OF_CONNECTION.contains(&name.as_str()));
    kept.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn given(answer: HttpAnswer, node: &str) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = (status, Body::from(answer.body)).into_response();
    let headers = response.headers_mut();
    headers.clear();
    for (name, value) in answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value))
            && !OF_CONNECTION.contains(&name.as_str())
        {
            headers.append(name, value);
        }
    }
    if let Ok(node) = HeaderValue::from_str(node) {
        headers.insert(HeaderName::from_static(NODE_HEADER), node);
    }
    response
}
