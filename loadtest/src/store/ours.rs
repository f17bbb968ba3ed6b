//! Our side: three nodes, each a member of the store and able to drive it from within, as a
//! program does that has Odeum built in. All that is known here of the store's interface is here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::try_join_all;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::node::ClusterNode;
use odeum_cluster::store::{Consistency, SessionHandle, StoreTiming};
use odeum_proto::session::{SessionSettings, Value};

use super::driver::{self, Store};
use super::process::with_threads;
use super::workload::Reading;
use super::{Cluster, MEMBERS, Setting, Timing};
use crate::remote::certs;
use crate::remote::driver::PATIENCE;
use crate::remote::pair::Process;

/// The members, in the order of their starts.
pub(super) const NAMES: [&str; MEMBERS] = ["first", "second", "third"];

/// Sessions over which the keys are spread, and with them over the groups of the store.
const SESSIONS: u64 = 100;

/// While a leader is killed, as etcd is set then.
const QUICK: StoreTiming =
    StoreTiming { heartbeat: Duration::from_millis(50), election: Duration::from_millis(300) };

/// Starts the members.
pub(super) async fn start(stage: &Path, setting: Setting) -> anyhow::Result<Cluster> {
    let program = std::env::current_exe()?;
    let mut members = Vec::new();
    let mut join: Option<String> = None;
    for name in NAMES {
        let mut command = tokio::process::Command::new(&program);
        command.args(["store-peer", "odeum", "--name", name, "--stage"]).arg(stage);
        with_threads(&mut command, setting.threads);
        if setting.timing == Timing::Quick {
            command.arg("--quick");
        }
        if let Some(at) = &join {
            command.args(["--at", at]);
        }
        let (member, at) = Process::start(format!("node {name}"), &mut command, None).await?;
        join.get_or_insert(at);
        members.push(member);
    }
    Cluster::embedded(members)
}

/// Runs a member.
pub(super) async fn drive(
    stage: &Path,
    name: &str,
    at: Option<String>,
    quick: bool,
) -> anyhow::Result<()> {
    let timing = if quick { QUICK } else { StoreTiming::default() };
    let node = ClusterNode::builder(name.parse()?)
        .data_dir(stage.join("data").join(name))
        .certs(certs(stage, name))
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .store_timing(timing)
        .join(at)
        .start()
        .await?;
    let ready = node.addr().to_string();
    let store = &node.cluster().store;
    let session = |n| anyhow::Ok(store.session(format!("session-{n}").parse()?).deadline(PATIENCE));
    let sessions = (0..SESSIONS).map(session).collect::<anyhow::Result<Vec<_>>>()?;
    // Whoever is first makes them; for the others they are there.
    try_join_all(sessions.iter().map(|session| session.create(SessionSettings::default()))).await?;
    driver::drive(&ready, Embedded(Arc::new(Inner { node, sessions }))).await
}

/// The store as the program of a node has it.
#[derive(Clone)]
struct Embedded(Arc<Inner>);

struct Inner {
    node: RunningNode,
    sessions: Vec<SessionHandle>,
}

impl Embedded {
    /// The session that has a key, and the variable that it is.
    fn place(&self, key: u64) -> anyhow::Result<(&SessionHandle, String)> {
        let session = self.0.sessions.get(usize::try_from(key % SESSIONS)?);
        Ok((session.context("no such session")?, format!("variable-{}", key / SESSIONS)))
    }
}

impl Store for Embedded {
    async fn write(&self, key: u64, value: Bytes) -> anyhow::Result<()> {
        let (session, variable) = self.place(key)?;
        session.set(&variable, Value::Bytes(value.as_ref().into())).await?;
        Ok(())
    }

    async fn persist(&self, key: u64, value: Bytes) -> anyhow::Result<()> {
        // The store itself tries again.
        self.write(key, value).await
    }

    async fn read(&self, key: u64, how: Reading) -> anyhow::Result<usize> {
        let (session, variable) = self.place(key)?;
        let consistency = match how {
            Reading::Linearizable => Consistency::Linearizable,
            Reading::Lease => Consistency::Lease,
            Reading::Local => Consistency::Local,
        };
        let found = session.get(&variable, consistency).await?;
        Ok(found.map_or(0, |variable| match variable.value() {
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        }))
    }

    async fn leader(&self, key: u64) -> anyhow::Result<usize> {
        let store = &self.0.node.cluster().store;
        let (session, _) = self.place(key)?;
        let status = store.status_of(store.group_of(session.id())?);
        let leader = status.leader.context("no leader is known")?;
        let place = NAMES.iter().position(|name| *name == leader.as_str());
        place.context("another node leads")
    }
}
