//! The store on the transport: its questions as requests to peers, its answers as services.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::{GroupId, NodeId, limits};

use super::StoreHandle;
use super::rpc::{Purpose, Rpc, RpcError, begun};
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

struct RaftService(StoreHandle, GroupId);

impl Serve for RaftService {
    fn serve(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let (store, group) = (self.0.clone(), self.1);
        // In the order of arrival, or what follows would come before what it follows on.
        begun(async move { Ok(store.answer_raft(group, body).await) })
    }
}

struct ForwardService(StoreHandle, GroupId);

impl Serve for ForwardService {
    fn serve(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let (store, group) = (self.0.clone(), self.1);
        Box::pin(async move { Ok(store.answer_forward(group, body).await) })
    }
}

impl StoreHandle {
    /// Answers the peers' messages to all groups there can be from now on: a peer may know of one
    /// before this node does.
    pub fn register(&self, services: &Services) {
        let data = (0..limits::DATA_GROUPS).map(GroupId::Data);
        for group in std::iter::once(GroupId::Control).chain(data) {
            services.insert(Service::Raft(group), Arc::new(RaftService(self.clone(), group)));
            services.insert(Service::Store(group), Arc::new(ForwardService(self.clone(), group)));
        }
    }
}
