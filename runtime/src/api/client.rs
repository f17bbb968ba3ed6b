//! A client of the HTTP API: what the command line and the demo speak to a node with.

mod contents;
mod error;
mod session;
mod store;
mod watch;

use std::{
    fmt::{self, Display},
    time::Duration,
};

use bytes::Bytes;
use odeum_proto::{Digest, EntityId, Name, NodeId, RequestId};
use reqwest::{Client, Method, RequestBuilder, Response, Url, header::HeaderMap};
use serde::de::DeserializeOwned;

use super::types::{
    ActorNode, Applied, ApplyBody, BlobPage, CallAnswer, CallOptions, DEADLINE_HEADER,
    DeployOptions, Deployed, EPOCH_HEADER, ErrorBody, Explanation, FirmwareDescription,
    FirmwareEvent, FirmwareSettings, FirmwareSummary, KEY_HEADER, LinksReport, MoveBegun, MoveBody,
    MoveSummary, NODE_HEADER, NodeRestart, NodeStatus, NodeSummary, PlacementReport,
    REPLAYED_HEADER, REQUEST_HEADER, Renewed, RolledBack, SESSION_HEADER, SETTINGS_HEADER,
    ScaleBody, Scaled, StoreReport,
};

pub use contents::SetOptions;
pub use error::ApiError;
pub use session::{SessionQuery, VariableQuery};
pub use store::BackupBytes;
pub use watch::{JsonLines, LogLines, WatchLines, Watched};

use crate::doctor::Facts;

/// How long to wait for a TCP connection. Loopback and a LAN need a millisecond; one lost SYN is
/// sent again after one second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long any request other than a call or a deployment may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a change of a session may take: the node tries for 10 s, and its answer that it does not
/// know is worth more than none.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a deployment may take: 128 MiB are sent, checked, compiled and copied to another node.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a restart or a rollback may take: the node tries for as long, but for its answer's way.
const STEER_TIMEOUT: Duration = Duration::from_secs(45);
/// What a call's answer may take longer than its deadline: the node answers at the deadline, and
/// that answer is on its way for a while on a busy machine.
pub const ANSWER_SLACK: Duration = Duration::from_secs(2);
/// What a departure may take beyond the time in which the node gives away what it has: two changes
/// of the store's members, and an election.
const LEAVE_SLACK: Duration = Duration::from_secs(30);
/// How long an unused connection is kept: less than the 30 s after which the server closes it, so
/// that a request is never written to a connection that is being closed.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// Longest answer that is read, in bytes: a page of [`MAX_PAGE`](super::types::MAX_PAGE) sessions
/// or a session with a thousand large variables.
const ANSWER_BYTES: usize = 256 << 20;

