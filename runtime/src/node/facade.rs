//! The node as its API sees it: gathers what the parts know into the API's words.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use odeum_actors::Supervisor;
use odeum_cluster::{
    blobs::{BlobError, Blobs},
    control_plane::ControlPlaneHandle,
    departure::DepartureHandle,
    lease::LeaseHandle,
    membership::MembershipHandle,
    migration::MigrationHandle,
    node::ClusterNode,
    router::{RouterHandle, choice::Choice},
    store::{Consistency, Health, State, StoreError, StoreHandle},
    transport::TransportHandle,
};
use odeum_proto::{
    Digest, EntityId, Epoch, Name, NodeId, Recipient, ReplicaId, RequestId, Revision, SessionId,
    call::{CallError, CallReply, CallRequest},
    session::{DataAction, DataOutcome},
    store::{Command, FirmwareSpec, NodeRecord, Outcome, Placement, Refusal},
};

mod apply;
mod backup;
mod chronicle;
mod describe;
mod fleet;
mod kept;
mod moves;
mod nodes;
mod placement;
mod restart;
mod scale;
mod sessions;
mod store;

use super::{
    anew::Life,
    blobs,
    facts::{self, Places},
    links, millis, policy,
    rollout::Reports,
};
use crate::{
    api::{
        ApiNode, BackupFeed, Deployment, Feed, Listing, LogFeed, Problem, Received, Sight, Subject,
        types::{
            After, Applied, ApplyBody, BlobPage, CompactReport, Deployed, Explanation,
            FirmwareDescription, FirmwareEvent, FirmwareSummary, LinksReport, LogOptions,
            MoveBegun, MoveBody, MoveSummary, NodeRestart, NodeStatus, NodeSummary,
            PlacementReport, Renewed, Restored, RolledBack, Scaled, SessionPage, SettingsError,
            StoreReport, StoreSummary,
        },
    },
    config::{FirmwareConfig, NodeConfig},
    doctor::Facts,
    firmware::{CacheError, Checked, FirmwareHandle, JOB_SESSION},
};

/// How long a change may wait for a majority: an election and some more.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a read may wait for the leader's word.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// The node's supervision tree, known once it runs.
#[derive(Clone, Default)]
pub(super) struct Tree(Arc<OnceLock<Supervisor>>);

impl Tree {
    pub(super) fn set(&self, root: Supervisor) {
        self.0.get_or_init(|| root);
    }
}

/// What the API's answers are made of.
pub(super) struct NodeFacade {
    started: Instant,
    record: NodeRecord,
    store: StoreHandle,
    transport: TransportHandle,
    membership: MembershipHandle,
    control_plane: ControlPlaneHandle,
    router: RouterHandle,
    departure: DepartureHandle,
    migration: MigrationHandle,
    lease: LeaseHandle,
    blobs: Blobs,
    firmware: FirmwareHandle,
    /// What runs on which node.
    reports: Reports,
    /// What is said of firmware whose manifests say nothing.
    defaults: FirmwareConfig,
    places: Places,
    life: Life,
    tree: Tree,
}

impl NodeFacade {
    pub(super) fn new(
        cluster: &ClusterNode,
        (firmware, reports): (FirmwareHandle, Reports),
        config: &NodeConfig,
        places: Places,
        life: &Life,
        tree: Tree,
    ) -> Self {
        Self {
            started: Instant::now(),
            record: cluster.record.clone(),
            store: cluster.store.clone(),
            transport: cluster.transport.clone(),
            membership: cluster.membership.clone(),
            control_plane: cluster.control_plane.clone(),
            router: cluster.router.clone(),
            departure: cluster.departure.clone(),
            migration: cluster.migration.clone(),
            lease: cluster.lease.clone(),
            blobs: cluster.blobs.clone(),
            firmware,
            reports,
            defaults: config.firmware.clone(),
            places,
            life: life.clone(),
            tree,
        }
    }

