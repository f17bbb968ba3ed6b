//! The actor that serves the API over HTTP/1.1.
//!
//! The listening socket is bound before the node starts and outlives a crash of this actor: a port
//! in use is found at once, the bound address is known to everybody, and a restart refuses no
//! client, whose connections wait in the backlog meanwhile. An orderly stop closes it, so that
//! clients turn to another node at once.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `AcceptingEnded` | its own accept loop, which never ends by itself | none; restarts the actor |
//!
//! Not done, and why: `axum::serve` detaches a task for each connection, bounds neither their
//! number nor the time a client takes to send its headers.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use odeum_actors::{Actor, ActorError, ChildSpec, Context, Shutdown, child};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{node::ApiNode, routes};

/// Most connections at once. Each has a buffer of up to 400 kB; beyond this, clients wait in the
/// backlog of the socket.
const CONNECTIONS: usize = 2_048;
/// How long a client may take to send a request's headers, and how long an idle connection stays.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// Pause after a failed accept: it fails when descriptors run out, and trying at once would only
/// keep a core busy until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the supervisor waits beyond the drain before it kills the actor.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("the API cannot listen on {addr} (TCP): {reason}; choose another address with --api")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// What the system said.
    #[source]
    pub reason: std::io::Error,
}

/// A bound socket, for [`spec`].
#[derive(Debug)]
pub struct Listening {
    listener: StdListener,
    addr: SocketAddr,
}

impl Listening {
    /// The bound address: the port is the real one where 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Binds the API's address.
///
/// # Errors
/// [`BindError`] when the address is taken or not this machine's.
pub fn bind(addr: SocketAddr) -> Result<Listening, BindError> {
    let listen = || {
        let listener = StdListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        Ok(Listening { listener, addr })
    };
    listen().map_err(|reason| BindError { addr, reason })
}

/// The actor's spec, a child of the `ApiSupervisor`. When it stops, requests under way have
/// `drain` to end.
#[must_use]
pub fn spec(
    Listening { listener, addr }: Listening,
    node: Arc<dyn ApiNode>,
    drain: Duration,
) -> ChildSpec {
    let socket = Arc::new(Mutex::new(Some(listener)));
    let (_, spec) = child("Http", move || HttpActor {
        socket: Arc::clone(&socket),
        addr,
        node: Arc::clone(&node),
        drain,
        serving: None,
    });
    spec.shutdown(Shutdown::Timeout(drain + DRAIN_GRACE))
}

#[derive(Debug)]
enum HttpMessage {
    AcceptingEnded,
}

/// The listening socket while there is one, kept from one life of the actor to the next.
type Socket = Arc<Mutex<Option<StdListener>>>;

struct HttpActor {
    socket: Socket,
    addr: SocketAddr,
    node: Arc<dyn ApiNode>,
    drain: Duration,
    serving: Option<Serving>,
}

/// How the accept loop is ended, and how its end is known.
struct Serving {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Actor for HttpActor {
    type Message = HttpMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let listener = TcpListener::from_std(self.listener()?)?;
        tracing::info!(addr = %self.addr, "api listening");
        let stop = CancellationToken::new();
        let (sender, ended) = oneshot::channel();
        let service = routes::routes(Arc::clone(&self.node), stop.clone());
        let accepting = accept(listener, service, stop.clone(), self.drain);
        let own = ctx.handle().clone();
        ctx.spawn(async move {
            accepting.await;
            drop(sender);
            // An error means that this actor is ending, which is why accepting ended.
            let _ = own.tell(HttpMessage::AcceptingEnded).await;
        });
        self.serving = Some(Serving { stop, ended });
        Ok(())
    }

    async fn handle(
        &mut self,
        _ctx: &mut Context<Self>,
        message: HttpMessage,
    ) -> Result<(), ActorError> {
        match message {
            HttpMessage::AcceptingEnded => Err(ActorError::msg("the accept loop ended")),
        }
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) {
        drop(self.socket.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(Serving { stop, ended }) = self.serving.take() {
            stop.cancel();
            // Either way it has ended: the sender is dropped.
            let _ = ended.await;
        }
    }
}

impl HttpActor {
    /// A second handle on the socket, which is bound anew after an orderly stop.
    fn listener(&self) -> Result<StdListener, ActorError> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = match socket.take() {
            Some(listener) => listener,
            None => bind(self.addr)?.listener,
        };
        Ok(socket.insert(listener).try_clone()?)
    }
}

/// Accepts until told to stop, then lets the connections end for at most `drain`.
async fn accept(listener: TcpListener, service: Router, stop: CancellationToken, drain: Duration) {
    let mut connections = JoinSet::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some((stream, slot)) = next(&listener, &slots, &stop).await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, service.clone(), stop.clone(), slot));
    }
    drop(listener);
    let ended = timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(connections = connections.len(), "requests cut off by the stop");
    }
}

/// The next connection; `None` when it is time to stop.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = stop.run_until_cancelled(Arc::clone(slots).acquire_owned()).await?.ok()?;
    loop {
        match stop.run_until_cancelled(listener.accept()).await? {
            Ok((stream, _)) => return Some((stream, slot)),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await?;
            }
        }
    }
}

/// One connection with its requests, one after the other.
async fn serve(
    stream: TcpStream,
    service: Router,
    stop: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    // A small reply must not wait for the next segment; without the option it is only slower.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            // The request under way is answered; an idle connection ends at once.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
