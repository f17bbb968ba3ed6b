//! Random faults while many write: what was acknowledged is there once, whatever happened.

use std::sync::atomic::{AtomicBool, Ordering};

use odeum_proto::SessionId;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;

/// Writers beside each other, two at each node.
const WRITERS: usize = 6;

/// One fault, then a pause in which writes go on or do not.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The node is killed and started again at once.
    Crash(usize),
    /// The node hears and says nothing for a while.
    Cut(usize),
    /// All three are killed and started again.
    PowerLoss,
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        3 => (0..3_usize).prop_map(Fault::Crash),
        3 => (0..3_usize).prop_map(Fault::Cut),
        1 => Just(Fault::PowerLoss),
    ];
    proptest::collection::vec(fault, 6..8)
}

/// Each request has a session of its own, whose variable says how often it was made.
fn session(request: &str) -> SessionId {
    format!("counter/{request}").parse().expect("valid")
}

fn commit(request: &str, epoch: Epoch) -> DataAction {
    let DataAction::Commit(commit) = count(request, epoch) else { panic!("a commit") };
    DataAction::Commit(Commit { session: session(request), ..commit })
}

/// Writes until told to stop; answers with the requests that were acknowledged and all that were
/// tried.
async fn write_until(
    stores: [Arc<Mutex<StoreHandle>>; 3],
    writer: usize,
    epoch: Epoch,
    stop: Arc<AtomicBool>,
) -> (Vec<String>, usize) {
    let mut acknowledged = Vec::new();
    let mut tried = 0;
    while !stop.load(Ordering::Relaxed) {
        let request = format!("w{writer}-{tried}");
        let store = stores[writer % 3].lock().expect("not poisoned").clone();
        let written =
            store.write_data(group(), commit(&request, epoch), Duration::from_secs(2)).await;
        match written {
            Ok(DataOutcome::Applied { .. } | DataOutcome::Replayed { .. }) => {
                acknowledged.push(request)
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        tried += 1;
    }
    (acknowledged, tried)
}

async fn inflict(fault: Fault, nodes: &mut [Node; 3], stores: &[Arc<Mutex<StoreHandle>>; 3]) {
    let crashed = match fault {
        Fault::Cut(node) => {
            nodes[node].net.cut(&nodes[node].id);
            tokio::time::sleep(Duration::from_millis(1500)).await;
            nodes[node].net.heal(&nodes[node].id);
            return;
        }
        Fault::Crash(node) => node..node + 1,
        Fault::PowerLoss => 0..3,
    };
    for node in crashed.clone() {
        nodes[node].kill().await;
    }
    for node in crashed {
        nodes[node].restart().await;
        *stores[node].lock().expect("not poisoned") = nodes[node].store.clone();
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_random_faults_no_acknowledged_write_is_lost_and_none_is_made_twice() {
    let mut runner = TestRunner::default();
    let plan = faults().new_tree(&mut runner).expect("generated").current();
    println!("faults: {plan:?}");
    let net = Net::default();
    let mut nodes = three(&net, 200).await;
    let epoch = deploy(&nodes[0]).await;
    let stores = [0, 1, 2].map(|node: usize| Arc::new(Mutex::new(nodes[node].store.clone())));
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_until(stores.clone(), writer, epoch, Arc::clone(&stop)));
    }
    for &fault in &plan {
        inflict(fault, &mut nodes, &stores).await;
    }
    stop.store(true, Ordering::Relaxed);
    let written = writers.join_all().await;
    let acknowledged: Vec<String> = written.iter().flat_map(|(acked, _)| acked.clone()).collect();
    let tried: usize = written.iter().map(|(_, tried)| tried).sum();
    println!("{} acknowledged of {tried}", acknowledged.len());
    assert!(!acknowledged.is_empty());

    let mut states = Vec::new();
    for node in &nodes {
        node.barrier().await;
        states.push(node.store.view_data(group(), Clone::clone));
    }
    for state in &states {
        let sessions = state.sessions();
        let lost = acknowledged.iter().find(|request| !sessions.contains_key(&session(request)));
        assert_eq!(lost, None, "acknowledged and lost");
        let twice =
            sessions.iter().find(|(_, session)| session.variables()["count"].version() != 1);
        assert_eq!(twice, None, "made twice");
    }
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ");
}
