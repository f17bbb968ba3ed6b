//! The failure detector under any datagrams. See [`crate::fuzz`].

use std::time::{Duration, Instant};

use bytes::Buf;
use foca::Codec as _;
use odeum_proto::load::NodeLoad;
use odeum_proto::{Incarnation, NodeId, limits};

use super::MembershipConfig;
use super::identity::{Codec, Identity};
use super::swim::{Effects, MemberState, Swim, Timer};

/// Timers that wait; the rest is forgotten, as if the node had stopped before they rang.
const TIMERS: usize = 64;

/// The time from one step to the next: the detector is awake.
const STEP: Duration = Duration::from_millis(100);

/// A life of the detector: what comes over its links, and which of its timers ring. Each step is
/// a byte that says what comes; for a datagram its length in two bytes and itself.
pub fn datagrams(mut input: &[u8]) {
    let (Some(own), Some(peer)) = (identity("a"), identity("b")) else { return };
    let mut swim = Swim::new(own.clone(), &MembershipConfig::default(), 1);
    let (mut timers, mut now) = (Vec::new(), Instant::now());
    keep(&own, swim.announce(&peer.node, peer.incarnation, now), &mut timers);
    while input.remaining() >= 3 {
        let step = input.get_u8();
        now += STEP;
        // Of some nodes, and at some times of none, this node knows otherwise.
        let known = |node: &NodeId| step & 1 == 0 && node.as_str().len() % 2 == 1;
        let effects = if step < 0x40 {
            let which = usize::from(input.get_u16_le());
            if timers.is_empty() {
                continue;
            }
            swim.rang(timers.swap_remove(which % timers.len()), now)
        } else {
            let length = usize::from(input.get_u16_le()).min(input.len());
            let (packet, rest) = input.split_at(length);
            input = rest;
            if let Ok(Some(load)) = NodeLoad::from_datagram(packet) {
                let again = load.to_datagram();
                assert!(
                    again.is_ok_and(|again| again.len() <= packet.len()),
                    "a load has one form"
                );
            }
            // Mostly from whom it says, since others are refused at once.
            let from = if step < 0x80 { peer.node.clone() } else { sender(packet, &peer.node) };
            match swim.receive(&from, packet, known, now) {
                Ok(effects) => effects,
                Err(_) => continue,
            }
        };
        keep(&own, effects, &mut timers);
        assert_eq!(swim.identity().node, own.node, "its name is its own");
        assert_eq!(swim.identity().incarnation, own.incarnation, "its start is its own");
        // A life of its own that it has not lived is one it takes for over.
        let mut others = swim.members().filter(|(node, ..)| **node == own.node);
        assert!(others.all(|(.., state)| state == MemberState::Down), "it is its own peer");
    }
}

fn identity(name: &str) -> Option<Identity> {
    Some(Identity { node: name.parse().ok()?, incarnation: Incarnation(1), renewal: 0 })
}

/// Whom a packet says it is from. What can be read of it is what would be written.
fn sender(packet: &[u8], otherwise: &NodeId) -> NodeId {
    let mut rest = packet;
    let Ok(header) = Codec.decode_header(&mut rest) else { return otherwise.clone() };
    let mut again = Vec::new();
    let written = Codec.encode_header(&header, &mut again);
    assert!(written.is_ok(), "a header that was read can be written: {written:?}");
    assert_eq!(packet.strip_suffix(rest), Some(&again[..]), "a header has one form");
    header.src.node
}

/// Checks what the detector wants done, and keeps its timers.
fn keep(own: &Identity, effects: Effects, timers: &mut Vec<Timer>) {
    for (_, packet) in effects.send {
        assert!(packet.len() <= limits::DATAGRAM_BYTES, "a packet of {} bytes", packet.len());
        let header = Codec.decode_header(&packet[..]);
        assert!(
            header.as_ref().is_ok_and(|header| header.src.node == own.node),
            "its packets are in its name: {header:?}"
        );
    }
    timers.extend(effects.timers.into_iter().map(|(_, timer)| timer));
    timers.truncate(TIMERS);
}
