//! Peers of the cluster's own authority that send what they must not, open what they can, or
//! read nothing; and those without a good certificate, who do not get so far.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use odeum_cluster::transport::pki::Authority;
use odeum_proto::codec;
use quinn::Connection;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::cluster::{Cluster, WHOLE};
use super::rogue::{self, BULK, CONSENSUS, CONTROL, LANE, REQUESTS, Rogue};
use super::traffic::Entry;

/// TLS alerts, RFC 8446 §6.
const EXPIRED: u64 = 45;
/// See [`EXPIRED`].
const UNKNOWN_AUTHORITY: u64 = 48;

/// How much a node may grow while a peer misbehaves, in bytes: the sum of the bounds of its queues
/// towards that peer.
const GROWTH: u64 = 320 << 20;

/// How soon the death of a node must be known.
const NOTICED: Duration = Duration::from_secs(2);

/// Streams that a node lets a peer have at a time, of each direction, and some.
const STREAMS: usize = 64;

fn rogue(cluster: &Cluster) -> Rogue {
    Rogue::new("rogue", &cluster.authority(), &cluster.certs("rogue"))
}

/// Lets a peer misbehave towards `n1` while the cluster has its traffic, then checks that nobody
/// was held up, that `n1` did not grow beyond measure, and everything else.
fn endure(misbehaviour: impl AsyncFnOnce(&Cluster, SocketAddr)) {
    endured(misbehaviour).reckon();
}

/// As [`endure`], for tests that look further.
fn endured(misbehaviour: impl AsyncFnOnce(&Cluster, SocketAddr)) -> Cluster {
    let mut cluster = Cluster::here();
    let victim = cluster.node("n1").addr;
    let before = cluster.node("n1").memory();
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(misbehaviour(&cluster, victim));
    let grown = cluster.node("n1").most_memory().saturating_sub(before);
    println!("grown by {} KiB from {} KiB", grown >> 10, before >> 10);
    assert!(grown < GROWTH, "n1 grew by {grown} bytes");
    drop(runtime);
    cluster.whole_since(Instant::now(), WHOLE);
    cluster
}

#[test]
fn a_certificate_of_another_authority_opens_no_connection() {
    endure(async |cluster, victim| {
        let other = tempfile::tempdir().expect("a folder");
        let authority = Authority::create(other.path()).expect("an authority");
        let certs = other.path().join("rogue");
        authority.issue(&"rogue".parse().expect("a name"), &certs).expect("a certificate");
        let rogue = Rogue::new("rogue", &cluster.authority(), &certs);
        for _ in 0..20 {
            if let Ok(quic) = rogue.connect(victim).await {
                assert_eq!(rogue::alert(&quic).await, UNKNOWN_AUTHORITY);
            }
        }
    });
}

#[test]
fn an_expired_certificate_opens_no_connection() {
    endure(async |cluster, victim| {
        let folder = tempfile::tempdir().expect("a folder");
        rogue::issue_expired("rogue", &cluster.authority(), folder.path());
        let rogue = Rogue::new("rogue", &cluster.authority(), folder.path());
        for _ in 0..20 {
            if let Ok(quic) = rogue.connect(victim).await {
                assert_eq!(rogue::alert(&quic).await, EXPIRED);
            }
        }
    });
}

#[test]
fn garbage_on_any_stream_costs_its_sender_the_connection_and_nobody_else() {
    let seed = rand::random();
    println!("seed {seed}");
    endure(async |cluster, victim| {
        let rogue = rogue(cluster);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut noise = vec![0; 256 << 10];
        for round in 0..5 {
            rng.fill(&mut noise[..]);
            for tag in [CONSENSUS, REQUESTS, BULK, LANE, 9] {
                // A length within bounds first, so that the noise is read as what it precedes; in
                // other rounds a length that lies.
                let length: u32 = if round % 2 == 0 { 64 } else { rng.random() };
                let quic = rogue.introduced(victim).await;
                let mut send = rogue::open(&quic, tag).await.expect("a stream");
                // Closed in mid-write is what is wanted.
                let _ = send.write_all(&length.to_le_bytes()).await;
                let _ = send.write_all(&noise).await;
                let _ = send.finish();
                rogue::is_expelled(&quic, &format!("round {round}, tag {tag}")).await;
            }
            // The control plane ends its session only: the link is not its own.
            let quic = rogue.introduced(victim).await;
            let mut send = rogue::open(&quic, CONTROL).await.expect("a stream");
            let _ = send.write_all(&noise).await;
            for length in [0_u64, 1 << 20, u64::MAX, 1 << 40] {
                let mut send = rogue::open(&quic, CONTROL).await.expect("a stream");
                let _ = send.write_all(&length.to_be_bytes()).await;
                let _ = send.write_all(&noise).await;
            }
            for bytes in noise.chunks(997) {
                let _ = quic.send_datagram(bytes.to_vec().into());
            }
            quic.close(0_u32.into(), b"");
            // Before the introduction, and before QUIC itself.
            let quic = rogue.connect(victim).await.expect("let in");
            let (mut send, _recv) = quic.open_bi().await.expect("a stream");
            let _ = send.write_all(&noise).await;
            rogue::end(&quic, super::PATIENCE).await.expect("who does not introduce itself goes");
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            for bytes in noise.chunks(1_201) {
                socket.send_to(bytes, victim).await.expect("sent");
            }
        }
    });
}

