//! How firmware fares, replica by replica: what the store says and what their nodes do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{FutureExt as _, future::join_all};
use odeum_cluster::store::State;
use odeum_proto::{
    Name, NodeId, ReplicaId,
    report::{FirmwareReport, HostState},
    store::{FirmwareSpec, Placement},
};

use super::NodeFacade;
use crate::api::{
    Problem,
    types::{FirmwareState, FirmwareSummary, ReplicaSummary},
};

/// A firmware as the store has it.
struct Deployed {
    spec: Arc<FirmwareSpec>,
    /// What each replica runs, and where.
    replicas: Vec<(ReplicaId, Arc<FirmwareSpec>, Option<Placement>)>,
    /// How many of them run what is deployed.
    updated: u32,
}

impl NodeFacade {
    pub(super) async fn firmware(&self) -> Result<Vec<FirmwareSummary>, Problem> {
        let deployed: Vec<Deployed> = self
            .store
            .view(|state| state.firmware().values().map(|spec| deployed(state, spec)).collect());
        let places = deployed.iter().flat_map(|one| &one.replicas);
        let owners: BTreeSet<NodeId> =
            places.filter_map(|(.., at)| Some(at.as_ref()?.node.clone())).collect();
        let asked = owners.iter().map(|node| self.reports.of(node).map(move |r| (node, r)));
        let by_name = |reports: Vec<FirmwareReport>| -> BTreeMap<ReplicaId, FirmwareReport> {
            reports.into_iter().map(|report| (report.name.clone(), report)).collect()
        };
        let reports: BTreeMap<&NodeId, _> = join_all(asked)
            .await
            .into_iter()
            .map(|(node, reports)| (node, by_name(reports.unwrap_or_default())))
            .collect();
        let report = |replica: &ReplicaId, at: &Placement| {
            reports.get(&at.node)?.get(replica).filter(|report| report.epoch == at.epoch)
        };
        let summary = |one: Deployed| {
            let instance =
                |(replica, spec, at): &(ReplicaId, Arc<FirmwareSpec>, Option<Placement>)| {
                    let report = at.as_ref().and_then(|at| report(replica, at));
                    replica_summary(replica, spec, at.as_ref(), report)
                };
            let instances = one.replicas.iter().map(instance).collect();
            firmware_summary(&one.spec, instances, one.updated)
        };
        Ok(deployed.into_iter().map(summary).collect())
    }
}

impl NodeFacade {
    /// The replicas of a firmware that take messages.
    pub(super) async fn at_work(&self, name: &Name) -> Result<Vec<u32>, Problem> {
        let all = self.firmware().await?;
        let it = all.into_iter().find(|one| one.name == *name);
        let at_work = |one: &ReplicaSummary| {
            matches!(one.state, FirmwareState::Running | FirmwareState::Idle).then_some(one.replica)
        };
        Ok(it.map(|it| it.instances.iter().filter_map(at_work).collect()).unwrap_or_default())
    }
}

fn deployed(state: &State, spec: &Arc<FirmwareSpec>) -> Deployed {
    let place = |(replica, runs): (ReplicaId, &Arc<FirmwareSpec>)| {
        let at = state.placements().get(&replica.entity()).cloned();
        (replica, Arc::clone(runs), at)
    };
    let behind = state.update(&spec.name).map_or(0, |update| update.behind().len());
    let updated = spec.replicas.saturating_sub(u32::try_from(behind).unwrap_or(u32::MAX));
    let replicas = state.replicas_of(&spec.name).map(place).collect();
    Deployed { spec: Arc::clone(spec), replicas, updated }
}

fn replica_summary(
    replica: &ReplicaId,
    spec: &FirmwareSpec,
    placement: Option<&Placement>,
    report: Option<&FirmwareReport>,
) -> ReplicaSummary {
    let state = match (placement, report.map(|report| report.state)) {
        (None, _) => FirmwareState::Waiting,
        (Some(_), None) => FirmwareState::Unknown,
        (_, Some(HostState::Starting)) => FirmwareState::Starting,
        (_, Some(HostState::Running | HostState::RunningApart { .. })) => FirmwareState::Running,
        (_, Some(HostState::Restarting)) => FirmwareState::Restarting,
        (_, Some(HostState::Failed)) => FirmwareState::Failed,
        (_, Some(HostState::Completed { .. })) => FirmwareState::Completed,
        (_, Some(HostState::Idle)) => FirmwareState::Idle,
    };
    ReplicaSummary {
        replica: replica.number(),
        digest: spec.digest,
        node: placement.map(|at| at.node.clone()),
        epoch: placement.map(|at| at.epoch),
        state,
        restarts: report.map(|report| report.restarts),
        memory_bytes: report.and_then(|report| report.memory_bytes),
        cpu_percent: report.map(|report| report.cpu_percent),
        pid: report.and_then(|report| match report.state {
            HostState::RunningApart { pid } => Some(pid),
            _ => None,
        }),
        exit_code: report.and_then(|report| match report.state {
            HostState::Completed { code } => Some(code),
            _ => None,
        }),
        last_error: report.and_then(|report| report.last_error.clone()),
    }
}

/// All replicas in one: what there is to worry about, if there is anything.
fn firmware_summary(
    spec: &FirmwareSpec,
    instances: Vec<ReplicaSummary>,
    updated: u32,
) -> FirmwareSummary {
    let ready = instances.iter().filter(|one| one.state.is_ready()).count();
    let worst = instances.iter().max_by_key(|one| (one.state.worry(), u32::MAX - one.replica));
    let single = instances.first().filter(|_| instances.len() == 1);
    let sum = |of: fn(&ReplicaSummary) -> Option<u64>| {
        instances.iter().filter_map(of).reduce(u64::saturating_add)
    };
    let narrow = |number: Option<u64>| number.map(|it| u32::try_from(it).unwrap_or(u32::MAX));
    FirmwareSummary {
        name: spec.name.clone(),
        digest: spec.digest,
        size: spec.size,
        node: single.and_then(|one| one.node.clone()),
        epoch: instances.iter().filter_map(|one| one.epoch).max(),
        state: worst.map_or(FirmwareState::Waiting, |one| one.state),
        restarts: narrow(sum(|one| one.restarts.map(u64::from))),
        memory_bytes: sum(|one| one.memory_bytes),
        cpu_percent: narrow(sum(|one| one.cpu_percent.map(u64::from))),
        pid: single.and_then(|one| one.pid),
        exit_code: worst.and_then(|one| one.exit_code),
        last_error: worst.and_then(|one| one.last_error.clone()),
        replicas: spec.replicas,
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
        updated,
        instances,
    }
}
