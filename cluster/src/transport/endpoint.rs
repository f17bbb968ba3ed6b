//! Listens for peers, introduces those who come, and gives each its [`Link`](super::link).
//!
//! | message | from | answer |
//! |---|---|---|
//! | `FollowBook` | `TransportHandle::set_peers` | |
//! | `Want` | a request without a link | |
//! | `Dial` | `TransportHandle::dial` | the node at that address, or why there is no link |
//! | `Accepted`, `DialEnded` | its own tasks | |
//! | `Idle` | a link without a connection, to a peer that is not in the book | |

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use odeum_actors::{
    Actor, ActorError, Context, Handle, Reply, Restart, Strategy, Supervisor, SupervisorSpec, child,
};
use odeum_proto::NodeId;
use odeum_proto::wire::{Hello, WireVersion};
use quinn::{Connection, Incoming};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handle::{Shared, TransportHandle};
use super::hello::{self, Introduced, Introduction, Met};
use super::link::{Link, LinkMessage};
use super::renewal::{Renewal, Stamp};
use super::tls;
use super::{Services, TransportConfig, TransportError, settings};

/// Messages that wait for the endpoint: nudges and handshakes, all of them rare.
const MAILBOX: usize = 1_024;

/// How long a link may take to say whether it ends: it does nothing long.
const RETIRE: Duration = Duration::from_secs(1);

/// What the endpoint is told.
pub(super) enum EndpointMessage {
    /// The address book has changed.
    FollowBook,
    /// A request waits for a link.
    Want {
        /// To whom.
        peer: NodeId,
    },
    /// Link to whoever is there.
    Dial {
        /// Where.
        addr: SocketAddr,
        /// Who it is.
        reply: Reply<Result<NodeId, TransportError>>,
    },
    /// Somebody came.
    Accepted(Box<Introduced>),
    /// An attempt of `Dial` has ended.
    DialEnded {
        /// How.
        outcome: Box<Result<Met, TransportError>>,
        /// Who asked.
        reply: Reply<Result<NodeId, TransportError>>,
    },
    /// A link is of no use any more.
    Idle {
        /// To whom.
        peer: NodeId,
    },
}

/// Makes connections; shared by the endpoint and its links.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) shared: Arc<Shared>,
    pub(super) version: WireVersion,
    pub(super) attempts: Arc<AtomicU64>,
}

impl Dialler {
    fn introduction(&self) -> Introduction {
        let hello = Hello {
            node: self.shared.local.clone(),
            incarnation: self.shared.incarnation,
            cluster: self.shared.cluster.get(),
            attempt: self.attempts.fetch_add(1, Ordering::Relaxed),
        };
        Introduction { version: self.version, hello }
    }

    /// Connects and introduces.
    pub(super) async fn dial(
        &self,
        addr: SocketAddr,
        expected: Option<&NodeId>,
    ) -> Result<Met, TransportError> {
        let attempt = async {
            let endpoint = self.shared.quic.load_full().ok_or(TransportError::Stopped)?;
            let connecting = endpoint
                .connect_with(
                    settings::client(&self.shared.tls.load()),
                    addr,
                    super::pki::COMMON_NAME,
                )
                .map_err(|error| TransportError::Connect {
                    addr,
                    reason: error.to_string().into(),
                })?;
            let quic = connecting.await.map_err(|error| hello::lost(addr, error))?;
            hello::as_dialler(quic, &self.introduction(), expected).await
        };
        bounded(addr, attempt).await
    }

    async fn accept(&self, incoming: Incoming) -> Result<Introduced, TransportError> {
        let addr = incoming.remote_address();
        let attempt = async {
            let quic: Connection = incoming.await.map_err(|error| hello::lost(addr, error))?;
            hello::as_acceptor(quic, &self.introduction()).await
        };
        bounded(addr, attempt).await
    }
}

async fn bounded<T>(
    addr: SocketAddr,
    attempt: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    timeout(settings::HANDSHAKE, attempt).await.unwrap_or_else(|_| {
        let reason = format!("no introduction within {:?}", settings::HANDSHAKE).into();
        Err(TransportError::Connect { addr, reason })
    })
}

