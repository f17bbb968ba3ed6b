//! The acts of the demo. Each does one thing to a real cluster and waits until its effect is seen
//! through the HTTP API, as anybody could see it.

mod crash;
mod deploy;
mod form;
mod rejoin;
mod send;
mod settle;
mod trap;
mod travel;

use odeum_proto::{EntityId, IdError, Name, NodeId, SessionId};

use super::{
    error::DemoError,
    fleet::Reachable,
    report::Summary,
    stage::Stage,
    traffic::{Route, SESSION},
};
use crate::api::{
    client::{ApiClient, ApiError},
    types::{NodeState, StoreRole},
};

/// Messages that show that things go on.
const GO_ON: usize = 50;

/// Who plays: the names of nodes and guest.
struct Cast {
    nodes: [NodeId; 3],
    counter: Name,
    session: SessionId,
}

impl Cast {
    fn new() -> Result<Self, IdError> {
        let counter: Name = "counter".parse()?;
        let session = SessionId::owned_by(&EntityId::firmware(counter.clone()), SESSION)?;
        Ok(Self { nodes: ["n1".parse()?, "n2".parse()?, "n3".parse()?], counter, session })
    }

    fn except<'a>(&'a self, without: &'a NodeId) -> impl Iterator<Item = &'a NodeId> {
        self.nodes.iter().filter(move |id| *id != without)
    }
}

/// All acts but the last, which is the summary itself. Leaves the cluster running.
pub(super) async fn play(stage: &mut Stage<'_>) -> Result<Summary, DemoError> {
    let cast = Cast::new().map_err(|error| DemoError::Setup {
        doing: "name the nodes",
        reason: std::io::Error::other(error),
    })?;
    let formed = form::form_cluster(stage, &cast).await?;
    let (host, deployed) = deploy::deploy(stage, &cast).await?;
    let traffic = send::send_messages(stage, &cast, &host).await?;
    let trap_pauses = trap::trap(stage, &cast, &host, &traffic).await?;
    let crash = crash::kill(stage, &cast, &host, &traffic).await?;
    let rejoined = rejoin::rejoin(stage, &cast, &crash, &traffic).await?;
    let travel = travel::travel(stage, &cast, &crash.new_host, &traffic).await?;
    let (log, count, verdict) = settle::settle(stage, &cast, &travel.host, traffic).await?;
    Ok(Summary {
        formed,
        deployed,
        trap_pauses,
        killed: crash.killed,
        killed_led: crash.led,
        noticed: crash.noticed,
        back: crash.back,
        new_host: crash.new_host,
        rejoined,
        moves: travel.moves,
        paused: travel.paused,
        acknowledged: log.acks.len() as u64,
        retries: log.retries,
        replayed: log.acks.iter().filter(|ack| ack.replayed).count() as u64,
        count,
        lost: verdict.lost,
        doubled: verdict.doubled,
        total: stage.story.elapsed(),
    })
}

/// A way to the guest through a node that is none of `around`.
fn route_around(
    stage: &mut Stage<'_>,
    cast: &Cast,
    around: &[&NodeId],
) -> Result<Route, DemoError> {
    let via = cast.nodes.iter().rev().find(|id| !around.contains(id)).unwrap_or(&cast.nodes[0]);
    Ok(Route { via: via.clone(), client: stage.client(via)? })
}

/// Every node alive with a vote, one of them the leader, and a control session to each other one.
async fn sees_everyone(client: &ApiClient, nodes: &[NodeId]) -> Result<(), String> {
    let seen = client.nodes().await.map_err(|error| error.to_string())?;
    let votes = |role| matches!(role, Some(StoreRole::Leader | StoreRole::Voter));
    let good = seen.iter().filter(|n| n.state == NodeState::Alive && votes(n.role)).count();
    let leaders = seen.iter().filter(|n| n.role == Some(StoreRole::Leader)).count();
    let links = seen.iter().filter_map(|n| n.link.as_ref());
    let sessions = links.filter(|link| link.control).count();
    if good == nodes.len() && leaders == 1 && sessions + 1 == nodes.len() {
        return Ok(());
    }
    let role = |role: Option<StoreRole>| role.map_or("no part".to_owned(), |r| r.to_string());
    let each: Vec<_> =
        seen.iter().map(|n| format!("{} is {} ({})", n.id, n.state, role(n.role))).collect();
    Err(format!("{}; {sessions} control sessions", each.join(", ")))
}

/// A node that has just begun to listen, and `how`.
fn started(id: &NodeId, node: &Reachable, how: &str) -> String {
    let Reachable { api, cluster, pid, .. } = node;
    format!("{id} {how}: process {pid}, API http://{api}, cluster udp {cluster}")
}

/// For `map_err`: a refusal of `node` while `doing` something.
fn api(doing: &'static str, node: &NodeId) -> impl FnOnce(ApiError) -> DemoError {
    let node = node.clone();
    move |reason| DemoError::Api { doing, node, reason }
}