    async fn write(&self, command: Command) -> Result<(), Problem> {
        match self.store.write(command, WRITE_DEADLINE).await {
            Ok(Outcome::Refused(refusal)) => Err(refusal.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(store_problem(&error)),
        }
    }

    async fn fresh(&self) -> Result<(), Problem> {
        self.store.barrier(READ_DEADLINE).await.map_err(|error| store_problem(&error))?;
        Ok(())
    }

    async fn deploy(&self, deployment: Deployment) -> Result<Deployed, Problem> {
        let bad = |error: SettingsError| Problem::BadRequest { reason: error.to_string().into() };
        deployment.settings.check(&deployment.name).map_err(bad)?;
        let checked = self.firmware.cache.check(deployment.name.clone(), deployment.package).await;
        let checked = checked.map_err(package_problem)?;
        if let Some(key) = checked.beyond(&deployment.settings.over(&checked.manifest)) {
            return Err(bad(SettingsError::Beyond { key, abi: checked.abi }));
        }
        let Checked { digest, file, manifest, .. } = checked;
        let size = file.len() as u64;
        let has_it = |state: &State| {
            state.firmware().get(&deployment.name).is_some_and(|spec| spec.digest == digest)
        };
        // The deployment itself makes the firmware its owner, and takes the former package from it:
        // in one step, so that nothing is left over whoever dies in between.
        if !self.store.view(has_it) {
            self.blobs.put_unowned(file).await.map_err(|error| blob_problem(&error))?;
        }
        self.fresh().await?;
        let spec = policy::spec(
            policy::Said {
                name: &deployment.name,
                digest,
                size,
                replicas: self.replicas(&deployment.name),
                settings: &deployment.settings,
            },
            &manifest,
            &self.defaults,
        );
        let first = ReplicaId::first(deployment.name.clone());
        let entity = first.entity();
        let before: Vec<(ReplicaId, Option<Placement>)> = self.store.view(|state| {
            let at = |(replica, runs): (ReplicaId, &Arc<FirmwareSpec>)| {
                let is_same = runs.runs_like(&spec);
                let at = state.placements().get(&replica.entity()).filter(|_| is_same).cloned();
                (replica, at)
            };
            state.replicas_of(&spec.name).map(at).collect()
        });
        for (replica, _) in &before {
            self.forget_outcome(&replica.entity()).await?;
        }
        let (is_same, what) = self.store.view(|state| {
            let present = state.firmware().get(&spec.name).map(Arc::as_ref);
            (present == Some(&spec), apply::deed(present, &spec))
        });
        // Of several, those that do well are not disturbed for nothing.
        let well =
            if is_same && spec.replicas > 1 { self.at_work(&spec.name).await? } else { vec![] };
        self.write(Command::PutFirmware(spec)).await?;
        for (replica, at) in before.into_iter().filter(|_| is_same) {
            if let Some(placement) = at.filter(|_| !well.contains(&replica.number())) {
                self.renew(&replica.entity(), placement).await?;
            }
        }
        // Who asks this node next sees what was deployed.
        self.fresh().await?;
        let placement = self.store.view(|state| state.placements().get(&entity).cloned());
        let epoch = placement.as_ref().map(|at| at.epoch);
        // Of several replicas it is about all.
        let single = epoch.filter(|_| self.replicas(&deployment.name) == 1);
        self.happened(&first, single, what);
        let node = placement.map(|at| at.node);
        Ok(Deployed { name: deployment.name, digest, size, node, epoch })
    }

    /// Removes the outcome of a job, which runs again because it is deployed again.
    async fn forget_outcome(&self, entity: &EntityId) -> Result<(), Problem> {
        let Ok(session) = SessionId::owned_by(entity, JOB_SESSION) else { return Ok(()) };
        let group = self.store.group_of(&session).map_err(|error| store_problem(&error))?;
        if !self.store.view_data(group, |data| data.sessions().contains_key(&session)) {
            return Ok(());
        }
        let delete = DataAction::DeleteSession { session };
        match self.store.write_data(group, delete, WRITE_DEADLINE).await {
            Ok(_) => Ok(()),
            Err(error) => Err(store_problem(&error)),
        }
    }

    /// Starts an entity anew where it is: what is deployed again as it was changes nothing that
    /// its node could see, and may be deployed again because it was given up there.
    async fn renew(&self, entity: &EntityId, placement: Placement) -> Result<(), Problem> {
        let Placement { node, epoch } = placement;
        let anew = Command::Place { entity: entity.clone(), node, expected: Some(epoch) };
        match self.store.write(anew, WRITE_DEADLINE).await {
            // Placed by somebody else in the meantime, which is as new.
            Ok(Outcome::Refused(Refusal::StaleEpoch { .. })) => Ok(()),
            Ok(Outcome::Refused(refusal)) => Err(refusal.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(store_problem(&error)),
        }
    }
}

impl ApiNode for NodeFacade {
    fn ready(&self) -> Result<(), Problem> {
        let reason = match self.store.status().health {
            Health::Good if self.life.standing().caught_up => return Ok(()),
            Health::Good => "this node learns what was written while it was away",
            Health::Stopped => "the store does not run yet",
            Health::NotMember => "this node is in no cluster yet",
            Health::Electing => "the store elects a leader",
            Health::NoQuorum => "the store has no majority",
            Health::NoSpace => "the disk is full",
        };
        Err(Problem::Unavailable { reason: reason.into() })
    }

    fn status(&self) -> NodeStatus {
        let status = self.store.status();
        let of_kind = |voter: bool| {
            let members = status.members.iter().filter(move |member| member.voter == voter);
            members.map(|member| member.node.clone()).collect()
        };
        NodeStatus {
            node: self.record.id.clone(),
            cluster: self.transport.cluster(),
            incarnation: self.record.incarnation,
            version: self.record.version.clone(),
            pid: std::process::id(),
            uptime_ms: millis(self.started.elapsed()),
            api_addr: self.record.api_addr,
            cluster_addr: self.record.cluster_addr,
            store: StoreSummary {
                voters: of_kind(true),
                learners: of_kind(false),
                quorum: status.health == Health::Good,
                leader: status.leader.filter(|_| status.health == Health::Good),
                term: status.term,
                last_log: status.last_log.unwrap_or_default(),
                applied: status.applied.unwrap_or(Revision(0)),
                snapshot: status.snapshot,
            },
        }
    }

    fn nodes(&self) -> Vec<NodeSummary> {
        let status = self.store.status();
        let records: Vec<NodeRecord> =
            self.store.view(|state| state.nodes().values().cloned().collect());
        records.iter().map(|record| self.node_summary(record, &status)).collect()
    }

    fn facts(&self) -> BoxFuture<'_, Result<Facts, Problem>> {
        let records = self.store.view(|state| state.nodes().values().cloned().collect());
        let not_ready = self.ready().err().map(|problem| problem.to_string());
        facts::gather(&self.transport, &self.places, (&self.record, records), not_ready).boxed()
    }

    fn leave(&self, node: NodeId, patience: Duration) -> BoxFuture<'_, Result<(), Problem>> {
        async move { self.let_leave(&node, Some(patience)).await }.boxed()
    }