/// A client of one node's API. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct ApiClient {
    http: Client,
    base: Url,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl ApiClient {
    /// A client of the node at `url`, such as `http://127.0.0.1:7070`. Connects when first used.
    /// Proxy settings of the environment are ignored: a node is reached directly.
    ///
    /// # Errors
    /// [`ApiError::BadUrl`] when it is no HTTP address.
    pub fn new(url: &str) -> Result<Self, ApiError> {
        let bad = |reason: &dyn fmt::Display| ApiError::BadUrl {
            given: url.into(),
            reason: reason.to_string().into(),
        };
        let mut base = Url::parse(url).map_err(|error| bad(&error))?;
        if base.scheme() != "http" {
            return Err(bad(&"only http is spoken here"));
        }
        if base.host_str().is_none() {
            return Err(bad(&"it names no host"));
        }
        base.set_query(None);
        base.set_fragment(None);
        let http = Client::builder()
            .no_proxy()
            .pool_idle_timeout(IDLE_TIME)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| ApiError::Client { reason: chain(&error) })?;
        Ok(Self { http, base })
    }

    /// The address it speaks to.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// The node, as it sees itself.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn status(&self) -> Result<NodeStatus, ApiError> {
        self.get_json(&["v1", "status"]).await
    }

    /// Whether the node takes requests: it is in a cluster and its store has a leader.
    ///
    /// # Errors
    /// See [`ApiError`]; a node that is not ready yet is [`ApiError::Refused`] and retryable.
    pub async fn ready(&self) -> Result<(), ApiError> {
        self.send(self.request(Method::GET, &["readyz"])).await.map(drop)
    }

    /// All nodes of the cluster, as this one sees them.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn nodes(&self) -> Result<Vec<NodeSummary>, ApiError> {
        self.get_json(&["v1", "nodes"]).await
    }

    /// Begins to move an entity; [`moves`](Self::moves) tells how it goes.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn begin_move(&self, body: &MoveBody) -> Result<MoveBegun, ApiError> {
        let request = self.request(Method::POST, &["v1", "moves"]).timeout(STEER_TIMEOUT);
        self.json(self.send(request.json(body)).await?).await
    }

    /// Moves that began lately, at any node that answers, the oldest first.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn moves(&self) -> Result<Vec<MoveSummary>, ApiError> {
        self.get_json(&["v1", "moves"]).await
    }

    /// What is where, and how much each node has.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn placement(&self) -> Result<PlacementReport, ApiError> {
        self.get_json(&["v1", "placement"]).await
    }

    /// Why an entity is where it is, and where else it could be.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn explain(&self, entity: &EntityId) -> Result<Explanation, ApiError> {
        let mut url = self.path(&["v1", "placement", "explain"]);
        url.query_pairs_mut().append_pair("entity", &entity.to_string());
        self.json(self.send(self.http.request(Method::GET, url)).await?).await
    }

    /// Begins moves that make the nodes equally busy, at most so many; only tells them when
    /// `dry_run`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn rebalance(&self, most: usize, dry_run: bool) -> Result<Vec<MoveBegun>, ApiError> {
        let mut url = self.path(&["v1", "placement", "rebalance"]);
        url.query_pairs_mut()
            .append_pair("most", &most.to_string())
            .append_pair("dry_run", &dry_run.to_string());
        let request = self.http.request(Method::POST, url).timeout(STEER_TIMEOUT);
        self.json(self.send(request).await?).await
    }

    /// Has everything on a node move to others within `patience`, and nothing more come to it.
    ///
    /// # Errors
    /// See [`ApiError`]; a retryable refusal means that it goes on.
    pub async fn drain(&self, node: &NodeId, patience: Duration) -> Result<(), ApiError> {
        let mut url = self.path(&["v1", "nodes", node.as_str(), "drain"]);
        let given = humantime::format_duration(patience).to_string();
        url.query_pairs_mut().append_pair("patience", &given);
        let request = self.http.request(Method::POST, url).timeout(patience + LEAVE_SLACK);
        self.send(request).await.map(drop)
    }

    /// Has a node end in good order and begin anew: returns when it is back, within `patience`, or
    /// at once when it is the asked one.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn restart_node(
        &self,
        node: &NodeId,
        patience: Duration,
    ) -> Result<NodeRestart, ApiError> {
        let mut url = self.path(&["v1", "nodes", node.as_str(), "restart"]);
        let given = humantime::format_duration(patience).to_string();
        url.query_pairs_mut().append_pair("patience", &given);
        let request = self.http.request(Method::POST, url).timeout(patience + LEAVE_SLACK);
        self.json(self.send(request).await?).await
    }

    /// Lets things come to a node again that was drained.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn use_again(&self, node: &NodeId) -> Result<(), ApiError> {
        let request = self.request(Method::POST, &["v1", "nodes", node.as_str(), "use"]);
        self.send(request.timeout(STEER_TIMEOUT)).await.map(drop)
    }

    /// Lets a node leave the cluster for good; what it has goes to others within `patience`.
    ///
    /// # Errors
    /// See [`ApiError`]; a retryable refusal means that it leaves when others have taken what it
    /// has.
    pub async fn leave(&self, node: &NodeId, patience: Duration) -> Result<(), ApiError> {
        let mut url = self.path(&["v1", "nodes", node.as_str(), "leave"]);
        let given = humantime::format_duration(patience).to_string();
        url.query_pairs_mut().append_pair("patience", &given);
        let request = self.http.request(Method::POST, url).timeout(patience + LEAVE_SLACK);
        self.send(request).await.map(drop)
    }

    /// Takes back that a node is to leave.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn stay(&self, node: &NodeId) -> Result<(), ApiError> {
        let path = ["v1", "nodes", node.as_str(), "stay"];
        self.send(self.request(Method::POST, &path)).await.map(drop)
    }

    /// What the node finds out about its own health.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn facts(&self) -> Result<Facts, ApiError> {
        self.get_json(&["v1", "doctor"]).await
    }

    /// The node's links to the others.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn links(&self) -> Result<LinksReport, ApiError> {
        self.get_json(&["v1", "links"]).await
    }

    /// The groups of the store, as the node sees them.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn store(&self) -> Result<StoreReport, ApiError> {
        self.get_json(&["v1", "store"]).await
    }

    /// Everything that is deployed.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn firmware(&self) -> Result<Vec<FirmwareSummary>, ApiError> {
        self.get_json(&["v1", "firmware"]).await
    }

    /// One deployed firmware.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn firmware_of(&self, name: &impl Display) -> Result<FirmwareSummary, ApiError> {
        self.get_json(&["v1", "firmware", &name.to_string()]).await
    }

    /// Deploys what is not deployed so already, if the cluster has the package.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn apply_firmware(&self, name: &Name, body: &ApplyBody) -> Result<Applied, ApiError> {
        let request = self.request(Method::POST, &["v1", "firmware", name.as_str(), "apply"]);
        self.json(self.send(request.timeout(DEPLOY_TIMEOUT).json(body)).await?).await
    }

    /// A firmware in all its particulars.
    ///
    /// # Errors
    /// As [`firmware_of`](Self::firmware_of).
    pub async fn describe_firmware(&self, name: &Name) -> Result<FirmwareDescription, ApiError> {
        self.get_json(&["v1", "firmware", name.as_str(), "describe"]).await
    }

    /// What became of a firmware lately, the oldest first.
    ///
    /// # Errors
    /// As [`firmware_of`](Self::firmware_of).
    pub async fn events(&self, name: &impl Display) -> Result<Vec<FirmwareEvent>, ApiError> {
        self.get_json(&["v1", "firmware", &name.to_string(), "events"]).await
    }

    /// Starts a firmware anew where it is; a job runs again.
    ///
    /// # Errors
    /// As [`firmware_of`](Self::firmware_of); retryable while it has no node.
    pub async fn restart_firmware(&self, name: &impl Display) -> Result<Renewed, ApiError> {
        let request = self.request(Method::POST, &["v1", "firmware", &name.to_string(), "restart"]);
        self.json(self.send(request.timeout(STEER_TIMEOUT)).await?).await
    }

    /// Brings back the package that was deployed before the present one.
    ///
    /// # Errors
    /// As [`firmware_of`](Self::firmware_of); status 409 when there is none.
    pub async fn roll_back_firmware(&self, name: &Name) -> Result<RolledBack, ApiError> {
        let request = self.request(Method::POST, &["v1", "firmware", name.as_str(), "rollback"]);
        self.json(self.send(request.timeout(STEER_TIMEOUT)).await?).await
    }

    /// Deploys `package` (wasm or wat bytes) under `name`, or replaces what has that name.
    ///
    /// # Errors
    /// See [`ApiError`]; bytes that are no valid firmware are [`ApiError::Refused`] with 422.
    pub async fn put_firmware(
        &self,
        name: &Name,
        package: impl Into<Bytes>,
        options: &DeployOptions,
    ) -> Result<Deployed, ApiError> {
        let mut url = self.path(&["v1", "firmware", name.as_str()]);
        let given = [("memory", &options.memory), ("time", &options.time)];
        for (key, value) in given {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        let mut request =
            self.http.request(Method::PUT, url).timeout(DEPLOY_TIMEOUT).body(package.into());
        if options.settings != FirmwareSettings::default() {
            // It has no map with keys that are no texts, for which alone this fails, and all of its
            // texts are printable ASCII, as a header must be.
            let settings = serde_json::to_string(&options.settings).unwrap_or_default();
            request = request.header(SETTINGS_HEADER, settings);
        }
        self.json(self.send(request).await?).await
    }

    /// Removes a firmware; its sessions stay.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn delete_firmware(&self, name: &Name) -> Result<(), ApiError> {
        self.send(self.request(Method::DELETE, &["v1", "firmware", name.as_str()])).await.map(drop)
    }

    /// Changes how many replicas of a firmware there are.
    ///
    /// # Errors
    /// As [`firmware_of`](Self::firmware_of).
    pub async fn scale_firmware(&self, name: &Name, body: &ScaleBody) -> Result<Scaled, ApiError> {
        let request = self.request(Method::POST, &["v1", "firmware", name.as_str(), "scale"]);
        self.json(self.send(request.timeout(STEER_TIMEOUT).json(body)).await?).await
    }

    /// Sends `body` to the firmware called `name`, wherever it runs, and waits for its reply.
    ///
    /// # Errors
    /// See [`ApiError`]. After a retryable one the same [`CallOptions::request`] may be sent
    /// again: its effect happens once.
    pub async fn call(
        &self,
        name: &impl Display,
        body: Vec<u8>,
        options: &CallOptions,
    ) -> Result<CallAnswer, ApiError> {
        let id = options.request.clone().unwrap_or_else(RequestId::random);
        let mut request = self
            .request(Method::POST, &["v1", "firmware", &name.to_string(), "call"])
            .timeout(options.deadline + ANSWER_SLACK)
            .header(REQUEST_HEADER, id.as_str())
            .header(DEADLINE_HEADER, humantime::format_duration(options.deadline).to_string())
            .body(body);
        if let Some(session) = &options.session {
            request = request.header(SESSION_HEADER, session);
        }
        if let Some(key) = &options.key {
            request = request.header(KEY_HEADER, key);
        }
        let answer = self.send(request).await?;
        let (node, epoch, replayed) = self.call_headers(answer.headers())?;
        let body = self.body(answer).await?;
        Ok(CallAnswer { body, request: id, node, epoch, replayed })
    }

    /// A page of at most `limit` blobs with digests behind `after`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn blobs(&self, limit: usize, after: Option<Digest>) -> Result<BlobPage, ApiError> {
        let mut url = self.path(&["v1", "blobs"]);
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", &after.to_string());
        }
        self.json(self.send(self.http.get(url)).await?).await
    }

    /// The node's supervision tree.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn actors(&self) -> Result<ActorNode, ApiError> {
        self.get_json(&["v1", "actors"]).await
    }

    /// The node's supervision tree, drawn.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn actors_text(&self) -> Result<String, ApiError> {
        let mut url = self.path(&["v1", "actors"]);
        url.query_pairs_mut().append_pair("format", "text");
        let body = self.body(self.send(self.http.get(url)).await?).await?;
        String::from_utf8(body).map_err(|error| self.not_odeum(&error))
    }

    fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        // An http address always has a path to extend.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.http.request(method, self.path(segments))
    }

    async fn get_json<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, ApiError> {
        self.json(self.send(self.request(Method::GET, segments)).await?).await
    }

    /// Sends and turns every answer that is no success into an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let answer = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.body(answer).await?;
        let Ok(ErrorBody { error, message, retryable }) = serde_json::from_slice(&body) else {
            return Err(self.not_odeum(&format_args!("status {status} without an error in JSON")));
        };
        Err(ApiError::Refused {
            status: status.as_u16(),
            code: error.into(),
            message: message.into(),
            retryable,
        })
    }

    async fn json<T: DeserializeOwned>(&self, answer: Response) -> Result<T, ApiError> {
        let body = self.body(answer).await?;
        serde_json::from_slice(&body).map_err(|error| self.not_odeum(&error))
    }

    /// Reads the body chunk by chunk, so that its length is bounded by us and not by what it
    /// says of itself.
    async fn body(&self, mut answer: Response) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.no_answer(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(self.not_odeum(&"the answer does not end"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn call_headers(
        &self,
        headers: &HeaderMap,
    ) -> Result<(NodeId, odeum_proto::Epoch, bool), ApiError> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let missing = |name| self.not_odeum(&format_args!("header {name} is missing or wrong"));
        let node = text(NODE_HEADER).and_then(|node| node.parse().ok());
        let epoch = text(EPOCH_HEADER).and_then(|epoch| epoch.parse().ok());
        Ok((
            node.ok_or_else(|| missing(NODE_HEADER))?,
            epoch.ok_or_else(|| missing(EPOCH_HEADER))?,
            text(REPLAYED_HEADER) == Some("true"),
        ))
    }

    fn no_answer(&self, error: &reqwest::Error) -> ApiError {
        let url = self.address();
        if error.is_connect() {
            return ApiError::NotRunning { url, reason: root_cause(error) };
        }
        let reason = if error.is_timeout() { "it took too long".into() } else { chain(error) };
        ApiError::NoAnswer { url, reason }
    }

    /// The address as a person would write it.
    fn address(&self) -> Box<str> {
        self.base.as_str().trim_end_matches('/').into()
    }

    fn not_odeum(&self, reason: &dyn fmt::Display) -> ApiError {
        ApiError::NotOdeum { url: self.address(), reason: reason.to_string().into() }
    }
}

/// An error with its causes on one line. reqwest's own text stops before the cause.
fn chain(error: &reqwest::Error) -> Box<str> {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.into()
}

/// The innermost cause: `Connection refused (os error 111)`.
fn root_cause(error: &reqwest::Error) -> Box<str> {
    let mut inner: &dyn std::error::Error = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_http_address_is_refused_with_the_reason() {
        for bad in ["", "localhost:7070", "https://127.0.0.1:7070", "127.0.0.1"] {
            assert!(matches!(ApiClient::new(bad), Err(ApiError::BadUrl { .. })), "{bad}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_apart_from_no_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let client = ApiClient::new(&url).expect("an address");

        let (answer, _) = tokio::join!(client.status(), async {
            drop(listener.accept().await.expect("accepts"));
        });
        assert!(matches!(answer, Err(ApiError::NoAnswer { .. })), "{answer:?}");

        drop(listener);
        let answer = client.status().await;
        let Err(error @ ApiError::NotRunning { .. }) = answer else { unreachable!("{answer:?}") };
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(error.is_retryable());
    }
}
