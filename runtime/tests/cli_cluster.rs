//! Links, the doctor, joining and leaving, on real nodes and from the command line.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;

use std::path::{Path, PathBuf};

use process::{COUNTER, Node, Up, folder, odeum, text};
use serde_json::Value;

/// An authority in `folder` with certificates for `nodes`.
fn certs(folder: &Path, nodes: &[&str]) -> Vec<PathBuf> {
    let dir = folder.display().to_string();
    let done = |arguments: &[&str]| {
        let output = odeum(arguments).args(["--dir", &dir]).output().expect("runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    done(&["certs", "init"]);
    nodes.iter().for_each(|node| done(&["certs", "issue", node]));
    nodes.iter().map(|node| folder.join(node)).collect()
}

fn json(output: &str) -> Value {
    serde_json::from_str(output).expect("JSON")
}

/// Waits until the node shows the link to `peer`, and gives it.
fn link(node: &Node, peer: &str) -> Value {
    for _ in 0..500 {
        let links = json(&node.done(&["get", "links", "-o", "json"]));
        let links = links["links"].as_array().expect("links");
        if let Some(link) =
            links.iter().find(|link| link["peer"] == peer && link["state"].is_object())
        {
            return link["state"].clone();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    unreachable!("no link to {peer}: {}", node.log())
}

/// What the doctor found of one sort: its levels.
fn levels(findings: &Value, check: &str) -> Vec<String> {
    let findings = findings.as_array().expect("findings");
    let of = findings.iter().filter(|finding| finding["check"] == check);
    of.map(|finding| finding["level"].as_str().expect("a level").to_owned()).collect()
}

#[test]
fn a_node_joins_by_one_command_and_both_see_their_link_and_are_well() {
    let folder = folder();
    let certs = certs(folder.path(), &["n1", "n2"]);
    let n1 = Up::with_certs("n1", &certs[0]).start();
    let n2 = Up::with_certs("n2", &certs[1]).joining(&n1.cluster_addr()).start();
    assert!(n2.log().contains("joined its cluster"), "{}", n2.log());

    let (there, back) = (link(&n1, "n2"), link(&n2, "n1"));
    assert_ne!(there["dialled"], back["dialled"]);
    for state in [&there, &back] {
        assert!(state["mtu"].as_u64().expect("a number") >= 1_200, "{state}");
        assert!(state["certificate"]["days_left"].as_i64().expect("a number") > 700, "{state}");
        for class in ["control", "consensus", "lane", "bulk", "datagram"] {
            assert!(state["classes"][class]["sent_bytes"].is_u64(), "{class}: {state}");
        }
        assert!(state["classes"]["consensus"]["received_bytes"].as_u64() > Some(0), "{state}");
        assert_eq!(state["reconnects"], 0, "{state}");
    }
    let table = n1.done(&["get", "links"]);
    assert!(table.contains("n2") && table.contains("itself"), "{table}");
    assert!(n1.done(&["get", "links", "n2"]).contains("datagram"));
    assert!(n1.refused(&["get", "links", "n7"]).contains("n7"));

    let findings = json(&n2.done(&["doctor", "-o", "json"]));
    for check in ["node", "certificates", "ports", "peers", "clock"] {
        let levels = levels(&findings, check);
        assert!(!levels.is_empty() && levels.iter().all(|level| level == "ok"), "{findings:#}");
    }
    for check in ["mtu", "disk", "limits"] {
        assert!(!levels(&findings, check).is_empty(), "{check}: {findings:#}");
    }
    // Its folder tells where it listens, and its name whose settings these are.
    let data = certs[1].with_extension("data").display().to_string();
    let beside = odeum(&["doctor", "--node", "n2", "--data-dir", &data]).output().expect("runs");
    assert!(text(&beside.stdout).contains("process"), "{}", text(&beside.stdout));
}

#[test]
fn the_doctor_of_a_node_that_does_not_run_says_what_it_would_meet() {
    let folder = folder();
    let certs = certs(folder.path(), &["n1", "n2"]);
    let n1 = Up::with_certs("n1", &certs[0]).start();
    let data = folder.path().join("later").display().to_string();
    let doctor = |more: &[&str]| {
        let own = certs[1].display().to_string();
        let mut command = odeum(&["doctor", "--node", "n2", "--data-dir", &data, "--certs", &own]);
        let output = command.args(more).output().expect("runs");
        (output.status.code(), text(&output.stdout))
    };
    let free = ["--api", "127.0.0.1:0", "--cluster", "127.0.0.1:0"];
    let place = n1.cluster_addr();

    let (code, report) = doctor(&[&free[..], &["--join", &place]].concat());
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("does not run") && report.contains("round trip"), "{report}");

    let (code, report) = doctor(&["--api", n1.api_addr(), "--cluster", &place, "-o", "json"]);
    assert_eq!(code, Some(1), "{report}");
    let findings = json(&report);
    assert_eq!(levels(&findings, "ports"), ["fail", "fail"], "{findings:#}");
    assert!(report.contains("node n1 listens there"), "{report}");

    let nobody = [&free[..], &["--join", "127.0.0.1:1", "--join", "nowhere"]].concat();
    let (code, report) = doctor(&nobody);
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("firewalls") && report.contains("HOST:PORT"), "{report}");
    assert!(!folder.path().join("later").exists(), "the doctor makes nothing");
}

#[test]
fn the_doctor_names_certificates_that_do_not_fit() {
    let (ours, theirs) = (folder(), folder());
    let (own, other) = (certs(ours.path(), &["n1"]), certs(theirs.path(), &["n2"]));
    let n1 = Up::with_certs("n1", &own[0]).start();
    let doctor = |node: &str, certs: &Path| {
        let data = ours.path().join("later").display().to_string();
        let place = n1.cluster_addr();
        let mut command = odeum(&["doctor", "--node", node, "--data-dir", &data]);
        command.args(["--api", "127.0.0.1:0", "--cluster", "127.0.0.1:0", "--join", &place]);
        let output = command.arg("--certs").arg(certs).output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        text(&output.stdout)
    };
    let report = doctor("n2", &other[0]);
    assert!(report.contains("by one authority"), "{report}");
    let report = doctor("n3", &other[0]);
    assert!(report.contains("node n2, not of n3"), "{report}");
    let report = doctor("n2", &theirs.path().join("none"));
    assert!(report.contains("odeum certs issue"), "{report}");
}

#[test]
fn what_cannot_be_joined_is_refused_in_one_line_before_anything_is_made() {
    let (ours, theirs) = (folder(), folder());
    let own = certs(ours.path(), &["n1", "n2"]);
    let other = certs(theirs.path(), &["n2"]);
    let n1 = Up::with_certs("n1", &own[0]).start();
    let place = n1.cluster_addr();
    let n2 = Up::with_certs("n2", &own[1]);

    let nobody = n2.clone().joining("127.0.0.1:1").refused();
    assert!(nobody.contains("is a node up there"), "{nobody}");
    let authority = Up::with_certs("n2", &other[0]).joining(&place).refused();
    assert!(authority.contains("same authority"), "{authority}");
    let itself = Up { data: ours.path().join("again"), ..Up::with_certs("n1", &own[0]) };
    let itself = itself.joining(&place).refused();
    assert!(itself.contains("is called n1 as well"), "{itself}");
    for data in [&n2.data, &other[0].with_extension("data"), &ours.path().join("again")] {
        assert!(!data.exists(), "{}", data.display());
    }

    // A folder that founded a cluster of its own.
    drop(n2.start());
    let founded = n2.clone().joining(&place).refused();
    assert!(founded.contains("--data-dir"), "{founded}");
    // Another folder for a name that is in the cluster.
    let fresh = |name: &str| Up { data: ours.path().join(name), ..n2.clone() };
    drop(fresh("first").joining(&place).start());
    // Looked at while it runs no more and n1 may not have noticed yet.
    let taken = fresh("second").joining(&place).refused();
    assert!(taken.contains("another data folder"), "{taken}");
    // The same folder comes back.
    let back = fresh("first").joining(&place).start();
    assert!(back.log().contains("back in its cluster"), "{}", back.log());
}

#[test]
fn a_node_that_leaves_ends_with_0_the_rest_go_on_and_it_may_come_again() {
    let folder = folder();
    let certs = certs(folder.path(), &["n1", "n2"]);
    let n1 = Up::with_certs("n1", &certs[0]).start();
    let up = Up::with_certs("n2", &certs[1]);
    let n2 = up.clone().joining(&n1.cluster_addr()).start();
    n2.done(&["run", COUNTER]);
    assert_eq!(n1.done(&["call", "counter", "--deadline", "30s"]), "1\n");

    assert!(n1.done(&["leave", "n2"]).contains("n2 has left"));
    assert_eq!(n2.ended(), Some(0));
    let nodes = n1.done(&["get", "nodes"]);
    assert!(nodes.contains("n1") && !nodes.contains("n2"), "{nodes}");
    assert_eq!(n1.done(&["call", "counter", "--deadline", "30s"]), "2\n");
    assert!(n1.refused(&["leave"]).contains("cannot leave"), "the last one stays");
    assert!(n1.refused(&["leave", "n7"]).contains("n7"));

    assert!(up.refused().contains("left cluster"), "it does not come back unasked");
    let n2 = up.joining(&n1.cluster_addr()).start();
    assert!(n2.log().contains("joined its cluster"), "{}", n2.log());
    n2.done(&["leave"]);
    assert_eq!(n2.ended(), Some(0));
}
