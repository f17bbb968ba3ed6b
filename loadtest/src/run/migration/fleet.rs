//! The three nodes of the scenario, of which the first is asked and the last one drained and killed.

use std::time::Duration;

use odeum_proto::{Name, NodeId};
use odeum_runtime::api::client::ApiClient;

use crate::fleet::{self, FleetOptions};
use crate::guests;

/// The nodes.
const NAMES: [&str; 3] = ["first", "second", "third"];

/// How long nodes may take until they are empty.
const PATIENCE: Duration = Duration::from_secs(60);

/// The nodes of the scenario.
pub(super) struct Fleet {
    nodes: fleet::Fleet,
    clients: Vec<ApiClient>,
    ids: Vec<NodeId>,
}

impl Fleet {
    /// Starts all of them.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let names = NAMES.map(str::to_owned).to_vec();
        let options = FleetOptions { names, ..FleetOptions::default() };
        let nodes = fleet::Fleet::start(options).await?;
        let (clients, ids) = (nodes.clients(), nodes.ids().cloned().collect());
        Ok(Self { nodes, clients, ids })
    }

    /// The node that is asked.
    #[expect(clippy::indexing_slicing, reason = "there are three")]
    pub(super) fn first(&self) -> &ApiClient {
        &self.clients[0]
    }

    /// The node that is drained and killed.
    #[expect(clippy::indexing_slicing, reason = "there are three")]
    pub(super) fn last(&self) -> &NodeId {
        &self.ids[self.ids.len() - 1]
    }

    pub(super) fn clients(&self) -> Vec<ApiClient> {
        self.clients.clone()
    }

    /// The nodes that are not drained and killed.
    pub(super) fn all_but_last(&self) -> Vec<ApiClient> {
        self.clients.iter().take(NAMES.len() - 1).cloned().collect()
    }

    /// The node behind that one.
    pub(super) fn other_than(&self, node: &NodeId) -> Option<NodeId> {
        let at = self.ids.iter().position(|id| id == node)?;
        let next = self.ids.get((at + 1) % self.ids.len())?;
        (next != node).then(|| next.clone())
    }

    /// Deploys so many guests, all of them on the last node, and waits until each runs.
    pub(super) async fn fill(
        &self,
        prefix: &str,
        count: usize,
        package: Vec<u8>,
    ) -> anyhow::Result<Vec<Name>> {
        let others = || self.ids.iter().filter(|id| *id != self.last());
        for other in others() {
            self.first().drain(other, PATIENCE).await?;
        }
        let names = guests::names(prefix, count)?;
        guests::deploy(self.first(), &names, &package).await?;
        for other in others() {
            self.first().use_again(other).await?;
        }
        Ok(names)
    }

    /// Removes guests.
    pub(super) async fn empty(&self, names: &[Name]) -> anyhow::Result<()> {
        Ok(guests::remove(self.first(), names).await?)
    }

    pub(super) async fn kill_last(&mut self) -> anyhow::Result<()> {
        self.nodes.kill(NAMES.len() - 1).await
    }

    pub(super) async fn end(self) {
        self.nodes.end().await;
    }
}
