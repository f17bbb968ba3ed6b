//! The promises of the API, over real connections to a server whose node is made up.

mod backups;
mod logs;
mod made_up;
mod sessions;
mod watches;

use std::{
    io::{Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture};
use made_up::Sessions;
use odeum_actors::{Kind, Phase, Strategy, Supervisor, SupervisorSpec, Tree};
use odeum_cluster::{router::choice::Choice, store::Consistency};
use odeum_proto::{
    Digest, EntityId, Epoch, Incarnation, Name, NodeId, Recipient, RequestId, Revision, SessionId,
    call::{CallError, CallReply, CallRequest},
    limits,
    session::{DataAction, DataOutcome},
};
use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;

use super::{
    client::{ApiClient, ApiError},
    types::{
        After, Applied, ApplyBody, BlobPage, BlobSummary, BlobUsage, CallOptions, Change,
        DeployOptions, Deployed, ErrorBody, Explanation, FirmwareDescription, FirmwareEvent,
        FirmwareSettings, FirmwareSummary, LinksReport, LogLine, LogOptions, MoveBegun, MoveBody,
        MoveSummary, NodeRestart, NodeStatus, NodeSummary, PlacementReport, Renewed, RolledBack,
        Scaled, SessionPage, StoreReport, StoreSummary,
    },
    *,
};

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("valid")
}

/// A node whose calls end as it is told, and whose deployments end when they are let go.
#[derive(Default)]
struct MadeUp {
    refuse: Mutex<Option<CallError>>,
    calls: Mutex<Vec<CallRequest>>,
    chosen: Mutex<Vec<Choice>>,
    arrived: Signals,
    let_go: Signals,
    sessions: Sessions,
    /// What was said of the last deployment.
    said: Mutex<Option<FirmwareSettings>>,
}

/// Signals that are counted, so that none is lost when it comes before it is waited for.
struct Signals(Semaphore);

impl Default for Signals {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Signals {
    fn send(&self) {
        self.0.add_permits(1);
    }

    async fn wait(&self) {
        self.0.acquire().await.expect("never closed").forget();
    }
}

impl ApiNode for MadeUp {
    fn ready(&self) -> Result<(), Problem> {
        Err(Problem::Unavailable { reason: "it has no cluster yet".into() })
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node: id("n1"),
            cluster: None,
            incarnation: Incarnation(1),
            version: "0".to_owned(),
            pid: 1,
            uptime_ms: 1,
            api_addr: id("127.0.0.1:1"),
            cluster_addr: id("127.0.0.1:2"),
            store: StoreSummary {
                leader: None,
                term: 0,
                last_log: 0,
                applied: Revision(0),
                snapshot: None,
                voters: vec![],
                learners: vec![],
                quorum: false,
            },
        }
    }

    fn nodes(&self) -> Vec<NodeSummary> {
        vec![]
    }

