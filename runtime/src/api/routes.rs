//! The paths of the API, their bounds, and what answers where nothing else does.

mod batch;
mod blob;
mod call;
mod decode;
mod firmware;
mod logs;
mod moves;
mod node;
mod paced;
mod placement;
mod program;
mod request;
mod segment;
mod serve;
mod session;
mod store;
mod variable;
mod watch;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, Uri},
    middleware::{self, Next},
    response::IntoResponse,
    routing::{any, delete, get, post, put},
};
use odeum_proto::{http::BODY_BYTES, limits};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    node::ApiNode,
    problem::Problem,
    types::{MAX_DEADLINE, MAX_PATIENCE},
};

/// Most requests under way at once. Each may hold a message of a megabyte; beyond this, callers
/// are told to slow down instead of memory being filled.
const IN_FLIGHT: usize = 1_024;
/// Most packages that are received at once: each may hold 128 MiB.
const DEPLOYMENTS: usize = 4;
/// Most batches and transactions that are received at once: together they hold as much as
/// [`IN_FLIGHT`] messages.
const BATCHES: usize = 256;
/// Most bytes of a batch or a transaction in JSON: what a command of the store has at most, and
/// what quotes, names and digits add to that.
const BATCH_BODY: usize = 4 << 20;
/// How long a request may take that only looks or deletes.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long a request about a session may take: what the store may take for it, and time to
/// receive its body before.
const SESSION_TIME: Duration = Duration::from_secs(20);
/// How long a deployment may take: 128 MiB are received, checked, compiled and copied.
const DEPLOY_TIME: Duration = Duration::from_secs(170);
/// How long a call may take: the longest deadline, and time to receive the message before it.
const CALL_TIME: Duration = MAX_DEADLINE.saturating_add(Duration::from_secs(10));

/// Most bytes of what is applied: a manifest in JSON, and settings with all their labels.
const APPLY_BODY: usize = 4 * limits::MANIFEST_BYTES;

/// Most bytes of what is to move where.
const MOVE_BODY: usize = 4 << 10;
/// Most bytes of a number of replicas in JSON.
const SCALE_BODY: usize = 1 << 10;

/// How long it may take to restart a firmware or to roll it back: three writes and two reads of
/// the store, each of which may wait for an election.
const STEER_TIME: Duration = Duration::from_secs(40);

/// How long a departure may take: its patience, and the change of the store's members behind it.
const LEAVE_TIME: Duration = MAX_PATIENCE.saturating_add(Duration::from_secs(30));

/// Most backups that are received at once: each may fill the disk, and only one will be restored.
const RESTORES: usize = 2;
/// Most compactions at once: a second one finds nothing to do but what has come since.
const COMPACTIONS: usize = 2;
/// How long a restore may take: hundreds of gigabytes are received, written and replicated.
const RESTORE_TIME: Duration = Duration::from_secs(6 * 3_600);
/// How long a compaction may take: every node writes all it has.
const COMPACT_TIME: Duration = Duration::from_secs(300);

/// What every handler gets.
type Node = State<Arc<dyn ApiNode>>;

