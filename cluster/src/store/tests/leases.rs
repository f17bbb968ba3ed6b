//! Leases of nodes that are cut off or lose their leader. All nodes are in one process, so one
//! clock tells what was first.

use super::*;
use crate::lease::{Lease, LeaseConfig, LeaseHandle, lease};
use crate::store::StoreTiming;
use odeum_actors::{Strategy, SupervisorSpec};

/// A node that keeps its lease.
async fn keep(node: &Node) -> (LeaseHandle, Supervisor) {
    let holder = (node.id.clone(), Incarnation(node.incarnation));
    let config = LeaseConfig::of(StoreTiming::default());
    let (handle, spec) = lease(node.store.clone(), holder, config);
    let supervisor = SupervisorSpec::new("Leases", Strategy::OneForOne).child(spec);
    (handle, supervisor.start().await.expect("starts"))
}

async fn until(handle: &LeaseHandle, held: bool) -> Instant {
    let mut watch = handle.watch();
    let wanted = watch.wait_for(|lease| matches!(lease, Lease::Held { .. }) == held);
    tokio::time::timeout(PATIENCE, wanted).await.expect("in time").expect("it runs");
    Instant::now()
}

/// When the log of a node says that another one's lease is over.
async fn ended(at: &Node, node: &NodeId) -> Instant {
    let mut changes = at.store.changes();
    let over = changes.wait_for(|_| at.store.view(|state| !state.is_leased(node)));
    tokio::time::timeout(PATIENCE, over).await.expect("in time").expect("it runs");
    Instant::now()
}

fn leader(nodes: &[Node; 3]) -> usize {
    let leader = nodes.iter().find_map(|node| node.store.status().leader).expect("one leads");
    nodes.iter().position(|node| node.id == leader).expect("one of them")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_knows_that_its_lease_is_over_before_others_can_take_what_it_had() {
    let net = Net::default();
    let nodes = three(&net, 100_000).await;
    let leases = [keep(&nodes[0]).await, keep(&nodes[1]).await, keep(&nodes[2]).await];
    for (handle, _) in &leases {
        until(handle, true).await;
    }
    // Once somebody who follows, once who leads.
    for round in 0..2 {
        let lost = match round {
            0 => (leader(&nodes) + 1) % 3,
            _ => leader(&nodes),
        };
        let others: Vec<usize> = (0..3).filter(|n| *n != lost).collect();
        let (node, (handle, _)) = (&nodes[lost], &leases[lost]);
        eventually("its lease is seen", || handle.all().contains_key(&node.id)).await;
        let former = handle.all()[&node.id].epoch;
        let cut = Instant::now();
        net.cut(&node.id);
        let (known, over) = tokio::join!(until(handle, false), ended(&nodes[others[0]], &node.id));
        assert!(known < over, "{:?} too late", known - over);
        println!("known after {:?}, over after {:?}", known - cut, over - cut);
        assert!(over - cut < Duration::from_secs(5), "{:?}", over - cut);
        for other in others {
            assert!(leases[other].0.holds(tokio::time::Instant::now()), "{}", nodes[other].id);
        }
        net.heal(&node.id);
        until(handle, true).await;
        eventually("the next lease", || {
            handle.all().get(&node.id).is_some_and(|seen| seen.epoch > former)
        })
        .await;
    }
    for (node, (_, supervisor)) in nodes.iter().zip(&leases) {
        supervisor.shutdown().await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_into_office_knows_when_it_got_what_it_learns_of_only_then() {
    let net = Net::default();
    let nodes = three(&net, 100_000).await;
    let first = leader(&nodes);
    let before = Instant::now();
    let epoch = deploy(&nodes[first]).await;
    let at = *nodes[first].store.changes().borrow();
    let follower = &nodes[(first + 1) % 3];
    eventually("the follower has it", || *follower.store.changes().borrow() >= at).await;
    let received = follower.store.received_by(at).expect("it came from a leader").into_std();
    assert!(before <= received && received <= Instant::now());
    assert_eq!(nodes[first].store.received_by(at), None, "it is its own");
    assert_eq!(follower.store.view(|state| state.last_epoch()), epoch);
    for node in &nodes {
        node.stop().await;
    }
}
