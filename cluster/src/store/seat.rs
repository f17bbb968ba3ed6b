//! This node's place in one group, whether or not its replica runs: what it has applied, who
//! leads, and the way to the leader.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odeum_proto::codec::{self, DecodeError};
use odeum_proto::log::{Forward, RaftReply, RaftRequest, StoreReply, StoreRequest};
use odeum_proto::store::Command;
use odeum_proto::{GroupId, NodeId, Revision};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::courier::Parcel;
use super::error::StoreError;
use super::group::{Group, encoded};
use super::raft::Replicated;
use super::rounds::Rounds;
use super::rpc::{Purpose, Rpc};
use super::sessions::Origins;
use super::status::{Health, StoreStatus};

/// Pause before the leader is looked for again, unless a new one is known earlier. Short against
/// an election, long against a round trip.
const RETRY: Duration = Duration::from_millis(50);

/// What outlives the replica of a group.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) group: GroupId,
    node: NodeId,
    /// The running replica.
    pub(super) running: watch::Sender<Option<Arc<Group>>>,
    pub(super) replicated: Arc<Replicated>,
    pub(super) status: watch::Sender<StoreStatus>,
    /// Questions of readers to the leader.
    pub(super) confirmed: Rounds,
    pub(super) leased: Rounds,
    /// What this node has asked of the group.
    pub(super) origins: Origins,
}

/// What the leader of a group is asked.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// To make a change, which is an encoded command.
    Change(Bytes),
    Other(Box<StoreRequest>),
}

impl From<StoreRequest> for Request {
    fn from(request: StoreRequest) -> Self {
        Self::Other(Box::new(request))
    }
}

/// A question to the leader of a group: who asks, by what way, and until when.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) rpc: &'a Arc<dyn Rpc>,
    /// Who else may know the leader, when this node's replica is no member.
    pub(super) others: &'a (dyn Fn() -> Vec<NodeId> + Sync),
    pub(super) deadline: Duration,
}

impl Seat {
    pub(super) fn new(group: GroupId, node: NodeId) -> Self {
        let status = watch::Sender::new(StoreStatus::stopped(group, node.clone()));
        let running = watch::Sender::new(None);
        Self {
            group,
            node,
            running,
            replicated: Replicated::new(),
            status,
            confirmed: Rounds::default(),
            leased: Rounds::default(),
            origins: Origins::default(),
        }
    }

    /// How the group is doing, as of now.
    pub(super) fn look(&self) -> StoreStatus {
        let running = self.running.borrow().clone();
        match running {
            Some(group) => group.status(self.applied()),
            None => StoreStatus::stopped(self.group, self.node.clone()),
        }
    }