    fn leave(&self, node: NodeId, _: Duration) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(async move { Err(Problem::NotFound { what: format!("node {node}").into() }) })
    }

    fn stay(&self, _: NodeId) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(async { Ok(()) })
    }

    fn drain(&self, _: NodeId, _: Duration) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(async { Ok(()) })
    }

    fn restart_node(
        &self,
        node: NodeId,
        _: Duration,
    ) -> BoxFuture<'_, Result<NodeRestart, Problem>> {
        Box::pin(async move { Err(Problem::NotFound { what: format!("node {node}").into() }) })
    }

    fn use_again(&self, _: NodeId) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(async { Ok(()) })
    }

    fn begin_move(&self, _: MoveBody) -> BoxFuture<'_, Result<MoveBegun, Problem>> {
        Box::pin(async { Err(Problem::Unavailable { reason: "it is made up".into() }) })
    }

    fn placement(&self) -> PlacementReport {
        PlacementReport { nodes: Vec::new(), entities: Vec::new() }
    }

    fn explain(&self, entity: EntityId) -> BoxFuture<'_, Result<Explanation, Problem>> {
        Box::pin(async move { Err(Problem::NotFound { what: entity.to_string().into() }) })
    }

    fn rebalance(&self, _: usize, _: bool) -> BoxFuture<'_, Result<Vec<MoveBegun>, Problem>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn moves(&self) -> BoxFuture<'_, Result<Vec<MoveSummary>, Problem>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn facts(&self) -> BoxFuture<'_, Result<crate::doctor::Facts, Problem>> {
        Box::pin(async { Err(Problem::Unavailable { reason: "it is made up".into() }) })
    }

    fn links(&self) -> LinksReport {
        LinksReport { node: id("n1"), certificate: None, links: vec![] }
    }

    fn firmware(&self) -> BoxFuture<'_, Result<Vec<FirmwareSummary>, Problem>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn deploy(&self, deployment: Deployment) -> BoxFuture<'_, Result<Deployed, Problem>> {
        Box::pin(async move {
            self.arrived.send();
            self.let_go.wait().await;
            let Deployment { name, package, settings } = deployment;
            *self.said.lock().expect("not poisoned") = Some(settings);
            let size = package.len() as u64;
            Ok(Deployed { name, digest: Digest::of(&package), size, node: None, epoch: None })
        })
    }

    fn apply(&self, name: Name, body: ApplyBody) -> BoxFuture<'_, Result<Applied, Problem>> {
        let ApplyBody { digest, dry_run, .. } = body;
        let change = Change::Unchanged;
        let (differences, package_needed, node, epoch) = (vec![], false, None, None);
        Box::pin(async move {
            Ok(Applied { name, change, differences, package_needed, dry_run, digest, node, epoch })
        })
    }

    fn known(&self, name: &Name) -> Result<(), Problem> {
        Err(Problem::NotFound { what: format!("firmware {name}").into() })
    }

    fn describe(&self, name: Name) -> BoxFuture<'_, Result<FirmwareDescription, Problem>> {
        Box::pin(async move { self.known(&name).map(|()| unreachable!()) })
    }

    fn events(&self, of: Recipient) -> BoxFuture<'_, Result<Vec<FirmwareEvent>, Problem>> {
        Box::pin(async move { self.known(of.firmware()).map(|()| vec![]) })
    }

    fn scale(&self, name: Name, replicas: u32) -> BoxFuture<'_, Result<Scaled, Problem>> {
        Box::pin(async move { Ok(Scaled { name, from: 1, to: replicas }) })
    }

    fn logs(&self, _: Recipient, options: LogOptions) -> BoxFuture<'_, Result<LogFeed, Problem>> {
        let lines = 0..u64::from(options.tail.unwrap_or_default());
        let lines = lines.map(|lines| LogLine::Missed { node: id("n1"), lines });
        let lines = futures::stream::iter(lines.collect::<Vec<_>>());
        let lines = match options.follow {
            true => lines.chain(futures::stream::pending()).boxed(),
            false => lines.boxed(),
        };
        Box::pin(async move { Ok(lines) })
    }

    fn restart(&self, of: Recipient) -> BoxFuture<'_, Result<Renewed, Problem>> {
        let name = of.firmware().clone();
        Box::pin(async move { Ok(Renewed { name, node: id("n1"), epoch: Epoch(7) }) })
    }

    fn roll_back(&self, name: Name) -> BoxFuture<'_, Result<RolledBack, Problem>> {
        Box::pin(async move { self.known(&name).map(|()| unreachable!()) })
    }

    fn remove(&self, name: Name) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(async move { Err(Problem::NotFound { what: format!("firmware {name}").into() }) })
    }

    fn call(
        &self,
        call: CallRequest,
        choice: Choice,
    ) -> BoxFuture<'_, Result<CallReply, CallError>> {
        Box::pin(async move {
            self.chosen.lock().expect("not poisoned").push(choice);
            self.calls.lock().expect("not poisoned").push(call.clone());
            if let Some(error) = self.refuse.lock().expect("not poisoned").clone() {
                return Err(error);
            }
            if call.body == b"wait" {
                self.arrived.send();
                self.let_go.wait().await;
            }
            Ok(CallReply { body: call.body, node: id("n2"), epoch: Epoch(7), replayed: true })
        })
    }

    fn blobs(
        &self,
        limit: usize,
        after: Option<Digest>,
    ) -> BoxFuture<'_, Result<BlobPage, Problem>> {
        let blob = BlobSummary {
            digest: after.unwrap_or_else(|| Digest::of(b"first")),
            size: limit as u64,
            holders: vec![id("n1")],
            owners: vec![id("package/counter")],
        };
        let next = after.is_some().then_some(blob.digest);
        let page = BlobPage { node: id("n1"), here: BlobUsage::default(), blobs: vec![blob], next };
        Box::pin(async { Ok(page) })
    }

    fn sessions(&self, listing: Listing) -> BoxFuture<'_, Result<SessionPage, Problem>> {
        let page = self.sessions.list(&listing);
        Box::pin(async { Ok(page) })
    }

    fn session(
        &self,
        id: SessionId,
        consistency: Consistency,
    ) -> BoxFuture<'_, Result<Sight, Problem>> {
        let sight = self.sessions.look_at(&id, consistency);
        Box::pin(async { Ok(sight) })
    }

    fn change(
        &self,
        action: DataAction,
        request: Option<RequestId>,
    ) -> BoxFuture<'_, Result<DataOutcome, Problem>> {
        let outcome = self.sessions.change(action, request);
        Box::pin(async { outcome })
    }

    fn watch(
        &self,
        subject: Subject,
        after: Option<After>,
    ) -> BoxFuture<'_, Result<Feed, Problem>> {
        let feed = self.sessions.watch(subject, after.as_ref());
        Box::pin(async { Ok(feed) })
    }

    fn store(&self) -> StoreReport {
        StoreReport { node: id("n1"), groups: vec![] }
    }

    fn backup(&self) -> BoxFuture<'_, Result<BackupFeed, Problem>> {
        Box::pin(async {
            let cut = Err(odeum_cluster::store::BackupError::Stopping);
            let feed = [Ok(bytes::Bytes::from_static(b"the beginning")), cut];
            // One after the other, so that the first is on its way when the second comes.
            let feed = futures::stream::iter(feed).then(|item| async {
                tokio::task::yield_now().await;
                item
            });
            Ok(feed.boxed())
        })
    }

    fn restore(
        &self,
        mut backup: Received,
        length: Option<u64>,
    ) -> BoxFuture<'_, Result<types::Restored, Problem>> {
        Box::pin(async move {
            let mut bytes = 0;
            while let Some(chunk) = backup.next().await {
                bytes += chunk?.len();
            }
            assert_eq!(length, Some(bytes as u64), "it was said");
            Err(Problem::BadBackup { reason: format!("{bytes} bytes are none").into() })
        })
    }

    fn compact(&self) -> BoxFuture<'_, Result<types::CompactReport, Problem>> {
        Box::pin(async { Ok(types::CompactReport { replicas: vec![] }) })
    }

    fn actors(&self) -> BoxFuture<'_, Result<Tree, Problem>> {
        let tree = Tree {
            name: "node".into(),
            kind: Kind::Supervisor,
            state: Phase::Running,
            restarts: 0,
            mailbox: 0,
            handled: 0,
            busy: Duration::ZERO,
            children: vec![],
        };
        Box::pin(async { Ok(tree) })
    }
}

