//! What a cluster promises, kept by real processes that are killed, paused, stopped and restarted.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod cluster;

use std::{fs, time::Duration};

use cluster::{Callers, Cluster, PATIENCE, counter, counter_number, name};
use odeum_proto::{Digest, SessionId};
use odeum_runtime::api::types::{ActorNode, BlobSummary, DeployOptions, FirmwareState, NodeState};
use odeum_runtime::package::manifest::Time;
use rustix::process::Signal;
use tokio::time::sleep;

/// How soon a guest answers again after the death of any node.
const BACK: Duration = Duration::from_secs(5);

/// A firmware that is given up after two restarts, so that a test sees the end of it.
const FEW_RESTARTS: [(&str, &str); 2] =
    [("ODEUM_FIRMWARE__MAX_RESTARTS", "2"), ("ODEUM_FIRMWARE__RESTART_PAUSE", "20ms")];

/// A firmware that is restarted at once, as often as it takes.
const MANY_RESTARTS: [(&str, &str); 4] = [
    ("ODEUM_FIRMWARE__MAX_RESTARTS_PER_HOUR", "1000000"),
    ("ODEUM_FIRMWARE__MAX_RESTARTS", "1000000"),
    ("ODEUM_FIRMWARE__RESTART_PAUSE", "1ms"),
    ("ODEUM_FIRMWARE__LONGEST_RESTART_PAUSE", "1ms"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_survive_the_kill_of_all_nodes_at_once() {
    let mut cluster = Cluster::of(3, &[]).await;
    cluster.deploy("n2", "counter", counter()).await;
    let callers = Callers::start("counter", vec![cluster.routes(); 4]);
    for _ in 0..2 {
        callers.go_on(&cluster, 50, PATIENCE).await;
        let all = cluster.ids();
        cluster.kill(&all);
        // Each has new ports, so that none is where the others knew it to be: with the same command
        // as at first they find each other again.
        for id in all {
            cluster.start(&id, (id != "n1").then_some("n1")).await;
        }
        callers.go_on(&cluster, 50, PATIENCE).await;
    }
    assert!(callers.reckon(&cluster, "n3").await >= 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_count_is_lost_or_doubled_when_each_node_in_turn_is_killed() {
    let mut cluster = Cluster::of(3, &[]).await;
    cluster.deploy("n2", "counter", counter()).await;
    let callers = Callers::start("counter", vec![cluster.routes(); 3]);
    for round in 0..6 {
        callers.go_on(&cluster, 20, PATIENCE).await;
        let leader = cluster.leader("n1").await;
        let host = cluster.running("n1", "counter").await;
        let follower = cluster.ids().into_iter().find(|id| *id != leader && *id != host);
        let victim = match round % 3 {
            0 => host,
            1 => leader,
            _ => follower.expect("three nodes"),
        };
        let killed = cluster.kill(std::slice::from_ref(&victim));
        let back = callers.go_on(&cluster, 1, PATIENCE).await;
        assert!(
            back - killed < BACK,
            "round {round}: {:?} without an answer after the kill of {victim}\n{}",
            back - killed,
            cluster.last_words()
        );
        cluster.start(&victim, None).await;
        cluster.whole().await;
    }
    callers.reckon(&cluster, "n3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_three_nodes_refuses_writes_shows_what_it_knows_and_goes_on_with_a_second() {
    let mut cluster = Cluster::of(3, &[]).await;
    cluster.deploy("n1", "counter", counter()).await;
    cluster.deploy("n1", "other", counter()).await;
    assert_eq!(cluster.number("n1", "counter", "add 1").await, 1);
    assert_eq!(cluster.number("n1", "other", "add 1").await, 1);
    // It hosts one of the two firmware: a guest at hand without a majority is one case, a guest
    // that died with its node the other.
    let last = cluster.running("n1", "counter").await;
    let dead: Vec<String> = cluster.ids().into_iter().filter(|id| *id != last).collect();
    cluster.kill(&dead);
    let api = cluster.api(&last);
    cluster
        .until("two nodes that are down", PATIENCE, async || {
            let nodes = api.nodes().await.ok()?;
            let down = nodes.iter().filter(|node| node.state == NodeState::Down).count();
            (nodes.len() == 3 && down == 2).then_some(())
        })
        .await;
    for firmware in ["counter", "other"] {
        let (start, within) = (std::time::Instant::now(), Duration::from_secs(4));
        let refused = cluster.call(&last, firmware, "add 1", within).await;
        let error = refused.expect_err("there is no majority");
        assert!(start.elapsed() < within + Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(matches!(error.code(), Some("no-quorum" | "unavailable")), "{error:?}");
        assert!(error.is_retryable(), "{error:?}");
    }
    assert!(api.ready().await.is_err(), "a node without a majority takes no requests");
    let firmware = api.firmware().await.expect("what was deployed is still shown");
    assert_eq!(firmware.len(), 2);
    let session: SessionId = "counter/default".parse().expect("an id");
    assert_eq!(api.session(&session).await.expect_err("a stale read").code(), Some("no-quorum"));

    cluster.start(&dead[0], None).await;
    cluster.until("readiness", PATIENCE, async || api.ready().await.ok()).await;
    for firmware in ["counter", "other"] {
        let count = cluster.number(&last, firmware, "add 1").await;
        // A refused call was of unknown fate, and had no key that could have told it.
        assert!((2..=3).contains(&count), "{firmware}: {count}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_node_loses_its_guest_and_says_and_writes_nothing_stale_when_it_wakes() {
    let cluster = Cluster::of(3, &[]).await;
    cluster.deploy("n1", "counter", counter()).await;
    let mut callers = vec![cluster.routes(), cluster.routes()];
    callers.extend(cluster.ids().iter().map(|id| cluster.route_of(id)));
    let callers = Callers::start("counter", callers);
    for _ in 0..2 {
        callers.go_on(&cluster, 20, PATIENCE).await;
        let host = cluster.running("n1", "counter").await;
        let other = cluster.other_than(&host);
        cluster.signal(&host, Signal::STOP);
        let paused = std::time::Instant::now();
        cluster
            .until("an acknowledgement from elsewhere", BACK, async || {
                callers
                    .acks()
                    .iter()
                    .rev()
                    .find(|ack| ack.host.as_str() != host)
                    .filter(|ack| ack.at > paused)
                    .map(|_| ())
            })
            .await;
        // The length of the pause is what is tried.
        sleep(Duration::from_secs(4).saturating_sub(paused.elapsed())).await;
        let known = cluster.number(&other, "counter", "get").await;
        cluster.signal(&host, Signal::CONT);
        let said = cluster.number(&host, "counter", "get").await;
        assert!(said >= known, "{host} said {said} after {known} was acknowledged");
        cluster.whole().await;
    }
    callers.go_on(&cluster, 20, PATIENCE).await;
    callers.reckon(&cluster, "n3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_a_second_moves_nothing() {
    let cluster = Cluster::of(3, &[]).await;
    cluster.deploy("n1", "counter", counter()).await;
    let before = cluster.summary("n1", "counter").await;
    let host = before.node.as_ref().expect("it runs").to_string();
    let callers = Callers::start("counter", vec![cluster.routes(); 3]);
    callers.go_on(&cluster, 20, PATIENCE).await;
    cluster.signal(&host, Signal::STOP);
    // The length of the pause is what is tried.
    sleep(Duration::from_secs(1)).await;
    cluster.signal(&host, Signal::CONT);
    callers.go_on(&cluster, 20, PATIENCE).await;
    let after = cluster.summary(&host, "counter").await;
    assert_eq!((after.node, after.epoch), (before.node, before.epoch), "{}", cluster.last_words());
    callers.reckon(&cluster, &host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_finds_nodes_under_new_ports_and_goes_on_when_they_leave() {
    let mut cluster = Cluster::of(3, &[]).await;
    cluster.deploy("n1", "counter", counter()).await;
    let callers = Callers::start("counter", vec![cluster.routes(); 2]);
    cluster.start("n4", Some("n2")).await;
    cluster.start("n5", Some("n4")).await;
    cluster.whole().await;
    cluster
        .until("five voters", PATIENCE, async || {
            let store = cluster.api("n5").status().await.ok()?.store;
            (store.voters.len() == 5).then_some(())
        })
        .await;

    let mut hosts = vec![cluster.running("n1", "counter").await];
    for number in 2..=5 {
        hosts.push(cluster.deploy("n5", &format!("counter-{number}"), counter()).await);
    }
    hosts.sort_unstable();
    assert_eq!(hosts, cluster.ids(), "each node is given one of five");
    for via in cluster.ids() {
        cluster.number(&via, "counter-5", "add 1").await;
    }
    assert_eq!(cluster.number("n1", "counter-5", "get").await, 5);

    let before = cluster.cluster_addr("n4");
    cluster.kill(&["n4".to_owned()]);
    cluster.start("n4", None).await;
    assert_ne!(cluster.cluster_addr("n4"), before, "port 0 gives another port");
    cluster.whole().await;
    assert_eq!(cluster.number("n4", "counter-5", "get").await, 5);

    let host = cluster.running("n1", "counter").await;
    assert_eq!(cluster.stop(&host).await, Some(0));
    callers.go_on(&cluster, 1, BACK).await;
    let other = cluster.other_than(&host);
    assert_ne!(cluster.running(&other, "counter").await, host);
    callers.reckon(&cluster, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firmware_that_is_given_up_harms_no_other_and_lives_again_when_it_is_deployed_again() {
    let cluster = Cluster::of(3, &FEW_RESTARTS).await;
    let bad = cluster.deploy("n1", "bad", counter()).await;
    assert_eq!(cluster.number("n1", "bad", "add 1").await, 1);
    let good = cluster.deploy("n1", "good", counter()).await;
    assert_ne!(bad, good, "the second firmware goes to another node");
    let before = cluster.summary("n1", "good").await;
    let callers = Callers::start("good", vec![cluster.routes(); 2]);

    let api = cluster.api("n1");
    cluster
        .until("the end of bad", PATIENCE, async || {
            let _ = cluster.call("n1", "bad", "trap", Duration::from_millis(500)).await;
            let summary = api.firmware_of(&name("bad")).await.ok()?;
            (summary.state == FirmwareState::Failed).then_some(summary.last_error?)
        })
        .await;
    let refused = cluster.call("n2", "bad", "get", Duration::from_secs(1)).await;
    assert_eq!(refused.expect_err("it is given up").code(), Some("unavailable"));

    callers.go_on(&cluster, 20, PATIENCE).await;
    // A busy node may be too slow to tell in time how its guests fare.
    cluster.running("n1", "good").await;
    let after = cluster
        .until("a report of good", PATIENCE, async || {
            api.firmware_of(&name("good")).await.ok().filter(|it| it.restarts.is_some())
        })
        .await;
    assert_eq!((after.node, after.epoch), (before.node, before.epoch));
    assert_eq!((after.state, after.restarts), (FirmwareState::Running, Some(0)));
    callers.reckon(&cluster, "n2").await;

    cluster.deploy("n3", "bad", counter()).await;
    assert_eq!(cluster.number("n1", "bad", "add 1").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_outlives_the_node_it_was_uploaded_to() {
    let mut cluster = Cluster::of(3, &[]).await;
    for (number, via) in (1..).zip(cluster.ids()) {
        let firmware = format!("counter-{number}");
        let package = counter_number(number);
        let deployed = cluster.api(&via);
        let deployed =
            deployed.put_firmware(&name(&firmware), package, &DeployOptions::default()).await;
        cluster.kill(std::slice::from_ref(&via));
        assert!(deployed.is_ok(), "{deployed:?}");
        let other = cluster.other_than(&via);
        assert_eq!(cluster.number(&other, &firmware, "add 1").await, 1);
        cluster.start(&via, None).await;
        cluster.whole().await;
    }
}

/// What a node takes of its machine, and the actors in it.
#[derive(Debug)]
struct Usage {
    actors: usize,
    threads: usize,
    files: usize,
    memory_kib: usize,
}

fn actors(tree: &ActorNode) -> usize {
    1 + tree.children.iter().map(actors).sum::<usize>()
}

async fn usage(cluster: &Cluster, id: &str) -> Usage {
    let process = format!("/proc/{}", cluster.pid(id));
    let entries = |what| fs::read_dir(format!("{process}/{what}")).expect("it runs").count();
    let status = fs::read_to_string(format!("{process}/status")).expect("it runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    Usage {
        actors: actors(&cluster.api(id).actors().await.expect("it runs")),
        threads: entries("task"),
        files: entries("fd"),
        memory_kib: memory.trim().trim_end_matches(" kB").parse().expect("a number"),
    }
}

async fn trap(cluster: &Cluster, times: usize) {
    for _ in 0..times {
        let trapped = cluster.call("n1", "counter", "trap", Duration::from_secs(5)).await;
        assert_eq!(trapped.expect_err("it traps").code(), Some("trapped"));
    }
}

async fn redeploy(cluster: &Cluster, numbers: std::ops::Range<u8>) {
    for number in numbers {
        cluster.deploy("n1", "counter", counter_number(number)).await;
        cluster.number("n1", "counter", "add 1").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traps_and_redeployments_leave_nothing_behind() {
    let cluster = Cluster::of(1, &MANY_RESTARTS).await;
    // More than the compiled modules that are kept in case they are deployed again.
    redeploy(&cluster, 0..20).await;
    trap(&cluster, 20).await;
    let before = usage(&cluster, "n1").await;
    trap(&cluster, 200).await;
    redeploy(&cluster, 20..40).await;
    cluster
        .until("the same use as before", Duration::from_secs(10), async || {
            let after = usage(&cluster, "n1").await;
            let same = after.actors == before.actors
                && after.threads <= before.threads + 4
                && after.files <= before.files + 8
                && after.memory_kib <= before.memory_kib + 32 * 1_024;
            if !same {
                println!("{before:?}, now {after:?}");
            }
            same.then_some(())
        })
        .await;
    assert_eq!(cluster.number("n1", "counter", "get").await, 40);
}

/// What the cluster knows of its only package: who holds it, who owns it; `None` while there is
/// another number of packages.
async fn only_blob(cluster: &Cluster, via: &str) -> Option<BlobSummary> {
    let mut blobs = cluster.api(via).blobs(10, None).await.ok()?.blobs;
    blobs.pop().filter(|_| blobs.is_empty())
}

/// Whether a node has a package on its disk.
fn has_file(cluster: &Cluster, node: &str, digest: Digest) -> bool {
    let name = digest.to_string();
    cluster.data(node).join("blobs").join(&name[..2]).join(name).exists()
}

/// The package that a node makes of a module which is deployed as `counter`.
fn packed(module: Vec<u8>) -> Digest {
    let built = odeum_runtime::package::build::of_module(name("counter"), module.into());
    Digest::of(built.expect("a package").package.file())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_outlives_the_kill_of_its_holders_one_after_the_other_and_goes_when_it_is_deleted()
 {
    // Longer than from the package's files to the deployment in the log, and not much longer.
    const SOON: &str = "5s";
    let settings = [
        ("ODEUM_BLOBS__LOST_AFTER", "1s"),
        ("ODEUM_BLOBS__UNOWNED_FOR", SOON),
        ("ODEUM_BLOBS__STRAY_FOR", SOON),
    ];
    let mut cluster = Cluster::of(3, &settings).await;
    cluster.deploy("n1", "counter", counter()).await;
    let first = only_blob(&cluster, "n1").await.expect("it is kept");
    assert_eq!((first.digest, first.holders.len()), (packed(counter()), 2));
    assert_eq!(first.owners, ["package/counter".parse().expect("an owner")]);
    for _ in 0..2 {
        let via = cluster.other_than("");
        let victim = only_blob(&cluster, &via).await.expect("it is kept").holders[0].to_string();
        cluster.kill(std::slice::from_ref(&victim));
        let via = cluster.other_than(&victim);
        let holders = cluster
            .until("another holder", PATIENCE, async || {
                let holders = only_blob(&cluster, &via).await?.holders;
                let is_whole = holders.len() == 2 && holders.iter().all(|h| h.as_str() != victim);
                is_whole.then_some(holders)
            })
            .await;
        assert!(holders.iter().all(|node| has_file(&cluster, node.as_str(), first.digest)));
        cluster.running(&via, "counter").await;
        cluster.start(&victim, None).await;
        cluster.whole().await;
    }

    // The one before stays until the update has stood the test.
    let mut options = DeployOptions::default();
    options.settings.update.rollback_within = Some(Time::clamped(1_000));
    cluster.deploy_with("n2", "counter", counter_number(1), &options).await;
    let second = packed(counter_number(1));
    let gone = |digest| cluster.ids().iter().all(|node| !has_file(&cluster, node, digest));
    cluster
        .until("the former package to go", PATIENCE, async || {
            let left = only_blob(&cluster, "n3").await?;
            (left.digest == second && gone(first.digest)).then_some(())
        })
        .await;
    cluster.api("n1").delete_firmware(&name("counter")).await.expect("is deleted");
    cluster.until("all packages to go", PATIENCE, async || gone(second).then_some(())).await;
    assert!(cluster.api("n2").blobs(10, None).await.expect("answers").blobs.is_empty());
}
