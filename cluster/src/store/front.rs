//! The store's face: finds the leader, retries over leader changes, waits for the local replica.
//!
//! A plain handle and no actor: a write goes from its caller's task to the leader's replica with
//! no queue between that would have to be bounded, watched and drained. What lives as long as the
//! process is in `Shared`; the replica behind it comes and goes with its actor.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odeum_proto::log::{Forward, RaftReply, RaftRequest, StoreReply, StoreRequest};
use odeum_proto::store::{Command, NodeRecord, Outcome, Refusal};
use odeum_proto::{ClusterId, GroupId, NodeId, Revision, codec};
use tokio::sync::watch;
use tokio::time::Instant;

use super::StoreConfig;
use super::error::StoreError;
use super::group::{Group, encoded};
use super::raft::Replicated;
use super::rpc::{Purpose, Rpc};
use super::state::State;
use super::status::{Health, StoreStatus};

/// Pause before the leader is looked for again, unless a new one is known earlier. Short against
/// an election, long against a round trip.
const RETRY: Duration = Duration::from_millis(50);

/// How long founding may take: an election of one and three writes, on a slow disk.
const FOUNDING: Duration = Duration::from_secs(30);

/// What the handles, the replica and the observer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: StoreConfig,
    pub(super) group: GroupId,
    pub(super) rpc: Network,
    /// The running replica.
    pub(super) running: watch::Sender<Option<Arc<Group>>>,
    pub(super) replicated: Arc<Replicated>,
    pub(super) status: watch::Sender<StoreStatus>,
}

/// The network, without its insides in debug output.
pub(super) struct Network(pub(super) Arc<dyn Rpc>);

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

/// The replicated store as seen from this node. Cheap to clone, valid across restarts of the
/// replica behind it.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    pub(super) shared: Arc<Shared>,
}

impl StoreHandle {
    pub(super) fn new(config: StoreConfig, group: GroupId, rpc: Arc<dyn Rpc>) -> Self {
        let status = StoreStatus::stopped(group, config.node.clone());
        Self {
            shared: Arc::new(Shared {
                config,
                group,
                rpc: Network(rpc),
                running: watch::Sender::new(None),
                replicated: Replicated::new(),
                status: watch::Sender::new(status),
            }),
        }
    }

