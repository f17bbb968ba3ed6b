//! The paths of the API, their bounds, and what answers where nothing else does.

mod blob;
mod call;
mod firmware;
mod node;
mod session;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, Uri},
    middleware::{self, Next},
    response::IntoResponse,
    routing::{delete, get, post, put},
};
use odeum_proto::limits;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    node::ApiNode,
    problem::Problem,
    types::{MAX_DEADLINE, MAX_PATIENCE},
};

/// Most requests under way at once. Each may hold a message of a megabyte; beyond this, callers
/// are told to slow down instead of memory being filled.
const IN_FLIGHT: usize = 1_024;
/// Most packages that are received at once: each may hold 64 MiB.
const DEPLOYMENTS: usize = 4;
/// How long a request may take that only looks or deletes.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long a deployment may take: 64 MiB are received, checked, compiled and copied.
const DEPLOY_TIME: Duration = Duration::from_secs(170);
/// How long a call may take: the longest deadline, and time to receive the message before it.
const CALL_TIME: Duration = MAX_DEADLINE.saturating_add(Duration::from_secs(10));

/// How long a departure may take: its patience, and the change of the store's members behind it.
const LEAVE_TIME: Duration = MAX_PATIENCE.saturating_add(Duration::from_secs(30));

/// What every handler gets.
type Node = State<Arc<dyn ApiNode>>;

/// The API of `node` as a service.
pub(super) fn routes(node: Arc<dyn ApiNode>) -> Router {
    let looks = Router::new()
        .route("/v1/status", get(node::status))
        .route("/v1/nodes", get(node::nodes))
        .route("/v1/links", get(node::links))
        .route("/v1/doctor", get(node::facts))
        .route("/v1/actors", get(node::actors))
        .route("/v1/firmware", get(firmware::list))
        .route("/v1/firmware/{name}", get(firmware::one))
        .route("/v1/firmware/{name}", delete(firmware::remove))
        .route("/v1/blobs", get(blob::page))
        .route("/v1/sessions", get(session::page))
        .route("/v1/sessions/{*id}", get(session::one))
        .route("/v1/sessions/{*id}", delete(session::remove));
    let calls = Router::new().route("/v1/firmware/{name}/call", post(call::call));
    let departures = Router::new()
        .route("/v1/nodes/{id}/leave", post(node::leave))
        .route("/v1/nodes/{id}/stay", post(node::stay));
    let deployments = Router::new().route("/v1/firmware/{name}", put(firmware::put));

    // Probes of a supervisor must be answered when everything else is refused.
    let probes =
        Router::new().route("/healthz", get(node::healthz)).route("/readyz", get(node::readyz));
    let small = bounded(looks, REQUEST_TIME, 0)
        .merge(bounded(calls, CALL_TIME, limits::MESSAGE_BYTES))
        .merge(bounded(departures, LEAVE_TIME, 0));
    let large = bounded(deployments, DEPLOY_TIME, limits::PACKAGE_BYTES);
    admitting(small, IN_FLIGHT)
        .merge(admitting(large, DEPLOYMENTS))
        .merge(probes)
        .fallback(no_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(node)
}

/// `router` with a bound on the time and on the body of each request.
fn bounded(
    router: Router<Arc<dyn ApiNode>>,
    time: Duration,
    body: usize,
) -> Router<Arc<dyn ApiNode>> {
    let within = move |request: Request, next: Next| async move {
        match timeout(time, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => Problem::Deadline { after: time }.into_response(),
        }
    };
    router.layer(middleware::from_fn(within)).layer(DefaultBodyLimit::max(body))
}

/// `router` with at most `limit` requests under way; others are sent away at once.
fn admitting(router: Router<Arc<dyn ApiNode>>, limit: usize) -> Router<Arc<dyn ApiNode>> {
    let permits = Arc::new(Semaphore::new(limit));
    let admit = move |request: Request, next: Next| {
        let permits = Arc::clone(&permits);
        async move {
            match permits.try_acquire() {
                Ok(_permit) => next.run(request).await,
                Err(_) => Problem::Overloaded { limit }.into_response(),
            }
        }
    };
    router.layer(middleware::from_fn(admit))
}

async fn no_path(uri: Uri) -> Problem {
    Problem::NotFound { what: format!("path {}", uri.path()).into() }
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::WrongMethod { path: uri.path().into(), method: method.as_str().into() }
}