/// Binds the address, checks the certificates, and returns the transport's handle with the
/// supervisor that runs it. Until that is started, requests fail with
/// [`TransportError::Unreachable`] or [`TransportError::Unknown`].
///
/// # Errors
/// [`TransportError::Listen`] when the address cannot be bound, [`TransportError::Pki`] when the
/// certificates cannot be used.
pub fn start(
    config: TransportConfig,
    services: Services,
) -> Result<(TransportHandle, SupervisorSpec), TransportError> {
    // Before the files are read: what changes while they are counts as changed.
    let stamp = Stamp::of(&config.certs);
    let tls = tls::load(&config.certs, &config.node).map_err(Arc::new)?;
    let socket = Arc::new(settings::bind(config.listen)?);
    let local_addr = socket
        .local_addr()
        .map_err(|error| TransportError::Listen { addr: config.listen, kind: error.kind() })?;
    let shared = Arc::new(Shared::new(&config, local_addr, services, tls));
    let dialler = Dialler {
        shared: Arc::clone(&shared),
        version: config.version,
        attempts: Arc::new(AtomicU64::new(1)),
    };
    let (links, links_spec) = SupervisorSpec::new("Links", Strategy::OneForOne).nested();
    let make = {
        let shared = Arc::clone(&shared);
        move || Endpoint {
            shared: Arc::clone(&shared),
            dialler: dialler.clone(),
            socket: Arc::clone(&socket),
            supervisor: links.clone(),
            links: BTreeMap::new(),
            own: None,
        }
    };
    let (endpoint, endpoint_spec) = child("Endpoint", make);
    let renew = {
        let (shared, dir, every) = (Arc::clone(&shared), config.certs, config.certs_look);
        move || Renewal::new(Arc::clone(&shared), dir.clone(), every, stamp)
    };
    let (_, renewal_spec) = child("Certificates", renew);
    let spec = SupervisorSpec::new("Transport", Strategy::RestForOne)
        .child(links_spec)
        .child(endpoint_spec.capacity(MAILBOX))
        .child(renewal_spec);
    Ok((TransportHandle { shared, endpoint }, spec))
}

/// The actor that listens.
struct Endpoint {
    shared: Arc<Shared>,
    dialler: Dialler,
    /// Bound for as long as the node runs: a restart of this actor keeps the port.
    socket: Arc<UdpSocket>,
    supervisor: Supervisor,
    links: BTreeMap<NodeId, Handle<LinkMessage>>,
    /// Its own handle, for the links.
    own: Option<Handle<EndpointMessage>>,
}

impl Actor for Endpoint {
    type Message = EndpointMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let endpoint = self.listen()?;
        let (dialler, me) = (self.dialler.clone(), ctx.handle().clone());
        self.own = Some(me.clone());
        ctx.spawn(accept_all(endpoint, dialler, me));
        tracing::info!(node = %self.shared.local, addr = %self.shared.local_addr, "listening");
        self.on_follow_book().await
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: EndpointMessage,
    ) -> Result<(), ActorError> {
        match message {
            EndpointMessage::FollowBook => self.on_follow_book().await,
            EndpointMessage::Want { peer } => self.tell_link(peer, LinkMessage::Want).await,
            EndpointMessage::Dial { addr, reply } => {
                self.on_dial(ctx, addr, reply);
                Ok(())
            }
            EndpointMessage::Accepted(introduced) => self.adopt(introduced).await,
            EndpointMessage::DialEnded { outcome, reply } => {
                self.on_dial_ended(*outcome, reply).await
            }
            EndpointMessage::Idle { peer } => {
                self.on_idle(&peer).await;
                Ok(())
            }
        }
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) {
        if let Some(endpoint) = self.shared.quic.swap(None) {
            endpoint.close(settings::CLOSE_ORDERLY, b"the node is stopping");
            // The peers learn at once what they would otherwise wait for.
            let _ = timeout(settings::FAREWELL, endpoint.wait_idle()).await;
        }
    }
}

impl Endpoint {
    /// The QUIC endpoint: the one there is, after a crash of this actor, or a new one.
    fn listen(&self) -> Result<quinn::Endpoint, ActorError> {
        if let Some(endpoint) = self.shared.quic.load_full() {
            return Ok(quinn::Endpoint::clone(&endpoint));
        }
        let runtime = quinn::default_runtime()
            .ok_or_else(|| ActorError::msg("the transport needs a tokio runtime"))?;
        let endpoint = quinn::Endpoint::new(
            quinn::EndpointConfig::default(),
            Some(settings::server(&self.shared.tls.load())),
            self.socket.try_clone()?,
            runtime,
        )?;
        self.shared.quic.store(Some(Arc::new(endpoint.clone())));
        Ok(endpoint)
    }

    async fn on_follow_book(&mut self) -> Result<(), ActorError> {
        let book = self.shared.book.load_full();
        let gone: Vec<_> = self.links.keys().filter(|p| !book.contains_key(p)).cloned().collect();
        for peer in gone {
            // A link that is not running any more has nothing to forget.
            if let Some(link) = self.links.get(&peer) {
                let _ = link.tell(LinkMessage::SetAddress(None)).await;
            }
        }
        for (peer, addr) in book.iter() {
            self.tell_link(peer.clone(), LinkMessage::SetAddress(Some(*addr))).await?;
        }
        Ok(())
    }

