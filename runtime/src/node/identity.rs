//! Who a node is: its name and its certificate.

use std::path::{Path, PathBuf};

use odeum_cluster::{
    store::DataFolder,
    transport::pki::{self, Authority},
};
use odeum_proto::NodeId;

use super::NodeError;
use crate::config::NodeConfig;

/// The node's name: the configured one, else the one its data folder has, else the machine's.
pub(crate) fn name(config: &NodeConfig) -> Result<NodeId, NodeError> {
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

/// The folder with the node's certificate. In development a certificate that is not there is
/// made in the data folder, by the authority in the configured folder, which is made as well when
/// need be: so a second node becomes a neighbour by naming the first one's folder.
pub(crate) fn certificates(config: &NodeConfig, node: &NodeId) -> Result<PathBuf, NodeError> {
    let own = config.node.data_dir.join("certs");
    let configured = config.cluster.certs.clone().unwrap_or_else(|| own.clone());
    let has = |folder: &Path, file| folder.join(file).exists();
    if !config.node.dev {
        return match has(&configured, pki::NODE_CERT) {
            true => Ok(configured),
            false => Err(NodeError::NoCertificate { folder: configured }),
        };
    }
    if has(&own, pki::NODE_CERT) {
        return Ok(own);
    }
    let authority = match (has(&configured, pki::CA_KEY), has(&configured, pki::NODE_CERT)) {
        (true, _) => Authority::load(&configured)?,
        (false, true) => return Ok(configured),
        // A node that joins has neighbours whose authority it must be; one of its own is none.
        (false, false) if !config.cluster.join.is_empty() => {
            return Err(NodeError::NoAuthority { folder: configured });
        }
        (false, false) => Authority::create(&configured)?,
    };
    authority.issue(node, &own)?;
    tracing::info!(%node, folder = %own.display(), "development certificate made");
    Ok(own)
}

/// The folder that [`certificates`] gives, where nothing is made.
pub(crate) fn certificates_at(config: &NodeConfig) -> PathBuf {
    let own = config.node.data_dir.join("certs");
    let made = config.node.dev && own.join(pki::NODE_CERT).exists();
    config.cluster.certs.clone().filter(|_| !made).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn config(folder: &TempDir, name: &str, dev: bool) -> NodeConfig {
        let mut config = NodeConfig::default();
        config.node.data_dir = folder.path().join(name);
        config.node.dev = dev;
        config
    }

    fn issued_to(folder: &Path) -> Option<NodeId> {
        pki::inspect(&folder.join(pki::NODE_CERT)).expect("a certificate").node
    }

    #[test]
    fn without_dev_nothing_is_made() {
        let folder = TempDir::new().expect("a folder");
        let node = "n1".parse().expect("a name");
        let refused = certificates(&config(&folder, "n1", false), &node);
        assert!(matches!(refused, Err(NodeError::NoCertificate { .. })), "{refused:?}");
        assert!(!folder.path().join("n1").exists());
    }

    #[test]
    fn a_second_development_node_is_certified_by_the_first_ones_authority() {
        let folder = TempDir::new().expect("a folder");
        let (n1, n2) = ("n1".parse().expect("a name"), "n2".parse().expect("a name"));
        let first = certificates(&config(&folder, "n1", true), &n1).expect("makes its own");
        let mut second = config(&folder, "n2", true);
        second.cluster.join.push("127.0.0.1:7071".to_owned());
        let alone = certificates(&second, &n2);
        assert!(matches!(alone, Err(NodeError::NoAuthority { .. })), "{alone:?}");

        second.cluster.certs = Some(first.clone());
        let own = certificates(&second, &n2).expect("is certified");
        assert_eq!((issued_to(&first), issued_to(&own)), (Some(n1), Some(n2)));
        let authority = |folder: &Path| std::fs::read(folder.join(pki::CA_CERT)).expect("reads");
        assert_eq!(authority(&first), authority(&own));
    }
}
