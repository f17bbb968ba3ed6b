//! What is left of what a guest wrote when its node stops in good order, and when it is killed.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod cluster;

use std::fs;

use cluster::{Cluster, PATIENCE, count, counter, name};
use odeum_proto::{EntityId, RequestId, SessionId};
use odeum_runtime::{
    api::types::{CallAnswer, CallOptions, GroupReport, MoveBody, MoveState, MoveSummary},
    package::build,
};

/// The package of the counter with these lines in its manifest.
fn package(lines: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = format!("name = 'counter'\nversion = '1.0.0'\n{lines}");
    fs::write(folder.path().join("odeum.toml"), manifest).expect("writes");
    fs::write(folder.path().join("module.wasm"), counter()).expect("writes");
    build::of_folder(folder.path()).expect("a package").package.file().to_vec()
}

/// One more, under a key, asked through any node until it is answered.
async fn add(cluster: &Cluster, key: &str) -> CallAnswer {
    let request: RequestId = key.parse().expect("valid");
    cluster
        .until(&format!("an answer to {key}"), 2 * PATIENCE, async || {
            for via in cluster.ids() {
                let request = Some(request.clone());
                let options = CallOptions { request, ..CallOptions::default() };
                let (api, name, body) = (cluster.api(&via), name("counter"), b"add 1".to_vec());
                if let Ok(answer) = api.call(&name, body, &options).await {
                    return Some(answer);
                }
            }
            None
        })
        .await
}

/// The node that runs it, and one of the others, once the store survives the loss of the first.
async fn host_and_other(cluster: &Cluster) -> (String, String) {
    let voters = cluster.ids().len();
    for id in cluster.ids() {
        let api = cluster.api(&id);
        let has_all = async || {
            let groups = api.store().await.ok()?.groups;
            let of = |group: &GroupReport| group.members.iter().filter(|it| it.voter).count();
            groups.iter().all(|group| of(group) == voters).then_some(())
        };
        cluster.until("a vote of each node", PATIENCE, has_all).await;
    }
    let any = cluster.ids().remove(0);
    let host = cluster.running(&any, "counter").await;
    let other = cluster.other_than(&host);
    (host, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_volatile_moves_with_a_node_that_stops_and_dies_with_one_that_is_killed() {
    let mut cluster = Cluster::of(3, &[]).await;
    cluster.deploy("n1", "counter", package("durability = 'volatile'")).await;
    for number in 1..=20 {
        assert_eq!(count(&add(&cluster, &format!("r{number}")).await), number);
    }
    let (host, other) = host_and_other(&cluster).await;
    let session = "counter/default".parse().expect("valid");
    let stored = cluster.api(&other).session(&session).await;
    assert_eq!(stored.expect_err("nothing is stored").code(), Some("not-found"));

    assert_eq!(cluster.stop(&host).await, Some(0));
    assert_eq!(cluster.number(&other, "counter", "get").await, 20);
    let again = add(&cluster, "r7").await;
    assert_eq!((count(&again), again.replayed), (7, true));
    cluster.start(&host, Some(&other)).await;
    cluster.whole().await;

    for number in 21..=25 {
        assert_eq!(count(&add(&cluster, &format!("r{number}")).await), number);
    }
    let (host, other) = host_and_other(&cluster).await;
    cluster.kill(&[host]);
    assert_eq!(cluster.number(&other, "counter", "get").await, 20, "as it was saved last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_costs_what_the_last_checkpoint_does_not_have() {
    let mut cluster = Cluster::of(3, &[]).await;
    let lines = "durability = 'checkpointed'\n[checkpoint]\nevery = '1h'\nmessages = 10";
    cluster.deploy("n1", "counter", package(lines)).await;
    let (host, other) = host_and_other(&cluster).await;
    for number in 1..=25 {
        assert_eq!(count(&add(&cluster, &format!("r{number}")).await), number);
    }
    // What is in it was carried out, and is not again; what is not in it was not.
    cluster.kill(&[host]);
    assert_eq!(cluster.number(&other, "counter", "get").await, 20);
    let again = add(&cluster, "r20").await;
    assert_eq!((count(&again), again.replayed), (20, true));
    let anew = add(&cluster, "r21").await;
    assert_eq!((count(&anew), anew.replayed), (21, false));
}

/// Moves it, and waits for the end of that.
async fn moved(cluster: &Cluster, via: &str, to: &str) -> MoveSummary {
    let api = cluster.api(via);
    let body =
        MoveBody { entity: EntityId::firmware(name("counter")), to: to.parse().expect("a name") };
    let begun = api.begin_move(&body).await.expect("it begins");
    cluster
        .until("the end of a move", PATIENCE, async || {
            let moves = api.moves().await.ok()?;
            let made = moves.iter().rev().find(|made| made.epoch == begun.epoch)?;
            made.state.is_over().then(|| made.clone())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guest_has_not_saved_is_in_the_store_when_it_has_moved_with_its_memory() {
    let cluster = Cluster::of(3, &[]).await;
    let session: SessionId = "counter/default".parse().expect("valid");
    cluster.deploy("n1", "counter", package("durability = 'volatile'")).await;
    for round in 1..=6 {
        for number in 5 * round - 4..=5 * round {
            assert_eq!(count(&add(&cluster, &format!("r{number}")).await), number);
        }
        let (host, other) = host_and_other(&cluster).await;
        let made = moved(&cluster, &host, &other).await;
        assert_eq!((made.state, made.live), (MoveState::Moved, Some(true)), "round {round}");
        let stored = cluster.api(&other).session(&session).await.expect("it is saved");
        let text = stored.variables.get("count").and_then(|it| it.text.clone());
        assert_eq!(text, Some((5 * round).to_string()), "round {round}");
        let again = add(&cluster, &format!("r{}", 5 * round - 2)).await;
        assert_eq!((count(&again), again.replayed), (5 * round - 2, true));
    }
}
