//! A path to one node that takes time and changes the order of packets: a relay of UDP packets
//! between the node and all who talk to it. The kernel has no such path to offer everywhere.
//!
//! The node's peers are told the relay's address instead of the node's. For each peer the relay
//! has a socket towards the node, so that answers find their way back.

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::netns::Net;

/// Largest packet there is.
const PACKET: usize = 64 << 10;

/// How a path treats each packet, in either direction.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    /// How long every packet takes at least.
    pub(crate) delay: Duration,
    /// How much longer some take: a packet overtakes those that take so.
    pub(crate) jitter: Duration,
}

/// A relay before one node; it ends when it is dropped.
pub(crate) struct Relay {
    addr: SocketAddr,
    /// Dropped, it ends the thread.
    to: Option<watch::Sender<Option<SocketAddr>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Relay {
    /// A relay, in the hub of `net` or on loopback. It drops everything until it is told where
    /// it leads.
    pub(crate) fn start(net: Option<&Net>, path: Path) -> Self {
        let hub = net.map(Net::hub_file);
        let ip = if net.is_some() { Net::hub_addr() } else { Ipv4Addr::LOCALHOST };
        let (bound, is_bound) = mpsc::channel();
        let (to, node) = watch::channel(None);
        let thread = thread::spawn(move || {
            // The sockets of this thread are in the hub's namespace for good.
            if let Some(hub) = hub {
                let hub = File::open(hub).expect("a namespace");
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(hub.as_fd(), network).expect("it may be entered");
            }
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
            runtime.block_on(async {
                let front = UdpSocket::bind((ip, 0)).await.expect("a port");
                bound.send(front.local_addr().expect("bound")).expect("it is waited for");
                let mut closed = node.clone();
                tokio::select! {
                    () = relay(Arc::new(front), ip, node, path) => {}
                    _ = closed.wait_for(|_| false) => {}
                }
            });
        });
        let addr = is_bound.recv().expect("the relay starts");
        Self { addr, to: Some(to), thread: Some(thread) }
    }

    /// Where the node's peers are to send.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the node listens.
    pub(crate) fn lead_to(&self, node: SocketAddr) {
        if let Some(to) = &self.to {
            to.send_replace(Some(node));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.to = None;
        // One that panicked has said so.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn relay(
    front: Arc<UdpSocket>,
    ip: Ipv4Addr,
    node: watch::Receiver<Option<SocketAddr>>,
    path: Path,
) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut carried = JoinSet::new();
    let mut packet = vec![0; PACKET];
    loop {
        // An error is about a packet sent before, to someone who has gone.
        let Ok((length, peer)) = front.recv_from(&mut packet).await else { continue };
        let Some(node) = *node.borrow() else { continue };
        let back = match backs.get(&peer) {
            Some(back) => Arc::clone(back),
            None => {
                let back = Arc::new(UdpSocket::bind((ip, 0)).await.expect("a port"));
                answers.spawn(answer(Arc::clone(&back), Arc::clone(&front), peer, path.clone()));
                backs.insert(peer, Arc::clone(&back));
                back
            }
        };
        path.carry(&mut carried, packet[..length].to_vec(), back, node);
    }
}

/// Carries what the node sends to one peer.
async fn answer(back: Arc<UdpSocket>, front: Arc<UdpSocket>, peer: SocketAddr, path: Path) {
    let mut carried = JoinSet::new();
    let mut packet = vec![0; PACKET];
    loop {
        if let Ok((length, _)) = back.recv_from(&mut packet).await {
            path.carry(&mut carried, packet[..length].to_vec(), Arc::clone(&front), peer);
        }
    }
}

impl Path {
    fn carry(
        &self,
        carried: &mut JoinSet<()>,
        packet: Vec<u8>,
        by: Arc<UdpSocket>,
        to: SocketAddr,
    ) {
        while carried.try_join_next().is_some() {}
        let takes = self.delay + self.jitter.mul_f64(rand::rng().random());
        carried.spawn(async move {
            tokio::time::sleep(takes).await;
            // What cannot be sent is lost, as on any path.
            let _ = by.send_to(&packet, to).await;
        });
    }
}
