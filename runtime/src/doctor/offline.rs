//! Facts about a node that does not run, from its settings: what it would meet at its start.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
};

use odeum_cluster::{
    probe::{self, ProbeConfig, Sight},
    store::DataFolder,
    transport::TransportError,
};
use odeum_proto::NodeId;

use super::{
    ClockFacts, Facts, PathFacts, PeerFacts, PortFacts, PortState, certificates, folder, isolation,
    machine,
};
use crate::{api::client::ApiClient, config::NodeConfig, node};

/// Gathers them.
///
/// # Errors
/// [`node::NodeError::Name`] when the node has no name.
pub(crate) async fn gather(config: &NodeConfig) -> Result<Facts, node::NodeError> {
    let name = node::name(config)?;
    let certs = node::certificates_at(config);
    let data = config.node.data_dir.clone();
    let files = {
        let (name, certs, dev) = (name.clone(), certs.clone(), config.node.dev);
        move || (certificates(certs, &name, dev), folder(data), machine(), isolation())
    };
    // Only files, and nothing else runs: it may block.
    let (certificates, folder, machine, isolation) = tokio::task::block_in_place(files);
    let api = PortFacts {
        what: "API (TCP)".to_owned(),
        flag: "--api".to_owned(),
        addr: config.api.listen,
        state: match TcpListener::bind(config.api.listen) {
            Ok(_) => PortState::Free,
            Err(error) => PortState::Taken {
                reason: error.to_string(),
                by: who_is_at(config.api.listen).await,
            },
        },
    };
    let cluster = PortFacts {
        what: "cluster (UDP)".to_owned(),
        flag: "--cluster".to_owned(),
        addr: config.cluster.listen,
        state: match UdpSocket::bind(config.cluster.listen) {
            Ok(_) => PortState::Free,
            Err(error) => PortState::Taken { reason: error.to_string(), by: None },
        },
    };
    let peers = if certificates.problem.is_none() && !certificates.made_at_start {
        peers(&name, &certs, config).await
    } else {
        Vec::new()
    };
    Ok(Facts {
        node: None,
        certificates,
        ports: vec![api, cluster],
        peers,
        folder,
        machine,
        isolation,
    })
}

/// The node whose API is at `addr`.
async fn who_is_at(addr: SocketAddr) -> Option<NodeId> {
    let api = ApiClient::new(&format!("http://{addr}")).ok()?;
    Some(api.status().await.ok()?.node)
}

async fn peers(node: &NodeId, certs: &Path, config: &NodeConfig) -> Vec<PeerFacts> {
    let cluster = DataFolder::cluster_of(&config.node.data_dir);
    let probe = ProbeConfig { node, cluster, certs };
    let mut peers = Vec::new();
    for place in &config.cluster.join {
        let addresses = match tokio::net::lookup_host(place).await {
            Ok(addresses) => addresses.collect::<Vec<_>>(),
            Err(error) => {
                peers.push(unreached(place, &format!("{error}; expected HOST:PORT")));
                continue;
            }
        };
        match probe::look(&probe, &addresses).await {
            Ok(seen) if seen.is_empty() => peers.push(unreached(place, "its host has no address")),
            Ok(seen) => peers.push(best(place, seen)),
            Err(error) => peers.push(unreached(place, &error.to_string())),
        }
    }
    peers
}

fn unreached(place: &str, problem: &str) -> PeerFacts {
    PeerFacts {
        place: place.to_owned(),
        problem: Some(problem.to_owned()),
        path: None,
        clock: None,
    }
}

/// One address that answers is enough; else the first says why none does.
fn best(place: &str, seen: Vec<Result<Sight, TransportError>>) -> PeerFacts {
    let mut problem = None;
    for sight in seen {
        match sight {
            Ok(sight) => return reached(place, &sight),
            Err(error) => problem = problem.or(Some(error.to_string())),
        }
    }
    unreached(place, problem.as_deref().unwrap_or("nobody answers"))
}

fn reached(place: &str, sight: &Sight) -> PeerFacts {
    let link = &sight.link;
    PeerFacts {
        place: place.to_owned(),
        problem: None,
        path: Some(PathFacts::of(link)),
        clock: sight.clock.map(ClockFacts::from),
    }
}
