//! Backups, restores and checks on real nodes, from the command line as a person or a script uses
//! them.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod cluster;
#[path = "support/process.rs"]
mod process;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use cluster::{Cluster, PATIENCE, counter};
use odeum_proto::RequestId;
use odeum_runtime::api::types::CallOptions;
use process::{COUNTER, Node, Up, complaint, folder, odeum, text};
use serde_json::{Value, json};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Files beside the one called `name`, in whose folder they are.
fn beside(folder: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("read").map(|entry| entry.expect("read").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|other| other != name);
    names
}

/// Sessions of several sorts and a firmware that has counted to 5.
fn furnish(node: &Node) {
    node.done(&["run", COUNTER]);
    node.done(&["call", "counter", "add 5", "--request-id", "five"]);
    node.done(&["session", "create", "user-1", "--ttl", "1h", "--meta", "owner=me"]);
    let typed = ["--type", "integer", "--max", "100", "--history", "3"];
    node.done(&[&["session", "register", "user-1", "score", "0"], &typed[..]].concat());
    for value in ["1", "2", "3", "4"] {
        node.done(&["session", "set", "user-1", "score", value]);
    }
    node.done(&["session", "set", "user-1", "x", "once", "--request-id", "mine"]);
}

/// Waits until the firmware called `counter` runs.
fn counts(node: &Node) {
    let start = Instant::now();
    while parsed(&node.done(&["get", "firmware", "-o", "json"]))[0]["state"] != "running" {
        assert!(start.elapsed() < PATIENCE, "it does not run:\n{}", node.log());
    }
}

