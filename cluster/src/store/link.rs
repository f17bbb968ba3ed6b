//! The store on the transport: its questions as requests to peers, its answers as services.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::{GroupId, NodeId};

use super::StoreHandle;
use super::rpc::{Purpose, Rpc, RpcError};
use crate::transport::{
    Class, Serve, ServeError, Service, Services, TransportError, TransportHandle,
};

impl Rpc for TransportHandle {
    fn ask(
        &self,
        peer: &NodeId,
        group: GroupId,
        purpose: Purpose,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, RpcError>> {
        let (service, class) = match purpose {
            Purpose::Consensus => (Service::Raft(group), Class::Consensus),
            Purpose::Snapshot => (Service::Raft(group), Class::Bulk),
            Purpose::Forward => (Service::Store(group), Class::Lane),
        };
        let (transport, peer) = (self.clone(), peer.clone());
        Box::pin(async move {
            transport.request(&peer, service, class, body, deadline).await.map_err(|error| {
                match error {
                    TransportError::Deadline { .. } => RpcError::Deadline { peer, after: deadline },
                    error => RpcError::Unreachable { peer, reason: error.to_string().into() },
                }
            })
        })
    }
}

struct RaftService(StoreHandle);

impl Serve for RaftService {
    fn serve(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let store = self.0.clone();
        Box::pin(async move { Ok(store.answer_raft(body).await) })
    }
}

struct ForwardService(StoreHandle);

impl Serve for ForwardService {
    fn serve(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let store = self.0.clone();
        Box::pin(async move { Ok(store.answer_forward(body).await) })
    }
}

impl StoreHandle {
    /// Answers the peers' messages to this group from now on.
    pub fn register(&self, services: &Services) {
        let group = self.shared.group;
        services.insert(Service::Raft(group), Arc::new(RaftService(self.clone())));
        services.insert(Service::Store(group), Arc::new(ForwardService(self.clone())));
    }
}
