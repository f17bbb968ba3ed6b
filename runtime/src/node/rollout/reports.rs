//! What runs on the nodes of the cluster, as they tell.

use std::time::Duration;

use odeum_cluster::{
    membership::MembershipHandle,
    transport::{Class, Service, TransportHandle},
};
use odeum_proto::{NodeId, report::FirmwareReport};

use super::super::reports;
use crate::firmware::CoordinatorHandle;

/// How long another node may take to say what runs there. Shorter than anybody waits for a table.
pub(in crate::node) const REPORT_DEADLINE: Duration = Duration::from_millis(500);

/// Asks nodes what runs there. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::node) struct Reports {
    pub(in crate::node) local: NodeId,
    pub(in crate::node) coordinator: CoordinatorHandle,
    pub(in crate::node) membership: MembershipHandle,
    pub(in crate::node) transport: TransportHandle,
}

impl Reports {
    /// What runs on `node`; `None` when it does not answer in time.
    pub(in crate::node) async fn of(&self, node: &NodeId) -> Option<Vec<FirmwareReport>> {
        if *node == self.local {
            return reports::local(&self.coordinator).await.ok();
        }
        if !self.membership.now().is_live(node) {
            return None;
        }
        self.transport.call(node, Service::Firmware, Class::Lane, &(), REPORT_DEADLINE).await.ok()
    }
}
