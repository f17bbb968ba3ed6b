//! Real endpoints on loopback, several in one process, each with its own certificate.

mod faults;
mod handover;
mod introductions;
mod links;
mod renewal;
mod requests;
mod stats;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use odeum_actors::Supervisor;
use quinn::Connection;
use tempfile::TempDir;

use super::*;
use crate::transport::hello::{Introduction, Met};
use crate::transport::pki::Authority;

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// An authority with the folders of its nodes.
struct Realm {
    dir: TempDir,
    authority: Authority,
}

impl Realm {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let authority = Authority::create(dir.path()).expect("authority");
        Self { dir, authority }
    }

    /// The certificates of a node, made if need be.
    fn certs(&self, name: &str) -> std::path::PathBuf {
        let dir = self.dir.path().join(name);
        if !dir.exists() {
            self.authority.issue(&id(name), &dir).expect("certificate");
        }
        dir
    }

    fn config(&self, name: &str) -> TransportConfig {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        TransportConfig::new(id(name), Incarnation(1), listen, self.certs(name))
    }

    async fn node(&self, name: &str) -> Node {
        Node::start(self.config(name), Services::default()).await
    }

    async fn serving(&self, name: &str, serve: Arc<dyn Serve>) -> Node {
        let services =
            Services::default().with(Service::Call, Arc::clone(&serve)).with(Service::Blob, serve);
        Node::start(self.config(name), services).await
    }
}

/// A running transport.
struct Node {
    transport: TransportHandle,
    root: Supervisor,
}

impl Node {
    async fn start(config: TransportConfig, services: Services) -> Self {
        let (transport, spec) = start(config, services).expect("starts");
        let root = spec.start().await.expect("starts");
        Self { transport, root }
    }

    fn addr(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    /// Puts these nodes into the address book.
    fn know(&self, peers: &[&Node]) {
        let book = peers.iter().map(|p| (p.transport.local().clone(), p.addr())).collect();
        self.transport.set_peers(book);
    }

    async fn linked(&self, peer: &str) -> LinkInfo {
        let mut links = self.transport.links();
        let up = links.wait_for(|links| links.contains_key(&id(peer)));
        tokio::time::timeout(PATIENCE, up).await.expect("in time").expect("running");
        self.transport.link(&id(peer)).expect("linked")
    }

    async fn ask(&self, peer: &str, body: &'static [u8]) -> Result<Bytes, TransportError> {
        let body = Bytes::from_static(body);
        self.transport.request(&id(peer), Service::Call, Class::Lane, body, PATIENCE).await
    }
}

/// A connection of a peer with a good certificate and bad manners.
async fn rogue(realm: &Realm, victim: &Node) -> Connection {
    rogue_as(realm, victim, rand::random()).await
}

/// The one that it dials as its `attempt`th: of several the last one is the highest.
async fn rogue_as(realm: &Realm, victim: &Node, attempt: u64) -> Connection {
    let certs = tls::load(&realm.certs("rogue"), &id("rogue")).expect("certificates");
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut endpoint = quinn::Endpoint::client(local).expect("binds");
    endpoint.set_default_client_config(settings::client(&certs));
    let quic = endpoint.connect(victim.addr(), pki::COMMON_NAME).expect("config").await;
    let hello = odeum_proto::wire::Hello {
        node: id("rogue"),
        incarnation: Incarnation(1),
        cluster: None,
        attempt,
    };
    let introduction = Introduction { version: WireVersion::CURRENT, hello };
    let met = hello::as_dialler(quic.expect("connects"), &introduction, None).await;
    match met.expect("let in") {
        Met::New(introduced) => introduced.quic,
        Met::Linked(_) => panic!("linked before"),
    }
}

fn id(name: &str) -> NodeId {
    name.parse().expect("valid")
}

/// Answers with the question.
struct Echo;

impl Serve for Echo {
    fn serve(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        Box::pin(async move { Ok(body) })
    }
}

/// Never answers; counts what it was asked.
#[derive(Default)]
struct Silent {
    asked: AtomicUsize,
}

impl Serve for Silent {
    fn serve(&self, _: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }
}

/// Waits until `done`, looking every few milliseconds.
async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn one_connection_is_left(nodes: [&Node; 2]) {
    eventually("one connection is left", || {
        nodes.iter().all(|node| {
            let quic = node.transport.shared.quic.load();
            quic.as_ref().map(|quic| quic.open_connections()) == Some(1)
        })
    })
    .await;
}

/// What was logged on this thread while it lives: tests that read it run on one thread.
struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    _on: tracing::subscriber::DefaultGuard,
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn new() -> Self {
        let lines = Arc::default();
        let sink = Sink(Arc::clone(&lines));
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || sink.clone())
            .finish();
        Self { lines, _on: tracing::subscriber::set_default(subscriber) }
    }

    /// The warnings of `node`.
    fn of(&self, node: &str) -> Vec<String> {
        let lines = self.lines.lock().expect("not poisoned");
        String::from_utf8_lossy(&lines)
            .lines()
            .filter(|line| line.contains(&format!("node={node} ")))
            .map(str::to_owned)
            .collect()
    }
}

fn write(dir: &Path, file: &str, text: &str) {
    std::fs::write(dir.join(file), text).expect("writes");
}