/// A server on a free port.
struct Served {
    node: Arc<MadeUp>,
    url: String,
    client: ApiClient,
    root: Supervisor,
}

impl Served {
    async fn start() -> Self {
        Self::with_drain(Duration::from_secs(10)).await
    }

    async fn with_drain(drain: Duration) -> Self {
        let node = Arc::new(MadeUp::default());
        let listener = bind(id("127.0.0.1:0")).expect("a free port");
        let url = format!("http://{}", listener.addr());
        let child = spec(listener, Arc::clone(&node) as Arc<dyn ApiNode>, drain);
        let root = SupervisorSpec::new("api", Strategy::OneForOne).child(child);
        let root = root.start().await.expect("starts");
        let client = ApiClient::new(&url).expect("an address");
        Self { node, url, client, root }
    }

    /// The status of an answer that must be an error, its body, and whether it asks to retry.
    async fn refused(&self, method: Method, path: &str, body: Vec<u8>) -> (u16, ErrorBody, bool) {
        self.refused_with(method, path, body, &[]).await
    }

    async fn refused_with(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> (u16, ErrorBody, bool) {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut request = http.request(method, format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("answered");
        let (status, later) = (answer.status(), answer.headers().contains_key("retry-after"));
        assert!(!status.is_success(), "{path}: {status}");
        (status.as_u16(), answer.json().await.expect("an error in JSON"), later)
    }
}

fn every_call_error() -> Vec<(CallError, StatusCode)> {
    let entity = EntityId::firmware(id("counter"));
    let reason = || "because".into();
    vec![
        (CallError::NotFound { entity: entity.clone() }, StatusCode::NOT_FOUND),
        (
            CallError::NotHere { entity: entity.clone(), node: id("n1") },
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        (
            CallError::Unavailable { entity: entity.clone(), reason: reason() },
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        (
            CallError::Unreachable { node: id("n1"), reason: reason() },
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        (CallError::NoQuorum { reason: reason() }, StatusCode::SERVICE_UNAVAILABLE),
        (
            CallError::Overloaded { entity: entity.clone(), queued: 1 },
            StatusCode::TOO_MANY_REQUESTS,
        ),
        (
            CallError::DeadlineExceeded { entity: entity.clone(), after: Duration::from_secs(1) },
            StatusCode::GATEWAY_TIMEOUT,
        ),
        (CallError::Trapped { entity: entity.clone(), reason: reason() }, StatusCode::BAD_GATEWAY),
        (
            CallError::LimitExceeded { entity: entity.clone(), reason: reason() },
            StatusCode::BAD_GATEWAY,
        ),
        (CallError::TooLarge { got: 2, limit: 1 }, StatusCode::PAYLOAD_TOO_LARGE),
        (CallError::ReplyForgotten { request: RequestId::random() }, StatusCode::CONFLICT),
        (CallError::Refused { entity, reason: reason() }, StatusCode::UNPROCESSABLE_ENTITY),
    ]
}

#[tokio::test]
async fn every_failed_call_has_its_status_its_word_and_says_whether_to_retry() {
    let served = Served::start().await;
    for (error, expected) in every_call_error() {
        *served.node.refuse.lock().expect("not poisoned") = Some(error.clone());
        let (status, body, later) =
            served.refused(Method::POST, "/v1/firmware/counter/call", vec![]).await;
        assert_eq!(status, expected, "{error:?}");
        assert_eq!(body.error, error.code());
        assert_eq!(body.message, error.to_string());
        assert_eq!((body.retryable, later), (error.is_retryable(), error.is_retryable()));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_in_json() {
    let served = Served::start().await;
    let long = vec![0; limits::MESSAGE_BYTES + 1];
    let cases = [
        (Method::GET, "/nowhere", vec![], 404, "not-found"),
        (Method::GET, "/v1/firmware/counter", vec![], 404, "not-found"),
        (Method::DELETE, "/v1/firmware/counter", vec![], 404, "not-found"),
        (Method::DELETE, "/v1/status", vec![], 405, "method-not-allowed"),
        (Method::POST, "/v1/firmware/counter", vec![], 405, "method-not-allowed"),
        (Method::GET, "/v1/firmware/Not%20A%20Name", vec![], 400, "bad-request"),
        (Method::GET, "/v1/sessions?limit=0", vec![], 400, "bad-request"),
        (Method::GET, "/v1/blobs?limit=0", vec![], 400, "bad-request"),
        (Method::GET, "/v1/blobs?after=no-digest", vec![], 400, "bad-request"),
        (Method::GET, "/v1/sessions?limit=many", vec![], 400, "bad-request"),
        (Method::GET, "/v1/actors?format=xml", vec![], 400, "bad-request"),
        (Method::PUT, "/v1/firmware/counter?memory=lots", vec![1], 400, "bad-request"),
        (Method::PUT, "/v1/firmware/counter?memory=1B", vec![1], 400, "bad-request"),
        (Method::PUT, "/v1/firmware/counter?time=0s", vec![1], 400, "bad-request"),
        (Method::PUT, "/v1/firmware/counter?time=1h", vec![1], 400, "bad-request"),
        (Method::PUT, "/v1/firmware/counter?momory=1MiB", vec![1], 400, "bad-request"),
        (Method::PUT, "/v1/firmware/counter", vec![], 422, "bad-package"),
        (Method::POST, "/v1/firmware/counter/apply", b"{}".to_vec(), 400, "bad-request"),
        (Method::GET, "/v1/firmware/counter/describe", vec![], 404, "not-found"),
        (Method::GET, "/v1/firmware/counter/logs?after=soon", vec![], 400, "bad-request"),
        (Method::GET, "/v1/firmware/counter/logs?tail=-1", vec![], 400, "bad-request"),
        (Method::POST, "/v1/firmware/counter/call", long, 413, "too-large"),
        (Method::GET, "/readyz", vec![], 503, "unavailable"),
    ];
    for (method, path, body, status, code) in cases {
        let (got, body, _) = served.refused(method.clone(), path, body).await;
        assert_eq!((got, body.error.as_str()), (status, code), "{method} {path}: {body:?}");
        assert!(!body.message.is_empty());
    }
    assert!(served.node.calls.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn headers_that_cannot_be_read_are_refused_and_named() {
    let served = Served::start().await;
    let long = "x".repeat(limits::REQUEST_ID_BYTES + 1);
    let cases = [
        ("odeum-deadline", "soon"),
        ("odeum-deadline", "0s"),
        ("odeum-deadline", "1h"),
        ("idempotency-key", &long),
        ("idempotency-key", "two words"),
    ];
    for (name, value) in cases {
        let path = "/v1/firmware/counter/call";
        let (status, body, _) =
            served.refused_with(Method::POST, path, vec![], &[(name, value)]).await;
        assert_eq!(status, 400, "{name}: {value}");
        assert!(body.message.contains(name), "{}", body.message);
    }
}

#[tokio::test]
async fn a_call_carries_its_key_session_and_deadline_and_its_answer_says_who_gave_it() {
    let served = Served::start().await;
    let options = CallOptions {
        key: None,
        request: Some(id("my-key")),
        session: Some("alice".to_owned()),
        deadline: Duration::from_millis(1_500),
    };
    let body = vec![0, 0xff, b'x'];
    let answer = served.client.call(&"counter", body.clone(), &options).await.expect("replied");
    assert_eq!((answer.body, answer.request), (body.clone(), id("my-key")));
    assert_eq!((answer.node, answer.epoch, answer.replayed), (id("n2"), Epoch(7), true));

    let call = served.node.calls.lock().expect("not poisoned").pop().expect("it arrived");
    assert_eq!(call.entity, EntityId::firmware(id("counter")));
    assert_eq!((call.request, call.session), (id("my-key"), Some("alice".to_owned())));
    assert_eq!((call.body, call.remaining), (body, Duration::from_millis(1_500)));
}

#[tokio::test]
async fn a_call_is_for_a_certain_replica_or_for_that_of_its_key_or_for_any() {
    let served = Served::start().await;
    let path = |name: &str| format!("/v1/firmware/{name}/call");
    for (name, headers, entity, choice) in [
        ("shop.2", vec![("odeum-key", "alice")], "firmware/shop.2", Choice::This),
        ("shop.1", vec![], "firmware/shop", Choice::This),
        ("shop", vec![], "firmware/shop", Choice::Any),
        ("shop", vec![("idempotency-key", "r1")], "firmware/shop", Choice::By("r1".to_owned())),
        (
            "shop",
            vec![("idempotency-key", "r1"), ("odeum-key", "alice")],
            "firmware/shop",
            Choice::By("alice".to_owned()),
        ),
    ] {
        let url = format!("{}{}", served.url, path(name));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut request = http.post(url).body("x");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.expect("answers").status(), StatusCode::OK);
        let call = served.node.calls.lock().expect("not poisoned").pop().expect("it arrived");
        assert_eq!(call.entity, id(entity));
        let chosen = served.node.chosen.lock().expect("not poisoned").pop();
        assert_eq!(chosen, Some(choice), "{name}");
    }
    let (status, body, _) = served.refused_with(Method::POST, &path("shop.0"), vec![], &[]).await;
    assert_eq!(status, 400);
    assert!(body.message.contains("replica"), "{}", body.message);
}

#[tokio::test]
async fn a_message_of_the_largest_size_is_taken() {
    let served = Served::start().await;
    let body = vec![7; limits::MESSAGE_BYTES];
    let options = CallOptions::default();
    let answer = served.client.call(&"counter", body.clone(), &options).await;
    assert_eq!(answer.expect("replied").body, body);
}

#[tokio::test]
async fn blobs_are_shown_page_by_page() {
    let served = Served::start().await;
    let page = served.client.blobs(5, None).await.expect("a page");
    assert_eq!((page.blobs[0].size, page.next), (5, None));
    let after = Digest::of(b"some");
    let page = served.client.blobs(1, Some(after)).await.expect("a page");
    assert_eq!((page.blobs[0].digest, page.next), (after, Some(after)));
    served.root.shutdown().await;
}

#[tokio::test]
async fn the_tree_comes_as_json_and_as_a_drawing() {
    let served = Served::start().await;
    assert_eq!(served.client.actors().await.expect("a tree").kind, "supervisor");
    assert!(served.client.actors_text().await.expect("a drawing").starts_with("node (running)"));
    assert_eq!(served.client.status().await.expect("a status").node, id::<NodeId>("n1"));
}

#[tokio::test]
async fn beyond_the_limit_of_deployments_callers_are_told_to_slow_down() {
    let served = Served::start().await;
    let put = || async {
        let options = DeployOptions::default();
        served.client.put_firmware(&id("counter"), vec![1], &options).await
    };
    let let_go = async {
        for _ in 0..4 {
            served.node.arrived.wait().await;
        }
        let refused = put().await.expect_err("four are under way");
        assert!(matches!(refused, ApiError::Refused { status: 429, retryable: true, .. }));
        for _ in 0..4 {
            served.node.let_go.send();
        }
    };
    let (a, b, c, d, ()) = tokio::join!(put(), put(), put(), put(), let_go);
    for deployed in [a, b, c, d] {
        assert_eq!(deployed.expect("deployed").size, 1);
    }
}

#[tokio::test]
async fn a_stopping_server_answers_what_is_under_way_and_takes_nothing_new() {
    let served = Served::start().await;
    let (name, options) = ("counter", CallOptions::default());
    let under_way = served.client.call(&name, b"wait".to_vec(), &options);
    let stop = async {
        served.node.arrived.wait().await;
        tokio::join!(served.root.shutdown(), async {
            // A connection that waits in the backlog would not end this loop before its timeout.
            while !matches!(served.client.status().await, Err(ApiError::NotRunning { .. })) {
                tokio::task::yield_now().await;
            }
            served.node.let_go.send();
        });
    };
    let (answer, ()) = tokio::join!(under_way, stop);
    assert_eq!(answer.expect("answered").body, b"wait");
}

#[tokio::test]
async fn a_restarted_server_is_at_the_same_address() {
    let served = Served::start().await;
    served.client.status().await.expect("it serves");
    served.root.restart("Http").await.expect("restarts");
    served.client.status().await.expect("it serves again");
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_up_the_stop() {
    let served = Served::with_drain(Duration::from_millis(100)).await;
    let address = served.url.trim_start_matches("http://");
    let silent = std::net::TcpStream::connect(address).expect("connects");
    let mut half = std::net::TcpStream::connect(address).expect("connects");
    half.write_all(b"POST /v1/firmware/counter/call HTTP/1.1\r\ncontent-length: 9\r\n\r\nx")
        .expect("writes");
    served.client.status().await.expect("both are accepted by now");

    tokio::time::timeout(Duration::from_secs(5), served.root.shutdown()).await.expect("stops");
    for mut stream in [silent, half] {
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let mut rest = Vec::new();
        // Closed or reset: either way the server is gone.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{rest:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_cost_their_sender_the_connection_only() {
    let served = Served::start().await;
    let address = served.url.trim_start_matches("http://").to_owned();
    let mut stream = std::net::TcpStream::connect(address).expect("connects");
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n").expect("writes");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let closed = tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).map(|_| rest)
    });
    let rest = closed.await.expect("no panic").expect("closed");
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{rest:?}");
    served.client.status().await.expect("others are served");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound");
    let text = bind(addr).expect_err("taken").to_string();
    assert!(text.contains(&addr.to_string()) && text.contains("in use"), "{text}");
}
