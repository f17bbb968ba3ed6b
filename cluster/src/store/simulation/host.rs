//! One node of a run, from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use odeum_actors::Supervisor;
use odeum_proto::session::DataAction;
use odeum_proto::store::{Command, Outcome};
use odeum_proto::{GroupId, Incarnation, Revision};

use super::client::{self, Client};
use super::wire::{Port, Wire};
use super::world::{Phase, Wish, World, name};
use crate::store::{Consistency, Health, StoreConfig, StoreHandle, store_on};

/// Programs on each node.
const CLIENTS: u64 = 2;

/// How long an operator waits before he tries again.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a node looks whether there is something to do.
const PERIOD: Duration = Duration::from_millis(50);

/// A node, as long as its process lives.
pub(super) async fn run(world: Arc<World>, node: usize) -> turmoil::Result {
    while !world.now().invited.contains(&node) {
        tokio::time::sleep(PERIOD).await;
    }
    let Some((store, _supervisor)) = start(&world, node).await? else {
        // It waits for its power.
        return std::future::pending().await;
    };
    for place in 0..CLIENTS {
        tokio::spawn(Client::new(&world, node, &store, place).run());
    }
    tokio::spawn(client::watch(Arc::clone(&world), node, store.clone()));
    if node == 0 && world.now().phase == Phase::Founding {
        store.found(world.cluster, world.record(node)).await?;
    }
    let mut renewed = false;
    loop {
        tokio::time::sleep(PERIOD).await;
        if !renewed {
            let record = Command::PutNode(world.record(node));
            renewed = store.write(record, PATIENCE).await.is_ok();
        }
        let wish = world.now().begin_wish(node);
        if let Some(wish) = wish {
            let done = fulfil(&world, node, &store, wish).await;
            world.now().end_wish(node, done);
        }
        let ends = world.now().phase == Phase::End && !world.now().wrote.contains(&node);
        if ends && writes_everywhere(&world, node, &store).await {
            world.now().wrote.insert(node);
        }
    }
}

/// The store of the node; none when its power has gone.
async fn start(
    world: &Arc<World>,
    node: usize,
) -> Result<Option<(StoreHandle, Supervisor)>, Box<dyn std::error::Error>> {
    let life = {
        let mut now = world.now();
        now.lives[node] += 1;
        now.lives[node]
    };
    let wire = Wire::open(world, node).await?;
    let config = StoreConfig {
        incarnation: Incarnation(life),
        snapshot_every: world.plan.snapshot_every,
        ..StoreConfig::new("/store".into(), name(node))
    };
    let disk = world.disk(node);
    let port = Arc::new(Port(Arc::clone(&wire)));
    let (store, spec) = store_on(Arc::new(disk.clone()), config, port);
    tokio::spawn(wire.listen(store.clone()));
    match spec.start().await {
        Ok(supervisor) => {
            world.now().stores.insert(node, store.clone());
            Ok(Some((store, supervisor)))
        }
        Err(_) if disk.is_off() => Ok(None),
        Err(error) => Err(format!("node {node} does not start: {error}").into()),
    }
}

/// Does what an operator wishes; whether it is done.
async fn fulfil(world: &World, node: usize, store: &StoreHandle, wish: Wish) -> bool {
    tracing::debug!(target: "simulation", node, ?wish);
    match wish {
        Wish::Admit(new) => {
            // One that has not started has nothing to be taken in with.
            let starts = world.now().lives[new] > 0;
            starts && store.admit(world.record(new), PATIENCE).await.is_ok()
        }
        Wish::Prepare => {
            let done = client::prepare(store).await.is_ok();
            if done {
                world.now().prepared = true;
            }
            done
        }
        Wish::HandOver(who) => {
            if who == node {
                store.hand_over().await;
            }
            who == node || world.now().phase == Phase::End
        }
        Wish::Remove(who) => {
            let done = who != node && store.remove_node(&name(who), PATIENCE).await.is_ok();
            if done {
                world.now().removed.insert(who);
            }
            done
        }
    }
}

/// Whether a node can write to every group, read what is written there, and says that it is well.
async fn writes_everywhere(world: &World, node: usize, store: &StoreHandle) -> bool {
    for group in World::groups() {
        let written = if group == GroupId::Control {
            let outcome = store.write(Command::PutNode(world.record(node)), PATIENCE).await;
            outcome.is_ok_and(|outcome| !matches!(outcome, Outcome::Refused(_)))
        } else {
            let nothing = DataAction::Compact { upto: Revision(0) };
            store.write_data(group, nothing, PATIENCE).await.is_ok()
        };
        let fresh = store.barrier_of(group, Consistency::Linearizable, PATIENCE).await.is_ok();
        if !written || !fresh || store.status_of(group).health != Health::Good {
            return false;
        }
    }
    true
}
