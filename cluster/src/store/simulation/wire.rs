//! The store's questions over a simulated network: datagrams that are late, lost and out of order.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::{GroupId, NodeId, codec};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use turmoil::net::UdpSocket;

use super::world::{World, name};
use crate::store::StoreHandle;
use crate::store::rpc::{Purpose, Rpc, RpcError};

const PORT: u16 = 7071;

/// The largest message: a snapshot of what a run makes.
const LARGEST: usize = 4 << 20;

/// How soon a node that does not run is known not to answer.
const REFUSED: Duration = Duration::from_millis(20);

#[derive(Debug, Serialize, Deserialize)]
struct Packet {
    number: u64,
    /// The group, and whether it is for its leader; `None` in an answer.
    question: Option<(GroupId, bool)>,
    body: Vec<u8>,
}

/// The end of the network at one node.
pub(super) struct Wire {
    world: Arc<World>,
    node: usize,
    socket: UdpSocket,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Bytes>>,
}

impl Wire {
    pub(super) async fn open(world: &Arc<World>, node: usize) -> std::io::Result<Arc<Self>> {
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await?;
        Ok(Arc::new(Self { world: Arc::clone(world), node, socket, asked: Mutex::default() }))
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, to: SocketAddr, packet: &Packet) {
        let bytes = codec::encode(packet).expect("a packet is encoded");
        self.world.trace(&format!("{} sends to {}", self.node, to.ip()), &bytes);
        let lost = {
            let mut now = self.world.now();
            let loss = now.loss;
            loss > 0 && now.random.percent(loss)
        };
        if !lost {
            // A node that is not there any more hears nothing.
            let _ = self.socket.try_send_to(&bytes, to);
        }
    }

    /// Answers what comes, and takes the answers, as long as the node lives.
    pub(super) async fn listen(self: Arc<Self>, store: StoreHandle) {
        let mut buffer = vec![0; LARGEST];
        loop {
            let Ok((length, from)) = self.socket.recv_from(&mut buffer).await else { return };
            let packet: Packet = codec::decode(&buffer[..length]).expect("sent by a node");
            let Some((group, forward)) = packet.question else {
                let waiting = self.asked().waiting.remove(&packet.number);
                if let Some(waiting) = waiting {
                    // Whoever asked may have given up.
                    let _ = waiting.send(packet.body.into());
                }
                continue;
            };
            let (wire, store) = (Arc::clone(&self), store.clone());
            tokio::spawn(async move {
                let body = Bytes::from(packet.body);
                let answer = if forward {
                    store.answer_forward(group, body).await
                } else {
                    store.answer_raft(group, body).await
                };
                let body = answer.to_vec();
                wire.send(from, &Packet { number: packet.number, question: None, body });
            });
        }
    }
}

/// [`Wire`] as the store has it.
pub(super) struct Port(pub(super) Arc<Wire>);

impl Rpc for Port {
    fn ask(
        &self,
        peer: &NodeId,
        group: GroupId,
        purpose: Purpose,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, RpcError>> {
        let (wire, peer) = (Arc::clone(&self.0), peer.clone());
        Box::pin(async move {
            if !wire.world.runs(&peer) {
                tokio::time::sleep(REFUSED.min(deadline)).await;
                return Err(RpcError::Unreachable { peer, reason: "refused".into() });
            }
            let (sender, answer) = oneshot::channel();
            let number = {
                let mut asked = wire.asked();
                asked.last += 1;
                let number = asked.last;
                asked.waiting.insert(number, sender);
                number
            };
            let question = Some((group, purpose == Purpose::Forward));
            let to = SocketAddr::new(turmoil::lookup(peer.as_str()), PORT);
            wire.send(to, &Packet { number, question, body: body.to_vec() });
            let answer = tokio::time::timeout(deadline, answer).await;
            wire.asked().waiting.remove(&number);
            match answer {
                Ok(Ok(body)) => Ok(body),
                Ok(Err(_)) => Err(RpcError::Unreachable { peer, reason: "closed".into() }),
                Err(_) => Err(RpcError::Deadline { peer, after: deadline }),
            }
        })
    }
}

/// The node behind an address of the network.
pub(super) fn host(node: usize) -> String {
    name(node).as_str().to_owned()
}
