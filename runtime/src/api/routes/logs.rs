//! `/v1/firmware/{name}/logs`: what a firmware has logged, a line of JSON each.
//!
//! As a watch it has no queue: what its client does not read yet is not fetched from the node that
//! runs the firmware, and when that has made room for newer lines meanwhile, a line says how many.

use std::convert::Infallible;

use axum::{
    Extension,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, future, stream};
use odeum_proto::Recipient;

use super::{Node, watch::Watches};
use crate::api::{
    problem::Problem,
    types::{LogLine, LogOptions},
};

pub(super) async fn logs(
    State(node): Node,
    Extension(watches): Extension<Watches>,
    name: Result<Path<Recipient>, PathRejection>,
    query: Result<Query<LogOptions>, QueryRejection>,
) -> Result<Response, Problem> {
    let (Path(name), Query(options)) = (name?, query?);
    let permit = watches.enter()?;
    let stop = watches.stop.clone();
    let end = stream::once(future::lazy(move |_| stop.is_cancelled())).filter_map(|stopped| {
        let reason = || "the node stops".to_owned();
        future::ready(stopped.then(|| LogLine::End { reason: reason() }))
    });
    let feed = node.logs(name, options).await?;
    let lines = feed.take_until(watches.stop.clone().cancelled_owned()).chain(end);
    // The permit is held as long as the client is there.
    let encoded = lines.map(move |line| {
        let _held = &permit;
        encode(&line)
    });
    let kind = HeaderValue::from_static("application/x-ndjson");
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Body::from_stream(encoded)).into_response())
}

fn encode(line: &LogLine) -> Result<Bytes, Infallible> {
    // It has no map with keys that are no texts, for which alone this fails.
    let json = serde_json::to_string(line).unwrap_or_default();
    Ok(format!("{json}\n").into())
}
