//! Transport, control plane and membership of one node, put together.

use odeum_actors::{Strategy, SupervisorSpec};

use crate::control_plane::{ControlPlaneHandle, control_plane};
use crate::membership::{MembershipConfig, MembershipHandle, membership};
use crate::transport::{self, Services, TransportConfig, TransportError, TransportHandle};

/// What the rest of a node asks of the network.
#[derive(Debug, Clone)]
pub struct Network {
    /// Asks peers, keeps links.
    pub transport: TransportHandle,
    /// Remote calls to the cluster-level actors of peers.
    pub control_plane: ControlPlaneHandle,
    /// Who is there.
    pub membership: MembershipHandle,
}

/// Binds the node's address and returns its network with the supervisor that runs it; further
/// children that rely on it can be added behind. Must be called within a tokio runtime.
///
/// # Errors
/// [`TransportError::Listen`] when the address cannot be bound, [`TransportError::Pki`] when the
/// certificates cannot be used.
pub fn network(
    config: TransportConfig,
    services: Services,
    detector: MembershipConfig,
    version: &str,
) -> Result<(Network, SupervisorSpec), TransportError> {
    let (transport, transport_spec) = transport::start(config, services)?;
    let (control_plane, control_plane_spec) = control_plane(transport.clone(), version);
    let (membership, membership_spec) = membership(detector, transport.clone());
    let spec = SupervisorSpec::new("ClusterSupervisor", Strategy::RestForOne)
        .supervisor(transport_spec)
        .child(control_plane_spec)
        .child(membership_spec);
    Ok((Network { transport, control_plane, membership }, spec))
}