#[test]
fn a_peer_that_makes_up_nodes_is_not_believed() {
    let mut cluster = endured(async |cluster, victim| {
        let rogue = rogue(cluster);
        let quic = rogue.introduced(victim).await;
        for number in 0..20_000_u32 {
            // A gossip of the failure detector, of the rogue to n1, about three nodes that are
            // alive and better known as nobody.
            let mut packet = BytesMut::new();
            put_identity(&mut packet, "rogue");
            packet.put_u16_le(0);
            put_identity(&mut packet, "n1");
            packet.put_u8(8);
            packet.put_u16(3);
            for ghost in 0..3 {
                put_identity(&mut packet, &format!("ghost-{}", number * 3 + ghost));
                packet.put_slice(&[0, 0, 0]);
            }
            quic.send_datagram_wait(packet.freeze()).await.expect("sent");
        }
        quic.close(0_u32.into(), b"");
    });
    for name in ["n1", "n2", "n3"] {
        let alive = cluster.see(name).alive;
        assert!(
            !alive.iter().any(|node| node.starts_with("ghost")),
            "{name} believes in {alive:?}"
        );
    }
    // Nor do they keep it from noticing who is really gone.
    cluster.kill("n3");
    cluster.sees("n1", "without n3", NOTICED, |sight| !sight.alive.contains("n3"));
    cluster.whole_since(Instant::now(), WHOLE);
    cluster.reckon();
}

/// A start of a node, as the failure detector names it.
fn put_identity(packet: &mut BytesMut, name: &str) {
    packet.put_u8(u8::try_from(name.len()).expect("short"));
    packet.put_slice(name.as_bytes());
    packet.put_u64_le(1);
    packet.put_u32_le(0);
}

#[test]
fn a_peer_that_opens_100_000_streams_holds_few_of_them() {
    endure(async |cluster, victim| {
        let rogue = rogue(cluster);
        // One after the other, each gone at once, of every class.
        let quic = rogue.introduced(victim).await;
        for number in 0..100_000_u32 {
            let tag = [CONTROL, CONSENSUS, REQUESTS, BULK][number as usize % 4];
            let (mut send, mut recv) = quic.open_bi().await.expect("a stream");
            send.write_all(&[tag]).await.expect("sent");
            let _ = send.reset(0_u32.into());
            let _ = recv.stop(0_u32.into());
        }
        assert!(quic.close_reason().is_none(), "that is no breach of the protocol");
        quic.close(0_u32.into(), b"");
        // As many as it may have at once, and none is let go.
        for tag in [CONSENSUS, LANE] {
            let quic = rogue.introduced(victim).await;
            let mut held = Vec::new();
            while held.len() < 100_000 {
                match timeout(Duration::from_secs(1), rogue::open(&quic, tag)).await {
                    Ok(stream) => held.push(stream.expect("a stream")),
                    Err(_) => break,
                }
            }
            assert!(held.len() < STREAMS, "{} streams", held.len());
            quic.close(0_u32.into(), b"");
        }
    });
}

#[test]
fn a_peer_that_asks_and_reads_nothing_costs_bounded_memory_and_holds_up_nobody() {
    endure(async |cluster, victim| {
        let rogue = rogue(cluster);
        let quic = rogue.introduced(victim).await;
        let asking = async {
            tokio::join!(
                ask_for_echoes(&quic, CONSENSUS),
                ask_for_echoes(&quic, REQUESTS),
                ask_for_transfers(&quic),
                ask_ledgers(&quic),
            )
        };
        // It waits for the node to read, or is thrown out; either is well.
        let _ = timeout(Duration::from_secs(8), asking).await;
        quic.close(0_u32.into(), b"");
    });
}

/// A request to the service that answers with the question, again and again.
async fn ask_for_echoes(quic: &Connection, tag: u8) -> Result<(), quinn::WriteError> {
    let mut send = rogue::open(quic, tag).await?;
    let body = vec![7; 1 << 20];
    for id in 0..1_000_u64 {
        let mut head = BytesMut::new();
        head.put_u32_le(9 + 7 + (1 << 20));
        head.put_u8(1);
        head.put_u64_le(id);
        put_firmware(&mut head);
        send.write_all(&head).await?;
        send.write_all(&body).await?;
    }
    Ok(())
}

/// The service that answers with the question, for 60 s.
fn put_firmware(head: &mut BytesMut) {
    head.put_u8(6);
    head.put_u16_le(0);
    head.put_u32_le(60_000);
}

/// As many transfers as there can be, of 16 MiB there and back.
async fn ask_for_transfers(quic: &Connection) -> Result<(), quinn::WriteError> {
    let body = vec![7; 16 << 20];
    for _ in 0..1_000 {
        let mut send = rogue::open(quic, BULK).await?;
        let mut head = BytesMut::new();
        put_firmware(&mut head);
        head.put_u64_le(16 << 20);
        send.write_all(&head).await?;
        send.write_all(&body).await?;
        // As with the receiving ends: it is not given back.
        std::mem::forget(send);
    }
    Ok(())
}

/// Asks to ledgers that are to be answered with a megabyte each, by a lane.
async fn ask_ledgers(quic: &Connection) -> Result<(), quinn::WriteError> {
    let mut send = rogue::open(quic, LANE).await?;
    let body = codec::encode(&Entry::Echo(1 << 20)).expect("encodes");
    for call in 0..100_000_u64 {
        let entity = format!("ledger/l{}", call % 12);
        let mut head = BytesMut::new();
        let length = 1 + 8 + 8 + 4 + 1 + 2 + entity.len() + body.len();
        head.put_u32_le(u32::try_from(length).expect("short"));
        head.put_u8(2);
        head.put_u64_le(call);
        head.put_u64_le(1 + call % 3);
        head.put_u32_le(60_000);
        head.put_u8(0);
        head.put_u16_le(u16::try_from(entity.len()).expect("short"));
        head.put_slice(entity.as_bytes());
        head.put_slice(&body);
        send.write_all(&head).await?;
    }
    Ok(())
}