/// The API of `node` as a service; its watches end with `stop`.
pub(super) fn routes(node: Arc<dyn ApiNode>, stop: CancellationToken) -> Router {
    let looks = Router::new()
        .route("/v1/status", get(node::status))
        .route("/v1/nodes", get(node::nodes))
        .route("/v1/links", get(node::links))
        .route("/v1/doctor", get(node::facts))
        .route("/v1/actors", get(node::actors))
        .route("/v1/firmware", get(firmware::list))
        .route("/v1/firmware/{name}", get(firmware::one))
        .route("/v1/firmware/{name}", delete(firmware::remove))
        .route("/v1/firmware/{name}/describe", get(firmware::describe))
        .route("/v1/firmware/{name}/events", get(firmware::events))
        .route("/v1/moves", get(moves::list))
        .route("/v1/placement", get(placement::show))
        .route("/v1/placement/explain", get(placement::explain))
        .route("/v1/blobs", get(blob::page))
        .route("/v1/store", get(store::report))
        .route("/v1/sessions", get(session::page));
    let calls = Router::new().route("/v1/firmware/{name}/call", post(call::call));
    let served = Router::new()
        .route("/f/{name}", any(serve::serve))
        .route("/f/{name}/", any(serve::serve))
        .route("/f/{name}/{*path}", any(serve::serve));
    let steered = Router::new()
        .route("/v1/firmware/{name}/restart", post(firmware::restart))
        .route("/v1/firmware/{name}/rollback", post(firmware::roll_back));
    let scaled = Router::new().route("/v1/firmware/{name}/scale", post(firmware::scale));
    let departures = Router::new()
        .route("/v1/nodes/{id}/leave", post(node::leave))
        .route("/v1/nodes/{id}/stay", post(node::stay))
        .route("/v1/nodes/{id}/drain", post(node::drain))
        .route("/v1/nodes/{id}/restart", post(node::restart))
        .route("/v1/nodes/{id}/use", post(node::use_again));
    let begun = Router::new()
        .route("/v1/moves", post(moves::begin))
        .route("/v1/placement/rebalance", post(placement::rebalance));
    let deployments = Router::new().route("/v1/firmware/{name}", put(firmware::put));
    let applied = Router::new().route("/v1/firmware/{name}/apply", post(firmware::apply));

    // Probes of a supervisor must be answered when everything else is refused.
    let probes =
        Router::new().route("/healthz", get(node::healthz)).route("/readyz", get(node::readyz));
    let small = bounded(looks, REQUEST_TIME, 0)
        .merge(bounded(calls, CALL_TIME, limits::MESSAGE_BYTES))
        .merge(bounded(served.layer(Extension(serve::Places::new())), CALL_TIME, BODY_BYTES))
        .merge(bounded(departures, LEAVE_TIME, 0))
        .merge(bounded(applied, DEPLOY_TIME, APPLY_BODY))
        .merge(bounded(steered, STEER_TIME, 0))
        .merge(bounded(begun, STEER_TIME, MOVE_BODY))
        .merge(bounded(scaled, STEER_TIME, SCALE_BODY))
        .merge(bounded(sessions(), SESSION_TIME, limits::MESSAGE_BYTES));
    // The node itself bounds the time until the first byte of a backup.
    let backups = Router::new().route("/v1/store/backup", get(store::backup));
    let restores =
        Router::new().route("/v1/store/restore", put(store::restore).post(store::restore));
    let compactions = Router::new().route("/v1/store/compact", post(store::compact));
    let backups = backups.layer(DefaultBodyLimit::max(0)).layer(Extension(store::Backups::new()));
    // Its body goes to the disk, whatever its length.
    let restores = bounded(restores, RESTORE_TIME, 0).layer(DefaultBodyLimit::disable());
    let compactions = bounded(compactions, COMPACT_TIME, 0);
    let large = bounded(deployments, DEPLOY_TIME, limits::PACKAGE_BYTES);
    let several = bounded(batches(), SESSION_TIME, BATCH_BODY);
    let by_path = admitting(small, IN_FLIGHT)
        .merge(admitting(large, DEPLOYMENTS))
        .merge(admitting(several, BATCHES))
        .merge(backups)
        .merge(admitting(restores, RESTORES))
        .merge(admitting(compactions, COMPACTIONS))
        .merge(watches(stop))
        .merge(probes)
        .fallback(no_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(node);
    // Around it, because the path decides where a request goes.
    Router::new()
        .fallback_service(by_path)
        .layer(middleware::map_request(async |request: Request| segment::joined(request)))
}

/// One session and what is in it.
fn sessions() -> Router<Arc<dyn ApiNode>> {
    let session = get(session::one).put(session::create).delete(session::remove);
    let variable = get(variable::one).put(variable::put).delete(variable::remove);
    let program = get(program::one).put(program::put).delete(program::remove);
    Router::new()
        .route("/v1/sessions/{id}", session)
        .route("/v1/sessions/{id}/touch", post(session::touch))
        .route("/v1/sessions/{id}/ttl", put(session::set_ttl))
        .route("/v1/sessions/{id}/variables", get(variable::page))
        .route("/v1/sessions/{id}/variables/{key}", variable)
        .route("/v1/sessions/{id}/variables/{key}/definition", put(variable::define))
        .route("/v1/sessions/{id}/variables/{key}/history", get(variable::history))
        .route("/v1/sessions/{id}/programs", get(program::list))
        .route("/v1/sessions/{id}/programs/{name}", program)
        .route(
            "/v1/sessions/{id}/metadata/{key}",
            put(session::set_note).delete(session::remove_note),
        )
}

/// Several changes as one.
fn batches() -> Router<Arc<dyn ApiNode>> {
    Router::new()
        .route("/v1/sessions/{id}/batch", post(batch::batch))
        .route("/v1/sessions/{id}/transaction", post(batch::transaction))
}

/// What is answered for as long as its client stays. Bounded by its own number.
fn watches(stop: CancellationToken) -> Router<Arc<dyn ApiNode>> {
    Router::new()
        .route("/v1/sessions/{id}/watch", get(watch::session))
        .route("/v1/watch", get(watch::matching))
        .route("/v1/firmware/{name}/logs", get(logs::logs))
        .layer(DefaultBodyLimit::max(0))
        .layer(Extension(watch::Watches::new(stop)))
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
