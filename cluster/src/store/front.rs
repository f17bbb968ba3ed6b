//! The store's face: which group a thing belongs to, its leader, and what this replica has.
//!
//! A plain handle and no actor: a write goes from its caller's task to the leader's replica with
//! no queue between that would have to be bounded, watched and drained.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odeum_proto::log::{StoreReply, StoreRequest};
use odeum_proto::session::{DataAction, DataCommand, DataOutcome};
use odeum_proto::shard::{group_of, group_of_entity};
use odeum_proto::store::{Command, NodeRecord, Outcome, Refusal};
use odeum_proto::{ClusterId, EntityId, GroupId, NodeId, Revision, SessionId, codec};
use tokio::sync::watch;
use tokio::time::Instant;

use super::StoreConfig;
use super::data::Data;
use super::disk::Disk;
use super::error::StoreError;
use super::rounds::Consistency;
use super::rpc::Rpc;
use super::seat::{Request, Seat};
use super::shared::Shared;
use super::state::State;
use super::status::StoreStatus;

/// How long founding may take: an election of one and some writes, on a slow disk.
const FOUNDING: Duration = Duration::from_secs(30);

/// The replicated store as seen from this node. Cheap to clone, valid across restarts of the
/// replicas behind it.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    pub(super) shared: Arc<Shared>,
}

impl StoreHandle {
    pub(super) fn new(config: StoreConfig, disk: Arc<dyn Disk>, rpc: Arc<dyn Rpc>) -> Self {
        Self { shared: Shared::new(config, disk, rpc) }
    }

    /// Founds `cluster` with this node as its first member. Finds its own effect when it is
    /// repeated, also after a crash in the middle.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when this node belongs to another cluster or its record is
    /// refused; others when a replica does not run.
    pub async fn found(&self, cluster: ClusterId, record: NodeRecord) -> Result<(), StoreError> {
        let end = Instant::now() + FOUNDING;
        let groups = self.shared.config.groups;
        self.shared.control.running_until(end, FOUNDING).await?.initialize().await?;
        for command in [Command::Found { cluster, groups }, Command::PutNode(record)] {
            let outcome = self.write(command, end - Instant::now()).await?;
            if let Outcome::Refused(refusal) = outcome {
                return Err(refusal.into());
            }
        }
        // As founded, which may have been with another number in an earlier try.
        for number in 0..self.groups()? {
            let seat = self.shared.seat(GroupId::Data(number));
            seat.running_until(end, FOUNDING).await?.initialize().await?;
        }
        Ok(())
    }

    /// Takes a node into the cluster: on record, then as a learner until it has caught up, then
    /// as a voter (unless there are five). Works on every member; joins go one by one. The groups
    /// of sessions follow. Finds its own effect when it is repeated.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the name belongs to another disk; others as for
    /// [`write`](Self::write).
    pub async fn admit(&self, record: NodeRecord, deadline: Duration) -> Result<(), StoreError> {
        let request = StoreRequest::Admit(record);
        match self.shared.ask(&self.shared.control, request, deadline).await? {
            StoreReply::Admitted => Ok(()),
            StoreReply::NotAdmitted(refusal) => Err(refusal.into()),
            other => Err(StoreError::broken(format!("{other:?} to an admission"))),
        }
    }

    /// Waits until this node, which was taken in, is a member of the groups of sessions as well:
    /// from then on the cluster can do without those that were there before. What is missing when
    /// the time is over comes later; whether nothing is.
    pub async fn settled(&self, deadline: Duration) -> bool {
        let settled = async {
            let mut changes = self.shared.control.replicated.changes();
            // An error means that the store ends.
            let _ = changes.wait_for(|_| self.shared.groups().is_some()).await;
            for number in 0..self.shared.groups().unwrap_or_default() {
                let seat = self.shared.seat(GroupId::Data(number));
                let mut running = seat.running.subscribe();
                let group = running.wait_for(Option::is_some).await.ok();
                if let Some(group) = group.and_then(|group| group.clone()) {
                    group.settled().await;
                }
            }
        };
        tokio::time::timeout(deadline, settled).await.is_ok()
    }

