//! Firmware moves between real nodes while it is at work, and nothing of it is lost.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod cluster;

use std::{fs, time::Duration};

use cluster::{Callers, Cluster, PATIENCE, counter, name};
use odeum_proto::EntityId;
use odeum_runtime::{
    api::{
        client::ApiError,
        types::{DeployOptions, FirmwareState, MoveBegun, MoveBody, MoveState, MoveSummary},
    },
    package::build,
};

/// Counts in its memory alone.
const HEAP: &[u8] = include_bytes!("support/heap.wat");

/// Waits for others, and has what came of that in its memory alone.
const WAITING: &[u8] = include_bytes!("support/waiting.wat");

/// Takes a third of a second for each message.
const SLOW: &[u8] = include_bytes!("support/slow.wat");

/// A firmlet that counts in its memory alone, up to 9.
const FIRMLET: &str = r#"(module
  (import "env" "tw_mqtt_publish" (func $publish (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "odeum/reply")
  (data (i32.const 16) "0")
  (func (export "_start") (param i32))
  (func (export "_on_message_received") (param i32 i32 i32 i32)
    (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 1)))
    (drop (call $publish (i32.const 0) (i32.const 11) (i32.const 16) (i32.const 1)))))"#;

/// A reactor that counts there when its function `next` is called by name.
const REACTOR: &str = r#"(module
  (global $count (mut i32) (i32.const 0))
  (func (export "_initialize"))
  (func (export "next") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (global.get $count)))"#;

/// A job that waits for 1,000 s.
const JOB: &[u8] = include_bytes!("support/job.wat");

fn guest(guest: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests");
    fs::read(format!("{folder}/{guest}/{guest}.wasm")).expect("the guest")
}

/// The package of a guest with these lines in its manifest.
fn package(lines: &str, module: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let entry = if module.starts_with(b"\0asm") { "module.wasm" } else { "module.wat" };
    let manifest = format!("name = 'guest'\nversion = '1.0.0'\nentry = '{entry}'\n{lines}");
    fs::write(folder.path().join("odeum.toml"), manifest).expect("writes");
    fs::write(folder.path().join(entry), module).expect("writes");
    build::of_folder(folder.path()).expect("a package").package.file().to_vec()
}

fn entity(firmware: &str) -> EntityId {
    EntityId::firmware(name(firmware))
}

async fn begin(cluster: &Cluster, firmware: &str, to: &str) -> Result<MoveBegun, ApiError> {
    let body = MoveBody { entity: entity(firmware), to: to.parse().expect("a name") };
    cluster.api(&cluster.other_than("")).begin_move(&body).await
}

/// How a move ended.
async fn ended(cluster: &Cluster, begun: &MoveBegun) -> MoveSummary {
    let api = cluster.api(&cluster.other_than(""));
    cluster
        .until("the end of a move", PATIENCE, async || {
            let moves = api.moves().await.ok()?;
            let of = |made: &&MoveSummary| {
                made.entity == begun.entity && made.epoch == begun.epoch && made.to == begun.to
            };
            moves.iter().rev().find(of).filter(|made| made.state.is_over()).cloned()
        })
        .await
}

