//! The joints between firmware and cluster: what each asks of the other, in the other's words.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use odeum_actors::AskError;
use odeum_cluster::{
    blobs::{BlobError, Blobs},
    membership::MembershipHandle,
    router::{Activations, Entity, RouterHandle, choice::Choice},
    topic::{TopicError, TopicsHandle},
    transport::{Class, Serve, ServeError, Service, TransportHandle},
};
use odeum_proto::{
    Digest, EntityId, Epoch, NodeId, ReplicaId,
    call::{CallError, CallReply, CallRequest},
    chronicle::Question,
    codec,
    report::{self, FirmwareReport},
};

use crate::firmware::{
    Activate, Chronicles, CoordinatorHandle, FetchError, FirmwareStatus, GUEST_TOPICS, HostHandle,
    HostState, Keepers, Message, PackageSource, Reach,
};

/// Packages, which are blobs of the cluster. Where one is used a copy stays on the disk, so that it
/// can run there again when nobody else is to be reached.
pub(super) struct Packages(pub(super) Blobs);

impl PackageSource for Packages {
    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, FetchError>> {
        let blobs = self.0.clone();
        Box::pin(async move {
            blobs.get_keeping_copy(digest).await.map_err(|error| match error {
                BlobError::Missing { asked, .. } => FetchError::Missing { asked },
                error => FetchError::Failed { reason: error.to_string().into() },
            })
        })
    }
}

/// Tells the router which hosts run here.
pub(super) struct Announcer(pub(super) Activations);

impl Activate for Announcer {
    fn activate(&self, entity: EntityId, epoch: Epoch, host: HostHandle) {
        self.0.activate(entity, epoch, Arc::new(Activation(host)));
    }

    fn deactivate(&self, entity: &EntityId, epoch: Epoch) {
        self.0.deactivate(entity, epoch);
    }
}

struct Activation(HostHandle);

impl Entity for Activation {
    fn deliver(&self, call: CallRequest) -> BoxFuture<'static, Result<CallReply, CallError>> {
        let host = self.0.clone();
        Box::pin(async move { host.deliver(call).await })
    }
}

/// The cluster as guests reach it.
pub(super) struct Cluster {
    pub(super) own: NodeId,
    pub(super) router: RouterHandle,
    pub(super) topics: TopicsHandle,
    pub(super) membership: MembershipHandle,
    pub(super) transport: TransportHandle,
}

/// How long a node waits for a firmware to end that is to begin elsewhere, before it is asked again,
/// and what its answer may take longer than that.
const ENDING_WAIT: Duration = Duration::from_secs(5);
const ENDING_SLACK: Duration = Duration::from_secs(2);

/// Pause before a node that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

impl Cluster {
    /// Returns when `node` has nothing left of earlier activations, or is gone, and that with it.
    fn handed_over_by(
        &self,
        node: NodeId,
        name: &ReplicaId,
        epoch: Epoch,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (membership, transport) = (self.membership.clone(), self.transport.clone());
        let wait_ms = u32::try_from(ENDING_WAIT.as_millis()).unwrap_or(u32::MAX);
        let question = Question::HandedOver { name: name.clone(), epoch, wait_ms };
        let name = name.clone();
        async move {
            while membership.now().is_live(&node) {
                let (service, class) = (Service::Chronicle, Class::Lane);
                let deadline = ENDING_WAIT + ENDING_SLACK;
                match transport.call(&node, service, class, &question, deadline).await {
                    Ok(true) => return,
                    Ok(false) => {
                        tracing::info!(%name, %node, "waits for the firmware to end there")
                    }
                    Err(error) => {
                        tracing::debug!(%name, %node, %error, "no answer whether it has ended there");
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                }
            }
        }
    }
}

impl Reach for Cluster {
    fn call(&self, message: Message) -> BoxFuture<'static, Result<CallReply, CallError>> {
        let (router, Message { call, spread_by }) = (self.router.clone(), message);
        let choice = spread_by.map_or(Choice::This, |from| Choice::By(from.to_string()));
        Box::pin(async move { router.call_one(call, choice).await })
    }