    /// Lets a node go at once, whatever it holds: out of the groups of sessions, then out of the
    /// other one and off the record. What is placed on it is placed elsewhere after that. Works on
    /// every member, the node itself included, which learns nothing of the log from then on. Finds
    /// its own effect when it is repeated.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with [`Refusal::LosesQuorum`] when the others would be no majority;
    /// others as for [`write`](Self::write).
    pub async fn remove_node(&self, node: &NodeId, deadline: Duration) -> Result<(), StoreError> {
        let end = Instant::now() + deadline;
        // Else the groups of sessions take it in again.
        let leaving = Command::SetLeaving { node: node.clone(), leaving: true };
        if !self.tell_leader(leaving, end).await? {
            return Ok(());
        }
        for number in 0..self.groups()? {
            let seat = self.shared.seat(GroupId::Data(number));
            let request = StoreRequest::Release { node: node.clone() };
            match self.shared.ask(&seat, request, end - Instant::now()).await? {
                StoreReply::Released => {}
                StoreReply::Written { outcome: Outcome::Refused(refusal), .. } => {
                    return Err(refusal.into());
                }
                other => return Err(StoreError::broken(format!("{other:?} to a release"))),
            }
        }
        self.tell_leader(Command::RemoveNode { node: node.clone() }, end).await.map(drop)
    }

    /// Has the leader write what concerns a node; `false` when it knows no such node. Not by
    /// [`write`](Self::write), which waits until this replica has applied it: the node itself may
    /// never.
    async fn tell_leader(&self, command: Command, end: Instant) -> Result<bool, StoreError> {
        let request = StoreRequest::Write(command);
        match self.shared.ask(&self.shared.control, request, end - Instant::now()).await? {
            StoreReply::Written {
                outcome: Outcome::Refused(Refusal::UnknownNode { .. }), ..
            } => Ok(false),
            StoreReply::Written { outcome: Outcome::Refused(refusal), .. } => Err(refusal.into()),
            StoreReply::Written { .. } => Ok(true),
            other => Err(StoreError::broken(format!("{other:?} to a change of a node"))),
        }
    }

    /// Writes `command`, which changes no session, and returns when a majority has it on disk and
    /// it is applied at the leader and here, so that [`view`](Self::view) shows what this node has
    /// written. Sent again over leader changes until `deadline`: commands are safe to send twice.
    /// A [`Outcome::Refused`] is an answer, no error.
    ///
    /// # Errors
    /// [`StoreError`]. The effect is unknown after each of them, because an earlier try may have
    /// reached a leader that could not answer. What was in doubt may also be carried out later
    /// than a write or a barrier that follows: who depends on it must fence it, as the epoch of a
    /// [`Place`](Command::Place) does.
    pub async fn write(&self, command: Command, deadline: Duration) -> Result<Outcome, StoreError> {
        let (end, control) = (Instant::now() + deadline, &self.shared.control);
        match self.shared.ask(control, StoreRequest::Write(command), deadline).await? {
            StoreReply::Written { outcome, at } => {
                // It is written whatever this replica does; one that cannot follow in time is
                // behind in every other respect too.
                let _ = control.applied_at_least(at, end, deadline).await;
                Ok(outcome)
            }
            other => Err(StoreError::broken(format!("{other:?} to a write"))),
        }
    }

