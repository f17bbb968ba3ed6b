//! Nodes that are killed, stop for a while, or do not keep up.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, WHOLE, until};

/// How soon the death of a node must be known.
const NOTICED: Duration = Duration::from_secs(2);

/// How much a node may grow while one of its entities is told too much, in bytes: its queue, and
/// the lanes of two peers.
const GROWTH: u64 = 64 << 20;

#[test]
fn after_kill_9_the_others_go_on_and_the_node_comes_back() {
    let mut cluster = Cluster::here();
    for name in ["n3", "n1"] {
        let killed = Instant::now();
        cluster.kill(name);
        for other in ["n1", "n2", "n3"].into_iter().filter(|other| *other != name) {
            cluster.sees(other, "without the dead", NOTICED, |sight| !sight.alive.contains(name));
        }
        println!("{name} was known to be dead after {:?}", killed.elapsed());
        cluster.whole_since(killed, WHOLE);
        println!("its entities answered again after {:?}", killed.elapsed());
        let started = Instant::now();
        cluster.start(name);
        cluster.whole_since(started, WHOLE);
        println!("it was back after {:?}", started.elapsed());
    }
    cluster.reckon();
}

#[test]
fn a_node_that_stops_for_a_second_is_not_evicted() {
    let mut cluster = Cluster::here();
    cluster.evicts_nobody(5, |cluster| {
        cluster.pause("n2", Duration::from_secs(1), |_| {});
    });
    cluster.reckon();
}

#[test]
fn a_node_that_stops_for_four_seconds_is_evicted_and_comes_back() {
    let mut cluster = Cluster::here();
    cluster.pause("n2", Duration::from_secs(4), |cluster| {
        for other in ["n1", "n3"] {
            let evicted = Duration::from_secs(4);
            cluster.sees(other, "without n2", evicted, |sight| sight.downs.contains_key("n2"));
        }
    });
    let resumed = Instant::now();
    cluster.whole_since(resumed, WHOLE);
    println!("whole after {:?}", resumed.elapsed());
    cluster.reckon();
}

#[test]
fn an_entity_that_cannot_keep_up_holds_back_its_senders_and_nobody_else() {
    let mut cluster = Cluster::here();
    let homes: Vec<(String, String)> = (0..8)
        .map(|number| format!("sloth/s{number}"))
        .map(|sloth| (cluster.node("n1").tell(&format!("where {sloth}")), sloth))
        .collect();
    let (home, sloth) = homes.iter().find(|(home, _)| home != "n1").expect("one is elsewhere");
    let before: Vec<_> = cluster.nodes().iter().map(|node| node.memory()).collect();
    let loaded = Instant::now();
    for name in ["n1", "n2", "n3"] {
        assert_eq!(cluster.node(name).tell(&format!("load {sloth}")), "ok");
    }
    // The load goes on to the end: the cluster is whole with it, again and again.
    until(
        Duration::from_secs(20),
        || {
            cluster.whole_since(Instant::now(), WHOLE);
            (loaded.elapsed() > Duration::from_secs(5)).then_some(())
        },
        || "it takes too long to look".to_owned(),
    );
    for (node, before) in cluster.nodes().iter().zip(before) {
        let grown = node.most_memory().saturating_sub(before);
        println!("{} grew by {} KiB; the sloth is on {home}", node.name(), grown >> 10);
        assert!(grown < GROWTH, "{} grew by {grown} bytes", node.name());
    }
    cluster.reckon();
}
