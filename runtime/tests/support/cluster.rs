//! Clusters of real node processes, and callers that keep calling while nodes die.
//!
//! No process outlives its test: each ends when its standard input does, which is also so when
//! the test is killed. Clusters run one at a time, since tests that measure time would disturb
//! each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use odeum_cluster::transport::pki::Authority;
use odeum_proto::{Name, NodeId, RequestId};
use odeum_runtime::api::{
    client::{ApiClient, ApiError},
    types::{
        CallAnswer, CallOptions, DeployOptions, FirmwareState, FirmwareSummary, GroupReport,
        NodeState,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{sync::MutexGuard, task::JoinSet, time::sleep};

/// How long anything without a promised time may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Members of a group that vote, at most.
const VOTERS: usize = 5;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// How long one try of a caller may take.
const TRY_DEADLINE: Duration = Duration::from_secs(2);

/// The guest that counts.
const COUNTER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/counter/counter.wasm");

static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The bytes of the guest that counts.
pub(crate) fn counter() -> Vec<u8> {
    fs::read(COUNTER).expect("the guest")
}

/// The guest that counts as another package: with a custom section, which means nothing.
pub(crate) fn counter_number(number: u8) -> Vec<u8> {
    [counter().as_slice(), &[0, 3, 1, b'n', number]].concat()
}

pub(crate) fn name(name: &str) -> Name {
    name.parse().expect("a name")
}

/// A node as a process.
struct Member {
    process: Child,
    pub(crate) client: ApiClient,
    cluster_addr: SocketAddr,
}

impl Drop for Member {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The nodes that callers may use now.
pub(crate) type Routes = Arc<RwLock<BTreeMap<String, ApiClient>>>;

/// A cluster of node processes on loopback.
pub(crate) struct Cluster {
    folder: TempDir,
    authority: Authority,
    settings: Vec<(&'static str, &'static str)>,
    members: BTreeMap<String, Member>,
    routes: Routes,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// A cluster without nodes. `settings` are environment variables for all of them.
    pub(crate) async fn empty(settings: &[(&'static str, &'static str)]) -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::create(&folder.path().join("authority")).expect("an authority");
        Self {
            folder,
            authority,
            settings: settings.to_vec(),
            members: BTreeMap::new(),
            routes: Routes::default(),
            _alone: alone,
        }
    }

    /// `n1` … `n<size>`, all members, each knowing all others.
    pub(crate) async fn of(size: usize, settings: &[(&'static str, &'static str)]) -> Self {
        let mut cluster = Self::empty(settings).await;
        for number in 1..=size {
            cluster.start(&format!("n{number}"), (number > 1).then_some("n1")).await;
        }
        cluster.whole().await;
        cluster
    }

    /// Starts a node, new or again on its data, and waits until it has bound its ports. A member
    /// to join by is needed the first time.
    pub(crate) async fn start(&mut self, id: &str, join: Option<&str>) {
        self.start_with(id, join, &[]).await;
    }

    /// The same with more arguments.
    pub(crate) async fn start_with(&mut self, id: &str, join: Option<&str>, more: &[&str]) {
        let (certs, data) = (self.certs(id), self.data(id));
        let log = self.folder.path().join(format!("{id}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_odeum"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ODEUM_") || text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        // Compiled modules are shared by the tests, and kept from the user's.
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        command.args(["up", "--exit-with-stdin", "--node", id]);
        for flag in ["--api", "--cluster"] {
            if !more.contains(&flag) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        command
            .arg("--data-dir")
            .arg(&data)
            .arg("--certs")
            .arg(&certs)
            // The guests of the tests are bare modules.
            .arg("--allow-unsigned")
            .args(more)
            .envs(self.settings.iter().copied());
        if let Some(join) = join {
            command.args(["--join", &self.member(join).cluster_addr.to_string()]);
        }
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a log");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0);
        let process = command.spawn().expect("the node starts");
        let pid = process.id();
        let (client, cluster_addr) =
            self.until(&format!("the ports of {id}"), PATIENCE, async || self.ports(id, pid)).await;
        self.routes.write().expect("no caller panics").insert(id.to_owned(), client.clone());
        self.members.insert(id.to_owned(), Member { process, client, cluster_addr });
    }

    /// Where the process `pid` of a node listens, when it has said so.
    fn ports(&self, id: &str, pid: u32) -> Option<(ApiClient, SocketAddr)> {
        let ports = fs::read(self.data(id).join("ports.json")).ok()?;
        let ports: serde_json::Value = serde_json::from_slice(&ports).ok()?;
        (ports["pid"] == pid).then_some(())?;
        let client = ApiClient::new(&format!("http://{}", ports["api"].as_str()?));
        Some((client.expect("an address"), ports["cluster"].as_str()?.parse().ok()?))
    }

    /// A node has begun anew in its process, and listens elsewhere since.
    pub(crate) fn rebound(&mut self, id: &str) {
        let (client, cluster_addr) = self.ports(id, self.pid(id)).expect("it runs");
        self.routes.write().expect("no caller panics").insert(id.to_owned(), client.clone());
        let member = self.members.get_mut(id).expect("it was started");
        (member.client, member.cluster_addr) = (client, cluster_addr);
    }

    fn member(&self, id: &str) -> &Member {
        self.members.get(id).expect("it was started")
    }

    /// The API of a node.
    pub(crate) fn api(&self, id: &str) -> ApiClient {
        self.member(id).client.clone()
    }

    /// The data folder of a node.
    pub(crate) fn data(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.data"))
    }

    /// The folder with the certificate of a node, which is issued when it is wanted first.
    pub(crate) fn certs(&self, id: &str) -> PathBuf {
        let certs = self.folder.path().join(format!("{id}.certs"));
        if !certs.exists() {
            self.authority.issue(&id.parse().expect("a name"), &certs).expect("a certificate");
        }
        certs
    }

    pub(crate) fn pid(&self, id: &str) -> u32 {
        self.member(id).process.id()
    }

    pub(crate) fn cluster_addr(&self, id: &str) -> SocketAddr {
        self.member(id).cluster_addr
    }

    /// The nodes that run, by name.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    /// Some node that runs and is not `id`.
    pub(crate) fn other_than(&self, id: &str) -> String {
        self.members.keys().find(|other| *other != id).expect("another node").clone()
    }

    /// The APIs of the nodes that run, as they come and go.
    pub(crate) fn routes(&self) -> Routes {
        Arc::clone(&self.routes)
    }

    /// The API of one node alone, also while that does not run.
    pub(crate) fn route_of(&self, id: &str) -> Routes {
        Arc::new(RwLock::new(BTreeMap::from([(id.to_owned(), self.api(id))])))
    }

    pub(crate) fn signal(&self, id: &str, signal: Signal) {
        let pid = i32::try_from(self.pid(id)).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    /// SIGKILL to all of `ids` before waiting for the end of any.
    pub(crate) fn kill(&mut self, ids: &[String]) -> Instant {
        let at = Instant::now();
        for id in ids {
            self.signal(id, Signal::KILL);
        }
        for id in ids {
            self.routes.write().expect("no caller panics").remove(id);
            self.members.remove(id);
        }
        at
    }

    /// SIGTERM; gives the exit code.
    pub(crate) async fn stop(&mut self, id: &str) -> Option<i32> {
        self.signal(id, Signal::TERM);
        self.routes.write().expect("no caller panics").remove(id);
        let mut member = self.members.remove(id).expect("it was started");
        self.until(&format!("the end of {id}"), PATIENCE, async || {
            member.process.try_wait().expect("a child")
        })
        .await
        .code()
    }

    /// Waits until every node that runs takes requests, sees every other alive in its present
    /// start, at its present address, with a link up, and follows the leader, and every group of the
    /// store has a vote of each: what is lost then is a node and no majority.
    pub(crate) async fn whole(&self) {
        let started: BTreeMap<&str, SocketAddr> =
            self.members.iter().map(|(id, member)| (id.as_str(), member.cluster_addr)).collect();
        for (id, member) in &self.members {
            self.until(&format!("{id} to see all others"), PATIENCE, async || {
                member.client.ready().await.ok()?;
                let nodes = member.client.nodes().await.ok()?;
                let fit = started.iter().all(|(other, addr)| {
                    nodes.iter().any(|node| {
                        node.id.as_str() == *other
                            && node.cluster_addr == *addr
                            && node.state == NodeState::Alive
                            && node.role.is_some()
                            && node.link.as_ref().is_none_or(|link| link.up)
                    })
                });
                fit.then_some(())
            })
            .await;
            self.until(&format!("{id} to see all others vote"), PATIENCE, async || {
                let groups = member.client.store().await.ok()?.groups;
                let voters = |group: &GroupReport| {
                    group.members.iter().filter(|member| member.voter).count()
                };
                let most = started.len().min(VOTERS);
                groups.iter().all(|group| voters(group) >= most).then_some(())
            })
            .await;
        }
    }

    /// Looks until `found` has something; shows the nodes' last words when it does not in time.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        found: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let mut found = found;
        let start = Instant::now();
        loop {
            if let Some(found) = found().await {
                return found;
            }
            let elapsed = start.elapsed();
            assert!(elapsed < within, "no {what} within {within:?}\n{}", self.last_words());
            sleep(LOOK_EVERY).await;
        }
    }

    /// The ends of all logs.
    pub(crate) fn last_words(&self) -> String {
        let mut logs: Vec<PathBuf> = fs::read_dir(self.folder.path())
            .expect("the folder")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        logs.sort();
        let tail = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            format!("--- {}\n{last}\n", path.display())
        };
        logs.into_iter().map(tail).collect()
    }

    /// Deploys through `via` and waits until it runs; gives the node it runs on.
    pub(crate) async fn deploy(&self, via: &str, firmware: &str, package: Vec<u8>) -> String {
        self.deploy_with(via, firmware, package, &DeployOptions::default()).await
    }

    /// Deploys a firmware with settings of its own and waits until it runs.
    pub(crate) async fn deploy_with(
        &self,
        via: &str,
        firmware: &str,
        package: Vec<u8>,
        options: &DeployOptions,
    ) -> String {
        let api = self.api(via);
        let deployed = api.put_firmware(&name(firmware), package, options).await;
        assert!(deployed.is_ok(), "{deployed:?}\n{}", self.last_words());
        self.running(via, firmware).await
    }

    /// Waits until a firmware runs; gives the node it runs on.
    pub(crate) async fn running(&self, via: &str, firmware: &str) -> String {
        let api = self.api(via);
        self.until(&format!("{firmware} to run"), PATIENCE, async || {
            let summary = api.firmware_of(&name(firmware)).await.ok()?;
            (summary.state == FirmwareState::Running).then_some(())?;
            Some(summary.node?.to_string())
        })
        .await
    }

    /// What a node says of a firmware.
    pub(crate) async fn summary(&self, via: &str, firmware: &str) -> FirmwareSummary {
        self.api(via).firmware_of(&name(firmware)).await.expect("it is deployed")
    }

    /// The node that leads the store, in the eyes of `via`.
    pub(crate) async fn leader(&self, via: &str) -> String {
        let api = self.api(via);
        self.until("a leader", PATIENCE, async || {
            Some(api.status().await.ok()?.store.leader?.to_string())
        })
        .await
    }

    /// One message through `via`, within `within`.
    pub(crate) async fn call(
        &self,
        via: &str,
        firmware: &str,
        message: &str,
        within: Duration,
    ) -> Result<CallAnswer, ApiError> {
        let options = CallOptions { deadline: within, ..CallOptions::default() };
        self.api(via).call(&name(firmware), message.as_bytes().to_vec(), &options).await
    }

    /// A number that a firmware replies through `via`, asked for until it answers.
    pub(crate) async fn number(&self, via: &str, firmware: &str, message: &str) -> u64 {
        let request = RequestId::random();
        self.until(&format!("an answer of {firmware} through {via}"), PATIENCE, async || {
            let options = CallOptions { request: Some(request.clone()), ..CallOptions::default() };
            let api = self.api(via);
            let answer = api.call(&name(firmware), message.as_bytes().to_vec(), &options).await;
            Some(count(&answer.ok()?))
        })
        .await
    }
}

pub(crate) fn count(answer: &CallAnswer) -> u64 {
    String::from_utf8_lossy(&answer.body).trim().parse().expect("a count")
}

/// An acknowledged message.
#[derive(Debug, Clone)]
pub(crate) struct Ack {
    /// When its first try was sent.
    pub(crate) sent: Instant,
    /// When the acknowledgement came.
    pub(crate) at: Instant,
    /// What the guest replied.
    pub(crate) count: u64,
    /// Where it ran.
    pub(crate) host: NodeId,
}

/// Callers that each add one, again and again, and repeat what was not acknowledged with the same
/// idempotency key through the next node of their route.
pub(crate) struct Callers {
    tasks: JoinSet<()>,
    acks: Arc<Mutex<Vec<Ack>>>,
    ended: Arc<AtomicBool>,
    firmware: &'static str,
}

impl Callers {
    /// One caller for each of `routes`.
    pub(crate) fn start(firmware: &'static str, routes: Vec<Routes>) -> Self {
        let (acks, ended) = (Arc::<Mutex<Vec<Ack>>>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        for (number, routes) in routes.into_iter().enumerate() {
            let (acks, ended) = (Arc::clone(&acks), Arc::clone(&ended));
            tasks.spawn(async move {
                let mut turn = number;
                while !ended.load(Ordering::Relaxed) {
                    let ack = add_one(firmware, &routes, &mut turn).await;
                    acks.lock().expect("no caller panics").push(ack);
                }
            });
        }
        Self { tasks, acks, ended, firmware }
    }

    /// The acknowledgements so far.
    pub(crate) fn acks(&self) -> Vec<Ack> {
        self.acks.lock().expect("no caller panics").clone()
    }

    /// Waits for `more` further acknowledgements of messages sent after now.
    pub(crate) async fn go_on(&self, cluster: &Cluster, more: usize, within: Duration) -> Instant {
        let now = Instant::now();
        cluster
            .until(&format!("{more} acknowledgements"), within, async || {
                let mut later: Vec<Instant> = self
                    .acks
                    .lock()
                    .expect("no caller panics")
                    .iter()
                    .filter(|ack| ack.sent >= now)
                    .map(|ack| ack.at)
                    .collect();
                later.sort_unstable();
                later.get(more - 1).copied()
            })
            .await
    }

    /// Ends the callers when their last message is acknowledged, and checks that every
    /// acknowledged count is there and none twice: the acknowledged counts are 1, 2, 3, … without
    /// a gap, and the guest says the last of them.
    pub(crate) async fn reckon(mut self, cluster: &Cluster, via: &str) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(PATIENCE, finished).await;
        assert!(in_time.is_ok(), "callers do not come to an end\n{}", cluster.last_words());
        let acks = self.acks();
        let sum = acks.len() as u64;
        let counts: BTreeSet<u64> = acks.iter().map(|ack| ack.count).collect();
        let wanted: BTreeSet<u64> = (1..=sum).collect();
        assert_eq!(
            counts.symmetric_difference(&wanted).collect::<Vec<_>>(),
            Vec::<&u64>::new(),
            "{sum} acknowledged: counts lost, doubled or without an acknowledgement\n{}",
            cluster.last_words()
        );
        assert_eq!(cluster.number(via, self.firmware, "get").await, sum);
        sum
    }
}

async fn add_one(firmware: &str, routes: &Routes, turn: &mut usize) -> Ack {
    let options = CallOptions {
        request: Some(RequestId::random()),
        deadline: TRY_DEADLINE,
        ..CallOptions::default()
    };
    let sent = Instant::now();
    loop {
        let api = {
            let routes = routes.read().expect("no test panics with it");
            routes.values().nth(*turn % routes.len().max(1)).cloned()
        };
        *turn += 1;
        if let Some(api) = api {
            let answer = api.call(&name(firmware), b"add 1".to_vec(), &options).await;
            match answer {
                Ok(answer) => {
                    let (at, count) = (Instant::now(), count(&answer));
                    return Ack { sent, at, count, host: answer.node };
                }
                Err(error) => assert!(
                    error.is_retryable() || error.code() == Some("deadline-exceeded"),
                    "a caller is refused for good: {error:?}"
                ),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}
