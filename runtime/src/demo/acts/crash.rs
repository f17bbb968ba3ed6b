//! Act 5: the host of the guest is killed while messages flow.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use odeum_proto::NodeId;

use super::{Cast, GO_ON, api, route_around};
use crate::{
    api::types::NodeState,
    demo::{
        error::DemoError,
        fleet::Reachable,
        report::seconds,
        stage::Stage,
        traffic::{Log, Traffic},
    },
};

/// What the kill came to.
pub(super) struct Crash {
    pub killed: NodeId,
    pub led: bool,
    pub noticed: Duration,
    pub back: Duration,
    pub new_host: NodeId,
    /// A node to join by.
    pub survivor: Reachable,
}

pub(super) async fn kill(
    stage: &mut Stage<'_>,
    cast: &Cast,
    host: &NodeId,
    traffic: &Traffic,
) -> Result<Crash, DemoError> {
    stage.story.act(5, "kill -9 of the node that hosts the guest, while messages flow");
    let survivors: Vec<_> = cast.except(host).cloned().collect();
    let via = traffic.via().unwrap_or_else(|| survivors[0].clone());
    let status = stage.client(&via)?.status().await.map_err(api("get the status", &via))?;
    let led = status.store.leader.as_ref() == Some(host);
    let role = if led { " It leads the store, too: the harder case." } else { "" };
    let count = traffic.look(Log::highest);
    let killed_at = stage.fleet.kill(host).await?;
    stage.story.say(format_args!("SIGKILL to {host} at count {count}.{role}"));

    let noticed = until_noticed(stage, host, &survivors, traffic, killed_at).await?;
    let (back, new_host) = stage
        .until("the guest to answer on another node", &via, Some(traffic), async |_| {
            traffic.look(|log| {
                let first = log.first_after(killed_at, |ack| ack.host != *host);
                let back = first.map(|ack| (ack.at - killed_at, ack.host.clone()));
                back.ok_or_else(|| format!("{} retries", log.retries))
            })
        })
        .await?;
    stage.story.say(format_args!(
        "the guest runs on {new_host}; first message acknowledged there {} after the kill",
        seconds(back)
    ));
    if new_host == via {
        let route = route_around(stage, cast, &[host, &new_host])?;
        stage
            .story
            .say(format_args!("messages now go through {}, which does not host it", route.via));
        traffic.reroute(route);
    }
    let via = traffic.via().unwrap_or(via);
    stage.until_acknowledged(GO_ON, &via, traffic).await?;
    let (acknowledged, count) = traffic.look(|log| (log.acks.len(), log.highest()));
    stage.story.say(format_args!("{acknowledged} acknowledged, the count is {count}"));
    let survivor = stage.until_ready(&via).await?;
    Ok(Crash { killed: host.clone(), led, noticed, back, new_host, survivor })
}

/// Waits until each of `survivors` shows `killed` as down. Returns when the last one did.
async fn until_noticed(
    stage: &mut Stage<'_>,
    killed: &NodeId,
    survivors: &[NodeId],
    traffic: &Traffic,
    killed_at: Instant,
) -> Result<Duration, DemoError> {
    let mut clients = Vec::new();
    for id in survivors {
        clients.push((id.clone(), stage.client(id)?));
    }
    let mut noticed = BTreeMap::new();
    let event = format!("the others to notice that {killed} is gone");
    stage
        .until(&event, &survivors[0], Some(traffic), async |_| {
            for (id, client) in &clients {
                let nodes = client.nodes().await.map_err(|error| format!("{id}: {error}"))?;
                let state = nodes.iter().find(|node| node.id == *killed).map(|node| node.state);
                if state == Some(NodeState::Down) {
                    noticed.entry(id.clone()).or_insert_with(|| killed_at.elapsed());
                }
            }
            let seen = format!("{} of {} know", noticed.len(), clients.len());
            if noticed.len() == clients.len() { Ok(()) } else { Err(seen) }
        })
        .await?;
    for (id, after) in &noticed {
        stage.story.say(format_args!("{id} noticed {} after the kill", seconds(*after)));
    }
    Ok(noticed.into_values().max().unwrap_or_default())
}
