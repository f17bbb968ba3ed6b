//! Replicas over real QUIC endpoints on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;
use crate::transport::pki::Authority;
use crate::transport::{self, Services, TransportConfig, TransportHandle};

struct Peer {
    id: NodeId,
    store: StoreHandle,
    transport: TransportHandle,
    supervisors: [Supervisor; 2],
}

impl Peer {
    async fn start(dir: &TempDir, authority: &Authority, id: &str) -> Self {
        let id: NodeId = id.parse().expect("valid");
        let certs = dir.path().join(id.as_str()).join("certs");
        authority.issue(&id, &certs).expect("issued");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = TransportConfig::new(id.clone(), Incarnation(1), listen, certs);
        let services = Services::default();
        let (transport, network) = transport::start(config, services.clone()).expect("bound");
        let files = dir.path().join(id.as_str()).join("store");
        let (store, replica) =
            store(StoreConfig::new(files, id.clone()), Arc::new(transport.clone()));
        store.register(&services);
        let supervisors =
            [replica.start().await.expect("starts"), network.start().await.expect("starts")];
        Self { id, store, transport, supervisors }
    }

    fn record(&self) -> NodeRecord {
        NodeRecord {
            id: self.id.clone(),
            disk: DiskId::random(),
            incarnation: Incarnation(1),
            cluster_addr: self.transport.local_addr(),
            api_addr: "127.0.0.1:7070".parse().expect("valid"),
            version: "0.1.0".into(),
            kinds: BTreeMap::new(),
            labels: BTreeMap::new(),
            zone: None,
            capacity: NodeRecord::CAPACITY,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_over_quic_elect_replicate_and_outlive_their_leader() {
    let dir = TempDir::new().expect("made");
    let authority = Authority::create(&dir.path().join("ca")).expect("made");
    let mut peers = Vec::new();
    for id in ["n1", "n2", "n3"] {
        peers.push(Peer::start(&dir, &authority, id).await);
    }
    let book: BTreeMap<NodeId, SocketAddr> =
        peers.iter().map(|peer| (peer.id.clone(), peer.transport.local_addr())).collect();
    for peer in &peers {
        peer.transport.set_peers(book.clone());
    }
    peers[0].store.found(ClusterId::random(), peers[0].record()).await.expect("founded");
    for joining in [&peers[1], &peers[2]] {
        peers[0].store.admit(joining.record(), PATIENCE).await.expect("admitted");
    }
    for (n, peer) in peers.iter().enumerate() {
        let name = format!("none-{n}").parse().expect("valid");
        let outcome = peer.store.write(Command::DeleteFirmware { name }, PATIENCE).await;
        assert!(matches!(outcome, Ok(Outcome::Refused(Refusal::UnknownFirmware { .. }))));
    }

    let leader = peers.iter().position(|peer| peer.store.status().is_leader()).expect("one leads");
    let dead = peers.remove(leader);
    let died = Instant::now();
    // The network first: nothing it says in parting reaches the others.
    dead.supervisors[1].shutdown().await;
    let put = |peer: &Peer| Command::RemoveNode {
        node: format!("x-{}", peer.id).parse().expect("valid"),
    };
    peers[0].store.write(put(&peers[0]), PATIENCE).await.expect("written");
    println!("write gap over quic {:?}", died.elapsed());
    for peer in &peers {
        peer.store.barrier(PATIENCE).await.expect("a majority is there");
        assert_eq!(peer.store.view(|state| state.nodes().len()), 3);
    }
    dead.supervisors[0].shutdown().await;
    for peer in &peers {
        for supervisor in &peer.supervisors {
            supervisor.shutdown().await;
        }
    }
}
