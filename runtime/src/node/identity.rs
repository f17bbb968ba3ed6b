//! Who a node is: its name and its certificate.

use std::path::PathBuf;

use odeum_cluster::{
    store::DataFolder,
    transport::pki::{self, Authority},
};
use odeum_proto::NodeId;

use super::NodeError;
use crate::config::NodeConfig;

/// The node's name: the configured one, else the one its data folder has, else the machine's.
pub(super) fn name(config: &NodeConfig) -> Result<NodeId, NodeError> {
    if let Some(name) = &config.node.name {
        return Ok(name.clone());
    }
    if let Some(name) = DataFolder::owner(&config.node.data_dir) {
        return Ok(name);
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let label = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    label.parse().map_err(|reason| NodeError::Name { host, reason })
}

/// The folder with the node's certificate. In development it is made when it is not there, by
/// the authority in the configured folder, which is made as well when need be.
pub(super) fn certificates(config: &NodeConfig, node: &NodeId) -> Result<PathBuf, NodeError> {
    let own = config.node.data_dir.join("certs");
    let configured = config.cluster.certs.clone().unwrap_or_else(|| own.clone());
    if configured.join(pki::NODE_CERT).exists() {
        return Ok(configured);
    }
    if !config.node.dev {
        return Err(NodeError::NoCertificate { folder: configured });
    }
    if !own.join(pki::NODE_CERT).exists() {
        let authority = if configured.join(pki::CA_KEY).exists() {
            Authority::load(&configured)?
        } else {
            Authority::create(&configured)?
        };
        authority.issue(node, &own)?;
        tracing::info!(%node, folder = %own.display(), "development certificate made");
    }
    Ok(own)
}
