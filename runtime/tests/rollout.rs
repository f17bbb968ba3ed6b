//! All nodes of a cluster run their program again, one after the other, while it is at work.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod cluster;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::{Cluster, PATIENCE, Routes, count, name};
use odeum_proto::{Incarnation, RequestId};
use odeum_runtime::api::client::ApiError;
use odeum_runtime::api::types::CallOptions;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;

/// Counts in its memory alone.
const HEAP: &[u8] = include_bytes!("support/heap.wat");

/// Calls `firmware` until `ended`, at whichever node is there; how many calls were answered.
///
/// # Errors
/// The first refusal of a node that is there.
async fn called(firmware: String, routes: Routes, ended: Arc<AtomicBool>) -> Result<u64, ApiError> {
    let mut answered = 0;
    let mut asked = 0;
    while !ended.load(Ordering::Relaxed) {
        let request = Some(RequestId::random());
        let options = CallOptions { request, deadline: PATIENCE, ..CallOptions::default() };
        loop {
            let nodes: Vec<_> = routes.read().expect("nobody panics").values().cloned().collect();
            asked += 1;
            let node = &nodes[asked % nodes.len()];
            match node.call(&name(&firmware), b"add 1".to_vec(), &options).await {
                Ok(answer) => {
                    answered += 1;
                    assert_eq!(count(&answer), answered, "{firmware} counts each call once");
                    break;
                }
                // Nobody is there: the next one is asked, for the same.
                Err(ApiError::NotRunning { .. } | ApiError::NoAnswer { .. }) => {}
                Err(refused) => return Err(refused),
            }
        }
    }
    Ok(answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_and_no_memory_is_lost_while_all_nodes_restart() {
    let mut cluster = Cluster::of(3, &[]).await;
    let firmware = ["heap-a", "heap-b", "heap-c"];
    for firmware in firmware {
        cluster.deploy("n2", firmware, HEAP.to_vec()).await;
    }
    let pids = ["n1", "n2", "n3"].map(|id| cluster.pid(id));
    let ended = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for firmware in firmware {
        callers.spawn(called(firmware.to_owned(), cluster.routes(), Arc::clone(&ended)));
    }

    for id in ["n3", "n2", "n1"] {
        let via = cluster.other_than(id);
        let restarted = Command::new(env!("CARGO_BIN_EXE_odeum"))
            .args(["rollout", "restart", id, "--patience", "40s", "--no-rebalance"])
            .env("ODEUM_API", cluster.api(&via).url().as_str())
            .kill_on_drop(true)
            .output()
            .await
            .expect("the command runs");
        let said = String::from_utf8_lossy(&restarted.stderr);
        assert!(restarted.status.success(), "{said}\n{}", cluster.last_words());
        assert!(said.contains(&format!("{id} is back after")), "{said}");
        cluster.rebound(id);
    }
    ended.store(true, Ordering::Relaxed);
    while let Some(called) = callers.join_next().await {
        let called = called.expect("no panic").expect("no call fails");
        assert!(called > 0);
    }

    assert_eq!(["n1", "n2", "n3"].map(|id| cluster.pid(id)), pids, "each in its own process");
    let nodes = cluster.api("n1").nodes().await.expect("it answers");
    assert!(nodes.iter().all(|node| node.incarnation == Incarnation(2)), "{nodes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_asked_node_restarts_as_well_and_a_name_that_is_wrong_has_none_restarted() {
    let mut cluster = Cluster::of(3, &[]).await;
    let restart = async |nodes: &[&str], api: String| {
        let command = [&["rollout", "restart", "-o", "json", "--patience", "40s"], nodes].concat();
        Command::new(env!("CARGO_BIN_EXE_odeum"))
            .args(command)
            .env("ODEUM_API", api)
            .kill_on_drop(true)
            .output()
            .await
            .expect("the command runs")
    };
    let api = cluster.api("n1").url().to_string();
    let unknown = restart(&["n2", "n9"], api.clone()).await;
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!(said, "error: there is no node n9; `odeum get nodes` shows all of them\n");
    let nodes = cluster.api("n1").nodes().await.expect("it answers");
    assert!(nodes.iter().all(|node| node.incarnation == Incarnation(1)), "{nodes:?}");

    let restarted = restart(&["n1"], api).await;
    let said = String::from_utf8_lossy(&restarted.stderr);
    assert!(restarted.status.success(), "{said}\n{}", cluster.last_words());
    let told: Value = serde_json::from_slice(&restarted.stdout).expect("JSON");
    let wanted = json!([{ "node": "n1", "former": 1, "incarnation": 2 }]);
    assert_eq!(told, json!({ "restarted": wanted, "moves": 0 }));
    cluster.rebound("n1");
    cluster.whole().await;
}
