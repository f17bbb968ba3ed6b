//! What lives as long as the process, while the actors of the store come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use std::time::Duration;

use odeum_proto::log::{StoreReply, StoreRequest};
use odeum_proto::{GroupId, Revision};
use tokio::sync::watch;
use tokio::time::Instant;

use super::StoreConfig;
use super::disk::Disk;
use super::error::StoreError;
use super::journal::Journal;
use super::rounds::Consistency;
use super::rpc::Rpc;
use super::seat::{Asking, Request, Seat};
use super::state::State;

/// The network, without its insides in debug output.
pub(super) struct Network(pub(super) Arc<dyn Rpc>);

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

/// What handles, replicas and observers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: StoreConfig,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) rpc: Network,
    /// The open log.
    pub(super) journal: watch::Sender<Option<Arc<Journal>>>,
    /// This node's seat in the group of everything that is no session.
    pub(super) control: Arc<Seat>,
    /// Its seats in the groups of sessions, as far as it knows of them.
    data: Mutex<BTreeMap<u16, Arc<Seat>>>,
}

impl Shared {
    pub(super) fn new(config: StoreConfig, disk: Arc<dyn Disk>, rpc: Arc<dyn Rpc>) -> Arc<Self> {
        let control = Arc::new(Seat::new(GroupId::Control, config.node.clone()));
        Arc::new(Self {
            config,
            disk,
            rpc: Network(rpc),
            journal: watch::Sender::new(None),
            control,
            data: Mutex::default(),
        })
    }

    /// The seat in `group`; a new one when it is heard of for the first time.
    pub(super) fn seat(&self, group: GroupId) -> Arc<Seat> {
        match group {
            GroupId::Control => Arc::clone(&self.control),
            GroupId::Data(number) => {
                let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
                let seat = data
                    .entry(number)
                    .or_insert_with(|| Arc::new(Seat::new(group, self.config.node.clone())));
                Arc::clone(seat)
            }
        }
    }

    /// The seats in all groups that this node has heard of, the one of everything else first.
    pub(super) fn seats(&self) -> Vec<Arc<Seat>> {
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&self.control).chain(data.values()).cloned().collect()
    }

    /// How many groups of sessions the cluster has; `None` before this node knows the cluster.
    pub(super) fn groups(&self) -> Option<u16> {
        self.control.replicated.view(|state| state.cluster().map(|_| state.groups()))
    }

    /// Asks the leader of a group.
    pub(super) async fn ask(
        &self,
        seat: &Seat,
        request: impl Into<Request>,
        deadline: Duration,
    ) -> Result<StoreReply, StoreError> {
        // Of the group that says who belongs to the cluster, only its members know anything.
        let is_data = seat.group != GroupId::Control;
        let local = &self.config.node;
        let others = || {
            let nodes =
                |state: &State| state.nodes().keys().filter(|n| *n != local).cloned().collect();
            if is_data { self.control.replicated.view(nodes) } else { Vec::new() }
        };
        let asking = Asking { rpc: &self.rpc.0, others: &others, deadline };
        seat.ask_leader(request.into(), asking).await
    }

    /// Waits until this replica has applied every write to the group that was acknowledged before
    /// this call. Calls that come while one asks the leader share the next question.
    pub(super) async fn barrier(
        &self,
        seat: &Seat,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<Revision, StoreError> {
        let end = Instant::now() + deadline;
        let (request, rounds) = match consistency {
            Consistency::Linearizable => (StoreRequest::Barrier, &seat.confirmed),
            Consistency::Lease => (StoreRequest::LeaseBarrier, &seat.leased),
            Consistency::Local => return Ok(*seat.replicated.changes().borrow()),
        };
        let asked = async || match self.ask(seat, request.clone(), deadline).await? {
            StoreReply::Barrier(revision) => Ok(revision),
            other => Err(StoreError::broken(format!("{other:?} to a barrier"))),
        };
        let round = tokio::time::timeout_at(end, rounds.join(asked)).await;
        let unanswered = || "the question before this one was not answered".into();
        let revision = round.map_err(|_| seat.gave_up(deadline, unanswered()))??;
        seat.applied_at_least(revision, end, deadline).await
    }

    /// The groups of sessions that are known here, from the cluster or from an earlier life.
    pub(super) fn known_groups(&self) -> Vec<GroupId> {
        let of_cluster = (0..self.groups().unwrap_or_default()).map(GroupId::Data);
        let found = self.journal.borrow().as_ref().map(|journal| journal.groups());
        let mut known: Vec<GroupId> = of_cluster.chain(found.unwrap_or_default()).collect();
        known.retain(|group| *group != GroupId::Control);
        known.sort();
        known.dedup();
        known
    }
}
