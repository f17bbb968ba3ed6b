//! One running member of a Raft group, and what it can do when it leads.
//!
//! Nothing here retries or knows the way to another node: `front.rs` does.

pub(super) mod members;
mod term;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use odeum_proto::codec::{self, EncodeError};
use odeum_proto::log::{Forward, Proposal, RaftReply, RaftRequest, StoreReply, StoreRequest};
use odeum_proto::store::{Command, Outcome};
use odeum_proto::{GroupId, LogTime, NodeId, Revision, limits};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{Instant as _, ReadPolicy};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::StoreConfig;
use super::courier::Parcel;
use super::data::Data;
use super::disk::{self, Disk};
use super::error::StoreError;
use super::journal::Journal;
use super::raft::{self, Log, Machine, Metrics, Network, Raft, Replicated, SnapshotFile, Types};
use super::rpc::Rpc;
use super::status::{Member, Signs, StoreStatus, health};
use super::wal::{self, Wal, WalError};

use self::term::TermClock;

/// How long the replica's core may take to say what its log says about the group.
const MEMBERSHIP: Duration = Duration::from_secs(10);

/// Bytes of outcomes in an answer, by what they weigh where they are remembered: half of what fits a
/// frame, because refusals with long names have more.
const ANSWER_BYTES: usize = limits::FRAME_BYTES / 2;

/// A member of one group.
pub(super) struct Group {
    id: GroupId,
    node: NodeId,
    /// The folder of the store.
    pub(super) dir: PathBuf,
    pub(super) raft: Raft,
    wal: Wal,
    replicated: Arc<Replicated>,
    term: TermClock,
    /// When the leader last spoke to this replica; its start at first.
    heard: Mutex<Instant>,
    /// When this replica last had all that the leader said was committed.
    fresh: Mutex<Option<Instant>>,
    /// When the last entries came from a leader, and the index of the last of them.
    received: Mutex<Option<(u64, Instant)>>,
    /// Membership changes go one by one.
    changing: tokio::sync::Mutex<()>,
    /// The last term in which this replica led and offered its office to another.
    offered: AtomicU64,
    /// This node's changes on their way to the leader.
    parcels: mpsc::Sender<Parcel>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("id", &self.id)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// What became of a command, and where it is in the log; or what its sender is to be told.
type Committed = Result<(Outcome, Revision), StoreReply>;

type WriteError = RaftError<Types, ClientWriteError<Types>>;

impl Group {
    /// Opens the files of `id` and starts the replica: it resumes where its log ends, or waits to
    /// be founded or admitted when there is no log.
    pub(super) async fn open(
        config: &StoreConfig,
        id: GroupId,
        journal: &Journal,
        disk: &Arc<dyn Disk>,
        rpc: Arc<dyn Rpc>,
        replicated: Arc<Replicated>,
        parcels: mpsc::Sender<Parcel>,
    ) -> Result<Self, StoreError> {
        let (wal, log) = (journal.wal().clone(), journal.take(id)?);
        let snapshots = config.dir.join("snapshots");
        let (shown, on) = (Arc::clone(&replicated), Arc::clone(disk));
        let opened = disk::wait_for(disk, move || {
            let file = SnapshotFile::new(on, &snapshots, id, shown.saved())?;
            let (machine, snapshot) = Machine::open(&file, shown, log.last_index())?;
            check_gap(&file, snapshot, &log)?;
            Ok::<_, WalError>((machine, log))
        });
        let (machine, log) = opened.await.map_err(StoreError::broken)??;
        let settings = raft::config(id.to_string(), config.snapshot_every, config.timing)
            .map_err(StoreError::broken)?;
        let log = Log::new(id, wal.clone(), log);
        let network = Network::new(id, rpc);
        let raft = Raft::new(config.node.clone(), settings, network, log, machine).await;
        let group = Self {
            id,
            node: config.node.clone(),
            dir: config.dir.clone(),
            raft: raft.map_err(StoreError::stopped)?,
            wal,
            replicated,
            term: TermClock::default(),
            heard: Mutex::new(Instant::now()),
            fresh: Mutex::default(),
            received: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            offered: AtomicU64::default(),
            parcels,
        };
        // What the log says is not in the metrics at once, and who asks now must not be told
        // that this node is no member.
        if group.raft.is_initialized().await.map_err(StoreError::stopped)? {
            group.membership_known().await?;
            group.elect_if_alone().await?;
        }
        Ok(group)
    }

