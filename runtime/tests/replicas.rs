//! Three real nodes: a firmware with several replicas is spread, reached, updated and brought back,
//! while nodes die.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use odeum_proto::RequestId;
use odeum_runtime::api::{
    client::ApiError,
    types::{
        CallOptions, DeployOptions, Explanation, FirmwareSettings, FirmwareSummary, MoveBody,
        Nodes, Replicas, ScaleBody,
    },
};
use tokio::{task::JoinSet, time::sleep};

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "shared by several test binaries")]
mod support;

use support::{Cluster, Routes, count, counter, counter_number, name};

/// How long anything may take that waits for leases, for a calm while and for a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a call may take that is to bear the death of a node.
const LONG: Duration = Duration::from_secs(45);

fn replicas(number: u64) -> Replicas {
    Replicas::try_from(number).expect("not too many")
}

async fn deploy(cluster: &Cluster, package: Vec<u8>, number: Option<u64>) {
    let settings =
        FirmwareSettings { replicas: number.map(replicas), ..FirmwareSettings::default() };
    let options = DeployOptions { settings, ..DeployOptions::default() };
    let deployed = cluster.api("n1").put_firmware(&name("shop"), package, &options).await;
    assert!(deployed.is_ok(), "{deployed:?}\n{}", cluster.last_words());
}

/// Waits until the firmware is as it should be, in the eyes of `via`.
async fn until(
    cluster: &Cluster,
    via: &str,
    what: &str,
    is: impl Fn(&FirmwareSummary) -> bool,
) -> FirmwareSummary {
    let api = cluster.api(via);
    cluster
        .until(what, PATIENCE, async || {
            let summary = api.firmware_of(&name("shop")).await.ok()?;
            is(&summary).then_some(summary)
        })
        .await
}

fn is_whole(it: &FirmwareSummary) -> bool {
    it.ready == it.replicas && it.updated == it.replicas
}

fn nodes(it: &FirmwareSummary) -> BTreeSet<String> {
    it.instances.iter().filter_map(|one| Some(one.node.as_ref()?.to_string())).collect()
}

/// One message to the firmware, or to a replica of it.
async fn said(
    cluster: &Cluster,
    via: &str,
    to: &str,
    message: &str,
    key: Option<&str>,
) -> (u64, String) {
    let options =
        CallOptions { key: key.map(str::to_owned), deadline: LONG, ..CallOptions::default() };
    let answer = cluster.api(via).call(&to, message.as_bytes().to_vec(), &options).await;
    assert!(answer.is_ok(), "{answer:?}\n{}", cluster.last_words());
    let answer = answer.expect("it is");
    (count(&answer), answer.node.to_string())
}

async fn counts(cluster: &Cluster, via: &str) -> Vec<u64> {
    let mut all = Vec::new();
    for number in 1..=3 {
        all.push(said(cluster, via, &format!("shop.{number}"), "get", None).await.0);
    }
    all
}

async fn events(cluster: &Cluster, via: &str) -> Vec<(String, u32, String)> {
    let events = cluster.api(via).events(&"shop").await.expect("events");
    events.into_iter().map(|event| (event.event, event.replica, event.text)).collect()
}