    /// Lets a link end. Only this actor gives it connections, so after its answer none is on its
    /// way to it.
    async fn on_idle(&mut self, peer: &NodeId) {
        let Some(link) = self.links.get(peer) else { return };
        let retires = link.ask(RETIRE, |reply| LinkMessage::Retire { reply }).await;
        // One that does not answer is ending already.
        if retires.unwrap_or(true) {
            self.links.remove(peer);
        }
    }

    fn on_dial(
        &mut self,
        ctx: &mut Context<Self>,
        addr: SocketAddr,
        reply: Reply<Result<NodeId, TransportError>>,
    ) {
        let (dialler, me) = (self.dialler.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            let outcome = Box::new(dialler.dial(addr, None).await);
            // The asker of an endpoint that is stopping sees its reply port dropped.
            let _ = me.tell(EndpointMessage::DialEnded { outcome, reply }).await;
        });
    }

    async fn on_dial_ended(
        &mut self,
        outcome: Result<Met, TransportError>,
        reply: Reply<Result<NodeId, TransportError>>,
    ) -> Result<(), ActorError> {
        match outcome {
            Ok(Met::Linked(peer)) => reply.send(Ok(peer)),
            Ok(Met::New(introduced)) => {
                let peer = introduced.peer.clone();
                self.adopt(Box::new(introduced)).await?;
                reply.send(Ok(peer));
            }
            Err(error) => {
                tracing::warn!(node = %self.shared.local, %error, "dial failed");
                reply.send(Err(error));
            }
        }
        Ok(())
    }

    async fn adopt(&mut self, introduced: Box<Introduced>) -> Result<(), ActorError> {
        self.tell_link(introduced.peer.clone(), LinkMessage::Adopt(introduced)).await
    }

    /// Tells the link to `peer`, which is made if it is not there.
    async fn tell_link(&mut self, peer: NodeId, message: LinkMessage) -> Result<(), ActorError> {
        let link = match self.links.get(&peer) {
            Some(link) if link.is_running() => link.clone(),
            _ => self.add_link(&peer).await?,
        };
        if let Err(ended) = link.tell(message).await {
            let link = self.add_link(&peer).await?;
            // A second one that ends at once means that the node is stopping.
            let _ = link.tell(ended.into_message()).await;
        }
        Ok(())
    }

    async fn add_link(&mut self, peer: &NodeId) -> Result<Handle<LinkMessage>, ActorError> {
        let name = format!("Link {peer}");
        // Left over from before a restart of this actor, or stopped by itself.
        let _ = self.supervisor.remove(&name).await;
        let make = {
            let (peer, shared) = (peer.clone(), Arc::clone(&self.shared));
            let dialler = self.dialler.clone();
            let own = self.own.clone().ok_or_else(|| ActorError::msg("not started"))?;
            move || Link::new(peer.clone(), Arc::clone(&shared), dialler.clone(), own.clone())
        };
        let (link, spec) = child(name, make);
        self.supervisor.add(spec.restart(Restart::Transient)).await?;
        self.links.insert(peer.clone(), link.clone());
        Ok(link)
    }
}

/// Introduces all who come, a bounded number at a time.
async fn accept_all(endpoint: quinn::Endpoint, dialler: Dialler, me: Handle<EndpointMessage>) {
    let mut handshakes = JoinSet::new();
    let told = Told::default();
    loop {
        tokio::select! {
            biased;
            Some(_) = handshakes.join_next() => {}
            incoming = endpoint.accept(), if handshakes.len() < settings::HANDSHAKES => {
                let Some(incoming) = incoming else { return };
                let (dialler, me, told) = (dialler.clone(), me.clone(), told.clone());
                handshakes.spawn(async move {
                    match dialler.accept(incoming).await {
                        Ok(introduced) => {
                            // An endpoint that is stopping takes nobody on.
                            let _ = me.tell(EndpointMessage::Accepted(Box::new(introduced))).await;
                        }
                        Err(error) => told.tell(&dialler.shared.local, &error),
                    }
                });
            }
        }
    }
}

/// Refusals that the log has had: who is refused tries again every second.
#[derive(Debug, Clone, Default)]
struct Told(Arc<Mutex<VecDeque<(Instant, String)>>>);

impl Told {
    fn tell(&self, node: &NodeId, error: &TransportError) {
        let text = error.to_string();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(when, _)| when.elapsed() < settings::TELL_AGAIN);
        if told.iter().any(|(_, before)| *before == text) {
            tracing::debug!(%node, %error, "peer refused");
            return;
        }
        tracing::warn!(%node, %error, "peer refused");
        if told.len() == settings::TOLD {
            told.pop_front();
        }
        told.push_back((Instant::now(), text));
    }
}