    /// Founds `cluster` with this node as its first member. Finds its own effect when it is
    /// repeated, also after a crash in the middle.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when this node belongs to another cluster or its record is
    /// refused; others when the replica does not run.
    pub async fn found(&self, cluster: ClusterId, record: NodeRecord) -> Result<(), StoreError> {
        let end = Instant::now() + FOUNDING;
        self.running_until(end, FOUNDING).await?.initialize().await?;
        for command in [Command::Found { cluster }, Command::PutNode(record)] {
            let outcome = self.write(command, end - Instant::now()).await?;
            if let Outcome::Refused(refusal) = outcome {
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    /// Takes a node into the cluster: on record, then as a learner until it has caught up, then
    /// as a voter (unless there are five). Works on every member; joins go one by one. Finds its
    /// own effect when it is repeated.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the name belongs to another disk; others as for
    /// [`write`](Self::write).
    pub async fn admit(&self, record: NodeRecord, deadline: Duration) -> Result<(), StoreError> {
        match self.ask_leader(StoreRequest::Admit(record), deadline).await? {
            StoreReply::Admitted => Ok(()),
            StoreReply::NotAdmitted(refusal) => Err(refusal.into()),
            other => Err(StoreError::broken(format!("{other:?} to an admission"))),
        }
    }

    /// Lets a node go at once, whatever it holds: out of the Raft group, one step at a time, then
    /// off the record. What is placed on it is placed elsewhere after that. Works on every member,
    /// the node itself included, which learns nothing of the log from then on. Finds its own effect
    /// when it is repeated.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with [`Refusal::LosesQuorum`] when the others would be no majority;
    /// others as for [`write`](Self::write).
    pub async fn remove_node(&self, node: &NodeId, deadline: Duration) -> Result<(), StoreError> {
        // Not by `write`, which waits until this replica has applied it: the node itself never
        // will.
        let request = StoreRequest::Write(Command::RemoveNode { node: node.clone() });
        match self.ask_leader(request, deadline).await? {
            StoreReply::Written {
                outcome: Outcome::Refused(Refusal::UnknownNode { .. }), ..
            } => Ok(()),
            StoreReply::Written { outcome: Outcome::Refused(refusal), .. } => Err(refusal.into()),
            StoreReply::Written { .. } => Ok(()),
            other => Err(StoreError::broken(format!("{other:?} to a removal"))),
        }
    }

    /// Writes `command` and returns when a majority has it on disk and it is applied at the
    /// leader and here, so that [`view`](Self::view) shows what this node has written. Sent again
    /// over leader changes until `deadline`: commands are safe to send twice. A
    /// [`Outcome::Refused`] is an answer, no error.
    ///
    /// # Errors
    /// [`StoreError`]. The effect is unknown after each of them, because an earlier try may have
    /// reached a leader that could not answer. What was in doubt may also be carried out later
    /// than a write or a barrier that follows: who depends on it must fence it, as the epoch of a
    /// [`Commit`](odeum_proto::store::Commit) does.
    pub async fn write(&self, command: Command, deadline: Duration) -> Result<Outcome, StoreError> {
        let end = Instant::now() + deadline;
        match self.ask_leader(StoreRequest::Write(command), deadline).await? {
            StoreReply::Written { outcome, at } => {
                // It is written whatever this replica does; one that cannot follow in time is
                // behind in every other respect too.
                let _ = self.applied_at_least(at, end, deadline).await;
                Ok(outcome)
            }
            other => Err(StoreError::broken(format!("{other:?} to a write"))),
        }
    }

    /// Waits until [`view`](Self::view) shows every write that was acknowledged before this call,
    /// wherever it was made: a look after it is linearizable.
    ///
    /// # Errors
    /// As for [`write`](Self::write); a barrier has no effect.
    pub async fn barrier(&self, deadline: Duration) -> Result<Revision, StoreError> {
        let end = Instant::now() + deadline;
        let revision = match self.ask_leader(StoreRequest::Barrier, deadline).await? {
            StoreReply::Barrier(revision) => revision,
            other => return Err(StoreError::broken(format!("{other:?} to a barrier"))),
        };
        self.applied_at_least(revision, end, deadline).await
    }

    async fn applied_at_least(
        &self,
        revision: Revision,
        end: Instant,
        deadline: Duration,
    ) -> Result<Revision, StoreError> {
        let mut changes = self.changes();
        let applied = changes.wait_for(|applied| *applied >= revision);
        match tokio::time::timeout_at(end, applied).await {
            Ok(Ok(applied)) => Ok(*applied),
            Ok(Err(_)) => Err(StoreError::stopped("the store was dropped")),
            Err(_) => Err(StoreError::Deadline {
                after: deadline,
                reason: format!("this replica has not applied revision {revision} yet").into(),
            }),
        }
    }

    /// Shows this replica's state to `look`, which should be brief: writes wait. It may be behind
    /// the leader's; [`barrier`](Self::barrier) says when it is not.
    pub fn view<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.shared.replicated.view(look)
    }

    /// The last revision that this replica has applied, as it moves on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.shared.replicated.changes()
    }

    /// How the group is doing, as of now.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let running = self.shared.running.borrow().clone();
        match running {
            Some(group) => group.status(self.applied()),
            None => StoreStatus::stopped(self.shared.group, self.shared.config.node.clone()),
        }
    }

    /// How the group is doing, as it changes; observed a few times a second.
    #[must_use]
    pub fn status_watch(&self) -> watch::Receiver<StoreStatus> {
        self.shared.status.subscribe()
    }

    /// Answers a Raft message of a peer.
    pub async fn answer_raft(&self, body: Bytes) -> Bytes {
        let stopped = |reason: String| encoded(&RaftReply::Stopped { reason: reason.into() });
        let running = self.shared.running.borrow().clone();
        match (running, codec::decode::<RaftRequest>(&body)) {
            (_, Err(error)) => stopped(error.to_string()),
            (None, _) => stopped("the replica is starting".into()),
            (Some(group), Ok(request)) => group.serve_raft(request).await,
        }
    }

