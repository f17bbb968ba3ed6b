//! What the API asks of the node it speaks for.
//!
//! A trait, so that the paths can be tested without a cluster and the node's parts need not know
//! of HTTP.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_actors::Tree;
use odeum_proto::{
    Digest, Name, NodeId, SessionId,
    call::{CallError, CallReply, CallRequest},
};

use super::{
    problem::Problem,
    types::{
        BlobPage, Deployed, FirmwareSummary, LinksReport, NodeStatus, NodeSummary, Session,
        SessionPage,
    },
};
use crate::{
    config::{ByteSize, HumanDuration},
    doctor::Facts,
};

/// A package to be deployed.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Under which name.
    pub name: Name,
    /// Its wasm or wat bytes.
    pub package: Bytes,
    /// Linear memory of an instance; the node's default when `None`.
    pub memory: Option<ByteSize>,
    /// Time for one message; the node's default when `None`.
    pub message_time: Option<HumanDuration>,
}

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

    /// What it finds out about its own health.
    fn facts(&self) -> BoxFuture<'_, Result<Facts, Problem>>;

    /// All deployed firmware, by name.
    fn firmware(&self) -> BoxFuture<'_, Result<Vec<FirmwareSummary>, Problem>>;

    /// Deploys or replaces a firmware.
    fn deploy(&self, deployment: Deployment) -> BoxFuture<'_, Result<Deployed, Problem>>;

    /// Removes a firmware.
    fn remove(&self, name: Name) -> BoxFuture<'_, Result<(), Problem>>;

    /// Sends a message to an entity, wherever it is active.
    fn call(&self, call: CallRequest) -> BoxFuture<'_, Result<CallReply, CallError>>;

    /// At most `limit` blobs behind `after`, by digest.
    fn blobs(
        &self,
        limit: usize,
        after: Option<Digest>,
    ) -> BoxFuture<'_, Result<BlobPage, Problem>>;

    /// At most `limit` sessions behind `after`, by id.
    fn sessions(
        &self,
        limit: usize,
        after: Option<SessionId>,
    ) -> BoxFuture<'_, Result<SessionPage, Problem>>;

    /// One session with its variables.
    fn session(&self, id: SessionId) -> BoxFuture<'_, Result<Session, Problem>>;

    /// Deletes a session.
    fn delete_session(&self, id: SessionId) -> BoxFuture<'_, Result<(), Problem>>;

    /// Its supervision tree.
    fn actors(&self) -> BoxFuture<'_, Result<Tree, Problem>>;
}
