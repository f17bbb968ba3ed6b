//! The driver of an etcd cluster: gRPC over HTTP/2, a few connections to each member.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::{Instant, sleep, timeout};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::wire::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
};
use crate::remote::driver::PATIENCE;
use crate::store::driver::Store;
use crate::store::workload::Reading;

const PUT: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Put");
const RANGE: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Range");
const STATUS: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");

/// Connections to each member. With a thousand requests in flight each has few hundred.
pub(super) const CONNECTIONS: usize = 4;

/// What a member gets to acknowledge a write before another one is asked: far beyond what a write
/// takes, short against an election. A member that has passed a write on to a leader that was
/// killed says nothing for seven seconds.
const ATTEMPT: Duration = Duration::from_millis(50);

/// The pause before the next member is asked when one has refused at once.
const PAUSE: Duration = Duration::from_millis(5);

/// How often a cluster that starts is asked whether it is there.
const LOOK: Duration = Duration::from_millis(50);

/// Requests to an etcd cluster.
#[derive(Clone)]
pub(super) struct Client(Arc<Members>);

struct Members {
    /// The connections to each member.
    members: Vec<Vec<Grpc<Channel>>>,
    /// The member that is asked.
    aim: AtomicUsize,
    next: AtomicUsize,
}

impl Client {
    /// Connects to the members at these addresses, and waits until the cluster works.
    pub(super) async fn connect(members: &[&str]) -> anyhow::Result<Self> {
        let connect = |at: &&str| -> anyhow::Result<Vec<Grpc<Channel>>> {
            let endpoint = Endpoint::from_shared(format!("http://{at}"))?.tcp_nodelay(true);
            let grpc = |_| Grpc::new(endpoint.connect_lazy());
            Ok((0..CONNECTIONS).map(grpc).collect())
        };
        let members = members.iter().map(connect).collect::<anyhow::Result<_>>()?;
        let aim = AtomicUsize::new(0);
        let client = Self(Arc::new(Members { members, aim, next: AtomicUsize::new(0) }));
        timeout(PATIENCE, client.settled()).await.context("etcd has no leader")?;
        Ok(client)
    }

    /// Waits until every member knows who leads, and aims there.
    async fn settled(&self) {
        loop {
            if let Ok(leader) = self.leader(0).await {
                self.0.aim.store(leader, Ordering::Relaxed);
                return;
            }
            sleep(LOOK).await;
        }
    }

    async fn ask<Q, A>(&self, member: usize, path: PathAndQuery, request: Q) -> anyhow::Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let connections = self.0.members.get(member).context("no such member")?;
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let mut grpc = connections.get(turn).context("no connection")?.clone();
        grpc.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }

    fn aim(&self) -> usize {
        self.0.aim.load(Ordering::Relaxed)
    }

    async fn put(&self, member: usize, key: u64, value: Bytes) -> anyhow::Result<()> {
        let request = PutRequest { key: name(key), value };
        let PutResponse {} = self.ask(member, PUT, request).await?;
        Ok(())
    }
}

impl Store for Client {
    async fn write(&self, key: u64, value: Bytes) -> anyhow::Result<()> {
        self.put(self.aim(), key, value).await
    }

    async fn persist(&self, key: u64, value: Bytes) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let aim = self.aim();
            let failed = match timeout(ATTEMPT, self.put(aim, key, value.clone())).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(late) => late.into(),
            };
            if Instant::now() >= end {
                return Err(failed.context("no member acknowledges a write"));
            }
            self.0.aim.store((aim + 1) % self.0.members.len(), Ordering::Relaxed);
            sleep(PAUSE).await;
        }
    }

    async fn read(&self, key: u64, how: Reading) -> anyhow::Result<usize> {
        // It has no leases for reads: all that are not stale ask a majority.
        let request = RangeRequest { key: name(key), serializable: how == Reading::Local };
        let answer: RangeResponse = self.ask(self.aim(), RANGE, request).await?;
        Ok(answer.kvs.first().map_or(0, |kv| kv.value.len()))
    }

    async fn leader(&self, _: u64) -> anyhow::Result<usize> {
        let mut leader = None;
        for member in 0..self.0.members.len() {
            let status: StatusResponse = self.ask(member, STATUS, StatusRequest {}).await?;
            anyhow::ensure!(status.leader != 0, "member {member} knows no leader");
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                leader = Some(member);
            }
        }
        leader.context("no member leads")
    }
}

fn name(key: u64) -> Bytes {
    format!("key-{key}").into()
}
