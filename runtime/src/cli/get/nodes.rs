//! `odeum get nodes`: the cluster's nodes.

use super::{
    super::out::{cell, table},
    seconds,
};
use crate::{
    api::types::{LeaseSummary, NodeSummary},
    config::ByteSize,
};

/// The nodes as a table. What no node has gets no column.
pub(super) fn table_of(nodes: &[NodeSummary]) -> String {
    let said = nodes.iter().any(|node| node.zone.is_some() || !node.labels.is_empty());
    match said {
        true => table(
            [
                "NODE", "STATE", "SINCE", "LEASE", "ROLE", "LINK", "CLUSTER", "API", "STARTS",
                "VERSION", "ENTITIES", "CPU", "MEMORY", "ZONE", "LABELS",
            ],
            nodes.iter().map(|node| {
                let [a, b, c, d, e, f, g, h, i, j, k, l, m] = row(node);
                let zone = node.zone.as_ref().map(ToString::to_string);
                let labels: Vec<_> =
                    node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let labels = (!labels.is_empty()).then(|| labels.join(","));
                [a, b, c, d, e, f, g, h, i, j, k, l, m, zone, labels]
            }),
        ),
        false => table(
            [
                "NODE", "STATE", "SINCE", "LEASE", "ROLE", "LINK", "CLUSTER", "API", "STARTS",
                "VERSION", "ENTITIES", "CPU", "MEMORY",
            ],
            nodes.iter().map(row),
        ),
    }
}

fn row(node: &NodeSummary) -> [Option<String>; 13] {
    let state = match (node.leaving, node.draining) {
        (true, _) => format!("{}, leaving", node.state),
        (false, true) => format!("{}, drained", node.state),
        (false, false) => node.state.to_string(),
    };
    [
        cell(&node.id),
        cell(state),
        node.since_ms.map(|ms| seconds(ms).to_string()),
        node.lease.map(lease),
        node.role.map(|role| role.to_string()),
        node.link.as_ref().map(|link| match (link.up, link.rtt_us) {
            (true, Some(rtt)) => format!("up, {rtt} µs"),
            (true, None) => "up".to_owned(),
            (false, _) => "down".to_owned(),
        }),
        cell(node.cluster_addr),
        cell(node.api_addr),
        cell(node.incarnation),
        cell(&node.version),
        node.load.map(|load| load.entities.to_string()),
        // Of one core, as `top` has it.
        node.load.map(|load| format!("{:.0} %", load.process_cpu * 100.0)),
        node.load.map(|load| ByteSize(load.memory_bytes).rounded()),
    ]
}

/// Which one, and for how long.
fn lease(lease: LeaseSummary) -> String {
    let (seconds, tenths) = (lease.remaining_ms / 1_000, lease.remaining_ms % 1_000 / 100);
    format!("{}, {seconds}.{tenths} s", lease.epoch)
}
