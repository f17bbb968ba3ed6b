//! Nodes for the tests of the pure parts.

use std::collections::BTreeMap;

use odeum_proto::{DiskId, Incarnation, NodeId, store::NodeRecord};

pub(super) fn node(n: u8) -> NodeId {
    format!("n{n}").parse().expect("valid")
}

/// A node in a zone; of 0 none is said.
pub(super) fn record(n: u8, capacity: u32, zone: u8) -> NodeRecord {
    NodeRecord {
        id: node(n),
        disk: DiskId::random(),
        incarnation: Incarnation(1),
        cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
        api_addr: "127.0.0.1:7070".parse().expect("valid"),
        version: "0.1.0".into(),
        kinds: BTreeMap::new(),
        labels: BTreeMap::new(),
        zone: (zone > 0).then(|| format!("z{zone}").parse().expect("valid")),
        capacity,
    }
}

/// Nodes n1, n2, … in these zones.
pub(super) fn records(zones: &[u8]) -> Vec<NodeRecord> {
    (1..).zip(zones).map(|(n, zone)| record(n, NodeRecord::CAPACITY, *zone)).collect()
}
