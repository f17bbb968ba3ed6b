//! What the API asks of the node it speaks for.
//!
//! A trait, so that the paths can be tested without a cluster and the node's parts need not know
//! of HTTP.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use odeum_actors::Tree;
use odeum_cluster::{
    router::choice::Choice,
    store::{BackupError, Consistency, Session, WatchEvent},
};
use odeum_proto::{
    Digest, EntityId, GroupId, Name, NodeId, Recipient, RequestId, Revision, SessionId,
    call::{CallError, CallReply, CallRequest},
    session::{DataAction, DataOutcome, Glob},
};

use super::{
    problem::Problem,
    types::{
        After, Applied, ApplyBody, BlobPage, CompactReport, Deployed, Explanation,
        FirmwareDescription, FirmwareEvent, FirmwareSettings, FirmwareSummary, LinksReport,
        LogLine, LogOptions, MoveBegun, MoveBody, MoveSummary, NodeRestart, NodeStatus,
        NodeSummary, PlacementReport, Renewed, Restored, RolledBack, Scaled, SessionPage,
        StoreReport,
    },
};
use crate::doctor::Facts;

/// A package to be deployed.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Under which name.
    pub name: Name,
    /// Its wasm or wat bytes.
    pub package: Bytes,
    /// What is said beside its manifest.
    pub settings: FirmwareSettings,
}

/// A session as it is, or was, on a node.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The session; `None` when it is not there.
    pub session: Option<Arc<Session>>,
    /// As of which revision of its group.
    pub at: Revision,
    /// For how long the node has heard nothing of a leader, when it did not ask one.
    pub leader_heard: Option<Duration>,
}

/// Which sessions are listed.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Those with such ids.
    pub matching: Glob,
    /// Behind this one.
    pub after: Option<SessionId>,
    /// At most so many.
    pub limit: usize,
    /// How fresh the list must be.
    pub consistency: Consistency,
}

/// Which sessions are watched.
#[derive(Debug, Clone)]
pub enum Subject {
    /// One.
    Session(SessionId),
    /// All with such ids.
    Matching(Glob),
}

/// What a watch says of one group.
#[derive(Debug, Clone)]
pub enum Told {
    /// Something has changed.
    Event(WatchEvent),
    /// Nothing has, up to here.
    Progress(Revision),
}

/// A watch of some groups. It never ends by itself.
pub type Feed = BoxStream<'static, (GroupId, Told)>;

/// The lines of a firmware. What is not asked for yet is not fetched.
pub type LogFeed = BoxStream<'static, LogLine>;

/// The bytes of a backup as they are made.
pub type BackupFeed = BoxStream<'static, Result<Bytes, BackupError>>;

/// The bytes of a backup as they are received.
pub type Received = BoxStream<'static, Result<Bytes, Problem>>;