    /// Writes a change to sessions of `group` that is safe to make twice, as
    /// [`write`](Self::write) does others.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn write_data(
        &self,
        group: GroupId,
        action: DataAction,
        deadline: Duration,
    ) -> Result<DataOutcome, StoreError> {
        let (end, seat) = (Instant::now() + deadline, self.shared.seat(group));
        let (outcome, at) = self.send_data(&seat, action.into(), deadline).await?;
        let _ = seat.applied_at_least(at, end, deadline).await;
        Ok(outcome)
    }

    /// What the leader of a group of sessions made of a command, and where in its history.
    pub(super) async fn send_data(
        &self,
        seat: &Seat,
        command: DataCommand,
        deadline: Duration,
    ) -> Result<(DataOutcome, Revision), StoreError> {
        let command = codec::encode(&Command::Data(command)).map_err(StoreError::broken)?;
        match self.shared.ask(seat, Request::Change(command.into()), deadline).await? {
            StoreReply::Written { outcome: Outcome::Data(outcome), at } => Ok((outcome, at)),
            other => Err(StoreError::broken(format!("{other:?} to a change of sessions"))),
        }
    }

    /// Waits until [`view`](Self::view) shows every write that was acknowledged before this call,
    /// wherever it was made: a look after it is linearizable.
    ///
    /// # Errors
    /// As for [`write`](Self::write); a barrier has no effect.
    pub async fn barrier(&self, deadline: Duration) -> Result<Revision, StoreError> {
        self.shared.barrier(&self.shared.control, Consistency::Linearizable, deadline).await
    }

    /// As [`barrier`](Self::barrier), for the sessions of `group` and as fresh as wished.
    ///
    /// # Errors
    /// As for [`write`](Self::write); a barrier has no effect.
    pub async fn barrier_of(
        &self,
        group: GroupId,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<Revision, StoreError> {
        let seat = self.shared.seat(group);
        self.shared.barrier(&seat, consistency, deadline).await
    }

    /// The group of a session.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] while this node does not know its cluster.
    pub fn group_of(&self, session: &SessionId) -> Result<GroupId, StoreError> {
        Ok(group_of(session, self.groups()?))
    }

    /// The group of the sessions of an entity.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] while this node does not know its cluster.
    pub fn group_of_entity(&self, entity: &EntityId) -> Result<GroupId, StoreError> {
        Ok(group_of_entity(entity, self.groups()?))
    }

    /// All groups that have sessions.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] while this node does not know its cluster.
    pub fn data_groups(&self) -> Result<Vec<GroupId>, StoreError> {
        Ok(match self.groups()? {
            0 => vec![GroupId::Control],
            groups => (0..groups).map(GroupId::Data).collect(),
        })
    }

    fn groups(&self) -> Result<u16, StoreError> {
        self.shared.groups().ok_or(StoreError::Unknown)
    }

    /// Shows this replica's state to `look`, which should be brief: writes wait. It may be behind
    /// the leader's; [`barrier`](Self::barrier) says when it is not.
    pub fn view<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.shared.control.replicated.view(look)
    }

    /// As [`view`](Self::view), of the sessions of `group`.
    pub fn view_data<R>(&self, group: GroupId, look: impl FnOnce(&Data) -> R) -> R {
        self.shared.seat(group).replicated.view_data(look)
    }

    /// As [`view_data`](Self::view_data), with the last revision that is in what is shown.
    pub fn view_at<R>(&self, group: GroupId, look: impl FnOnce(&Data, Revision) -> R) -> R {
        self.shared.seat(group).replicated.view_data_at(look)
    }

    /// The last revision that this replica has applied, as it moves on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.shared.control.replicated.changes()
    }

    /// The last revision of `group` that this replica has applied, as it moves on.
    #[must_use]
    pub fn changes_of(&self, group: GroupId) -> watch::Receiver<Revision> {
        self.shared.seat(group).replicated.changes()
    }

    /// How the group of everything but sessions is doing, as of now.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        self.shared.control.look()
    }

    /// How `group` is doing, as of now.
    #[must_use]
    pub fn status_of(&self, group: GroupId) -> StoreStatus {
        self.shared.seat(group).look()
    }

    /// How long ago this node had all that the leader of `group` said was committed: what it shows
    /// without a barrier may be behind by as much, and by little more while it hears of one.
    /// `None` while its replica does not run, and before it has caught up.
    #[must_use]
    pub fn silence_of(&self, group: GroupId) -> Option<Duration> {
        self.shared.seat(group).silence()
    }

    /// A time at which this node had the entry `at` of the group of everything but sessions on
    /// record: later than when it was asked for, and often earlier than when it was applied.
    /// `None` when that cannot be told.
    #[must_use]
    pub fn received_by(&self, at: Revision) -> Option<Instant> {
        self.shared.control.received_by(at)
    }

    /// How all groups are doing that this node has heard of, as of now.
    #[must_use]
    pub fn statuses(&self) -> Vec<StoreStatus> {
        self.shared.seats().iter().map(|seat| seat.look()).collect()
    }

    /// How the group of everything but sessions is doing, as it changes; observed a few times a
    /// second.
    #[must_use]
    pub fn status_watch(&self) -> watch::Receiver<StoreStatus> {
        self.shared.control.status.subscribe()
    }

    /// Gives up the leadership of all groups that this node leads: nobody waits for an election
    /// when it stops.
    pub async fn hand_over(&self) {
        let running =
            self.shared.seats().into_iter().filter_map(|seat| seat.running.borrow().clone());
        let led = running.filter(|group| group.leads());
        futures::future::join_all(led.map(async |group| group.hand_over(None).await)).await;
    }

    /// Answers a Raft message of a peer.
    pub async fn answer_raft(&self, group: GroupId, body: Bytes) -> Bytes {
        self.shared.seat(group).answer_raft(body).await
    }

    /// Answers a request that a peer forwarded because this node led when it looked.
    pub async fn answer_forward(&self, group: GroupId, body: Bytes) -> Bytes {
        self.shared.seat(group).answer_forward(body).await
    }
}
