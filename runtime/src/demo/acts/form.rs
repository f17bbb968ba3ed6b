//! Act 1: certificates, three processes, one cluster.

use std::time::{Duration, Instant};

use odeum_cluster::transport::pki::{Authority, PkiError};
use odeum_proto::NodeId;

use super::{Cast, api, sees_everyone, started};
use crate::demo::{error::DemoError, fleet::Fleet, stage::Stage};

pub(super) async fn form_cluster(
    stage: &mut Stage<'_>,
    cast: &Cast,
) -> Result<Duration, DemoError> {
    stage.story.act(1, "Three processes become a cluster");
    make_certificates(stage.fleet, &cast.nodes)
        .map_err(|reason| DemoError::Certificates { reason: Box::new(reason) })?;
    stage.story.say("made a certificate authority and a certificate for each node");
    let began = Instant::now();
    let [first, others @ ..] = &cast.nodes;
    stage.fleet.start(first, None)?;
    let founder = stage.until_ready(first).await?;
    stage.story.say(started(first, &founder, "founded a cluster"));
    for id in others {
        stage.fleet.start(id, Some(founder.cluster))?;
    }
    for id in others {
        let node = stage.until_ready(id).await?;
        stage.story.say(started(id, &node, "joined by QUIC with mutual TLS"));
    }
    for id in &cast.nodes {
        let client = stage.client(id)?;
        stage
            .until(&format!("{id} to see a cluster of three"), id, None, async |_| {
                sees_everyone(&client, &cast.nodes).await
            })
            .await?;
    }
    let formed = began.elapsed();
    stage.story.say("a ractor_cluster session runs over a stream of each of the three connections");
    let status = founder.client.status().await.map_err(api("get the status", first))?;
    let leader = status.store.leader.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
    stage.story.say(format_args!(
        "three voters keep the replicated store, {leader} leads it (term {}); its log is on disk",
        status.store.term
    ));
    Ok(formed)
}

fn make_certificates(fleet: &Fleet, nodes: &[NodeId]) -> Result<(), PkiError> {
    let authority = Authority::create(&fleet.authority())?;
    nodes.iter().try_for_each(|id| authority.issue(id, &fleet.certs(id)))
}