    fn handed_over(&self, name: ReplicaId, epoch: Epoch) -> BoxFuture<'static, ()> {
        let live = self.membership.now();
        let others = live.live().filter(|node| **node != self.own).cloned();
        let asked: Vec<_> = others.map(|node| self.handed_over_by(node, &name, epoch)).collect();
        Box::pin(async move { drop(futures::future::join_all(asked).await) })
    }

    fn publish(&self, topic: String, payload: Vec<u8>) -> BoxFuture<'static, Result<(), Box<str>>> {
        let topics = self.topics.clone();
        Box::pin(async move {
            let said = |error: TopicError| error.to_string().into_boxed_str();
            let topic = topics.topic::<Vec<u8>>(&format!("{GUEST_TOPICS}{topic}")).map_err(said)?;
            topic.publish(&payload).await.map(|_| ()).map_err(said)
        })
    }

    fn subscribe(
        &self,
        topic: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, Box<str>>> {
        let topics = self.topics.clone();
        Box::pin(async move {
            let said = |error: TopicError| error.to_string().into_boxed_str();
            let name = format!("{GUEST_TOPICS}{topic}");
            let messages = topics.topic::<Vec<u8>>(&name).map_err(said)?.subscribe().await;
            let messages = messages.map_err(said)?.filter_map(move |message| {
                let message = message.inspect_err(|error| {
                    tracing::warn!(topic, %error, "messages of a topic missed");
                });
                std::future::ready(message.ok().map(Bytes::from))
            });
            Ok(messages.boxed())
        })
    }
}

/// What runs here, as others are told.
pub(super) async fn local(
    coordinator: &CoordinatorHandle,
) -> Result<Vec<FirmwareReport>, AskError> {
    Ok(coordinator.list().await?.into_iter().map(report).collect())
}

fn report(status: FirmwareStatus) -> FirmwareReport {
    FirmwareReport {
        name: status.name,
        epoch: status.epoch,
        state: match status.state {
            HostState::Starting => report::HostState::Starting,
            HostState::Running => match status.pid {
                None => report::HostState::Running,
                Some(pid) => report::HostState::RunningApart { pid },
            },
            HostState::Restarting => report::HostState::Restarting,
            HostState::Failed => report::HostState::Failed,
            HostState::Idle => report::HostState::Idle,
            HostState::Completed { code } => report::HostState::Completed { code },
        },
        restarts: u32::try_from(status.restarts).unwrap_or(u32::MAX),
        cpu_percent: status.cpu_percent,
        memory_bytes: (status.memory_bytes > 0).then_some(status.memory_bytes),
        last_error: status.last_error.map(|error| shortened(&error)),
    }
}

/// At most [`report::ERROR_BYTES`] of `text`, cut between characters.
fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(report::ERROR_BYTES);
    text[..end].to_owned()
}

/// Tells other nodes what runs here.
pub(super) struct Reports(pub(super) CoordinatorHandle);

impl Serve for Reports {
    fn serve(&self, _from: NodeId, _body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let coordinator = self.0.clone();
        Box::pin(async move {
            let busy = |error: AskError| ServeError::Busy { reason: error.to_string().into() };
            let reports = local(&coordinator).await.map_err(busy)?;
            Ok(codec::encode(&reports)?.into())
        })
    }
}

/// How long a node waits for a line that somebody asks for, whatever they say.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Tells other nodes what firmware logged here, and what became of it.
pub(super) struct Told(pub(super) Chronicles, pub(super) Keepers);

impl Serve for Told {
    fn serve(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let (chronicles, keepers) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            let answer = match codec::decode(&body)? {
                Question::Log { name, from, wait_ms } => {
                    let wait = Duration::from_millis(wait_ms.into()).min(LONGEST_WAIT);
                    codec::encode(&chronicles.lines(&name, from, wait).await)?
                }
                Question::Events { name } => codec::encode(&chronicles.events(&name))?,
                Question::HandedOver { name, epoch, wait_ms } => {
                    let wait = Duration::from_millis(wait_ms.into()).min(LONGEST_WAIT);
                    codec::encode(&keepers.are_done(&name, epoch, wait).await)?
                }
            };
            Ok(answer.into())
        })
    }
}