    fn stay(&self, node: NodeId) -> BoxFuture<'_, Result<(), Problem>> {
        async move { self.let_leave(&node, None).await }.boxed()
    }

    fn drain(&self, node: NodeId, patience: Duration) -> BoxFuture<'_, Result<(), Problem>> {
        async move { self.let_drain(&node, Some(patience)).await }.boxed()
    }

    fn restart_node(
        &self,
        node: NodeId,
        patience: Duration,
    ) -> BoxFuture<'_, Result<NodeRestart, Problem>> {
        async move { self.restarted(node, patience).await }.boxed()
    }

    fn use_again(&self, node: NodeId) -> BoxFuture<'_, Result<(), Problem>> {
        async move { self.let_drain(&node, None).await }.boxed()
    }

    fn begin_move(&self, body: MoveBody) -> BoxFuture<'_, Result<MoveBegun, Problem>> {
        self.migrate(body).boxed()
    }

    fn placement(&self) -> PlacementReport {
        self.placement_report()
    }

    fn explain(&self, entity: EntityId) -> BoxFuture<'_, Result<Explanation, Problem>> {
        async move { self.explained(entity).await }.boxed()
    }

    fn rebalance(
        &self,
        most: usize,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Vec<MoveBegun>, Problem>> {
        async move { self.evened_out(most, dry_run).await }.boxed()
    }

    fn moves(&self) -> BoxFuture<'_, Result<Vec<MoveSummary>, Problem>> {
        async move { Ok(self.all_moves().await) }.boxed()
    }

    fn links(&self) -> LinksReport {
        let others = self.store.view(|state| state.nodes().keys().cloned().collect());
        links::report(&self.transport, others)
    }

    fn firmware(&self) -> BoxFuture<'_, Result<Vec<FirmwareSummary>, Problem>> {
        self.firmware().boxed()
    }

    fn deploy(&self, deployment: Deployment) -> BoxFuture<'_, Result<Deployed, Problem>> {
        self.deploy(deployment).boxed()
    }

    fn apply(&self, name: Name, body: ApplyBody) -> BoxFuture<'_, Result<Applied, Problem>> {
        self.apply(name, body).boxed()
    }

    fn known(&self, name: &Name) -> Result<(), Problem> {
        self.check_deployed(name)
    }

    fn describe(&self, name: Name) -> BoxFuture<'_, Result<FirmwareDescription, Problem>> {
        async move { self.describe(&name).await }.boxed()
    }

    fn events(&self, of: Recipient) -> BoxFuture<'_, Result<Vec<FirmwareEvent>, Problem>> {
        async move { self.events(&of).await }.boxed()
    }

    fn scale(&self, name: Name, replicas: u32) -> BoxFuture<'_, Result<Scaled, Problem>> {
        self.scale(name, replicas).boxed()
    }

    fn logs(
        &self,
        name: Recipient,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<LogFeed, Problem>> {
        self.logs(name, options).boxed()
    }

    fn restart(&self, name: Recipient) -> BoxFuture<'_, Result<Renewed, Problem>> {
        self.restart(name).boxed()
    }

    fn roll_back(&self, name: Name) -> BoxFuture<'_, Result<RolledBack, Problem>> {
        self.roll_back(name).boxed()
    }

    fn remove(&self, name: Name) -> BoxFuture<'_, Result<(), Problem>> {
        async move {
            self.check_deployed(&name)?;
            let last: Vec<(EntityId, Epoch)> = self.store.view(|state| {
                let at = |(replica, _): (ReplicaId, _)| {
                    let entity = replica.entity();
                    let epoch = state.placements().get(&entity)?.epoch;
                    Some((entity, epoch))
                };
                state.replicas_of(&name).filter_map(at).collect()
            });
            self.write(Command::DeleteFirmware { name: name.clone() }).await?;
            for (entity, epoch) in last {
                let group = self.store.group_of_entity(&entity);
                // It only frees space: a later firmware of that name starts anew in any case.
                if let Ok(group) = group
                    && let forget = (DataAction::Forget { entity, epoch })
                    && let Err(error) = self.store.write_data(group, forget, WRITE_DEADLINE).await
                {
                    tracing::warn!(%name, %error, "requests to a deleted firmware not forgotten");
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn call(
        &self,
        call: CallRequest,
        choice: Choice,
    ) -> BoxFuture<'_, Result<CallReply, CallError>> {
        self.router.call_one(call, choice).boxed()
    }

    fn blobs(
        &self,
        limit: usize,
        after: Option<Digest>,
    ) -> BoxFuture<'_, Result<BlobPage, Problem>> {
        async move {
            self.fresh().await?;
            Ok(blobs::page(&self.blobs, &self.record.id, limit, after))
        }
        .boxed()
    }

    fn sessions(&self, listing: Listing) -> BoxFuture<'_, Result<SessionPage, Problem>> {
        self.list(listing).boxed()
    }

    fn session(
        &self,
        id: SessionId,
        consistency: Consistency,
    ) -> BoxFuture<'_, Result<Sight, Problem>> {
        async move { self.look_at(&id, consistency).await }.boxed()
    }

    fn change(
        &self,
        action: DataAction,
        request: Option<RequestId>,
    ) -> BoxFuture<'_, Result<DataOutcome, Problem>> {
        self.change(action, request).boxed()
    }

    fn watch(
        &self,
        subject: Subject,
        after: Option<After>,
    ) -> BoxFuture<'_, Result<Feed, Problem>> {
        self.watch(subject, after).boxed()
    }

    fn store(&self) -> StoreReport {
        self.store_report()
    }

    fn backup(&self) -> BoxFuture<'_, Result<BackupFeed, Problem>> {
        self.backup().boxed()
    }

    fn restore(
        &self,
        backup: Received,
        length: Option<u64>,
    ) -> BoxFuture<'_, Result<Restored, Problem>> {
        self.restore(backup, length).boxed()
    }

    fn compact(&self) -> BoxFuture<'_, Result<CompactReport, Problem>> {
        self.compact().boxed()
    }

    fn actors(&self) -> BoxFuture<'_, Result<odeum_actors::Tree, Problem>> {
        async move {
            match self.tree.0.get() {
                Some(root) => Ok(root.tree().await),
                None => Err(Problem::Unavailable { reason: "the node is starting".into() }),
            }
        }
        .boxed()
    }
}

