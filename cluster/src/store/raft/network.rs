//! Raft's messages between replicas.
//!
//! Entries go to a follower in batches, each with what has gathered since the one before it, and
//! a few of them at a time: the follower has the next one when its disk has the last one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use odeum_proto::log::{RaftReply, RaftRequest};
use odeum_proto::{GroupId, NodeId, codec};
use openraft::OptionalSend;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::convert::{
    ballot_from, ballot_reply_to, ballot_to, entry_from, entry_to, log_id_from, log_id_to,
    meta_from, meta_to, vote_from, vote_to,
};
use super::machine::Encoded;
use super::pipeline::{Pipeline, Sent, Streaming};
use super::{Raft, Types};
use crate::store::rpc::{Purpose, Rpc, RpcError, begun};

/// How long a follower may take for a batch of entries. Longer than a heartbeat, because it
/// includes the follower's fsync and a busy machine; a dead follower is known by its link.
const APPEND: Duration = Duration::from_secs(1);

// Heartbeats and votes may take as long as openraft waits for them, its `hard_ttl`. Its `soft_ttl`
// is a quarter less, so that a network can say why it failed before it is cut off. Here that would
// be that the time is over, and over a long way the answer needs the quarter.

/// Makes the clients of a group's peers.
#[derive(Clone)]
pub(in crate::store) struct Network {
    group: GroupId,
    rpc: Arc<dyn Rpc>,
}

impl Network {
    pub(in crate::store) fn new(group: GroupId, rpc: Arc<dyn Rpc>) -> Self {
        Self { group, rpc }
    }

    fn peer(&self, target: NodeId, patience: Option<Duration>) -> Peer {
        Peer { target, group: self.group, rpc: Arc::clone(&self.rpc), patience }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, (): &()) -> Peer {
        self.peer(target, Some(APPEND))
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, (): &()) -> Peer {
        self.peer(target, None)
    }
}

/// Asks one peer.
pub(in crate::store) struct Peer {
    target: NodeId,
    group: GroupId,
    rpc: Arc<dyn Rpc>,
    /// How long entries may take, when that is not what openraft waits for a heartbeat.
    patience: Option<Duration>,
}

pub(super) type Answer<T> = Result<T, RPCError<Types>>;

impl Peer {
    async fn ask(
        &self,
        request: &RaftRequest,
        purpose: Purpose,
        deadline: Duration,
    ) -> Answer<RaftReply> {
        let body = codec::encode(request).map_err(|error| RPCError::Network(network(&error)))?;
        read(self.rpc.ask(&self.target, self.group, purpose, Bytes::from(body), deadline).await)
    }

    /// Sends a batch of entries. That it has been sent is certain as soon as the future exists,
    /// so that batches leave in their order.
    fn append(&self, rpc: &AppendEntriesRequest<Types>, deadline: Duration) -> Sent {
        let request = RaftRequest::Append {
            vote: vote_to(&rpc.vote),
            previous: rpc.prev_log_id.as_ref().map(log_id_to),
            entries: rpc.entries.iter().map(entry_to).collect(),
            committed: rpc.leader_commit.as_ref().map(log_id_to),
        };
        let body = codec::encode(&request).map_err(|error| RPCError::Network(network(&error)));
        let asked = body.map(|body| {
            let body = Bytes::from(body);
            self.rpc.ask(&self.target, self.group, Purpose::Consensus, body, deadline)
        });
        begun(async move {
            match read(asked?.await)? {
                RaftReply::Appended => Ok(AppendEntriesResponse::Success),
                RaftReply::AppendedUpTo(last) => {
                    Ok(AppendEntriesResponse::PartialSuccess(last.map(log_id_from)))
                }
                RaftReply::Conflict => Ok(AppendEntriesResponse::Conflict),
                RaftReply::HigherVote(vote) => {
                    Ok(AppendEntriesResponse::HigherVote(vote_from(vote)))
                }
                other => Err(unexpected(&other)),
            }
        })
    }

    async fn ballot(
        &self,
        request: RaftRequest,
        option: &RPCOption,
    ) -> Answer<VoteResponse<Types>> {
        match self.ask(&request, Purpose::Consensus, option.hard_ttl()).await? {
            RaftReply::Ballot { vote, last, granted } => {
                Ok(VoteResponse::new(vote_from(vote), last.map(log_id_from), granted))
            }
            other => Err(unexpected(&other)),
        }
    }
}

fn read(answer: Result<Bytes, RpcError>) -> Answer<RaftReply> {
    let answer = answer.map_err(|error| match error {
        RpcError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
        RpcError::Deadline { .. } => RPCError::Network(network(&error)),
    })?;
    match codec::decode(&answer).map_err(|error| RPCError::Network(network(&error)))? {
        // As if it were not there: whoever asks waits and tries again.
        RaftReply::Stopped { reason } => {
            Err(RPCError::Unreachable(Unreachable::from_string(reason)))
        }
        reply => Ok(reply),
    }
}

