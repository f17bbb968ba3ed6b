//! Nodes that leave the group, and come back.

use super::*;

fn voters(store: &StoreHandle) -> Vec<NodeId> {
    let members = store.status().members;
    members.into_iter().filter(|member| member.voter).map(|member| member.node).collect()
}

/// The place of a node that leads, once one does.
async fn leading(nodes: &[Node]) -> usize {
    let leads = |node: &Node| node.store.status().is_leader();
    eventually("somebody leads", || nodes.iter().any(leads)).await;
    nodes.iter().position(|node| node.store.status().is_leader()).expect("one leads")
}

fn quorum_would_be_lost(removed: Result<(), StoreError>) -> (u64, u64) {
    match removed {
        Err(StoreError::Refused(Refusal::LosesQuorum { others, there, .. })) => (others, there),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_leaves_and_may_come_back_with_its_disk() {
    let net = Net::default();
    let mut nodes = three(&net, 10_000).await;
    let epoch = deploy(&nodes[0]).await;
    let lead = leading(&nodes).await;
    let (gone, other) = ((lead + 1) % 3, (lead + 2) % 3);
    // Through one that neither leads nor leaves.
    let id = nodes[gone].id.clone();
    nodes[other].store.remove_node(&id, PATIENCE).await.expect("removed");
    nodes[other].store.remove_node(&id, PATIENCE).await.expect("removed already");
    assert_eq!(voters(&nodes[lead].store).len(), 2);
    nodes[lead].commit(count("a", epoch)).await;
    assert!(!nodes[lead].store.view(|state| state.nodes().contains_key(&id)));

    nodes[gone].stop().await;
    nodes[gone].restart().await;
    let record = nodes[gone].record();
    nodes[lead].store.admit(record, PATIENCE).await.expect("taken in again");
    nodes[gone].barrier().await;
    assert_eq!(nodes[gone].count(), 1);
    assert_eq!(voters(&nodes[lead].store).len(), 3);
    let thief = NodeRecord { disk: DiskId::random(), ..nodes[gone].record() };
    nodes[lead].store.remove_node(&id, PATIENCE).await.expect("removed");
    assert!(matches!(
        nodes[lead].store.admit(thief, PATIENCE).await,
        Err(StoreError::Refused(Refusal::OtherDisk { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_leaves_gives_its_office_to_another_first() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let epoch = deploy(&nodes[0]).await;
    let lead = leading(&nodes).await;
    // Who has not heard of this leader yet does not take its office.
    for node in &nodes {
        node.barrier().await;
    }
    let id = nodes[lead].id.clone();
    let term = nodes[lead].store.status().term;
    let writer = nodes[(lead + 1) % 3].store.clone();
    let start = Instant::now();
    let (removed, written) = tokio::join!(
        nodes[lead].store.remove_node(&id, PATIENCE),
        writer.write_data(group(), count("meanwhile", epoch), PATIENCE),
    );
    removed.expect("removed");
    written.expect("written");
    writer.write_data(group(), count("after", epoch), PATIENCE).await.expect("written");
    println!("the leader was gone after {:?}", start.elapsed());
    let status = writer.status();
    assert_eq!(status.term, term + 1, "one election, asked for");
    assert_eq!(voters(&writer).len(), 2);
    assert!(!voters(&writer).contains(&id));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leaves_whom_the_others_need_for_a_majority() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let epoch = deploy(&nodes[0]).await;
    let lead = leading(&nodes).await;
    let (dead, other) = ((lead + 1) % 3, (lead + 2) % 3);
    nodes[dead].stop().await;
    let store = &nodes[lead].store;
    // By whoever leads each of the groups: one that does not miss it yet would begin the removal.
    let missed = |group: GroupId| {
        let alive = [lead, other].map(|n| nodes[n].store.shared.seat(group));
        let running = alive.map(|seat| seat.running.borrow().clone().expect("runs"));
        let leader = running.iter().find(|group| group.leads());
        leader.is_some_and(|leader| !leader.reaches(&nodes[dead].id))
    };
    let groups = || store.shared.seats().into_iter().map(|seat| seat.group);
    eventually("the dead one is missed", || groups().all(missed)).await;
    assert_eq!(quorum_would_be_lost(store.remove_node(&nodes[other].id, PATIENCE).await), (2, 1));
    store.write_data(group(), count("a", epoch), PATIENCE).await.expect("nothing was begun");
    // The dead one can go, then the follower, and the last one never.
    store.remove_node(&nodes[dead].id, PATIENCE).await.expect("removed");
    store.remove_node(&nodes[other].id, PATIENCE).await.expect("removed");
    store.write_data(group(), count("b", epoch), PATIENCE).await.expect("written by one alone");
    assert_eq!(quorum_would_be_lost(store.remove_node(&nodes[lead].id, PATIENCE).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_takes_the_vote_of_a_voter_that_leaves() {
    let net = Net::default();
    let mut nodes = Vec::new();
    for n in 1..=6 {
        nodes.push(Node::start(&net, &format!("n{n}"), 10_000).await);
    }
    nodes[0].store.found(ClusterId::random(), nodes[0].record()).await.expect("founded");
    for node in &nodes[1..] {
        nodes[0].store.admit(node.record(), PATIENCE).await.expect("admitted");
    }
    let store = &nodes[0].store;
    assert!(!voters(store).contains(&nodes[5].id));
    store.remove_node(&nodes[1].id, PATIENCE).await.expect("removed");
    let [n1, _, n3, n4, n5, n6] = &nodes[..] else { panic!("six") };
    let expected = [n1, n3, n4, n5, n6].map(|node| node.id.clone());
    assert_eq!(voters(store), expected);
}
