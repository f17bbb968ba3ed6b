//! What is said about made-up facts.

use super::*;

/// A node that is well.
fn well() -> Facts {
    Facts {
        node: Some(NodeFacts {
            node: "n1".parse().expect("a name"),
            pid: 7,
            version: "0.1.0".to_owned(),
            cluster: None,
            not_ready: None,
        }),
        certificates: CertificateFacts {
            folder: "certs/n1".into(),
            made_at_start: false,
            problem: None,
            days_left: Some(700),
            authority_days_left: Some(7_000),
            key_mode: Some(0o600),
        },
        ports: vec![port(PortState::Held)],
        peers: vec![PeerFacts {
            place: "n2".to_owned(),
            problem: None,
            path: Some(path()),
            clock: Some(ClockFacts { ahead_us: -400_000, within_us: 300 }),
        }],
        folder: FolderFacts {
            folder: "data".into(),
            problem: None,
            free_bytes: Some(50 << 30),
            sync_us: Some(900),
        },
        machine: MachineFacts {
            open_files: Some(65_536),
            mappings: Some(262_144),
            receive_buffer: Some(8 << 20),
            send_buffer: Some(8 << 20),
            wanted_buffer: 8 << 20,
            memory_available: Some(8 << 30),
            memory_limit: None,
            memory_used: None,
        },
        isolation: IsolationFacts {
            problem: None,
            denied: vec!["write a file".to_owned(), "start a program".to_owned()],
            allowed: Vec::new(),
        },
    }
}

fn port(state: PortState) -> PortFacts {
    let addr = "127.0.0.1:7070".parse().expect("an address");
    PortFacts { what: "API (TCP)".to_owned(), flag: "--api".to_owned(), addr, state }
}

fn path() -> PathFacts {
    PathFacts {
        addr: "127.0.0.1:7071".parse().expect("an address"),
        rtt_us: 300,
        sent_packets: 1_000,
        lost_packets: 1,
        mtu: 1_452,
        reconnects: 0,
        since_ms: 60_000,
        days_left: Some(700),
    }
}

/// The findings about facts that were changed, as `level check: cure`.
fn found(change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let mut facts = well();
    change(&mut facts);
    let bad = judge(&facts).into_iter().filter(|finding| finding.level != Level::Ok);
    bad.map(|finding| {
        let cure = finding.cure.expect("what is not well has a cure");
        format!("{} {}: {cure}", finding.level, finding.check)
    })
    .collect()
}

fn path_of(facts: &mut Facts) -> &mut PathFacts {
    facts.peers[0].path.as_mut().expect("a path")
}

#[test]
fn a_node_that_is_well_has_nothing_but_good_findings_of_every_sort() {
    assert_eq!(found(|_| {}), [""; 0]);
    let findings = judge(&well());
    for check in
        ["node", "certificates", "ports", "peers", "clock", "mtu", "disk", "memory", "limits"]
    {
        assert!(findings.iter().any(|finding| finding.check == check), "{check}");
    }
}