    /// How long nothing was heard of a leader; `None` while no replica runs.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.running.borrow().as_ref().and_then(|group| group.silence())
    }

    /// A time at which this node had the entry `at`, if that can be told.
    pub(super) fn received_by(&self, at: Revision) -> Option<Instant> {
        let group = self.running.borrow().clone()?;
        group.received_by(at)
    }

    fn applied(&self) -> Option<Revision> {
        let revision = *self.replicated.changes().borrow();
        Some(revision).filter(|revision| *revision > Revision::default())
    }

    pub(super) async fn answer_raft(&self, body: Bytes) -> Bytes {
        let stopped = |reason: String| encoded(&RaftReply::Stopped { reason: reason.into() });
        let running = self.running.borrow().clone();
        match (running, codec::decode::<RaftRequest>(&body)) {
            (_, Err(error)) => stopped(error.to_string()),
            (None, _) => stopped("the replica is starting".into()),
            (Some(group), Ok(request)) => group.serve_raft(request).await,
        }
    }

    pub(super) async fn answer_forward(&self, body: Bytes) -> Bytes {
        let stopped = |reason: String| encoded(&StoreReply::Stopped { reason: reason.into() });
        let running = self.running.borrow().clone();
        match (running, codec::decode::<Forward>(&body)) {
            (_, Err(error)) => stopped(error.to_string()),
            (None, _) => stopped("the replica is starting".into()),
            (Some(group), Ok(forward)) => match checked(&forward.request) {
                Ok(()) => encoded(&group.lead(forward).await),
                Err(error) => stopped(error.to_string()),
            },
        }
    }

    /// Waits until this replica has applied `revision`.
    pub(super) async fn applied_at_least(
        &self,
        revision: Revision,
        end: Instant,
        deadline: Duration,
    ) -> Result<Revision, StoreError> {
        let mut changes = self.replicated.changes();
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

    /// Asks the leader until it answers for good.
    pub(super) async fn ask_leader(
        &self,
        request: Request,
        asking: Asking<'_>,
    ) -> Result<StoreReply, StoreError> {
        let end = Instant::now() + asking.deadline;
        let mut hint = None;
        let mut strangers = 0_usize;
        let mut seen: Box<str> = "no leader is known".into();
        loop {
            let group = self.running_until(end, asking.deadline).await?;
            let known = group.leader();
            let hinted = hint.is_some();
            let leader = hint.take().or_else(|| known.clone()).or_else(|| {
                // A node that is not in the group yet knows nothing of it; its members do.
                strangers += 1;
                (!group.is_member()).then(|| nth(&(asking.others)(), strangers)).flatten()
            });
            if let Some(leader) = leader {
                match self.ask(&group, &leader, request.clone(), end, asking.rpc).await {
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
            } else if !group.is_member() {
                return Err(StoreError::NotMember { node: self.node.clone() });
            }
            if Instant::now() + RETRY >= end {
                return Err(self.gave_up(asking.deadline, seen));
            }
            if hint.is_none() {
                let changed = group.leader_changed(known.as_ref());
                // Either way the loop looks again.
                let _ = tokio::time::timeout(RETRY, changed).await;
            }
        }
    }

    /// Asks one node that may lead. A change goes with others.
    async fn ask(
        &self,
        group: &Group,
        leader: &NodeId,
        request: Request,
        end: Instant,
        rpc: &Arc<dyn Rpc>,
    ) -> StoreReply {
        let command = match request {
            Request::Change(command) => command,
            Request::Other(request) => {
                let forward = Forward { remaining: end - Instant::now(), request: *request };
                return self.forward(leader, forward, rpc).await;
            }
        };
        let (answer, told) = oneshot::channel();
        let leader = leader.clone();
        let answered = async {
            group.give(Parcel { leader, command, until: end, answer }).await;
            told.await.unwrap_or_else(|_| unknown("the replica ended".into()))
        };
        let late = |_| unknown("it did not answer in time".into());
        tokio::time::timeout_at(end, answered).await.unwrap_or_else(late)
    }

    /// Asks one node that may lead. Gives up on it when this replica learns that the leader is
    /// another than it knows now: a dead leader does not answer.
    pub(super) async fn forward(
        &self,
        leader: &NodeId,
        forward: Forward,
        rpc: &Arc<dyn Rpc>,
    ) -> StoreReply {
        let Some(group) = self.running.borrow().clone() else {
            return unknown("the replica ended".into());
        };
        if *leader == self.node {
            // Apart, or every caller's future would be as large as all that leading can take.
            return Box::pin(group.lead(forward)).await;
        }
        let known = group.leader();
        let deadline = forward.remaining;
        let asked = rpc.ask(leader, self.group, Purpose::Forward, encoded(&forward), deadline);
        let answer = tokio::select! {
            biased;
            answer = asked => answer,
            () = group.leader_changed(known.as_ref()) => return unknown("it leads no more".into()),
        };
        match answer {
            Ok(body) => codec::decode(&body).unwrap_or_else(|error| unknown(error.to_string())),
            Err(error) => unknown(error.to_string()),
        }
    }

    pub(super) fn gave_up(&self, after: Duration, reason: Box<str>) -> StoreError {
        let group = self.group;
        match self.look().health {
            Health::NoQuorum | Health::Electing => StoreError::NoQuorum { group, after, reason },
            _ => StoreError::Deadline { after, reason },
        }
    }

    pub(super) async fn running_until(
        &self,
        end: Instant,
        deadline: Duration,
    ) -> Result<Arc<Group>, StoreError> {
        let mut running = self.running.subscribe();
        let started = running.wait_for(Option::is_some);
        let group = match tokio::time::timeout_at(end, started).await {
            Ok(Ok(group)) => group.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        group.ok_or_else(|| StoreError::stopped(format!("it did not start within {deadline:?}")))
    }
}

/// What is no command must never get into a log.
fn checked(request: &StoreRequest) -> Result<(), DecodeError> {
    match request {
        StoreRequest::Propose(commands) => {
            commands.iter().try_for_each(|command| codec::decode::<Command>(command).map(drop))
        }
        _ => Ok(()),
    }
}

fn unknown(reason: String) -> StoreReply {
    StoreReply::Unknown { reason: reason.into() }
}

fn nth(nodes: &[NodeId], n: usize) -> Option<NodeId> {
    nodes.get(n.checked_rem(nodes.len())?).cloned()
}