    /// Answers a request that a peer forwarded because this node led when it looked.
    pub async fn answer_forward(&self, body: Bytes) -> Bytes {
        let stopped = |reason: String| encoded(&StoreReply::Stopped { reason: reason.into() });
        let running = self.shared.running.borrow().clone();
        match (running, codec::decode::<Forward>(&body)) {
            (_, Err(error)) => stopped(error.to_string()),
            (None, _) => stopped("the replica is starting".into()),
            (Some(group), Ok(forward)) => encoded(&group.lead(forward).await),
        }
    }

    fn applied(&self) -> Option<Revision> {
        let revision = *self.shared.replicated.changes().borrow();
        Some(revision).filter(|revision| *revision > Revision::default())
    }

    /// Asks the leader until it answers for good.
    async fn ask_leader(
        &self,
        request: StoreRequest,
        deadline: Duration,
    ) -> Result<StoreReply, StoreError> {
        let end = Instant::now() + deadline;
        let mut hint = None;
        let mut seen: Box<str> = "no leader is known".into();
        loop {
            let group = self.running_until(end, deadline).await?;
            if !group.is_member() {
                return Err(StoreError::NotMember { node: self.shared.config.node.clone() });
            }
            let known = group.leader();
            let hinted = hint.is_some();
            let leader = hint.take().or_else(|| known.clone());
            if let Some(leader) = leader {
                let forward = Forward { remaining: end - Instant::now(), request: request.clone() };
                match self.ask(&group, &leader, known.as_ref(), forward).await {
                    StoreReply::NotLeader { leader: other } => {
                        // One hint is followed at once; nodes that name each other are asked
                        // at the usual pace.
                        hint = other.filter(|other| *other != leader && !hinted);
                        seen = format!("{leader} does not lead").into();
                    }
                    StoreReply::Unknown { reason } | StoreReply::Stopped { reason } => {
                        seen = format!("{leader}: {reason}").into();
                    }
                    StoreReply::NoSpace => return Err(StoreError::NoSpace { node: leader }),
                    done => return Ok(done),
                }
            }
            if Instant::now() + RETRY >= end {
                return Err(self.gave_up(deadline, seen));
            }
            if hint.is_none() {
                let changed = group.leader_changed(known.as_ref());
                // Either way the loop looks again.
                let _ = tokio::time::timeout(RETRY, changed).await;
            }
        }
    }

    /// Asks one node that may lead. Gives up on it when this replica learns of another leader
    /// than `known`: a dead leader does not answer.
    async fn ask(
        &self,
        group: &Group,
        leader: &NodeId,
        known: Option<&NodeId>,
        forward: Forward,
    ) -> StoreReply {
        let unknown = |reason: String| StoreReply::Unknown { reason: reason.into() };
        if *leader == self.shared.config.node {
            return group.lead(forward).await;
        }
        let deadline = forward.remaining;
        let asked = self.shared.rpc.0.ask(
            leader,
            group.id(),
            Purpose::Forward,
            encoded(&forward),
            deadline,
        );
        let answer = tokio::select! {
            biased;
            answer = asked => answer,
            () = group.leader_changed(known) => return unknown("it leads no more".into()),
        };
        match answer {
            Ok(body) => codec::decode(&body).unwrap_or_else(|error| unknown(error.to_string())),
            Err(error) => unknown(error.to_string()),
        }
    }

    fn gave_up(&self, after: Duration, reason: Box<str>) -> StoreError {
        match self.status().health {
            Health::NoQuorum | Health::Electing => StoreError::NoQuorum { after, reason },
            _ => StoreError::Deadline { after, reason },
        }
    }

    async fn running_until(
        &self,
        end: Instant,
        deadline: Duration,
    ) -> Result<Arc<Group>, StoreError> {
        let mut running = self.shared.running.subscribe();
        let started = running.wait_for(Option::is_some);
        let group = match tokio::time::timeout_at(end, started).await {
            Ok(Ok(group)) => group.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        group.ok_or_else(|| StoreError::stopped(format!("it did not start within {deadline:?}")))
    }
}