/// What a watch tells first, beside where it begins.
fn first_of_watch(node: &Node, session: &str, after: &str) -> Value {
    let url = format!("http://{}", node.api_addr());
    let mut watch = odeum(&["watch", session, "--after", after, "-o", "json", "--api-url", &url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let first = lines
        .map(|line| parsed(&line.expect("reads")))
        .find(|line| line["event"] != "progress")
        .expect("a line");
    watch.kill().and_then(|()| watch.wait()).expect("it is ours");
    first
}

#[test]
fn a_cluster_is_saved_in_a_file_and_restored_into_an_empty_one() {
    let (folders, files) = ([folder(), folder()], folder());
    let file = files.path().join("monday.backup");
    let name = file.to_str().expect("UTF-8");
    let old = Up::n1(folders[0].path()).start();
    furnish(&old);

    let saved = parsed(&old.done(&["store", "backup", name, "-o", "json"]));
    assert_eq!(
        (&saved["firmware"], &saved["blobs"], &saved["sessions"]),
        (&json!(1), &json!(1), &json!(2))
    );
    let there = old.refused(&["store", "backup", name]);
    assert!(there.contains("monday.backup") && there.contains("--force"), "{there}");
    let again = old.done(&["store", "backup", name, "--force"]);
    assert!(again.contains("2 sessions"), "{again}");
    assert_eq!(beside(files.path(), "monday.backup"), Vec::<String>::new());
    let good = old.done(&["store", "check", name]);
    assert!(good.contains("is good") && good.contains("1 firmware"), "{good}");
    let full = old.refused(&["store", "restore", name]);
    assert!(full.contains("not empty"), "{full}");

    let new = Up::n1(folders[1].path()).start();
    let restored = parsed(&new.done(&["store", "restore", name, "-o", "json"]));
    assert_eq!((&restored["already"], &restored["sessions"]), (&json!(false), &json!(2)));
    let get = ["session", "get", "user-1", "score", "-o", "json"];
    let (before, after) = (parsed(&old.done(&get)), parsed(&new.done(&get)));
    for field in ["value", "version", "revision", "type"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let history = ["session", "history", "user-1", "score", "-o", "json"];
    let values = |node: &Node| parsed(&node.done(&history))["values"].clone();
    assert_eq!(values(&new), values(&old));
    assert!(new.done(&["session", "get", "user-1"]).contains("ttl 1h"));
    assert!(new.refused(&["session", "set", "user-1", "score", "101"]).contains("max 100"));
    // What was asked for once is answered as it was.
    let asked = ["session", "set", "user-1", "x", "once", "--request-id", "mine", "-o", "json"];
    assert_eq!(new.done(&asked), old.done(&asked));

    counts(&new);
    let replayed = new.done(&["call", "counter", "add 5", "--request-id", "five", "-o", "json"]);
    let replayed = parsed(&replayed);
    assert_eq!((&replayed["reply"]["value"], &replayed["replayed"]), (&json!("5"), &json!(true)));
    assert_eq!(new.done(&["call", "counter", "add 2"]).trim_end(), "7");

    // A watch with a revision of the old cluster begins with the state.
    let first = first_of_watch(&new, "user-1", &before["revision"].to_string());
    assert_eq!(first["event"], "state", "{first}");

    let once_more = new.done(&["store", "restore", name]);
    assert!(once_more.contains("nothing was changed"), "{once_more}");
    assert_eq!(new.done(&["call", "counter", "get"]).trim_end(), "7");
}

#[test]
fn a_damaged_backup_is_refused_with_the_file_and_the_offset_and_nothing_is_restored() {
    let (folders, files) = ([folder(), folder()], folder());
    let file = files.path().join("damaged.backup");
    let name = file.to_str().expect("UTF-8");
    let old = Up::n1(folders[0].path()).start();
    old.done(&["session", "create", "s"]);
    old.done(&["store", "backup", name]);
    let mut bytes = fs::read(&file).expect("read");
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    fs::write(&file, &bytes).expect("written");

    let new = Up::n1(folders[1].path()).start();
    for command in ["restore", "check"] {
        let line = complaint(&new.run(&["store", command, name]), 3);
        assert!(line.contains("damaged.backup is damaged at byte "), "{line}");
    }
    // Who sends it all the same is told by the node.
    let url = format!("http://{}/v1/store/restore", new.api_addr());
    let http = tokio::runtime::Runtime::new().expect("a runtime");
    let answer: Value = http.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.put(url).body(bytes).send().await.expect("answered");
        assert_eq!(answer.status(), 422);
        answer.json().await.expect("JSON")
    });
    assert_eq!(answer["error"], "bad-backup", "{answer}");
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("at byte")), "{answer}");
    let sessions = parsed(&new.done(&["session", "list", "-o", "json"]));
    assert_eq!(sessions["sessions"], json!([]), "something was restored");
    new.done(&["session", "create", "mine"]);

    let none = new.run(&["store", "check", COUNTER]);
    assert!(complaint(&none, 3).contains("is no backup"));
    let missing = new.refused(&["store", "restore", "/nowhere/x.backup"]);
    assert!(missing.contains("/nowhere/x.backup"), "{missing}");
    let nowhere = old.refused(&["store", "backup", "/nowhere/x.backup"]);
    assert!(nowhere.contains("/nowhere/x.backup"), "{nowhere}");
}

#[test]
fn a_backup_that_cannot_be_finished_leaves_no_file() {
    let (folder, files) = (folder(), folder());
    let up = Up::n1(folder.path());
    let node = up.start();
    node.done(&["run", COUNTER]);
    for part in fs::read_dir(up.data.join("blobs")).expect("read") {
        let part = part.expect("read").path();
        // The folders of blobs have names of two digits.
        if part.file_name().is_some_and(|name| name.len() == 2) {
            fs::remove_dir_all(part).expect("removed");
        }
    }
    let name = files.path().join("half.backup");
    let line = node.refused(&["store", "backup", name.to_str().expect("UTF-8")]);
    assert!(line.contains("cut off and nothing is saved"), "{line}");
    assert!(node.log().contains("backup not finished"), "{}", node.log());
    assert_eq!(beside(files.path(), ""), Vec::<String>::new());
}