#[test]
fn each_trouble_is_found_alone_with_its_level_and_its_cure() {
    type Change = fn(&mut Facts);
    let cases: [(Change, &str, &str); 18] = [
        (
            |f| f.node.as_mut().expect("a node").not_ready = Some("no majority".into()),
            "fail node",
            "odeum get nodes",
        ),
        (
            |f| f.certificates.problem = Some("not found".into()),
            "fail certificates",
            "odeum certs issue",
        ),
        (|f| f.certificates.days_left = Some(14), "warn certificates", "odeum certs rotate"),
        (
            |f| f.certificates.authority_days_left = Some(3),
            "warn certificates",
            "--authority announce",
        ),
        (
            |f| f.certificates.key_mode = Some(0o640),
            "warn certificates",
            "chmod 600 certs/n1/node.key",
        ),
        (
            |f| f.ports = vec![port(PortState::Taken { reason: "in use".into(), by: None })],
            "fail ports",
            "--api",
        ),
        (|f| path_of(f).lost_packets = 50, "warn peers", "overloaded"),
        (|f| path_of(f).days_left = Some(0), "warn peers", "renew"),
        (|f| path_of(f).mtu = 1_200, "warn mtu", "1280"),
        (
            |f| f.peers[0].clock = Some(ClockFacts { ahead_us: 501_000, within_us: 900 }),
            "warn clock",
            "NTP",
        ),
        (|f| f.folder.problem = Some("denied".into()), "fail disk", "--data-dir"),
        (|f| f.folder.free_bytes = Some(1 << 29), "warn disk", "space"),
        (|f| f.folder.free_bytes = Some(1 << 20), "fail disk", "space"),
        (|f| f.folder.sync_us = Some(30_000), "warn disk", "faster"),
        (|f| f.machine.open_files = Some(1_024), "warn limits", "ulimit -n"),
        (|f| f.machine.open_files = Some(256), "fail limits", "ulimit -n"),
        (
            |f| f.machine.receive_buffer = Some(212_992),
            "warn limits",
            "sysctl -w net.core.rmem_max=8388608",
        ),
        (|f| f.machine.memory_limit = Some(64 << 20), "fail memory", "more memory"),
    ];
    for (change, what, cure) in cases {
        let found = found(change);
        let [one] = &found[..] else { panic!("{what}: {found:?}") };
        assert!(one.starts_with(what) && one.contains(cure), "{what}, {cure}: {one}");
    }
}

#[test]
fn a_clock_is_not_blamed_for_what_the_comparison_cannot_tell() {
    let slow = ClockFacts { ahead_us: 900_000, within_us: 450_000 };
    assert_eq!(found(|facts| facts.peers[0].clock = Some(slow)), [""; 0]);
}

#[test]
fn a_path_that_has_just_come_up_is_not_blamed_for_small_packets() {
    let young = |facts: &mut Facts| {
        let path = path_of(facts);
        (path.mtu, path.since_ms) = (1_200, 100);
    };
    assert_eq!(found(young), [""; 0]);
}

#[test]
fn a_peer_that_is_not_reached_is_cured_by_what_it_said() {
    for (problem, cure) in [
        ("nobody answers within 2s", "firewalls"),
        ("the certificates do not fit between this node and 1.2.3.4:5", "one authority"),
        ("wire version 1.0 of the node at 1.2.3.4:5 does not fit", "same version"),
        ("node n2 at 1.2.3.4:5 belongs to cluster x, this node to y", "--data-dir"),
        ("the node at 1.2.3.4:5 is called n1 as well", "a name"),
    ] {
        let found = found(|facts| {
            let peer = &mut facts.peers[0];
            (peer.path, peer.clock, peer.problem) = (None, None, Some(problem.to_owned()));
        });
        let [one] = &found[..] else { panic!("{problem}: {found:?}") };
        assert!(one.starts_with("fail peers") && one.contains(cure), "{problem}: {one}");
    }
}

#[test]
fn certificates_of_development_that_are_still_to_be_made_are_no_trouble() {
    let made = found(|facts| {
        facts.certificates.made_at_start = true;
        facts.certificates.days_left = None;
        facts.certificates.key_mode = None;
    });
    assert_eq!(made, [""; 0]);
}

#[test]
fn what_a_kernel_does_not_deny_to_host_processes_is_named_and_no_failure() {
    let isolation = |change: fn(&mut IsolationFacts)| {
        let mut facts = well();
        change(&mut facts.isolation);
        let found = judge(&facts).into_iter().find(|it| it.check == "isolation");
        found.expect("it is looked at")
    };
    let well = isolation(|_| {});
    assert_eq!((well.level, well.cure), (Level::Ok, None));
    assert!(well.found.contains("all of 2 attempts"), "{}", well.found);
    let open = isolation(|facts| facts.allowed.push("open a UDP socket".to_owned()));
    assert_eq!(open.level, Level::Warn);
    assert!(open.found.contains("but for: open a UDP socket"), "{}", open.found);
    let broken = isolation(|facts| facts.problem = Some("it does not run".to_owned()));
    assert_eq!((broken.level, broken.found.as_str()), (Level::Warn, "it does not run"));
}
