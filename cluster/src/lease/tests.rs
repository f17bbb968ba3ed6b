//! Promises of leases: of all parts together over random histories, and of the actor in its time.

mod actor;
mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use odeum_proto::store::{
    Command, FirmwareLimits, FirmwarePolicy, FirmwareSpec, NodeRecord, Outcome,
};
use odeum_proto::{Digest, DiskId, EntityId, Incarnation, NodeId, Revision};

use crate::store::State;

const MS: Duration = Duration::from_millis(1);

const TTL: Duration = Duration::from_secs(3);

fn node(n: usize) -> NodeId {
    format!("n{n}").parse().expect("valid")
}

fn entity() -> EntityId {
    "firmware/e".parse().expect("valid")
}

fn renewal(n: usize) -> Command {
    Command::RenewLease { node: node(n), incarnation: Incarnation(1), ttl: TTL }
}

/// A state with some nodes and a firmware, and the revision of its last change.
fn founded(nodes: usize) -> (State, Revision) {
    let record = |n| NodeRecord {
        id: node(n),
        disk: DiskId::random(),
        incarnation: Incarnation(1),
        cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
        api_addr: "127.0.0.1:7070".parse().expect("valid"),
        version: "0".into(),
        kinds: BTreeMap::new(),
        labels: BTreeMap::new(),
        zone: None,
        capacity: NodeRecord::CAPACITY,
    };
    let firmware = Command::PutFirmware(FirmwareSpec {
        name: "e".parse().expect("valid"),
        digest: Digest::of(b"e"),
        size: 1,
        limits: FirmwareLimits { memory_bytes: 1, message_time: MS },
        policy: FirmwarePolicy::default(),
        replicas: 1,
    });
    let mut state = State::default();
    let commands = (0..nodes).map(record).map(Command::PutNode).chain([firmware]);
    let mut last = Revision(0);
    for command in commands {
        last = Revision(last.0 + 1);
        let outcome = state.apply(last, &command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    (state, last)
}
