//! Networks that lose packets, take their time, and come and go.

use std::thread;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, WHOLE};
use super::relay::Path;

/// Long enough for both sides of a partition to give each other up.
const APART: Duration = Duration::from_secs(4);

#[test]
fn a_one_way_partition_ends_without_an_operator() {
    let Some(mut cluster) = Cluster::apart() else { return };
    // What n3 sends is lost; what it is sent arrives.
    for other in ["n1", "n2"] {
        cluster.net().block("n3", other);
    }
    for other in ["n1", "n2"] {
        cluster.sees(other, "without n3", APART, |sight| !sight.alive.contains("n3"));
    }
    cluster.net().heal();
    let healed = Instant::now();
    cluster.whole_since(healed, WHOLE);
    println!("whole after {:?}", healed.elapsed());
    cluster.reckon();
}

#[test]
fn one_lost_direction_between_two_of_three_evicts_nobody() {
    let Some(mut cluster) = Cluster::apart() else { return };
    // n2, who hears both, speaks for them.
    cluster.evicts_nobody(3, |cluster| {
        cluster.net().block("n3", "n1");
        thread::sleep(APART);
        cluster.net().heal();
    });
    cluster.reckon();
}

#[test]
fn a_partition_leaves_the_majority_at_work_and_heals() {
    let Some(mut cluster) = Cluster::apart() else { return };
    for other in ["n1", "n2"] {
        cluster.net().block("n3", other);
        cluster.net().block(other, "n3");
    }
    for other in ["n1", "n2"] {
        cluster.sees(other, "without n3", APART, |sight| !sight.alive.contains("n3"));
    }
    cluster.sees("n3", "alone", APART, |sight| sight.alive.len() == 1);
    cluster.goes_on(&["n1", "n2"], WHOLE);
    cluster.net().heal();
    let healed = Instant::now();
    cluster.whole_since(healed, WHOLE);
    println!("whole after {:?}", healed.elapsed());
    cluster.reckon();
}

#[test]
fn with_a_tenth_lost_and_50_ms_each_way_a_cluster_works() {
    let path = Path { delay: Duration::from_millis(50), jitter: Duration::from_millis(10) };
    let Some(mut cluster) = Cluster::apart_by(path) else { return };
    let bad = Instant::now();
    cluster.net().lose(10);
    // Every sender hears of every ledger, again and again, while it lasts.
    while bad.elapsed() < Duration::from_secs(8) {
        cluster.goes_on(&["n1", "n2", "n3"], WHOLE);
    }
    cluster.net().heal();
    cluster.whole_since(Instant::now(), WHOLE);
    for name in ["n1", "n2", "n3"] {
        let sight = cluster.see(name);
        println!("{name} saw go down: {:?}", sight.downs);
    }
    cluster.reckon();
}

#[test]
fn a_link_that_flaps_every_second_does_no_lasting_harm() {
    flap(Duration::from_secs(12));
}

#[test]
#[ignore = "a minute: run by .ci/run"]
fn a_link_that_flaps_every_second_for_a_minute_does_no_lasting_harm() {
    flap(Duration::from_secs(60));
}

fn flap(how_long: Duration) {
    let Some(mut cluster) = Cluster::apart() else { return };
    let start = Instant::now();
    let mut plugged = true;
    while start.elapsed() < how_long || !plugged {
        plugged = !plugged;
        cluster.net().plug("n2", plugged);
        // The fault itself takes this long.
        thread::sleep(Duration::from_secs(1));
    }
    let ended = Instant::now();
    cluster.whole_since(ended, WHOLE);
    println!("whole after {:?}", ended.elapsed());
    cluster.reckon();
}
