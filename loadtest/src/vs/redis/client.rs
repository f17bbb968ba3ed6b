//! The driver of a Redis server: a few connections, on each of which many requests are under way, and
//! those that are asked at the same time go in one packet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::resp::{self, Reply};
use crate::remote::driver::PATIENCE;
use crate::store::driver::Store;
use crate::store::workload::Reading;

/// Connections. Few are best for Redis: `redis-benchmark` sets 50,000 values a second with 256 that have
/// one request under way each, and 207,000 with 4 that have 64 (two cores, each write on disk).
pub(super) const CONNECTIONS: usize = 4;

/// Requests that wait for a connection: more than there are askers.
const WAITING: usize = 2_048;

/// How often a server that starts is asked whether it is there.
const LOOK: Duration = Duration::from_millis(20);

/// A request that is encoded, and who waits for its answer.
type Asked = (BytesMut, oneshot::Sender<Reply>);

/// Requests to a server.
#[derive(Clone)]
pub(super) struct Client(Arc<Connections>);

struct Connections {
    all: Vec<mpsc::Sender<Asked>>,
    next: AtomicUsize,
    /// They end with the client.
    _tasks: JoinSet<anyhow::Result<()>>,
}

impl Client {
    /// Connects to the server there, which may be starting.
    pub(super) async fn connect(at: &str) -> anyhow::Result<Self> {
        let (mut all, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..CONNECTIONS {
            let connected = timeout(PATIENCE, connected(at)).await;
            let stream = connected.context("Redis does not listen")??;
            let (sender, requests) = mpsc::channel(WAITING);
            tasks.spawn(converse(stream, requests));
            all.push(sender);
        }
        Ok(Self(Arc::new(Connections { all, next: AtomicUsize::new(0), _tasks: tasks })))
    }

    async fn ask(&self, words: &[&[u8]]) -> anyhow::Result<Reply> {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let connection = self.0.all.get(turn).context("no connection")?;
        let mut request = BytesMut::new();
        resp::put(words, &mut request);
        let (sender, reply) = oneshot::channel();
        connection.send((request, sender)).await.ok().context("Redis has closed the connection")?;
        match reply.await.context("Redis has closed the connection")? {
            Reply::Refused(why) => anyhow::bail!("Redis says {why}"),
            reply => Ok(reply),
        }
    }
}

async fn connected(at: &str) -> anyhow::Result<TcpStream> {
    loop {
        match TcpStream::connect(at).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Sends what is asked and hands out what is answered, which comes in the same order.
async fn converse(
    mut stream: TcpStream,
    mut requests: mpsc::Receiver<Asked>,
) -> anyhow::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let (mut sent, mut came) = (BytesMut::new(), BytesMut::new());
    let mut waiting: VecDeque<oneshot::Sender<Reply>> = VecDeque::new();
    let mut some = Vec::new();
    loop {
        tokio::select! {
            biased;
            written = writer.write_buf(&mut sent), if !sent.is_empty() => {
                written?;
            }
            read = reader.read_buf(&mut came) => {
                anyhow::ensure!(read? > 0, "Redis has closed the connection");
                while let Some(reply) = resp::take(&mut came)? {
                    let asker = waiting.pop_front().context("an answer that nobody waits for")?;
                    // Who asked may have given up.
                    let _ = asker.send(reply);
                }
            }
            count = requests.recv_many(&mut some, WAITING), if sent.is_empty() => {
                if count == 0 {
                    return Ok(());
                }
                for (request, asker) in some.drain(..) {
                    sent.extend_from_slice(&request);
                    waiting.push_back(asker);
                }
            }
        }
    }
}

impl Store for Client {
    async fn write(&self, key: u64, value: Bytes) -> anyhow::Result<()> {
        match self.ask(&[b"SET", name(key).as_bytes(), &value]).await? {
            Reply::Done => Ok(()),
            other => anyhow::bail!("Redis answered {other:?}"),
        }
    }

    async fn persist(&self, key: u64, value: Bytes) -> anyhow::Result<()> {
        // There is no other server that could acknowledge it.
        self.write(key, value).await
    }

    /// It has one way.
    async fn read(&self, key: u64, _: Reading) -> anyhow::Result<usize> {
        match self.ask(&[b"GET", name(key).as_bytes()]).await? {
            Reply::Value(value) => Ok(value.map_or(0, |value| value.len())),
            other => anyhow::bail!("Redis answered {other:?}"),
        }
    }

    async fn leader(&self, _: u64) -> anyhow::Result<usize> {
        Ok(0)
    }
}

fn name(key: u64) -> String {
    format!("key-{key}")
}
