//! The node's links in the API's words.

use std::collections::BTreeSet;

use odeum_cluster::transport::{ClassStats, LinkStats, TransportHandle, pki::CertificateInfo};
use odeum_proto::NodeId;

use super::{micros, millis};
use crate::api::types::{CertificateSummary, ClassTraffic, LinkReport, LinkState, LinksReport};

/// The links to `others` and to whoever else is linked.
pub(super) fn report(transport: &TransportHandle, others: BTreeSet<NodeId>) -> LinksReport {
    let mut peers = others;
    peers.extend(transport.links().borrow().keys().cloned());
    peers.remove(transport.local());
    let links = peers.into_iter().map(|peer| {
        let state = transport.stats(&peer).map(state);
        LinkReport { peer, state }
    });
    LinksReport {
        node: transport.local().clone(),
        certificate: transport.certificate().map(certificate),
        links: links.collect(),
    }
}

fn state(stats: LinkStats) -> LinkState {
    let loss = stats.loss();
    let classes = [
        ("control", stats.control),
        ("consensus", stats.consensus),
        ("lane", stats.lane),
        ("bulk", stats.bulk),
        ("datagram", stats.datagram),
    ];
    LinkState {
        addr: stats.link.addr,
        incarnation: stats.link.incarnation,
        dialled: stats.link.dialled,
        since_ms: millis(stats.link.since.elapsed()),
        reconnects: stats.reconnects,
        rtt_us: micros(stats.link.rtt),
        loss,
        sent_packets: stats.sent_packets,
        lost_packets: stats.lost_packets,
        mtu: stats.mtu,
        congestion_window: stats.congestion_window,
        certificate: stats.certificate.map(certificate),
        classes: classes.map(|(name, class)| (name.to_owned(), traffic(class))).into(),
    }
}

fn traffic(class: ClassStats) -> ClassTraffic {
    let ClassStats { sent_bytes, received_bytes, waiting_frames, waiting_bytes } = class;
    ClassTraffic { sent_bytes, received_bytes, waiting_frames, waiting_bytes }
}

fn certificate(info: CertificateInfo) -> CertificateSummary {
    CertificateSummary { valid_until: info.not_after, days_left: info.days_left }
}
