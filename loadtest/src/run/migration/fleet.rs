//! Three whole nodes, each a process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use futures::stream::{self, StreamExt as _};
use odeum_proto::{Name, NodeId};
use odeum_runtime::api::client::ApiClient;
use odeum_runtime::api::types::{DeployOptions, FirmwareState};
use odeum_runtime::config::NodeConfig;
use odeum_runtime::node::{self as whole, Ended, RunOptions};
use serde::Deserialize;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::remote::{self, certs};

/// The nodes. The first is asked, the last one is drained and killed.
const NAMES: [&str; 3] = ["first", "second", "third"];

/// How long a node may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often is looked whether it does.
const LOOK: Duration = Duration::from_millis(20);

/// Guests that are deployed or removed at a time: what a node takes.
const AT_ONCE: usize = 4;

/// What a node of the scenario is started with.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Its name.
    name: String,
    /// The folder of the scenario.
    #[arg(long)]
    stage: PathBuf,
    /// A node to join by.
    #[arg(long)]
    at: Option<String>,
}

/// Runs a node of the scenario until its input ends.
///
/// # Errors
/// If it cannot be started, or fails.
pub async fn node(args: NodeArgs) -> anyhow::Result<()> {
    let NodeArgs { name, stage, at } = args;
    let mut config = NodeConfig::default();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.node.name = Some(name.parse()?);
    config.node.data_dir = stage.join("data").join(&name);
    config.node.dev = true;
    config.api.listen = anywhere;
    config.cluster.listen = anywhere;
    config.cluster.certs = Some(certs(&stage, &name));
    config.cluster.join = at.into_iter().collect();
    config.packages.allow_unsigned = Some(true);
    match whole::run(config, RunOptions { exit_with_stdin: true }).await? {
        // Nobody tells it to begin anew.
        Ended::Stopped | Ended::Restarts => Ok(()),
    }
}

/// Where a node listens, as it tells.
#[derive(Debug, Deserialize)]
struct Ports {
    api: SocketAddr,
    cluster: SocketAddr,
}

/// A node that runs.
struct Member {
    id: NodeId,
    client: ApiClient,
    child: Child,
}

/// The nodes of the scenario.
pub(super) struct Fleet {
    members: Vec<Member>,
    _stage: TempDir,
}

impl Fleet {
    /// Starts all of them.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let stage = remote::stage(&NAMES)?;
        let (mut members, mut at) = (Vec::new(), None);
        for name in NAMES {
            let (member, cluster) = start(stage.path(), name, at.as_ref()).await?;
            at.get_or_insert(cluster);
            members.push(member);
        }
        let fleet = Self { members, _stage: stage };
        fleet.whole().await?;
        Ok(fleet)
    }

    /// Until each node takes requests and each group of the store has a vote of each.
    async fn whole(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        for member in &self.members {
            loop {
                let is_whole = match member.client.store().await {
                    Ok(store) => store.groups.iter().all(|group| {
                        let voters = group.members.iter().filter(|member| member.voter);
                        voters.count() == self.members.len()
                    }),
                    Err(_) => false,
                };
                if is_whole && member.client.ready().await.is_ok() {
                    break;
                }
                anyhow::ensure!(begin.elapsed() < PATIENCE, "{} is not ready", member.id);
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// The node that is asked.
    #[expect(clippy::indexing_slicing, reason = "there are three")]
    pub(super) fn first(&self) -> &ApiClient {
        &self.members[0].client
    }

    /// The node that is drained and killed.
    #[expect(clippy::indexing_slicing, reason = "there are three until it is killed")]
    pub(super) fn last(&self) -> &NodeId {
        &self.members[self.members.len() - 1].id
    }

    pub(super) fn clients(&self) -> Vec<ApiClient> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// The node behind that one.
    pub(super) fn other_than(&self, node: &NodeId) -> Option<NodeId> {
        let at = self.members.iter().position(|member| member.id == *node)?;
        let next = self.members.get((at + 1) % self.members.len())?;
        (next.id != *node).then(|| next.id.clone())
    }

    /// Deploys so many guests, all of them on the last node, and waits until each runs.
    pub(super) async fn fill(
        &self,
        prefix: &str,
        count: usize,
        package: Vec<u8>,
    ) -> anyhow::Result<Vec<Name>> {
        let others =
            || self.members.iter().map(|member| &member.id).filter(|id| *id != self.last());
        for other in others() {
            self.first().drain(other, PATIENCE).await?;
        }
        let names = self.deployed(prefix, count, package).await?;
        for other in others() {
            self.first().use_again(other).await?;
        }
        Ok(names)
    }

    async fn deployed(
        &self,
        prefix: &str,
        count: usize,
        package: Vec<u8>,
    ) -> anyhow::Result<Vec<Name>> {
        let names = (0..count).map(|number| Ok(format!("{prefix}-{number}").parse()?));
        let names: Vec<Name> = names.collect::<anyhow::Result<_>>()?;
        let options = DeployOptions::default();
        let deployed = stream::iter(&names).map(async |name| {
            self.first().put_firmware(name, package.clone(), &options).await.map(drop)
        });
        let mut deployed = deployed.buffer_unordered(AT_ONCE);
        while let Some(done) = deployed.next().await {
            done?;
        }
        drop(deployed);
        let begin = Instant::now();
        loop {
            let all = self.first().firmware().await?;
            let running = all.iter().filter(|it| it.state == FirmwareState::Running).count();
            if running >= count {
                return Ok(names);
            }
            anyhow::ensure!(begin.elapsed() < PATIENCE, "only {running} of {count} guests run");
            sleep(LOOK).await;
        }
    }

    /// Removes guests.
    pub(super) async fn empty(&self, names: &[Name]) -> anyhow::Result<()> {
        let removed = stream::iter(names).map(|name| self.first().delete_firmware(name));
        let mut removed = removed.buffer_unordered(AT_ONCE);
        while let Some(done) = removed.next().await {
            done?;
        }
        Ok(())
    }

    pub(super) async fn kill_last(&mut self) -> anyhow::Result<()> {
        let mut last = self.members.pop().context("no node is left")?;
        Ok(last.child.kill().await?)
    }

    pub(super) async fn end(self) {
        for mut member in self.members {
            // An error means that it has ended by itself.
            let _ = member.child.kill().await;
        }
    }
}

async fn start(
    stage: &Path,
    name: &str,
    at: Option<&SocketAddr>,
) -> anyhow::Result<(Member, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["migration-node", name, "--stage"]).arg(stage);
    if let Some(at) = at {
        command.args(["--at", &at.to_string()]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let told = stage.join("data").join(name).join(whole::PORTS_FILE);
    let begin = Instant::now();
    let ports: Ports = loop {
        if let Ok(bytes) = std::fs::read(&told)
            && let Ok(ports) = serde_json::from_slice(&bytes)
        {
            break ports;
        }
        anyhow::ensure!(begin.elapsed() < PATIENCE, "{name} does not say where it listens");
        sleep(LOOK).await;
    };
    let client = ApiClient::new(&format!("http://{}", ports.api))?;
    Ok((Member { id: name.parse()?, client, child }, ports.cluster))
}
