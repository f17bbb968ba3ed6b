//! Our side: a node that has a counter entity, and a node that talks to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use odeum_actors::ActorError;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, EntityRef, Kind};
use odeum_cluster::node::ClusterNode;
use odeum_cluster::transport::{Class, Serve, ServeError, Service};
use odeum_proto::NodeId;
use serde::{Deserialize, Serialize};

use super::driver::{self, PATIENCE, Remote};
use super::{DRIVE, HOLD, certs};

/// The kind of the counter. Only the holding node has it, so the counter is there.
const KIND: &str = "counter";
/// The counter.
const COUNTER: &str = "counter/one";

/// The process with the counter.
pub(super) async fn hold(stage: &Path) -> anyhow::Result<()> {
    let kind = Kind::new(KIND.parse()?, |_| Counter(0));
    let node = builder(stage, HOLD)?.kind(kind).start().await?;
    node.cluster().transport.services().insert(Service::Blob, Arc::new(Taker));
    driver::hold(node.addr()).await
}

/// The process that drives it.
pub(super) async fn drive(stage: &Path, at: &str) -> anyhow::Result<()> {
    let node = builder(stage, DRIVE)?.join([at]).start().await?;
    let counter = node.entity(COUNTER.parse()?);
    let peer = HOLD.parse()?;
    driver::drive(Distant { node: Arc::new(node), peer, counter }).await
}

fn builder(stage: &Path, name: &str) -> anyhow::Result<odeum_cluster::builder::ClusterNodeBuilder> {
    Ok(ClusterNode::builder(name.parse()?)
        .data_dir(stage.join("data").join(name))
        .certs(certs(stage, name))
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
}

/// What the counter is told.
#[derive(Serialize, Deserialize)]
enum Told {
    Count(Bytes),
    Echo(Bytes),
    GetCount,
}

/// What it answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    Counted,
    Echo(Bytes),
    Count(u64),
}

impl EntityMessage for Told {
    type Reply = Answer;
}

struct Counter(u64);

impl Entity for Counter {
    type Message = Told;

    async fn handle(
        &mut self,
        _: &mut EntityContext<'_, Self>,
        message: Told,
    ) -> Result<Answer, ActorError> {
        Ok(match message {
            Told::Count(_) => {
                self.0 += 1;
                Answer::Counted
            }
            Told::Echo(body) => Answer::Echo(body),
            Told::GetCount => Answer::Count(self.0),
        })
    }
}

/// Takes large transfers, which go beside the entities.
struct Taker;

impl Serve for Taker {
    fn serve(&self, _: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        Box::pin(ready(Ok(Bytes::new())))
    }
}

#[derive(Clone)]
struct Distant {
    node: Arc<RunningNode>,
    peer: NodeId,
    counter: EntityRef<Told>,
}

impl Remote for Distant {
    async fn tell(&self, body: Bytes) -> anyhow::Result<()> {
        Ok(self.counter.tell(Told::Count(body)).await?)
    }

    async fn count(&self) -> anyhow::Result<u64> {
        match self.counter.ask(Told::GetCount, PATIENCE).await? {
            Answer::Count(count) => Ok(count),
            _ => anyhow::bail!("another answer than a count"),
        }
    }

    async fn ask(&self, body: Bytes) -> anyhow::Result<Bytes> {
        match self.counter.ask(Told::Echo(body), PATIENCE).await? {
            Answer::Echo(body) => Ok(body),
            _ => anyhow::bail!("another answer than the echo"),
        }
    }

    async fn blob(&self, body: Bytes) -> anyhow::Result<()> {
        let transport = &self.node.cluster().transport;
        transport.request(&self.peer, Service::Blob, Class::Bulk, body, PATIENCE).await?;
        Ok(())
    }
}
