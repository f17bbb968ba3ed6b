//! One node as a process: this test's binary, started again. It reads commands from its input,
//! one per line, and answers each on its output with one line.
//!
//! | command | answer |
//! |---|---|
//! | `see` | what it sees of the cluster: a [`Sight`] |
//! | `where ENTITY` | the node on which a [`Sloth`](super::traffic::Sloth) is |
//! | `load ENTITY` | `ok`; sends it more than it can handle until the process ends |
//! | `settle` | its traffic ends; a [`Tally`](super::traffic::Tally) |
//!
//! It ends when its input does, so that no node outlives a test that was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use odeum_cluster::builder::RunningNode;
use odeum_cluster::membership::MemberState;
use odeum_cluster::node::ClusterNode;
use odeum_cluster::transport::{Serve, ServeError, Service};
use odeum_proto::NodeId;

use super::traffic::{self, Traffic};

/// Set for the processes that are nodes: a [`Start`].
pub(crate) const NODE: &str = "ODEUM_TEST_NODE";

/// How long the control plane may take to answer when it is looked at.
const CALL: Duration = Duration::from_millis(500);

/// What a process is told when it starts.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) listen: SocketAddr,
    /// Where others reach it, when that is not where it listens.
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) join: Option<SocketAddr>,
    pub(crate) data: PathBuf,
    pub(crate) certs: PathBuf,
    /// Where its entities write what they were told.
    pub(crate) journal: PathBuf,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |addr: Option<SocketAddr>| addr.map_or("-".to_owned(), |a| a.to_string());
        let (advertise, join) = (or_none(self.advertise), or_none(self.join));
        let [data, certs, journal] = [&self.data, &self.certs, &self.journal].map(|p| p.display());
        let Self { name, listen, .. } = self;
        write!(f, "{name} {listen} {advertise} {join} {data} {certs} {journal}")
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split(' ').collect();
        let [name, listen, advertise, join, data, certs, journal] = words[..] else {
            return Err(format!("not seven words: {text}"));
        };
        let addr = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
        let or_none = |text| if text == "-" { Ok(None) } else { addr(text).map(Some) };
        Ok(Self {
            name: name.to_owned(),
            listen: addr(listen)?,
            advertise: or_none(advertise)?,
            join: or_none(join)?,
            data: data.into(),
            certs: certs.into(),
            journal: journal.into(),
        })
    }
}

/// What a node sees of its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Members that answer, itself included.
    pub(crate) alive: BTreeSet<String>,
    /// How often it has seen a member go down.
    pub(crate) downs: BTreeMap<String, u64>,
    /// Peers it has a link to.
    pub(crate) links: BTreeSet<String>,
    /// Peers whose control plane answers.
    pub(crate) called: BTreeSet<String>,
    /// Who leads the store.
    pub(crate) leader: Option<String>,
    /// Nodes whose ledgers gave the last answers to its senders.
    pub(crate) homes: BTreeSet<String>,
    /// How long some pair of its senders and entities has been without an answer.
    pub(crate) stalest: Duration,
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        let downs: Vec<_> = self.downs.iter().map(|(node, n)| format!("{node}:{n}")).collect();
        write!(
            f,
            "alive={} downs={} links={} called={} leader={} homes={} stalest={}",
            list(&self.alive),
            downs.join(","),
            list(&self.links),
            list(&self.called),
            self.leader.as_deref().unwrap_or_default(),
            list(&self.homes),
            self.stalest.as_millis()
        )
    }
}

impl FromStr for Sight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields: BTreeMap<&str, &str> =
            text.split(' ').filter_map(|field| field.split_once('=')).collect();
        let field = |name| fields.get(name).copied().ok_or_else(|| format!("no {name}: {text}"));
        let list = |name| {
            field(name).map(|list| {
                list.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
            })
        };
        let downs: BTreeSet<String> = list("downs")?;
        Ok(Self {
            alive: list("alive")?,
            downs: downs
                .iter()
                .filter_map(|item| item.split_once(':'))
                .filter_map(|(node, n)| Some((node.to_owned(), n.parse().ok()?)))
                .collect(),
            links: list("links")?,
            called: list("called")?,
            leader: Some(field("leader")?.to_owned()).filter(|leader| !leader.is_empty()),
            homes: list("homes")?,
            stalest: Duration::from_millis(field("stalest")?.parse().map_err(|_| text.to_owned())?),
        })
    }
}