fn store_problem(error: &StoreError) -> Problem {
    let reason = error.to_string().into();
    match error {
        StoreError::NoQuorum { .. } => Problem::NoQuorum { reason },
        StoreError::Deadline { .. }
        | StoreError::Stopped { .. }
        | StoreError::NotMember { .. }
        | StoreError::Unknown
        | StoreError::NoSpace { .. } => Problem::Unavailable { reason },
        StoreError::Refused(refusal) => refusal.clone().into(),
        StoreError::Files(_) | StoreError::Broken { .. } => Problem::Internal { reason },
    }
}

fn blob_problem(error: &BlobError) -> Problem {
    let reason = error.to_string().into();
    match error {
        BlobError::Store(error) => store_problem(error),
        BlobError::Refused(refusal) => refusal.clone().into(),
        error if error.is_retryable() => Problem::Unavailable { reason },
        _ => Problem::Internal { reason },
    }
}

fn package_problem(error: CacheError) -> Problem {
    let reason = error.to_string().into();
    match error {
        CacheError::Package(_) | CacheError::Container(_) => Problem::BadPackage { reason },
        CacheError::Refused(_) => Problem::Untrusted { reason },
        error if error.is_retryable() => Problem::Unavailable { reason },
        _ => Problem::Internal { reason },
    }
}
