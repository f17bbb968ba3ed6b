//! `odeum join`: `odeum up --join` with a look at the place beforehand, so that what stands in the
//! way is said in one line before anything is made.

use std::net::SocketAddr;

use clap::Args;
use odeum_cluster::{
    probe::{self, ProbeConfig, Sight},
    store::DataFolder,
    transport::TransportError,
};
use odeum_proto::{ClusterId, NodeId};

use super::{CliError, config::NodeFlags, logs, up::Program};
use crate::{
    config::NodeConfig,
    node::{self, RunOptions},
};

/// Arguments of `odeum join`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is made or changed when the cluster cannot be joined: another authority, another version,
a data folder of another cluster, a name that is taken, nobody there. A node that runs already, or
that founded a cluster of its own, does not change clusters: give it another --data-dir.
A node that was in the cluster before comes back to it.

Example: odeum join 10.0.0.1:7071 --node n2 --certs certs/n2")]
pub(crate) struct JoinArgs {
    /// A node of the cluster: where it listens for other nodes (UDP)
    #[arg(value_name = "HOST:PORT")]
    place: String,
    #[command(flatten)]
    node: NodeFlags,
    /// Stop too when standard input ends: for a node that must not outlive its parent
    #[arg(long)]
    exit_with_stdin: bool,
}

/// Why a cluster cannot be joined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The place cannot be one. Correct it.
    #[error("{place:?} is no place to join by: {reason}; expected the HOST:PORT of a member")]
    Place {
        /// What was given.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody is there, or somebody who does not fit.
    #[error("cannot join by {place}: {source}{}", hint(.source))]
    Way {
        /// What was given.
        place: String,
        /// What stands in the way.
        source: TransportError,
    },
    /// Whoever is there belongs to no cluster.
    #[error("{peer} at {place} is in no cluster yet: wait until it is up, then try again")]
    NoCluster {
        /// Who is there.
        peer: NodeId,
        /// Where.
        place: String,
    },
    /// The cluster has a node of that name with another data folder.
    #[error(
        "cluster {cluster} has a node {node} already, with another data folder: choose another \
         name with --node, or name that folder with --data-dir"
    )]
    NameTaken {
        /// The cluster.
        cluster: ClusterId,
        /// The name.
        node: NodeId,
    },
}

impl JoinError {
    /// Whether the command line is at fault.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Place { .. })
    }
}

fn hint(error: &TransportError) -> &'static str {
    match error {
        TransportError::OtherCluster { .. } => ": choose another data folder with --data-dir",
        TransportError::SameNode { .. } => {
            ": name another place, or give this node a name and a certificate of its own"
        }
        TransportError::Connect { .. } => {
            ": is a node up there, and does UDP get through? `odeum doctor --join` looks closer"
        }
        _ => "",
    }
}

pub(super) async fn join(args: JoinArgs) -> Result<(), CliError> {
    let JoinArgs { place, node, exit_with_stdin } = args;
    let resolved = node.joining(&place).resolve()?;
    // Before the log begins, so that one line says why not.
    let sight = look(&place, &resolved.config).await;
    let is_member = DataFolder::cluster_of(&resolved.config.node.data_dir).is_some();
    let sight =
        match sight {
            // It knows others as well.
            Err(CliError::Join(JoinError::Way {
                source: TransportError::Connect { .. }, ..
            })) if is_member => None,
            sight => Some(sight?),
        };
    logs::start(&resolved)?;
    match sight {
        Some(Sight { peer, addr, .. }) => {
            tracing::info!(%peer, %addr, "a member to join by is there");
        }
        None => tracing::info!(place, "nobody is there; the node was a member before"),
    }
    let program = Program::this();
    let ended = node::run(resolved.config, RunOptions { exit_with_stdin }).await?;
    program.goes_on(ended)
}

/// Whoever is at `place`, when the node may join by it.
async fn look(place: &str, config: &NodeConfig) -> Result<Sight, CliError> {
    let no_place =
        |reason: &str| JoinError::Place { place: place.to_owned(), reason: reason.to_owned() };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(place)
        .await
        .map_err(|error| no_place(&error.to_string()))?
        .collect();
    if addresses.is_empty() {
        return Err(no_place("its host has no address").into());
    }
    let name = node::name(config)?;
    let certs = node::certificates(config, &name)?;
    let data = &config.node.data_dir;
    let cluster = DataFolder::cluster_of(data);
    let probe = ProbeConfig { node: &name, cluster, certs: &certs };
    let way = |source| JoinError::Way { place: place.to_owned(), source };
    let mut problem = None;
    for sight in probe::look(&probe, &addresses).await.map_err(way)? {
        match sight {
            Ok(sight) => {
                check(place, &name, cluster, &sight)?;
                return Ok(sight);
            }
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    Err(way(problem.unwrap_or(TransportError::Stopped)).into())
}

/// Whether a node called `name`, whose folder is of `own`, may join what was seen at `place`.
fn check(
    place: &str,
    name: &NodeId,
    own: Option<ClusterId>,
    sight: &Sight,
) -> Result<(), JoinError> {
    let Some((cluster, nodes)) = &sight.cluster else {
        return Err(JoinError::NoCluster { peer: sight.peer.clone(), place: place.to_owned() });
    };
    // A folder of this cluster is that of the node on record, or the cluster will say so.
    if own.is_none() && nodes.iter().any(|node| node.id == *name) {
        return Err(JoinError::NameTaken { cluster: *cluster, node: name.clone() });
    }
    Ok(())
}