/// Not a test: the process of one node, started by the tests.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn the_process_of_a_node() {
    let Ok(start) = std::env::var(NODE) else { return };
    let start: Start = start.parse().expect("told what to be");
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let node = runtime.block_on(NodeProcess::start(&start));
    println!("> {}", node.running.addr());
    let mut loads = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("readable");
        let words: Vec<_> = line.split(' ').collect();
        let answer = runtime.block_on(async {
            match words[..] {
                ["see"] => node.see().await.to_string(),
                ["settle"] => node.traffic.settle().await.to_string(),
                ["where", entity] => traffic::whereabouts(&node.running, entity).await,
                ["load", entity] => {
                    loads.push(traffic::load(&node.running, entity));
                    "ok".to_owned()
                }
                _ => format!("what is {line}?"),
            }
        });
        println!("> {answer}");
    }
}

struct NodeProcess {
    running: RunningNode,
    traffic: Traffic,
    downs: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl NodeProcess {
    async fn start(start: &Start) -> Self {
        let name: NodeId = start.name.parse().expect("a name");
        let journal = traffic::Journal::create(&start.journal);
        let mut builder = ClusterNode::builder(name)
            .data_dir(&start.data)
            .certs(&start.certs)
            .listen(start.listen)
            .join(start.join.map(|addr| addr.to_string()))
            .kind(traffic::ledgers(journal))
            .kind(traffic::sloths());
        if let Some(addr) = start.advertise {
            builder = builder.advertise(addr);
        }
        let running = builder.start().await.expect("starts");
        running.cluster().transport.services().insert(Service::Firmware, Arc::new(Echo));
        let traffic = Traffic::start(&running, &start.name);
        let downs = Arc::<Mutex<BTreeMap<String, u64>>>::default();
        tokio::spawn(count_downs(running.cluster().membership.live(), Arc::clone(&downs)));
        Self { running, traffic, downs }
    }

    async fn see(&self) -> Sight {
        let cluster = self.running.cluster();
        let live = cluster.membership.now();
        let links: BTreeSet<NodeId> = cluster.transport.links().borrow().keys().cloned().collect();
        let calls = links.iter().map(async |peer| {
            let info = cluster.control_plane.ask_info(peer, CALL).await.ok()?;
            (info.node == *peer).then(|| peer.to_string())
        });
        let called = join_all(calls).await.into_iter().flatten().collect();
        let alive = live.members.iter().filter(|(_, member)| member.state == MemberState::Alive);
        Sight {
            alive: alive.map(|(node, _)| node.to_string()).collect(),
            downs: self.downs.lock().expect("nobody panics with it").clone(),
            links: links.iter().map(NodeId::to_string).collect(),
            called,
            leader: cluster.store.status().leader.map(|node| node.to_string()),
            homes: self.traffic.homes(),
            stalest: self.traffic.stalest(),
        }
    }
}

/// Counts how often each member goes down.
async fn count_downs(
    mut live: tokio::sync::watch::Receiver<Arc<odeum_cluster::membership::LiveSet>>,
    downs: Arc<Mutex<BTreeMap<String, u64>>>,
) {
    let mut before = BTreeSet::new();
    while live.changed().await.is_ok() {
        let now = Arc::clone(&live.borrow_and_update());
        let down = now.members.iter().filter(|(_, member)| member.state == MemberState::Down);
        let down: BTreeSet<_> = down.map(|(node, _)| node.to_string()).collect();
        for node in down.difference(&before) {
            *downs.lock().expect("nobody panics with it").entry(node.clone()).or_default() += 1;
        }
        before = down;
    }
}

/// Answers with the question: for peers that ask and do not read.
struct Echo;

impl Serve for Echo {
    fn serve(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        Box::pin(async move { Ok(body) })
    }
}
