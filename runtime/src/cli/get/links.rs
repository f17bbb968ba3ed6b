//! `odeum get links`: the asked node's links.

use odeum_proto::NodeId;

use super::{
    super::out::{cell, table},
    CliError, Invocation, seconds,
};
use crate::{
    api::types::{CertificateSummary, ClassTraffic, LinkReport, LinkState, LinksReport},
    config::ByteSize,
};

/// Prints all links, or the one to `peer` by class.
pub(super) fn show(
    invocation: &Invocation,
    report: &LinksReport,
    peer: Option<NodeId>,
) -> Result<(), CliError> {
    let Some(peer) = peer else { return invocation.out.result(report, links_table) };
    match report.links.iter().find(|link| link.peer == peer) {
        Some(link) => invocation.out.result(link, link_table),
        None => Err(CliError::NoLink { node: report.node.clone(), peer }),
    }
}

fn links_table(report: &LinksReport) -> String {
    const HEADING: [&str; 12] = [
        "PEER",
        "LINK",
        "ADDRESS",
        "SINCE",
        "RECONNECTS",
        "RTT",
        "LOSS",
        "SENT",
        "RECEIVED",
        "WAITING",
        "MTU",
        "CERTIFICATE",
    ];
    let own = {
        let mut row = HEADING.map(|_| None);
        row[0] = cell(&report.node);
        row[1] = cell("itself");
        row[11] = report.certificate.as_ref().map(valid);
        row
    };
    let rows = report.links.iter().map(|link| {
        let Some(state) = &link.state else {
            let mut row = HEADING.map(|_| None);
            (row[0], row[1]) = (cell(&link.peer), cell("down"));
            return row;
        };
        let all = total(state);
        [
            cell(&link.peer),
            cell(if state.dialled { "dialled" } else { "accepted" }),
            cell(state.addr),
            cell(seconds(state.since_ms)),
            cell(state.reconnects),
            cell(format_args!("{} µs", state.rtt_us)),
            cell(percent(state.loss)),
            cell(ByteSize(all.sent_bytes).rounded()),
            cell(ByteSize(all.received_bytes).rounded()),
            cell(waiting(&all)),
            cell(state.mtu),
            state.certificate.as_ref().map(valid),
        ]
    });
    table(HEADING, std::iter::once(own).chain(rows))
}

fn link_table(link: &LinkReport) -> String {
    let Some(state) = &link.state else { return format!("the link to {} is down", link.peer) };
    let rows = state.classes.iter().map(|(class, traffic)| {
        [
            cell(class),
            cell(ByteSize(traffic.sent_bytes).rounded()),
            cell(ByteSize(traffic.received_bytes).rounded()),
            cell(traffic.waiting_frames),
            cell(ByteSize(traffic.waiting_bytes).rounded()),
        ]
    });
    let classes = table(["CLASS", "SENT", "RECEIVED", "FRAMES WAITING", "BYTES WAITING"], rows);
    format!(
        "{classes}\n{} packets sent, {} lost ({}); window {}, MTU {}, round trip {} µs",
        state.sent_packets,
        state.lost_packets,
        percent(state.loss),
        ByteSize(state.congestion_window).rounded(),
        state.mtu,
        state.rtt_us,
    )
}

fn total(state: &LinkState) -> ClassTraffic {
    state.classes.values().fold(ClassTraffic::default(), |all, class| ClassTraffic {
        sent_bytes: all.sent_bytes + class.sent_bytes,
        received_bytes: all.received_bytes + class.received_bytes,
        waiting_frames: all.waiting_frames + class.waiting_frames,
        waiting_bytes: all.waiting_bytes + class.waiting_bytes,
    })
}

/// What waits: nothing, or frames and their bytes.
fn waiting(all: &ClassTraffic) -> String {
    match (all.waiting_frames, all.waiting_bytes) {
        (0, 0) => "0".to_owned(),
        (frames, bytes) => format!("{frames}, {}", ByteSize(bytes).rounded()),
    }
}

/// A share in percent, with as many digits as tell a little from nothing.
fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn valid(certificate: &CertificateSummary) -> String {
    format!("{} days", certificate.days_left)
}

#[cfg(test)]
mod tests {
    use odeum_proto::Incarnation;

    use super::*;

    #[test]
    fn a_link_that_is_down_and_one_with_a_queue_are_told_apart() {
        let traffic = |waiting| ClassTraffic {
            sent_bytes: 2_048,
            received_bytes: 1_024,
            waiting_frames: waiting,
            waiting_bytes: waiting * 100,
        };
        let state = LinkState {
            addr: "127.0.0.1:7071".parse().expect("an address"),
            incarnation: Incarnation(1),
            dialled: true,
            since_ms: 61_000,
            reconnects: 2,
            rtt_us: 420,
            loss: 0.0125,
            sent_packets: 800,
            lost_packets: 10,
            mtu: 1_452,
            congestion_window: 12_000,
            certificate: None,
            classes: [("bulk".to_owned(), traffic(3)), ("lane".to_owned(), traffic(0))].into(),
        };
        let peer = |name: &str| name.parse().expect("a name");
        let report = LinksReport {
            node: peer("n1"),
            certificate: Some(CertificateSummary { valid_until: "then".to_owned(), days_left: 9 }),
            links: vec![
                LinkReport { peer: peer("n2"), state: Some(state) },
                LinkReport { peer: peer("n3"), state: None },
            ],
        };
        let text = links_table(&report);
        let rows: Vec<_> = text.lines().skip(1).collect();
        assert!(rows[0].starts_with("n1") && rows[0].ends_with("9 days"), "{text}");
        for word in ["dialled", "1m 1s", "1.25 %", "4.0 KiB", "3, 300 B", "1452"] {
            assert!(rows[1].contains(word), "{word}: {text}");
        }
        assert!(rows[2].starts_with("n3    down"), "{text}");
        let one = link_table(&report.links[0]);
        assert!(one.lines().any(|row| row.starts_with("bulk") && row.contains('3')), "{one}");
    }
}
