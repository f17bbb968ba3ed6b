//! Our nodes against ractor's own cluster: one remotable counter, reached through its process
//! group, over mutual TLS.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, BytesConvertable, RpcReplyPort, pg};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{
    IncomingEncryptionMode, NodeServer, NodeServerMessage, RactorClusterMessage, client_connect_enc,
};
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::remote::driver::{self, PATIENCE, Remote};
use crate::remote::process::Side;
use crate::remote::{self, DRIVE, Effort, HOLD, Party, Targets, tls};
use crate::report::{Report, Target};

/// What the two sides say in the handshake that they speak.
const ALPN: &[u8] = b"ractor";
/// The process group by which the counter is found.
const GROUP: &str = "loadtest";
/// Both nodes know it.
const COOKIE: &str = "loadtest";
/// Largest frame, in bytes. The default is just too small for a transfer with its header.
const FRAME: u64 = 64 << 20;
/// Casts after which the counter is asked to say that it has them.
const STRIDE: u64 = 4_096;
/// Such questions at a time. Casts have no bound of their own, and without one two million of
/// them grow the sender by 700 MB and slow it down; with this many it never pauses.
const STRIDES: usize = 8;
/// How often the process group is looked at until the counter is in it.
const LOOK: Duration = Duration::from_millis(10);

/// Runs all rows.
///
/// # Errors
/// If a side cannot be started or fails in the middle.
pub async fn run(effort: Effort) -> anyhow::Result<Report> {
    let targets = Targets {
        tell: Target::AtLeast(2.2),
        asks: Target::AtLeast(2.5),
        beside: Target::AtMost(0.1),
        ..Targets::default()
    };
    remote::compare("ractor_cluster", Party::Rust(Side::RactorCluster), targets, effort).await
}

/// The process with the counter.
pub(crate) async fn hold(stage: &Path) -> anyhow::Result<()> {
    let (counter, _) = Actor::spawn(None, Counter, ()).await?;
    pg::join(GROUP.to_owned(), vec![counter.get_cell()]);
    let port = free_port()?;
    let (_server, _) = Actor::spawn(None, server(stage, HOLD, port)?, ()).await?;
    driver::hold(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// The process that drives it.
pub(crate) async fn drive(stage: &Path, at: &str) -> anyhow::Result<()> {
    let (server, _) = Actor::spawn(None, server(stage, DRIVE, 0)?, ()).await?;
    let counter = timeout(PATIENCE, find(&server, stage, at))
        .await
        .context("the counter did not come into the process group")??;
    let strides = Arc::new(Mutex::new(VecDeque::with_capacity(STRIDES)));
    driver::drive(Distant { counter, casts: Arc::new(AtomicU64::new(0)), strides }).await
}

/// Connects, and waits until the other node's counter is known here.
async fn find(
    server: &ActorRef<NodeServerMessage>,
    stage: &Path,
    at: &str,
) -> anyhow::Result<ActorRef<CounterMessage>> {
    let connector = TlsConnector::from(Arc::new(tls::client(stage, DRIVE, ALPN)?));
    client_connect_enc(server, at, connector, ServerName::try_from(tls::NAME)?).await?;
    loop {
        let members = pg::get_members(&GROUP.to_owned());
        if let Some(cell) = members.into_iter().find(|cell| !cell.get_id().is_local()) {
            return Ok(cell.into());
        }
        sleep(LOOK).await;
    }
}

fn server(stage: &Path, name: &str, port: u16) -> anyhow::Result<NodeServer> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(stage, name, ALPN)?));
    Ok(NodeServer::new(
        port,
        COOKIE.to_owned(),
        name.to_owned(),
        "localhost".to_owned(),
        Some(IncomingEncryptionMode::Tls(acceptor)),
        Some(NodeConnectionMode::Isolated),
    )
    .with_listen_addr(Ipv4Addr::LOCALHOST.into())
    .with_max_inbound_frame_size(FRAME))
}

/// The node server does not say which port it was given, so one is found before.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Bytes that cross the wire as they are: the conversion of `Vec<u8>` goes byte by byte.
struct Body(Vec<u8>);

impl BytesConvertable for Body {
    fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

#[derive(RactorClusterMessage)]
enum CounterMessage {
    Tell(Body),
    #[rpc]
    Ask(Body, RpcReplyPort<Body>),
    #[rpc]
    Blob(Body, RpcReplyPort<u64>),
    #[rpc]
    GetCount(RpcReplyPort<u64>),
}

struct Counter;

impl Actor for Counter {
    type Msg = CounterMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: CounterMessage,
        counted: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CounterMessage::Tell(_) => *counted += 1,
            CounterMessage::Ask(body, reply) => reply.send(body)?,
            CounterMessage::Blob(body, reply) => reply.send(body.0.len() as u64)?,
            CounterMessage::GetCount(reply) => reply.send(*counted)?,
        }
        Ok(())
    }
}

/// The counter in the other process.
#[derive(Clone)]
struct Distant {
    counter: ActorRef<CounterMessage>,
    casts: Arc<AtomicU64>,
    strides: Arc<Mutex<VecDeque<JoinHandle<anyhow::Result<u64>>>>>,
}

impl Distant {
    /// Waits until at most [`STRIDES`] × [`STRIDE`] casts are on their way.
    async fn pace(&self) -> anyhow::Result<()> {
        let mut strides = self.strides.lock().await;
        if strides.len() == STRIDES
            && let Some(oldest) = strides.pop_front()
        {
            oldest.await??;
        }
        let counter = self.counter.clone();
        strides.push_back(tokio::spawn(async move { count(&counter).await }));
        Ok(())
    }
}

impl Remote for Distant {
    async fn tell(&self, body: Bytes) -> anyhow::Result<()> {
        self.counter.cast(CounterMessage::Tell(Body(body.into())))?;
        if (self.casts.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(STRIDE) {
            self.pace().await?;
        }
        Ok(())
    }

    async fn count(&self) -> anyhow::Result<u64> {
        count(&self.counter).await
    }

    async fn ask(&self, body: Bytes) -> anyhow::Result<Bytes> {
        let ask = |reply| CounterMessage::Ask(Body(body.into()), reply);
        Ok(answer(self.counter.call(ask, Some(PATIENCE)).await?)?.0.into())
    }

    async fn blob(&self, body: Bytes) -> anyhow::Result<()> {
        let blob = |reply| CounterMessage::Blob(Body(body.into()), reply);
        answer(self.counter.call(blob, Some(PATIENCE)).await?).map(drop)
    }
}

async fn count(counter: &ActorRef<CounterMessage>) -> anyhow::Result<u64> {
    answer(counter.call(CounterMessage::GetCount, Some(PATIENCE)).await?)
}

fn answer<T>(result: CallResult<T>) -> anyhow::Result<T> {
    match result {
        CallResult::Success(answer) => Ok(answer),
        CallResult::Timeout => anyhow::bail!("no answer within {PATIENCE:?}"),
        CallResult::SenderError => anyhow::bail!("the counter is gone"),
    }
}
