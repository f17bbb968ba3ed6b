//! The cluster of a run: started or found, what is deployed there, and what is taken back.

use std::collections::BTreeMap;

use anyhow::Context as _;
use odeum_cluster::netns::Net;
use odeum_proto::Name;
use odeum_runtime::api::client::ApiClient;
use rand::RngExt as _;

use super::Director;
use crate::fleet::{Fleet, FleetOptions};
use crate::guests;
use crate::scenario::generator::{guest_prefix, server_name};
use crate::scenario::protocol::NodeAt;
use crate::scenario::spec::{Fault, Target, Who};
use crate::scenario::torment::Deployed;

/// The cluster, as a run has it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) fleet: Option<Fleet>,
    pub(super) nodes: Vec<NodeAt>,
    pub(super) clients: Vec<ApiClient>,
    /// Names what the run makes.
    pub(super) run: String,
    pub(super) deployed: Vec<Deployed>,
    pub(super) server: Option<Name>,
}

impl Director {
    /// Starts the cluster, or finds it.
    pub(super) async fn enter(&mut self, net: Option<Net>) -> anyhow::Result<Stage> {
        let run: String = format!("{:06x}", rand::rng().random_range(0..1 << 24));
        let (deployed, server) = (Vec::new(), None);
        if !self.scenario.cluster.urls.is_empty() {
            let (mut nodes, mut clients) = (Vec::new(), Vec::new());
            for url in &self.scenario.cluster.urls {
                let client = ApiClient::new(url)?;
                let status = client.status().await.with_context(|| url.clone())?;
                nodes.push(NodeAt { name: status.node.to_string(), url: url.clone(), door: None });
                clients.push(client);
            }
            return Ok(Stage { fleet: None, nodes, clients, run, deployed, server });
        }
        let place = if net.is_some() { "in network namespaces" } else { "on loopback" };
        self.live.say(&format!("starting {} nodes {place}", self.size));
        let faults = || self.scenario.faults.iter().map(|fault| &fault.value);
        let shim = faults().any(|it| matches!(it, Fault::Clock(_) | Fault::SlowDisk(_)));
        let disk = faults().find_map(|it| match it {
            Fault::DiskFull(it) => Some(match &it.node {
                Who::Named(name) => {
                    name.trim_start_matches('n').parse::<usize>().unwrap_or(1).saturating_sub(1)
                }
                _ => self.size - 1,
            }),
            _ => None,
        });
        let doors =
            self.scenario.targets.values().any(|it| matches!(it, Target::Ask(_) | Target::Tell(_)));
        let options = FleetOptions {
            names: (1..=self.size).map(|number| format!("n{number}")).collect(),
            net,
            small_disk: disk.filter(|_| self.able.no_disk.is_none()),
            shim,
            doors,
            defects: self.defects.clone(),
            steps: false,
        };
        let fleet = Fleet::start(options).await.context("the cluster does not start")?;
        if shim && !fleet.has_shim() {
            self.able.no_shim = Some("there is no C compiler (cc)".to_owned());
        }
        let clients = fleet.clients();
        let nodes = fleet.ids().zip(&clients).zip(fleet.doors()).map(|((id, client), door)| {
            NodeAt { name: id.to_string(), url: client.url().to_string(), door }
        });
        let nodes = nodes.collect();
        Ok(Stage { fleet: Some(fleet), nodes, clients, run, deployed, server })
    }

    /// Deploys what is called.
    pub(super) async fn deploy(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let client = stage.clients.first().context("there is no node")?.clone();
        for (place, (name, target)) in self.scenario.targets.iter().enumerate() {
            match target {
                Target::Call(it) => {
                    self.live.say(&format!("deploying {} guests for {name}", it.guests));
                    let names = guests::names(&guest_prefix(&stage.run, place), it.guests)?;
                    let deployed = Deployed { names, state: it.state, memory: it.memory.0 };
                    // Also what is only partly deployed is removed at the end.
                    let (names, package) = (deployed.names.clone(), deployed.package(1));
                    stage.deployed.push(deployed);
                    guests::deploy(&client, &names, &package)
                        .await
                        .with_context(|| format!("target {name}"))?;
                }
                Target::Http(it) if it.firmware.is_none() && stage.server.is_none() => {
                    self.live.say("deploying a server of HTTP");
                    let server: Name = server_name(&stage.run).parse()?;
                    stage.server = Some(server.clone());
                    guests::deploy(&client, &[server], guests::SERVER).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what was deployed from a cluster that goes on.
    pub(super) async fn clean(&self, stage: &Stage) {
        if stage.fleet.is_some() {
            return;
        }
        let names: Vec<Name> = stage.deployed.iter().flat_map(|it| it.names.clone()).collect();
        let names: Vec<Name> = names.into_iter().chain(stage.server.clone()).collect();
        if let Some(client) = stage.clients.first() {
            // What cannot be removed is named so that its owner can see whose it is.
            let _ = guests::remove(client, &names).await;
        }
    }
}

/// Bytes between nodes by class, on the links that are there.
pub(super) async fn classes(clients: &[ApiClient]) -> BTreeMap<String, (u64, u64)> {
    let mut classes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for client in clients {
        let Ok(report) = client.links().await else { continue };
        for state in report.links.into_iter().filter_map(|link| link.state) {
            for (class, traffic) in state.classes {
                let of = classes.entry(class).or_default();
                of.0 += traffic.sent_bytes;
                of.1 += traffic.received_bytes;
            }
        }
    }
    classes
}