/// Callers that add one, again and again.
struct Callers {
    tasks: JoinSet<()>,
    ended: Arc<AtomicBool>,
    added: Arc<Mutex<u64>>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Callers {
    /// `number` of them, who use what nodes there are. What fails is sent again under the same name.
    fn start(number: usize, routes: &Routes) -> Self {
        let mut it = Self {
            tasks: JoinSet::new(),
            ended: Arc::default(),
            added: Arc::default(),
            failed: Arc::default(),
        };
        for caller in 0..number {
            let (routes, ended) = (Arc::clone(routes), Arc::clone(&it.ended));
            let (added, failed) = (Arc::clone(&it.added), Arc::clone(&it.failed));
            it.tasks.spawn(async move {
                let mut turn = caller;
                while !ended.load(Ordering::Relaxed) {
                    let request = Some(RequestId::random());
                    let options = CallOptions { request, deadline: LONG, ..CallOptions::default() };
                    loop {
                        turn += 1;
                        let api = {
                            let routes = routes.read().expect("no test panics with it");
                            routes.values().nth(turn % routes.len().max(1)).cloned()
                        };
                        let Some(api) = api else { continue };
                        match api.call(&"shop", b"add 1".to_vec(), &options).await {
                            Ok(_) => break,
                            Err(error) => {
                                failed.lock().expect("not poisoned").push(format!("{error:?}"));
                                sleep(Duration::from_millis(20)).await;
                            }
                        }
                    }
                    *added.lock().expect("not poisoned") += 1;
                }
            });
        }
        it
    }

    fn failures(&self) -> Vec<String> {
        self.failed.lock().expect("not poisoned").clone()
    }

    /// Ends them behind their last message; how many messages there were.
    async fn end(mut self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        *self.added.lock().expect("not poisoned")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_spread_and_reached_and_keep_their_sessions_when_nodes_die() {
    let mut cluster = Cluster::of(3, &[]).await;
    deploy(&cluster, counter(), Some(3)).await;
    let whole = until(&cluster, "n1", "three replicas", is_whole).await;
    assert_eq!((whole.replicas, nodes(&whole).len()), (3, 3), "one on each node");

    // A key is one replica for ever, through whatever node; the others get their share, too.
    let mut last = None;
    for (number, via) in (1..).zip(["n1", "n2", "n3", "n1"]) {
        let (is, node) = said(&cluster, via, "shop", "add 1", Some("alice")).await;
        assert_eq!(is, number);
        assert!(last.replace(node.clone()).is_none_or(|last| last == node));
    }
    let mut answered = BTreeSet::new();
    for _ in 0..60 {
        answered.insert(said(&cluster, "n1", "shop", "add 1", None).await.1);
    }
    assert_eq!(answered.len(), 3);
    let before = counts(&cluster, "n2").await;
    assert_eq!(before.iter().sum::<u64>(), 64);

    // The node of the second one dies. What it counted is known where it comes back.
    let lost = whole.instances[1].node.clone().expect("placed").to_string();
    cluster.kill(std::slice::from_ref(&lost));
    let via = cluster.other_than(&lost);
    let moved = until(&cluster, &via, "all of them on two nodes", |it| {
        is_whole(it) && !nodes(it).contains(&lost)
    })
    .await;
    assert_eq!(nodes(&moved).len(), 2);
    assert_eq!(counts(&cluster, &via).await, before);

    // When it is back, it gets one of them, and the others stay.
    cluster.start(&lost, None).await;
    let again =
        until(&cluster, &via, "one on each again", |it| is_whole(it) && nodes(it).len() == 3);
    let again = again.await;
    let stayed = |number: usize| again.instances[number].epoch == moved.instances[number].epoch;
    assert_eq!((0..3).filter(|number| stayed(*number)).count(), 2, "one moved");
    assert_eq!(counts(&cluster, &via).await, before);

    // Fewer of them: the highest go, and know what they knew when they come back.
    let api = cluster.api(&via);
    let scale =
        async |to| api.scale_firmware(&name("shop"), &ScaleBody { replicas: replicas(to) }).await;
    scale(1).await.expect("scaled");
    let one = until(&cluster, &via, "a single one", |it| it.replicas == 1 && is_whole(it)).await;
    assert_eq!(one.instances[0].epoch, again.instances[0].epoch, "it goes on undisturbed");
    let gone = api.call(&"shop.3", b"get".to_vec(), &CallOptions::default()).await;
    assert_eq!(gone.expect_err("is gone").code(), Some("not-found"));
    scale(3).await.expect("scaled");
    until(&cluster, &via, "three again", |it| it.replicas == 3 && is_whole(it)).await;
    assert_eq!(counts(&cluster, &via).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_takes_one_replica_at_a_time_from_callers_and_survives_its_leader() {
    let mut cluster = Cluster::of(3, &[]).await;
    deploy(&cluster, counter(), Some(3)).await;
    until(&cluster, "n1", "three replicas", is_whole).await;
    let callers = Callers::start(4, &cluster.routes());

    deploy(&cluster, counter_number(1), None).await;
    let begun = until(&cluster, "n1", "an update under way", |it| it.updated < it.replicas).await;
    assert_eq!(begun.replicas, 3, "as many as before");
    let (new, mut least) = (begun.digest, 3);
    let api = cluster.api("n1");
    cluster
        .until("the end of the update", PATIENCE, async || {
            let it = api.firmware_of(&name("shop")).await.ok()?;
            let down = it.instances.iter().filter(|one| {
                // One whose node does not say is not known to be down.
                !matches!(one.state.to_string().as_str(), "running" | "unknown")
            });
            least = least.min(3 - down.count());
            is_whole(&it).then_some(())
        })
        .await;
    assert!(least >= 2, "{} were down at a time", 3 - least);
    assert_eq!(callers.failures(), Vec::<String>::new(), "no call failed");
    let updated = cluster.summary("n1", "shop").await;
    assert!(updated.instances.iter().all(|one| one.digest == new));

    // The next update is in the middle when whoever leads it is killed.
    deploy(&cluster, counter_number(2), None).await;
    until(&cluster, "n1", "the middle of an update", |it| (1..3).contains(&it.updated)).await;
    let leader = cluster.leader("n1").await;
    cluster.kill(std::slice::from_ref(&leader));
    let via = cluster.other_than(&leader);
    let done = until(&cluster, &via, "the end of the update without its leader", is_whole).await;
    assert!(done.digest != new && done.instances.iter().all(|one| one.digest == done.digest));
    let added = callers.end().await;
    assert_eq!(counts(&cluster, &via).await.iter().sum::<u64>(), added, "each counted once");
    cluster
        .until("the word that it is done", PATIENCE, async || {
            let told = events(&cluster, &via).await;
            told.iter().any(|(event, ..)| event == "updated").then_some(())
        })
        .await;
}

/// One that does not start.
const BROKEN: &str = r#"(module (memory (export "memory") 1)
    (func (export "odeum_start") unreachable)
    (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
    (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_on_one_replica_never_reaches_the_others_and_is_undone() {
    let cluster = Cluster::of(3, &[]).await;
    deploy(&cluster, counter(), Some(3)).await;
    let good = until(&cluster, "n1", "three replicas", is_whole).await;
    let callers = Callers::start(3, &cluster.routes());
    deploy(&cluster, BROKEN.as_bytes().to_vec(), None).await;
    let back = until(&cluster, "n1", "the version before everywhere", |it| {
        it.digest == good.digest && is_whole(it)
    })
    .await;
    let stayed = |number: usize| back.instances[number].epoch == good.instances[number].epoch;
    assert!(!stayed(0) && stayed(1) && stayed(2), "{back:?}");
    assert_eq!(callers.failures(), Vec::<String>::new(), "no call failed");
    let added = callers.end().await;
    assert_eq!(counts(&cluster, "n2").await.iter().sum::<u64>(), added);
    let told = events(&cluster, "n3").await;
    for known in ["updating", "crashed", "rolled-back"] {
        assert!(told.iter().any(|(event, ..)| event == known), "{known}: {told:?}");
    }
    let why = told.iter().find(|(event, ..)| event == "rolled-back").expect("one");
    assert!(why.2.contains("unreachable"), "{why:?}");
}

/// Deploys a firmware with these settings, and does not wait for it.
async fn put(
    cluster: &Cluster,
    firmware: &str,
    settings: FirmwareSettings,
) -> Result<(), ApiError> {
    let options = DeployOptions { settings, ..DeployOptions::default() };
    cluster.api("n1").put_firmware(&name(firmware), counter(), &options).await.map(|_| ())
}

fn on_nodes(nodes: &[&str]) -> FirmwareSettings {
    let nodes = nodes.iter().map(|node| node.parse().expect("a name")).collect();
    FirmwareSettings { nodes: Nodes::new(nodes), ..FirmwareSettings::default() }
}

fn apart_from(firmware: &str) -> FirmwareSettings {
    FirmwareSettings { apart: [name(firmware)].into(), ..FirmwareSettings::default() }
}

async fn explained(cluster: &Cluster, of: &str) -> Explanation {
    let entity = format!("firmware/{of}").parse().expect("an entity");
    cluster.api("n1").explain(&entity).await.expect("it is explained")
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_named_nodes_and_what_is_to_be_apart_are_kept_to_and_explained() {
    let mut cluster = Cluster::empty(&[]).await;
    for (id, join, zone) in [("n1", None, "a"), ("n2", Some("n1"), "a"), ("n3", Some("n1"), "b")] {
        cluster.start_with(id, join, &["--zone", zone]).await;
    }
    cluster.whole().await;

    // One in each zone, what is to be apart from them on the third node, and what is pinned there.
    deploy(&cluster, counter(), Some(2)).await;
    let shop = nodes(&until(&cluster, "n1", "two replicas", is_whole).await);
    assert!(shop.len() == 2 && shop.contains("n3"), "{shop:?}");
    put(&cluster, "stock", apart_from("shop")).await.expect("deployed");
    let stock = cluster.running("n2", "stock").await;
    assert!(!shop.contains(&stock), "{stock} beside {shop:?}");
    put(&cluster, "gate", on_nodes(&["n3"])).await.expect("deployed");
    assert_eq!(cluster.running("n2", "gate").await, "n3");

    // What was decided is what is told.
    let told = explained(&cluster, "stock").await;
    assert_eq!((told.apart, told.nodes[0].node.as_str()), (vec![name("shop")], stock.as_str()));
    for other in &told.nodes[1..] {
        assert_eq!(other.beside, [name("shop")]);
        assert_eq!(other.later.as_deref(), Some("it has shop, to be apart from"));
    }
    let told = explained(&cluster, "gate").await;
    assert_eq!((told.pinned.len(), told.nodes[0].node.as_str()), (1, "n3"));
    assert_eq!(told.nodes[1].cannot.as_deref(), Some("it is none of the nodes n3"));
    let on_n3 = (1..)
        .zip(&until(&cluster, "n1", "two replicas", is_whole).await.instances)
        .find(|(_, one)| one.node.as_ref().is_some_and(|node| node.as_str() == "n3"))
        .map(|(number, _): (u32, _)| format!("shop.{number}"));
    let told = explained(&cluster, &on_n3.expect("one of them").replace("shop.1", "shop")).await;
    let [n3, near, beside] = &told.nodes[..] else { panic!("{told:?}") };
    assert_eq!((n3.node.as_str(), n3.later.as_ref()), ("n3", None));
    assert_eq!((near.zone_siblings, near.siblings), (1, 1));
    assert_eq!(near.later.as_deref(), Some("zone a has 1 other replica"));
    assert_eq!((beside.node.as_str(), beside.beside.len()), (stock.as_str(), 1));

    // What cannot be is refused, or says what it waits for.
    let itself = put(&cluster, "alone", apart_from("alone")).await.expect_err("is refused");
    assert_eq!(itself.code(), Some("bad-request"), "{itself}");
    let body = MoveBody {
        entity: "firmware/gate".parse().expect("an entity"),
        to: "n1".parse().expect("a name"),
    };
    let moved = cluster.api("n1").begin_move(&body).await.expect_err("is refused");
    assert!(moved.to_string().contains("it is none of the nodes n3"), "{moved}");
    put(&cluster, "far", on_nodes(&["n9"])).await.expect("deployed");
    let waits = async |firmware: &str| {
        cluster.api("n1").describe_firmware(&name(firmware)).await.ok()?.waits_for
    };
    assert_eq!(waits("far").await.as_deref(), Some("none of the nodes n9 is in the cluster"));

    // The zone is lost: what is pinned waits, what is not comes where it is still apart.
    cluster.kill(&["n3".to_owned()]);
    let left = until(&cluster, "n1", "both in the other zone", |it| {
        is_whole(it) && !nodes(it).contains("n3")
    })
    .await;
    assert!(!nodes(&left).contains(&stock), "{:?} beside {stock}", nodes(&left));
    let why = "none of the nodes n3 can take it: n3 is down";
    cluster
        .until("the reason", PATIENCE, async || {
            let told = cluster.api("n1").describe_firmware(&name("gate")).await.ok()?;
            told.waits_for?.ends_with(why).then_some(())
        })
        .await;

    // When it is back it has its replica again, and what was pinned there.
    cluster.start_with("n3", None, &["--zone", "b"]).await;
    assert_eq!(cluster.running("n1", "gate").await, "n3");
    until(&cluster, "n1", "both zones again", |it| is_whole(it) && nodes(it).contains("n3")).await;
    assert_eq!(cluster.running("n1", "stock").await, stock, "it stayed");
}

fn on_disks(disk: &str, number: u64) -> FirmwareSettings {
    let label = |text: &str| text.parse().expect("a label");
    FirmwareSettings {
        labels: [(label("disk"), label(disk))].into(),
        replicas: Some(replicas(number)),
        ..FirmwareSettings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_kept_to_when_nodes_die_and_replicas_are_added_and_waited_for() {
    let mut cluster = Cluster::empty(&[]).await;
    cluster.start("n1", None).await;
    for id in ["n2", "n3"] {
        cluster.start_with(id, Some("n1"), &["--label", "disk=ssd"]).await;
    }
    cluster.whole().await;
    put(&cluster, "shop", on_disks("ssd", 2)).await.expect("deployed");
    let shop = until(&cluster, "n1", "a replica on each node with the label", is_whole).await;
    assert_eq!(nodes(&shop), BTreeSet::from(["n2".to_owned(), "n3".to_owned()]));

    // Rather two on one node than one on a node without it, though that has nothing to do.
    cluster.kill(&["n2".to_owned()]);
    let n3 = BTreeSet::from(["n3".to_owned()]);
    let on_n3 = |it: &FirmwareSummary| is_whole(it) && nodes(it) == n3;
    until(&cluster, "n1", "both on the other one", &on_n3).await;
    let body = ScaleBody { replicas: replicas(3) };
    cluster.api("n1").scale_firmware(&name("shop"), &body).await.expect("scaled");
    until(&cluster, "n1", "a third one there", |it| it.replicas == 3 && on_n3(it)).await;

    // What no node can have begins when there is one that can.
    put(&cluster, "archive", on_disks("tape", 1)).await.expect("deployed");
    let archive = cluster.api("n1").describe_firmware(&name("archive")).await.expect("is there");
    assert_eq!(archive.waits_for.as_deref(), Some("no node has the labels disk=tape"));
    cluster.start_with("n4", Some("n1"), &["--label", "disk=tape"]).await;
    assert_eq!(cluster.running("n1", "archive").await, "n4");
    until(&cluster, "n1", "the others where they were", &on_n3).await;
}