async fn moved(cluster: &Cluster, firmware: &str, to: &str) -> MoveSummary {
    let begun = begin(cluster, firmware, to).await.expect("it begins");
    let made = ended(cluster, &begun).await;
    assert_eq!(made.state, MoveState::Moved, "{made:?}\n{}", cluster.last_words());
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guest_has_in_memory_moves_with_it_while_many_call_it() {
    let cluster = Cluster::of(3, &[]).await;
    let mut at = cluster.deploy("n2", "heap", HEAP.to_vec()).await;
    let callers = Callers::start("heap", vec![cluster.routes(); 6]);
    for _ in 0..20 {
        callers.go_on(&cluster, 40, PATIENCE).await;
        let to = cluster.ids().into_iter().find(|id| *id != at).expect("another node");
        let next = cluster.ids().into_iter().rfind(|id| *id != at && *id != to).unwrap_or(to);
        let made = moved(&cluster, "heap", &next).await;
        assert_eq!((made.live, made.from.as_str()), (Some(true), at.as_str()), "{made:?}");
        at = next;
    }
    let acks = callers.acks();
    let hosts: std::collections::BTreeSet<_> = acks.iter().map(|ack| &ack.host).collect();
    assert_eq!(hosts.len(), 3, "it answered on each of them");
    assert!(callers.reckon(&cluster, "n3").await >= 800);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firmlet_and_a_reactor_move_with_what_they_have_in_memory() {
    let cluster = Cluster::of(2, &[]).await;
    for (firmware, text) in [("firmlet", FIRMLET), ("reactor", REACTOR)] {
        let at = cluster.deploy("n1", firmware, text.into()).await;
        let to = cluster.other_than(&at);
        for count in 1..=3 {
            assert_eq!(cluster.number("n1", firmware, "next").await, count, "{firmware}");
        }
        for (next, count) in [(&to, 4), (&at, 5)] {
            let made = moved(&cluster, firmware, next).await;
            assert_eq!((made.live, made.reason.as_deref()), (Some(true), None), "{firmware}");
            assert_eq!(cluster.running("n1", firmware).await, *next);
            assert_eq!(cluster.number("n1", firmware, "next").await, count, "{firmware}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_take_its_memory_along_begins_anew_there_and_a_job_stays_with_the_reason() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let cluster = Cluster::of(2, &[("ODEUM_PACKAGES__FOLDERS", folder)]).await;
    let folders = format!("[capabilities]\nfolders = [{{ guest = '/data', host = '{folder}' }}]");
    // What counts in its memory, and by which message, shows that it began anew.
    let component = "it is a component, of which only core modules can move yet";
    let of_each_request = "it keeps nothing from one request to the next";
    for (firmware, package, counts, reason) in [
        (
            "apart",
            package("isolation = 'process'", HEAP),
            Some("add 1"),
            "it runs in a process of its own",
        ),
        (
            "files",
            package(&folders, REACTOR.as_bytes()),
            Some("next"),
            "it may have files of /data open",
        ),
        ("actor", guest("actor-component"), None, component),
        ("server", guest("http-component"), None, of_each_request),
    ] {
        let at = cluster.deploy("n1", firmware, package).await;
        if let Some(message) = counts {
            assert_eq!(cluster.number("n1", firmware, message).await, 1, "{firmware}");
            assert_eq!(cluster.number("n1", firmware, message).await, 2, "{firmware}");
        }
        let to = cluster.other_than(&at);
        let made = moved(&cluster, firmware, &to).await;
        assert_eq!((made.live, made.reason.as_deref()), (Some(false), Some(reason)), "{firmware}");
        assert_eq!(cluster.running("n1", firmware).await, to, "{firmware}");
        if let Some(message) = counts {
            assert_eq!(cluster.number("n1", firmware, message).await, 1, "{firmware} began anew");
        }
    }

    // One that is idle has no memory, and stays idle until somebody calls it.
    let idle = package("[transient]\nidle = '100ms'", HEAP);
    let options = DeployOptions::default();
    cluster.api("n1").put_firmware(&name("idle"), idle, &options).await.expect("deploys");
    let is_idle = async |cluster: &Cluster| {
        let of = async || {
            let summary = cluster.api("n1").firmware_of(&name("idle")).await.ok()?;
            (summary.state == FirmwareState::Idle).then_some(summary.node)
        };
        cluster.until("it to be idle", PATIENCE, of).await
    };
    let at = is_idle(&cluster).await.expect("it is placed");
    let to = cluster.other_than(at.as_str());
    let made = moved(&cluster, "idle", &to).await;
    assert_eq!((made.live, made.reason.as_deref()), (Some(false), Some("it is idle")));
    assert_eq!(is_idle(&cluster).await.map(|node| node.to_string()), Some(to));
    assert_eq!(cluster.number("n1", "idle", "add 1").await, 1);

    // A job would begin again from its first step, so it is let be.
    let at = cluster.deploy("n1", "job", JOB.into()).await;
    let to = cluster.other_than(&at);
    let begun = begin(&cluster, "job", &to).await.expect("it begins");
    let made = ended(&cluster, &begun).await;
    let stayed = (made.state, made.reason.as_deref());
    assert_eq!(stayed, (MoveState::Stayed, Some("it is a job")), "{made:?}");
    assert_eq!(cluster.running("n1", "job").await, at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_and_one_that_is_told_to_stop_give_away_what_they_have_with_its_memory() {
    let mut cluster = Cluster::of(3, &[]).await;
    let firmware = ["heap-a", "heap-b", "heap-c", "heap-d", "heap-e", "heap-f"];
    for firmware in firmware {
        cluster.deploy("n2", firmware, HEAP.to_vec()).await;
    }
    for (number, firmware) in (1..).zip(firmware) {
        for count in 1..=number {
            assert_eq!(cluster.number("n1", firmware, "add 1").await, count);
        }
    }
    let api = cluster.api("n1");
    let on = async |node: &str| {
        let all = api.firmware().await.expect("it answers");
        all.iter().filter(|it| it.node.as_ref().is_some_and(|at| at.as_str() == node)).count()
    };
    assert_eq!(on("n3").await, 2, "they are spread");
    api.drain(&"n3".parse().expect("a name"), PATIENCE).await.expect("others can take it");
    assert_eq!(on("n3").await, 0);
    api.use_again(&"n3".parse().expect("a name")).await.expect("it is there");
    assert!(on("n2").await > 0);
    assert_eq!(cluster.stop("n2").await, Some(0));
    assert_eq!(on("n2").await, 0);
    for (number, firmware) in (1..).zip(firmware) {
        assert_eq!(cluster.number("n1", firmware, "get").await, number, "{firmware}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_survive_moves_during_which_either_node_or_the_leader_is_killed() {
    let mut cluster = Cluster::of(3, &[]).await;
    cluster.deploy("n2", "counter", counter()).await;
    let callers = Callers::start("counter", vec![cluster.routes(); 3]);
    for round in 0..6 {
        callers.go_on(&cluster, 20, PATIENCE).await;
        let host = cluster.running(&cluster.other_than(""), "counter").await;
        let leader = cluster.leader("n1").await;
        let to = cluster.other_than(&host);
        begin(&cluster, "counter", &to).await.expect("it begins");
        let victim = match round % 3 {
            0 => host,
            1 => to,
            _ => leader,
        };
        cluster.kill(std::slice::from_ref(&victim));
        callers.go_on(&cluster, 1, PATIENCE).await;
        cluster.start(&victim, None).await;
        cluster.whole().await;
    }
    callers.reckon(&cluster, "n3").await;
    let api = cluster.api("n1");
    let ended = async || api.moves().await.ok()?.iter().all(|it| it.state.is_over()).then_some(());
    cluster.until("the end of all moves", PATIENCE, ended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_makes_no_sense_is_refused_with_the_reason() {
    let cluster = Cluster::of(2, &[]).await;
    let at = cluster.deploy("n1", "heap", HEAP.to_vec()).await;
    let refused = async |firmware: &str, to: &str| {
        begin(&cluster, firmware, to).await.expect_err("it makes no sense").to_string()
    };
    let there = refused("heap", &at).await;
    assert!(there.contains(&format!("firmware/heap is on {at} already")), "{there}");
    let nowhere = refused("heap", "n9").await;
    assert!(nowhere.contains("there is no node n9"), "{nowhere}");
    let nothing = refused("heapp", "n1").await;
    assert!(nothing.contains("there is no firmware heapp; the nearest is heap"), "{nothing}");
    let other = cluster.other_than(&at);
    let made = moved(&cluster, "heap", &other).await;
    let events = cluster.api(&other).events(&"heap").await.expect("they are told");
    let told = events.iter().find(|event| event.event == "moved").expect("that it moved");
    assert_eq!(told.node.as_str(), at);
    assert!(told.text.starts_with(&format!("to {other} with its memory")), "{told:?}");
    assert!(made.paused_ms.expect("it was frozen") < PATIENCE.as_secs_f64() * 1_000.0);
    assert_eq!(cluster.running(&at, "heap").await, other);
    let within = Duration::from_secs(5);
    assert!(cluster.call(&at, "heap", "add 1", within).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guest_waits_for_comes_to_it_where_it_has_moved() {
    let cluster = Cluster::of(3, &[]).await;
    let may = "[capabilities]\nmessages = ['slow']\npublish = ['news']\nsubscribe = ['news']";
    cluster.deploy("n1", "slow", package("[capabilities]\nclock = true", SLOW)).await;
    let at = cluster.deploy("n1", "waiting", package(may, WAITING)).await;
    let within = Duration::from_secs(10);
    let said = async |firmware: &str, message: &str| {
        let reply = cluster.call("n1", firmware, message, within).await.expect("it replies");
        String::from_utf8(reply.body).expect("text")
    };
    assert_eq!(said("waiting", "ask").await, "0000");
    let made = moved(&cluster, "waiting", &cluster.other_than(&at)).await;
    assert_eq!(made.live, Some(true), "{made:?}");
    // All eight, the timer, and nothing twice.
    cluster
        .until("all that it waits for", PATIENCE, async || {
            (said("waiting", "get").await == "8010").then_some(())
        })
        .await;
    assert_eq!(said("slow", "get").await, "8");
    said("waiting", "publish").await;
    cluster
        .until("what is published", PATIENCE, async || {
            (said("waiting", "get").await == "8011").then_some(())
        })
        .await;
}