/// The node behind the API. Each method ends in bounded time: the API waits no longer than the
/// deadline of its path.
pub trait ApiNode: Send + Sync + 'static {
    /// Whether it takes requests: it is in a cluster and its store has a leader.
    ///
    /// # Errors
    /// [`Problem::Unavailable`] says what is missing.
    fn ready(&self) -> Result<(), Problem>;

    /// Itself.
    fn status(&self) -> NodeStatus;

    /// All nodes of the cluster, by name.
    fn nodes(&self) -> Vec<NodeSummary>;

    /// Its links to the others.
    fn links(&self) -> LinksReport;

    /// Lets a node leave for good. Within `patience`, what it has goes to others.
    fn leave(&self, node: NodeId, patience: Duration) -> BoxFuture<'_, Result<(), Problem>>;

    /// Takes back that a node is to leave.
    fn stay(&self, node: NodeId) -> BoxFuture<'_, Result<(), Problem>>;

    /// Has everything on a node move to others within `patience`, and nothing more come to it.
    fn drain(&self, node: NodeId, patience: Duration) -> BoxFuture<'_, Result<(), Problem>>;

    /// Has a node end in good order and begin anew; returns when it is back, within `patience`, or
    /// at once when it is this one.
    fn restart_node(
        &self,
        node: NodeId,
        patience: Duration,
    ) -> BoxFuture<'_, Result<NodeRestart, Problem>>;

    /// Lets things come to a node again that was drained.
    fn use_again(&self, node: NodeId) -> BoxFuture<'_, Result<(), Problem>>;

    /// Begins to move an entity.
    fn begin_move(&self, body: MoveBody) -> BoxFuture<'_, Result<MoveBegun, Problem>>;

    /// Moves that began lately anywhere, the oldest first.
    fn moves(&self) -> BoxFuture<'_, Result<Vec<MoveSummary>, Problem>>;

    /// What is where, and how much each node has.
    fn placement(&self) -> PlacementReport;

    /// Why an entity is where it is, and where else it could be.
    fn explain(&self, entity: EntityId) -> BoxFuture<'_, Result<Explanation, Problem>>;

    /// Moves that make the nodes equally busy, at most so many; begun unless it is only asked.
    fn rebalance(
        &self,
        most: usize,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Vec<MoveBegun>, Problem>>;

    /// What it finds out about its own health.
    fn facts(&self) -> BoxFuture<'_, Result<Facts, Problem>>;

    /// All deployed firmware, by name.
    fn firmware(&self) -> BoxFuture<'_, Result<Vec<FirmwareSummary>, Problem>>;

    /// Deploys or replaces a firmware.
    fn deploy(&self, deployment: Deployment) -> BoxFuture<'_, Result<Deployed, Problem>>;

    /// Deploys what is not deployed so already, if the cluster has the package.
    fn apply(&self, name: Name, body: ApplyBody) -> BoxFuture<'_, Result<Applied, Problem>>;

    /// That a firmware of that name is deployed.
    ///
    /// # Errors
    /// [`Problem::NotFound`] names the nearest one.
    fn known(&self, name: &Name) -> Result<(), Problem>;

    /// A firmware in all its particulars.
    fn describe(&self, name: Name) -> BoxFuture<'_, Result<FirmwareDescription, Problem>>;

    /// What became of a firmware lately, the oldest first.
    fn events(&self, of: Recipient) -> BoxFuture<'_, Result<Vec<FirmwareEvent>, Problem>>;

    /// What a firmware has logged, and what it logs if that is to be followed.
    fn logs(&self, of: Recipient, options: LogOptions) -> BoxFuture<'_, Result<LogFeed, Problem>>;

    /// Changes how many replicas of a firmware there are.
    fn scale(&self, name: Name, replicas: u32) -> BoxFuture<'_, Result<Scaled, Problem>>;

    /// Starts a firmware anew where it is.
    fn restart(&self, of: Recipient) -> BoxFuture<'_, Result<Renewed, Problem>>;

    /// Brings back what was deployed before.
    fn roll_back(&self, name: Name) -> BoxFuture<'_, Result<RolledBack, Problem>>;

    /// Removes a firmware.
    fn remove(&self, name: Name) -> BoxFuture<'_, Result<(), Problem>>;

    /// Sends a message to an entity, wherever it is active: to the one that is named, or to one of
    /// the replicas whose first it is.
    fn call(
        &self,
        call: CallRequest,
        choice: Choice,
    ) -> BoxFuture<'_, Result<CallReply, CallError>>;

    /// At most `limit` blobs behind `after`, by digest.
    fn blobs(
        &self,
        limit: usize,
        after: Option<Digest>,
    ) -> BoxFuture<'_, Result<BlobPage, Problem>>;

    /// A page of sessions, by id.
    fn sessions(&self, listing: Listing) -> BoxFuture<'_, Result<SessionPage, Problem>>;

    /// One session.
    fn session(
        &self,
        id: SessionId,
        consistency: Consistency,
    ) -> BoxFuture<'_, Result<Sight, Problem>>;

    /// Makes a change to the session that it names, once per `request`; no outcome is a refusal.
    fn change(
        &self,
        action: DataAction,
        request: Option<RequestId>,
    ) -> BoxFuture<'_, Result<DataOutcome, Problem>>;

    /// Every change of what is watched after a revision, once and in order.
    fn watch(&self, subject: Subject, after: Option<After>)
    -> BoxFuture<'_, Result<Feed, Problem>>;

    /// The groups of its store.
    fn store(&self) -> StoreReport;

    /// A backup of the whole store, as of now.
    fn backup(&self) -> BoxFuture<'_, Result<BackupFeed, Problem>>;

    /// Restores a backup into the cluster, which is empty. It has `length` bytes, if that is known.
    fn restore(
        &self,
        backup: Received,
        length: Option<u64>,
    ) -> BoxFuture<'_, Result<Restored, Problem>>;

    /// Makes the logs of all nodes as short as they can be.
    fn compact(&self) -> BoxFuture<'_, Result<CompactReport, Problem>>;

    /// Its supervision tree.
    fn actors(&self) -> BoxFuture<'_, Result<Tree, Problem>>;
}