#[test]
fn logs_are_shortened_and_the_folder_of_a_stopped_node_is_checked() {
    let folder = folder();
    let up = Up::n1(folder.path());
    let node = up.start();
    node.done(&["session", "create", "s"]);
    for value in 0..20 {
        node.done(&["session", "set", "s", "x", &value.to_string()]);
    }
    let compacted = parsed(&node.done(&["store", "compact", "-o", "json"]));
    let replicas = compacted["replicas"].as_array().expect("replicas");
    assert_eq!(replicas.len(), 3);
    for replica in replicas {
        let number = |field: &str| replica[field].as_u64().expect("a number");
        assert!(number("entries_before") > number("entries_after"), "{replica}");
        assert!(number("snapshot_bytes") > 0, "{replica}");
    }
    assert!(node.done(&["store", "compact"]).starts_with("NODE"));
    assert_eq!(node.done(&["session", "get", "s", "x"]).trim_end(), "19");

    let data = up.data.to_str().expect("UTF-8");
    let check = |format: &[&str]| {
        odeum(&[&["store", "check", data], format].concat()).output().expect("runs")
    };
    let running = complaint(&check(&[]), 1);
    assert!(running.contains("in use by process"), "{running}");
    node.signal("TERM");
    assert_eq!(node.ended(), Some(0));
    let good = check(&["-o", "json"]);
    assert!(good.status.success(), "{}", text(&good.stderr));
    let good = parsed(&text(&good.stdout));
    assert_eq!((&good["node"], &good["good"]), (&json!("n1"), &json!(true)));

    let snapshot = up.data.join("store/snapshots/data-0.snapshot");
    let mut bytes = fs::read(&snapshot).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&snapshot, bytes).expect("written");
    let damaged = check(&[]);
    assert_eq!(damaged.status.code(), Some(3), "{}", text(&damaged.stderr));
    let table = text(&damaged.stdout);
    assert!(table.lines().any(|row| row.starts_with("damaged")), "{table}");
    let line = text(&damaged.stderr);
    assert!(line.contains("data-0.snapshot is damaged at byte 16"), "{line}");
    let none = complaint(&odeum(&["store", "check", "/tmp"]).output().expect("runs"), 1);
    assert!(none.contains("/tmp is no data folder"), "{none}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_is_restored_into_one_of_two_with_its_packages_on_both() {
    let files = folder();
    let file = files.path().join("three.backup");
    let name = file.to_str().expect("UTF-8");
    let old = Cluster::of(3, &[]).await;
    old.deploy("n2", "counter", counter()).await;
    let five: RequestId = "five".parse().expect("valid");
    let options = CallOptions {
        request: Some(five),
        deadline: Duration::from_secs(20),
        ..CallOptions::default()
    };
    let counter_name = cluster::name("counter");
    let body = || b"add 5".to_vec();
    old.api("n3").call(&counter_name, body(), &options).await.expect("counted");
    // Each node can make one.
    for node in ["n1", "n3"] {
        let url = old.api(node).url().to_string();
        let saved = odeum(&["store", "backup", name, "--force", "--api-url", &url]).output();
        let saved = saved.expect("runs");
        assert!(saved.status.success(), "{}", text(&saved.stderr));
    }
    drop(old);

    let new = Cluster::of(2, &[]).await;
    let url = new.api("n2").url().to_string();
    let restored = odeum(&["store", "restore", name, "--api-url", &url]).output().expect("runs");
    assert!(restored.status.success(), "{}\n{}", text(&restored.stderr), new.last_words());
    new.running("n1", "counter").await;
    let replayed = new.api("n1").call(&counter_name, body(), &options).await.expect("answered");
    assert!(replayed.replayed && replayed.body == b"5", "{replayed:?}");
    assert_eq!(new.number("n2", "counter", "add 1").await, 6);
    let blobs = new.api("n1").blobs(10, None).await.expect("blobs").blobs;
    let [package] = &blobs[..] else { panic!("{blobs:?}") };
    assert_eq!(package.holders.len(), 2, "{package:?}");
}
