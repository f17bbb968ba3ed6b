//! The nodes of the cluster, as this one sees them, and their departure.

use std::time::Duration;

use odeum_cluster::{
    departure::LeaveError,
    lease::Seen,
    membership::{Member, MemberState},
    store::{Health, StoreStatus},
};
use odeum_proto::{NodeId, load::NodeLoad, store::NodeRecord};
use tokio::time::Instant;

use super::{
    super::{micros, millis},
    NodeFacade, store_problem,
};
use crate::api::{
    Problem,
    types::{LeaseSummary, LinkSummary, LoadSummary, NodeState, NodeSummary, StoreRole},
};

/// How long a node that starts waits for a first sign of another before it calls it down: what
/// two nodes need to find each other on a busy machine.
const UNSEEN: Duration = Duration::from_secs(5);

/// How long a node that is not to leave after all may take to be told.
const STAY_DEADLINE: Duration = Duration::from_secs(10);

impl NodeFacade {
    pub(super) fn node_summary(&self, record: &NodeRecord, status: &StoreStatus) -> NodeSummary {
        let is_self = record.id == self.record.id;
        let live = self.membership.now();
        let member = live.members.get(&record.id);
        let in_group = status.members.iter().find(|member| member.node == record.id);
        let led = status.health == Health::Good;
        let role = in_group.map(|member| match member.voter {
            // A leader without a majority leads nobody.
            _ if led && status.leader.as_ref() == Some(&record.id) => StoreRole::Leader,
            true => StoreRole::Voter,
            false => StoreRole::Learner,
        });
        let link = self.transport.link(&record.id);
        let link = LinkSummary {
            up: link.is_some(),
            rtt_us: link.map(|link| micros(link.rtt)),
            control: self.control_plane.peers().contains(&record.id),
        };
        NodeSummary {
            id: record.id.clone(),
            state: if is_self { NodeState::Alive } else { state(member, self.started.elapsed()) },
            since_ms: member.map(|member| millis(member.since.elapsed())),
            incarnation: record.incarnation,
            lease: self.lease.all().get(&record.id).map(|seen| lease(*seen)),
            cluster_addr: record.cluster_addr,
            api_addr: record.api_addr,
            role,
            link: (!is_self).then_some(link),
            version: record.version.clone(),
            leaving: self.store.view(|state| state.leaving().contains(&record.id)),
            draining: self.store.view(|state| state.draining().contains(&record.id)),
            zone: record.zone.clone(),
            labels: record.labels.clone(),
            capacity: record.capacity,
            load: self.membership.loads().borrow().get(&record.id).map(load),
        }
    }

    /// Lets a node leave for good, or not after all.
    pub(super) async fn let_leave(
        &self,
        node: &NodeId,
        patience: Option<Duration>,
    ) -> Result<(), Problem> {
        let done = match patience {
            Some(patience) => self.departure.leave(node, patience).await,
            None => self.departure.stay(node, STAY_DEADLINE).await,
        };
        done.map_err(left_problem)
    }

    /// Has a node be emptied within `patience`, or used again.
    pub(super) async fn let_drain(
        &self,
        node: &NodeId,
        patience: Option<Duration>,
    ) -> Result<(), Problem> {
        let done = match patience {
            Some(patience) => self.departure.drain(node, patience).await,
            None => self.departure.use_again(node, STAY_DEADLINE).await,
        };
        done.map_err(left_problem)
    }
}

/// No node of the cluster has that name.
pub(super) fn no_node(node: &NodeId) -> Problem {
    let what = format!("node {node}; `odeum get nodes` shows all of them");
    Problem::NotFound { what: what.into() }
}

fn left_problem(error: LeaveError) -> Problem {
    let reason = error.to_string().into();
    match error {
        LeaveError::Unknown { node } => no_node(&node),
        LeaveError::Refused(refusal) => refusal.into(),
        LeaveError::StillHolds { .. } | LeaveError::NotEmpty { .. } => {
            Problem::Unavailable { reason }
        }
        LeaveError::Store(error) => store_problem(&error),
    }
}

fn lease(seen: Seen) -> LeaseSummary {
    let remaining = seen.due.saturating_duration_since(Instant::now());
    LeaseSummary { epoch: seen.epoch, remaining_ms: millis(remaining) }
}

fn load(load: &NodeLoad) -> LoadSummary {
    LoadSummary {
        entities: load.entities,
        process_cpu: f64::from(load.process_cpu) / 1_000.0,
        machine_cpu: f64::from(load.machine_cpu) / 1_000.0,
        memory_bytes: load.memory_bytes,
        machine_memory_bytes: load.machine_memory_bytes,
    }
}

/// How a node of the roster fares; one that was not seen for long since this node's start is as
/// good as down, whatever it is up to.
fn state(member: Option<&Member>, looked_for: Duration) -> NodeState {
    match member.map(|member| member.state) {
        Some(MemberState::Alive) => NodeState::Alive,
        Some(MemberState::Suspect) => NodeState::Suspect,
        Some(MemberState::Down) => NodeState::Down,
        None if looked_for > UNSEEN => NodeState::Down,
        None => NodeState::Joining,
    }
}
