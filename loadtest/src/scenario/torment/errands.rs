//! What goes on by itself once it has begun: moves, drains, updates, restarts one after the other, and the
//! look whether all is whole again.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use odeum_proto::{EntityId, Name, NodeId};
use odeum_runtime::api::client::ApiClient;
use odeum_runtime::api::types::MoveBody;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use tokio::time::{Instant, sleep};

use super::{LOOK, Torment, WHOLE};
use crate::persist::persist;
use crate::{fleet, guests};

/// How long a node may take to give away what it has.
const DRAIN: Duration = Duration::from_secs(60);

impl Torment<'_> {
    /// Takes down when all nodes see each other again.
    pub(super) fn watch_until_whole(&mut self, number: usize) {
        if self.fleet.is_none() {
            return;
        }
        let clients = self.clients();
        let marks = Arc::clone(&self.marks);
        self.tasks.spawn(async move {
            let begin = Instant::now();
            for client in &clients {
                while !fleet::sees_all(client, clients.len()).await {
                    // Another fault may have come meanwhile; the end of the load looks once more.
                    if begin.elapsed() > WHOLE {
                        return Ok(());
                    }
                    sleep(LOOK).await;
                }
            }
            let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mark) = marks.get_mut(number) {
                mark.whole_s = Some(begin.elapsed().as_secs_f64());
            }
            Ok(())
        });
    }

    /// Restarts all nodes, one after the other, each when the one before is back: as
    /// `odeum rollout restart` does.
    pub(super) fn roll(&mut self, number: usize) {
        let (nodes, ended) = (self.nodes.clone(), self.ended_mark(number));
        let marks = Arc::clone(&self.marks);
        self.tasks.spawn(async move {
            for place in 0..nodes.len() {
                // Another one waits until it is back.
                let asked = nodes.get((place + 1) % nodes.len()).or(nodes.first());
                let (Some((_, client)), Some((name, own))) = (asked, nodes.get(place)) else {
                    continue;
                };
                client.restart_node(&name.parse()?, WHOLE).await.with_context(|| name.clone())?;
                let begin = Instant::now();
                while own.ready().await.is_err() {
                    anyhow::ensure!(begin.elapsed() < WHOLE, "{name} is not ready after {WHOLE:?}");
                    sleep(LOOK).await;
                }
            }
            ended();
            let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mark) = marks.get_mut(number) {
                mark.whole_s = Some(0.0);
            }
            Ok(())
        });
    }

    /// The clients of all nodes, running or not.
    fn clients(&self) -> Vec<ApiClient> {
        self.nodes.iter().map(|(_, client)| client.clone()).collect()
    }

    fn any_client(&mut self) -> anyhow::Result<ApiClient> {
        let at = match &self.fleet {
            Some(fleet) => fleet.running().choose(&mut self.random).copied(),
            None => Some(self.random.random_range(0..self.nodes.len())),
        };
        let (_, client) = at.and_then(|at| self.nodes.get(at)).context("no node runs")?;
        Ok(client.clone())
    }

    fn ended_mark(&self, number: usize) -> impl FnOnce() + Send + 'static + use<> {
        let (marks, began) = (Arc::clone(&self.marks), self.began);
        move || {
            let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mark) = marks.get_mut(number) {
                mark.ends_s = Some(began.elapsed().as_secs_f64());
            }
        }
    }

    pub(super) fn begin_moves(&mut self, number: usize, count: usize) -> anyhow::Result<()> {
        let all: Vec<Name> = self.deployed.iter().flat_map(|it| it.names.clone()).collect();
        let chosen: Vec<Name> = all.sample(&mut self.random, count).cloned().collect();
        let (client, ended) = (self.any_client()?, self.ended_mark(number));
        let ids: Vec<String> = self.nodes.iter().map(|(name, _)| name.clone()).collect();
        self.tasks.spawn(async move {
            for name in chosen {
                let at = client.firmware_of(&name).await?.node;
                let at = at.as_ref().map(NodeId::as_str);
                let place = ids.iter().position(|id| Some(id.as_str()) == at).unwrap_or_default();
                let Some(to) = ids.get((place + 1) % ids.len().max(1)) else { continue };
                let body = MoveBody { entity: EntityId::firmware(name), to: to.parse()? };
                // One that moves already, or whose node has just died, stays where it is.
                let _ = client.begin_move(&body).await;
            }
            ended();
            Ok(())
        });
        Ok(())
    }

    pub(super) fn begin_drain(&mut self, number: usize, place: usize) -> anyhow::Result<()> {
        let (client, ended) = (self.any_client()?, self.ended_mark(number));
        let id: NodeId = self.name(place).parse()?;
        self.tasks.spawn(async move {
            let drained = client.drain(&id, DRAIN).await;
            ended();
            // It is taken back while others still make room.
            match drained {
                Err(error) if !error.is_retryable() => Err(error.into()),
                _ => Ok(()),
            }
        });
        Ok(())
    }

    pub(super) fn use_again(&mut self, place: usize) {
        let (clients, name) = (self.clients(), self.name(place));
        let until = Instant::now() + WHOLE;
        self.tasks.spawn(async move {
            let id: NodeId = name.parse()?;
            let use_again = |client: ApiClient| {
                let id = id.clone();
                async move { client.use_again(&id).await }
            };
            persist(&clients, until, use_again).await.map(drop)
        });
    }

    /// Replaces all firmware. While the store elects a leader or is busy it takes no update for a moment,
    /// which is tried again: that is no defect of a cluster whose nodes die.
    pub(super) fn begin_update(&mut self, number: usize) {
        self.version += 1;
        let (clients, ended) = (self.clients(), self.ended_mark(number));
        let (deployed, version) = (self.deployed.clone(), self.version);
        let until = Instant::now() + WHOLE;
        self.tasks.spawn(async move {
            for it in deployed {
                let put = guests::put(&clients, &it.names, &it.package(version), until).await;
                put.context("hot update")?;
            }
            ended();
            Ok(())
        });
    }
}