    /// A group's only voter need not wait for anybody's lease to end.
    async fn elect_if_alone(&self) -> Result<(), StoreError> {
        let voters: Vec<NodeId> = self.raft.voter_ids().collect();
        if voters == [self.node.clone()] {
            self.raft.trigger().elect(false).await.map_err(StoreError::stopped)?;
        }
        Ok(())
    }

    async fn membership_known(&self) -> Result<(), StoreError> {
        let known = |metrics: &Metrics| metrics.membership_config.membership().nodes().count() > 0;
        let wait = self.raft.wait(Some(MEMBERSHIP));
        wait.metrics(known, "membership known").await.map(drop).map_err(StoreError::stopped)
    }

    /// Ends the replica.
    pub(super) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(group = %self.id, error = %error, "replica did not end in order");
        }
    }

    /// Returns when the replica has stopped by itself, with the reason.
    pub(super) async fn failed(&self) -> StoreError {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return StoreError::stopped(fatal);
            }
            if metrics.changed().await.is_err() {
                return StoreError::stopped("its core ended");
            }
        }
    }

    /// Makes this node the only member of a new group, unless it is a member already.
    pub(super) async fn initialize(&self) -> Result<(), StoreError> {
        if self.raft.is_initialized().await.map_err(StoreError::stopped)? {
            return Ok(());
        }
        let members = BTreeMap::from([(self.node.clone(), ())]);
        self.raft.initialize(members).await.map_err(StoreError::broken)?;
        self.membership_known().await
    }

    /// Which group this is a member of.
    pub(super) fn id(&self) -> GroupId {
        self.id
    }

    /// Whether this node leads the group, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader.as_ref() == Some(&self.node)
    }

    /// The leader, as far as this replica knows.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader.clone()
    }

    /// Returns when the known leader is not `leader` any more, or the replica has ended.
    pub(super) async fn leader_changed(&self, leader: Option<&NodeId>) {
        let mut metrics = self.raft.metrics();
        while metrics.borrow_watched().current_leader.as_ref() == leader {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns when this node has the part in the group that it will keep, or the replica ended.
    pub(super) async fn settled(&self) {
        let mut metrics = self.raft.metrics();
        while !self.is_settled() {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether this node has been founded or admitted.
    pub(super) fn is_member(&self) -> bool {
        is_member(&self.raft.metrics().borrow_watched(), &self.node)
    }

    /// Answers a Raft message of a peer.
    pub(super) async fn serve_raft(&self, request: RaftRequest) -> Bytes {
        let from_leader =
            matches!(request, RaftRequest::Append { .. } | RaftRequest::Snapshot { .. });
        let committed = match &request {
            RaftRequest::Append { committed, .. } => committed.map(|id| id.index),
            _ => None,
        };
        let comes = self.note_receipt(&request);
        let reply = raft::serve(&self.raft, request).await;
        if comes && !matches!(reply, RaftReply::Appended) {
            *self.received.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        if matches!(reply, RaftReply::Appended) && committed.is_some() {
            let applied = self.replicated.changes().borrow().0;
            if committed <= Some(applied) {
                *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
        }
        let followed = !matches!(reply, RaftReply::HigherVote(_) | RaftReply::Stopped { .. });
        if from_leader && followed {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        encoded(&reply)
    }

    /// Notes that a leader sends what may become part of the log; whether it does. Noted before it
    /// is written, so that what comes next, whichever of both is done first, is noted as later.
    fn note_receipt(&self, request: &RaftRequest) -> bool {
        let last = match request {
            RaftRequest::Append { entries, .. } => match entries.last() {
                Some(last) => Some(last.id.index),
                None => return false,
            },
            RaftRequest::Snapshot { .. } => None,
            _ => return false,
        };
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        *received = last.map(|index| (index, Instant::now()));
        true
    }

    /// A time at which this replica had the entry `at`, if that came from a leader and can be told:
    /// who comes into office learns of it by that that it is committed, long after it came.
    pub(super) fn received_by(&self, at: Revision) -> Option<Instant> {
        let received = *self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.filter(|(index, _)| at.0 <= *index).map(|(_, when)| when)
    }

    /// Does what only a leader can do, or says who leads.
    pub(super) async fn lead(&self, forward: Forward) -> StoreReply {
        let Forward { remaining, request } = forward;
        // A snapshot, too, needs space, and one that cannot be written ends the replica.
        let writes = !matches!(request, StoreRequest::Barrier | StoreRequest::LeaseBarrier);
        if writes && self.is_full() {
            return StoreReply::NoSpace;
        }
        // What is stuck behind a disk that fills now would hold up those who could be told.
        let mut health = self.wal.health();
        let filled = async {
            if !writes || health.wait_for(|health| *health == wal::Health::Full).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let work = async {
            match request {
                StoreRequest::Write(Command::RemoveNode { node }) => self.expel(node).await,
                StoreRequest::Write(Command::PutNode(record)) => self.renew(record).await,
                StoreRequest::Write(command) => written(self.commit(command).await),
                StoreRequest::Propose(commands) => self.propose_all(commands).await,
                StoreRequest::Barrier => self.readable(ReadPolicy::ReadIndex).await,
                StoreRequest::LeaseBarrier => self.readable(ReadPolicy::LeaseRead).await,
                StoreRequest::Admit(record) => self.admit(record).await,
                StoreRequest::Release { node } => self.release(node).await,
                StoreRequest::Compact => self.compact().await,
            }
        };
        let unknown = |reason: &str| StoreReply::Unknown { reason: reason.into() };
        tokio::select! {
            biased;
            done = tokio::time::timeout(remaining, work) => {
                done.unwrap_or_else(|_| unknown("the leader had no majority in time"))
            }
            () = filled => unknown("the leader's disk is full"),
        }
    }

    /// What the command came to, and its place in the log.
    pub(super) async fn commit(&self, command: Command) -> Committed {
        let broken = |error: EncodeError| StoreReply::Unknown { reason: error.to_string().into() };
        self.propose(codec::encode(&command).map_err(broken)?.into()).await
    }

    async fn propose(&self, command: Bytes) -> Committed {
        let proposal = Proposal { at: self.now(), command };
        let response = self.raft.client_write(proposal).await.map_err(not_written)?;
        Ok((response.data, Revision(response.log_id.index())))
    }

    /// What several commands came to: all that are before the first of which that is not known, and
    /// no more than fits an answer. Who is not told asks again, and is told what it came to then.
    async fn propose_all(&self, commands: Vec<Bytes>) -> StoreReply {
        let at = self.now();
        let proposals = commands.into_iter().map(|command| Proposal { at, command });
        let mut results = match self.raft.client_write_many(proposals).await {
            Ok(results) => results,
            Err(fatal) => return not_written(RaftError::Fatal(fatal)),
        };
        let mut done = Vec::new();
        let mut bytes = 0;
        while let Some(result) = results.next().await {
            match result {
                Ok(Ok(written)) => {
                    bytes += outcome_bytes(&written.response);
                    if bytes > ANSWER_BYTES && !done.is_empty() {
                        break;
                    }
                    done.push((written.response, Revision(written.log_id.index())));
                }
                Ok(Err(error)) if done.is_empty() => {
                    return not_written(RaftError::APIError(error));
                }
                Err(fatal) if done.is_empty() => return not_written(RaftError::Fatal(fatal)),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        StoreReply::Proposed(done)
    }

    /// Gives a change to the courier; when that has ended, whoever waits for an answer is told.
    pub(super) async fn give(&self, parcel: Parcel) {
        let _ = self.parcels.send(parcel).await;
    }

    /// The group's time, when this node leads it.
    pub(super) fn now(&self) -> LogTime {
        let term = self.term_now();
        let known = self.replicated.view_data(Data::now);
        self.term.now(term, known, Instant::now().into_std())
    }

    /// Makes a snapshot, or purges what it has, when this group keeps the oldest part of the log.
    pub(super) async fn unpin(&self) {
        let Some(last) = self.wal.pinned_by(self.id) else { return };
        let snapshot =
            self.raft.metrics().borrow_watched().snapshot.as_ref().map(raft::LogId::index);
        let asked = if snapshot >= Some(last) {
            self.raft.trigger().purge_log(last).await
        } else {
            self.raft.trigger().snapshot().await
        };
        if let Err(error) = asked {
            tracing::debug!(group = %self.id, %error, "the log was not purged");
        }
    }

    /// Whether the log waits for space on the disk.
    pub(super) fn is_full(&self) -> bool {
        *self.wal.health().borrow() == wal::Health::Full
    }

    /// Whether a session's time is over, by the group's time, which this node leads.
    pub(super) fn is_due(&self) -> bool {
        let due = self.replicated.view_data(Data::next_expiry);
        due.is_some_and(|due| due <= self.now())
    }

    /// ReadIndex: a majority confirms that this node still leads, then every write that was
    /// acknowledged before is at or before the commit index. A lease is such a confirmation of
    /// less than an election ago. Source: Ongaro 2014 §6.4.
    async fn readable(&self, policy: ReadPolicy) -> StoreReply {
        match self.raft.get_read_linearizer(policy).await {
            Ok(linearizer) => StoreReply::Barrier(Revision(linearizer.read_log_id().index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                StoreReply::NotLeader { leader: to.leader_id }
            }
            Err(RaftError::APIError(error)) => {
                StoreReply::Unknown { reason: error.to_string().into() }
            }
            Err(RaftError::Fatal(fatal)) => {
                StoreReply::Stopped { reason: fatal.to_string().into() }
            }
        }
    }

    /// How the group is doing.
    pub(super) fn status(&self, applied: Option<Revision>) -> StoreStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let signs = Signs {
            running: metrics.running_state.is_ok(),
            member: is_member(&metrics, &self.node),
            disk_full: self.is_full(),
            leader_known: metrics.current_leader.is_some(),
            silence: self.silence_at(&metrics),
        };
        StoreStatus {
            group: self.id,
            node: self.node.clone(),
            leader: metrics.current_leader.clone(),
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            applied,
            snapshot: metrics.snapshot.as_ref().map(raft::LogId::index),
            purged: metrics.purged.as_ref().map(raft::LogId::index),
            members: members(&metrics),
            changing: metrics.membership_config.membership().get_joint_config().len() > 1,
            health: health(signs),
        }
    }

    /// How long ago this replica had all that its leader said was committed; `None` when it never
    /// had since it started.
    pub(super) fn silence(&self) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.current_leader.as_ref() == Some(&self.node) {
            return Some(self.silence_at(&metrics));
        }
        let fresh = *self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.map(|at| at.elapsed())
    }

    fn silence_at(&self, metrics: &Metrics) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if metrics.current_leader.as_ref() != Some(&self.node) {
            return heard.elapsed();
        }
        // A leader is as alive as its majority. One without followers is its own majority.
        let alone = metrics.membership_config.voter_ids().count() == 1;
        let acked = metrics.last_quorum_acked.map(|at| at.into_inner().elapsed());
        if alone { Duration::ZERO } else { acked.unwrap_or_else(|| heard.elapsed()) }
    }
}

/// The log must begin where the snapshot ends, or before.
pub(super) fn check_gap(
    file: &SnapshotFile,
    snapshot: Option<u64>,
    log: &wal::GroupLog,
) -> Result<(), WalError> {
    match log.purged {
        Some(purged) if snapshot.is_none_or(|last| last < purged.index) => {
            let last = snapshot.map_or_else(|| "missing".to_owned(), |last| format!("at {last}"));
            Err(WalError::Corrupt {
                file: file.path().to_owned(),
                offset: 0,
                reason: format!("the log begins behind {}, the snapshot is {last}", purged.index)
                    .into(),
            })
        }
        _ => Ok(()),
    }
}

fn is_member(metrics: &Metrics, node: &NodeId) -> bool {
    metrics.membership_config.membership().get_node(node).is_some()
}

fn members(metrics: &Metrics) -> Vec<Member> {
    let membership = metrics.membership_config.membership();
    // While one set of voters takes the place of another a majority of both is needed: who is in one of
    // them only is not yet, or no longer, somebody on whom the group can go on.
    let votes =
        |node: &NodeId| membership.get_joint_config().iter().all(|voters| voters.contains(node));
    let matched = |node: &NodeId| {
        let known = metrics.replication.as_ref()?.get(node)?.as_ref()?;
        Some(known.index())
    };
    let member =
        |node: &NodeId| Member { node: node.clone(), voter: votes(node), matched: matched(node) };
    membership.nodes().map(|(node, ())| member(node)).collect()
}

/// At most how many bytes an outcome has in an answer, roughly.
fn outcome_bytes(outcome: &Outcome) -> usize {
    /// A revision, and the refusals of a group without sessions.
    const OTHER: usize = 2 << 10;
    match outcome {
        Outcome::Data(outcome) => 32 + outcome.weight(),
        _ => OTHER,
    }
}

fn written(committed: Committed) -> StoreReply {
    committed.map_or_else(|reply| reply, |(outcome, at)| StoreReply::Written { outcome, at })
}

fn not_written(error: WriteError) -> StoreReply {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            StoreReply::NotLeader { leader: to.leader_id }
        }
        RaftError::APIError(error) => StoreReply::Unknown { reason: error.to_string().into() },
        RaftError::Fatal(fatal) => StoreReply::Stopped { reason: fatal.to_string().into() },
    }
}

/// A reply as bytes. An empty body, which no reply is, when it cannot be written: the asker then
/// finds it malformed.
pub(super) fn encoded<T: serde::Serialize>(reply: &T) -> Bytes {
    match codec::encode(reply) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) => {
            tracing::error!(error = %error, "a reply of the store cannot be encoded");
            Bytes::new()
        }
    }
}
