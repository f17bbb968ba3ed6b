//! What a running node finds out for `odeum doctor`.

use std::{path::PathBuf, time::Duration};

use futures::future::join_all;
use odeum_cluster::{clock, transport::TransportHandle};
use odeum_proto::{NodeId, store::NodeRecord};

use crate::{
    api::Problem,
    doctor::{self, ClockFacts, Facts, NodeFacts, PathFacts, PeerFacts, PortFacts, PortState},
};

/// How long one peer may take: all are asked at once, and the whole answer within the time of a
/// request.
const PEER_DEADLINE: Duration = Duration::from_secs(3);

/// Where the node's files are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Its certificates.
    pub(super) certs: PathBuf,
    /// Its data.
    pub(super) data: PathBuf,
}

/// Gathers the facts of this node, which is `own` among `records`; `not_ready` is why it takes no
/// requests.
pub(super) async fn gather(
    transport: &TransportHandle,
    places: &Places,
    (own, records): (&NodeRecord, Vec<NodeRecord>),
    not_ready: Option<String>,
) -> Result<Facts, Problem> {
    let Places { certs, data } = places.clone();
    let node = own.id.clone();
    let files = tokio::task::spawn_blocking(move || {
        let certificates = doctor::certificates(certs, &node, false);
        (certificates, doctor::folder(data), doctor::machine(), doctor::isolation())
    });
    let others = records.iter().filter(|record| record.id != own.id);
    let peers = join_all(others.map(|record| peer(transport, record)));
    let (files, peers) = tokio::join!(files, peers);
    let (certificates, folder, machine, isolation) =
        files.map_err(|error| Problem::Internal { reason: error.to_string().into() })?;
    let port = |what: &str, flag: &str, addr| PortFacts {
        what: what.to_owned(),
        flag: flag.to_owned(),
        addr,
        state: PortState::Held,
    };
    Ok(Facts {
        node: Some(NodeFacts {
            node: own.id.clone(),
            pid: std::process::id(),
            version: own.version.clone(),
            cluster: transport.cluster(),
            not_ready,
        }),
        certificates,
        ports: vec![
            port("API (TCP)", "--api", own.api_addr),
            port("cluster (UDP)", "--cluster", transport.local_addr()),
        ],
        peers,
        folder,
        machine,
        isolation,
    })
}

/// A peer as this node meets it: over the link to it, or by a dial when there is none.
async fn peer(transport: &TransportHandle, record: &NodeRecord) -> PeerFacts {
    let id: &NodeId = &record.id;
    let mut problem = None;
    if transport.link(id).is_none() {
        problem = transport.dial(record.cluster_addr, PEER_DEADLINE).await.err();
    }
    let clock = match transport.link(id) {
        Some(_) => clock::compare(transport, id, PEER_DEADLINE / 3).await.ok(),
        None => None,
    };
    PeerFacts {
        place: id.to_string(),
        problem: problem.map(|error| error.to_string()),
        path: transport.stats(id).as_ref().map(PathFacts::of),
        clock: clock.map(ClockFacts::from),
    }
}
