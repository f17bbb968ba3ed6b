//! Our side.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, Bytes};
use futures::future::BoxFuture;
use odeum_cluster::transport::{
    self, Class, Serve, ServeError, Service, Services, TransportConfig, TransportHandle,
};
use odeum_proto::{Incarnation, NodeId};

use super::driver::{self, PATIENCE, Remote};
use super::{DRIVE, HOLD, certs};

struct Counter(AtomicU64);

impl Serve for Counter {
    fn serve(&self, _: NodeId, mut body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let answer = match body.get_u8() {
            0 => {
                self.0.fetch_add(1, Ordering::Relaxed);
                Bytes::new()
            }
            1 => body,
            _ => Bytes::copy_from_slice(&self.0.load(Ordering::Relaxed).to_le_bytes()),
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

struct Taker;

impl Serve for Taker {
    fn serve(&self, _: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        Box::pin(std::future::ready(Ok(Bytes::new())))
    }
}

pub(super) async fn hold(stage: &Path) -> anyhow::Result<()> {
    let services = Services::default()
        .with(Service::Call, Arc::new(Counter(AtomicU64::new(0))))
        .with(Service::Blob, Arc::new(Taker));
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = TransportConfig::new(HOLD.parse()?, Incarnation(1), listen, certs(stage, HOLD));
    let (transport, spec) = transport::start(config, services)?;
    let _root = spec.start().await?;
    driver::hold(transport.local_addr()).await
}

pub(super) async fn drive(stage: &Path, at: &str) -> anyhow::Result<()> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = TransportConfig::new(DRIVE.parse()?, Incarnation(1), listen, certs(stage, DRIVE));
    let (transport, spec) = transport::start(config, Services::default())?;
    let _root = spec.start().await?;
    let peer = transport.dial(at.parse()?, PATIENCE).await?;
    driver::drive(Distant { transport, peer }).await
}

#[derive(Clone)]
struct Distant {
    transport: TransportHandle,
    peer: NodeId,
}

impl Distant {
    async fn call(&self, tag: u8, body: &[u8]) -> anyhow::Result<Bytes> {
        let mut bytes = Vec::with_capacity(1 + body.len());
        bytes.push(tag);
        bytes.extend_from_slice(body);
        Ok(self
            .transport
            .request(&self.peer, Service::Call, Class::Lane, bytes.into(), PATIENCE)
            .await?)
    }
}

impl Remote for Distant {
    async fn tell(&self, body: Bytes) -> anyhow::Result<()> {
        self.call(0, &body).await.map(drop)
    }

    async fn count(&self) -> anyhow::Result<u64> {
        Ok(self.call(2, &[]).await?.get_u64_le())
    }

    async fn ask(&self, body: Bytes) -> anyhow::Result<Bytes> {
        self.call(1, &body).await
    }

    async fn blob(&self, body: Bytes) -> anyhow::Result<()> {
        let transport = &self.transport;
        transport.request(&self.peer, Service::Blob, Class::Bulk, body, PATIENCE).await?;
        Ok(())
    }
}
