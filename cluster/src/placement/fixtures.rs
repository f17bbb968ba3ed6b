//! Nodes for the tests of the planners.

use std::collections::BTreeMap;

use odeum_proto::{DiskId, Incarnation, NodeId, store::NodeRecord};

use super::planner::{Health, Host, Leased};

pub(super) fn node(n: u8) -> NodeId {
    format!("n{n}").parse().expect("valid")
}

pub(crate) fn record(n: u8, capacity: u32) -> NodeRecord {
    NodeRecord {
        id: node(n),
        disk: DiskId::random(),
        incarnation: Incarnation(1),
        cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
        api_addr: "127.0.0.1:7070".parse().expect("valid"),
        version: "0.1.0".into(),
        kinds: BTreeMap::new(),
        labels: BTreeMap::new(),
        zone: None,
        capacity,
    }
}

/// Of all that may be there.
pub(super) fn leases(hosts: &[Host<'_>]) -> Leased {
    let there = hosts.iter().filter(|host| host.health != Health::Down);
    there.map(|host| host.record.id.clone()).collect()
}