fn network(error: &(impl std::error::Error + 'static)) -> NetworkError<Types> {
    NetworkError::new(error)
}

fn unexpected(reply: &RaftReply) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(format!("answered with {reply:?}")))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Encoded;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Answer<AppendEntriesResponse<Types>> {
        let deadline = self.patience.unwrap_or_else(|| option.hard_ttl());
        self.append(&rpc, deadline).await
    }

    fn stream_append<'s, S>(&'s mut self, input: S, option: RPCOption) -> Streaming<'s>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let deadline = self.patience.unwrap_or_else(|| option.hard_ttl());
        let pipeline = Pipeline::new(input, move |rpc| self.append(rpc, deadline));
        Box::pin(std::future::ready(Ok(pipeline.answers())))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Answer<VoteResponse<Types>> {
        self.ballot(RaftRequest::Vote(ballot_to(&rpc)), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Answer<VoteResponse<Types>> {
        self.ballot(RaftRequest::PreVote(ballot_to(&rpc)), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, Encoded>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let request = RaftRequest::Snapshot {
            vote: vote_to(&vote),
            meta: meta_to(&snapshot.meta),
            state: snapshot.snapshot,
        };
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            answer = self.ask(&request, Purpose::Snapshot, option.hard_ttl()) => answer,
        };
        match answer {
            Ok(RaftReply::Snapshot { vote }) => Ok(SnapshotResponse::new(vote_from(vote))),
            Ok(other) => Err(StreamingError::Network(NetworkError::from_string(format!(
                "answered with {other:?}"
            )))),
            Err(RPCError::Unreachable(error)) => Err(StreamingError::Unreachable(error)),
            Err(error) => Err(StreamingError::Network(NetworkError::new(&error))),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Answer<TransferLeaderResponse<Types>> {
        let request = RaftRequest::Transfer {
            vote: vote_to(rpc.from_leader()),
            to: rpc.to_node_id().clone(),
            last: rpc.last_log_id().map(log_id_to),
        };
        match self.ask(&request, Purpose::Consensus, option.hard_ttl()).await? {
            // One that refused does not stand for election; the leader sees that by the clock.
            RaftReply::Transfer { .. } => Ok(Ok(())),
            other => Err(unexpected(&other)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

/// Answers a peer's request.
pub(in crate::store) async fn serve(raft: &Raft, request: RaftRequest) -> RaftReply {
    answer(raft, request).await.unwrap_or_else(|error| {
        let reason = match error {
            RaftError::Fatal(fatal) => Fatal::<Types>::to_string(&fatal),
            RaftError::APIError(never) => match never {},
        };
        RaftReply::Stopped { reason: reason.into() }
    })
}

async fn answer(raft: &Raft, request: RaftRequest) -> Result<RaftReply, RaftError<Types>> {
    Ok(match request {
        RaftRequest::Append { vote, previous, entries, committed } => {
            let request = AppendEntriesRequest {
                vote: vote_from(vote),
                prev_log_id: previous.map(log_id_from),
                entries: entries.into_iter().map(entry_from).collect(),
                leader_commit: committed.map(log_id_from),
            };
            match raft.append_entries(request).await? {
                AppendEntriesResponse::Success => RaftReply::Appended,
                AppendEntriesResponse::PartialSuccess(last) => {
                    RaftReply::AppendedUpTo(last.as_ref().map(log_id_to))
                }
                AppendEntriesResponse::Conflict => RaftReply::Conflict,
                AppendEntriesResponse::HigherVote(vote) => RaftReply::HigherVote(vote_to(&vote)),
            }
        }
        RaftRequest::Vote(ballot) => ballot_reply_to(&raft.vote(ballot_from(ballot)).await?),
        RaftRequest::PreVote(ballot) => ballot_reply_to(&raft.pre_vote(ballot_from(ballot)).await?),
        RaftRequest::Snapshot { vote, meta, state } => {
            let snapshot = SnapshotOf::<Types, Encoded> { meta: meta_from(meta), snapshot: state };
            let installed = raft.install_full_snapshot(vote_from(vote), snapshot).await;
            RaftReply::Snapshot { vote: vote_to(&installed.map_err(RaftError::Fatal)?.vote) }
        }
        RaftRequest::Transfer { vote, to, last } => {
            let request = TransferLeaderRequest::new(vote_from(vote), to, last.map(log_id_from));
            let taken = raft.handle_transfer_leader(request).await.map_err(RaftError::Fatal)?;
            RaftReply::Transfer { taken: taken.is_ok() }
        }
    })
}
