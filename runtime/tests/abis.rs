//! Guests of every kind on real nodes: jobs, servers of HTTP and actors, as components.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, time::Duration};

use odeum_runtime::{
    api::types::{DeployOptions, FirmwareState},
    package::build,
};

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "shared by several test binaries")]
mod support;

use support::{Cluster, PATIENCE, name};

fn guest(guest: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests");
    fs::read(format!("{folder}/{guest}/{guest}.wasm")).expect("the guest")
}

/// The package of a guest with these lines in its manifest.
fn package(lines: &str, module: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = format!("name = 'guest'\nversion = '1.0.0'\n{lines}");
    fs::write(folder.path().join("odeum.toml"), manifest).expect("writes");
    fs::write(folder.path().join("module.wasm"), module).expect("writes");
    build::of_folder(folder.path()).expect("a package").package.file().to_vec()
}

/// Settings of a deployment, from their JSON.
fn settings(json: &str) -> DeployOptions {
    let settings = serde_json::from_str(json).expect("settings");
    DeployOptions { settings, ..DeployOptions::default() }
}

/// The HTTP port of a node.
fn api(cluster: &Cluster, node: &str) -> String {
    let ports = fs::read(cluster.data(node).join("ports.json")).expect("ports");
    let ports: serde_json::Value = serde_json::from_slice(&ports).expect("JSON");
    format!("http://{}", ports["api"].as_str().expect("an address"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_on_the_http_port_of_every_node() {
    let mut cluster = Cluster::of(1, &[]).await;
    cluster.start("n2", Some("n1")).await;
    cluster.whole().await;
    cluster.deploy("n1", "server", guest("http-component")).await;
    let http = reqwest::Client::new();
    for node in ["n1", "n2"] {
        let base = format!("{}/f/server", api(&cluster, node));
        let answer = http.post(format!("{base}/echo?x=1")).body("hello").send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["served-by"], "http-component");
        assert_eq!(answer.text().await.expect("text"), "hello");
        let answer = http.get(&base).send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &*answer.text().await.expect("text")),
            (404, "GET /\n")
        );
        let answer = http.get(format!("{base}/trap")).send().await.expect("an answer");
        assert_eq!(answer.status(), 502);
        let large = vec![b'x'; 16 << 20];
        let answer = http.post(format!("{base}/pipe")).body(large.clone()).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.expect("bytes"), large);
        let too_large = [&large[..], b"x"].concat();
        let answer = http.post(format!("{base}/count")).body(too_large).send().await;
        assert_eq!(answer.expect("an answer").status(), 413);
    }
    let nobody = format!("{}/f/nobody/", api(&cluster, "n1"));
    let answer = http.get(nobody).header("odeum-deadline", "2s").send().await;
    assert_eq!(answer.expect("an answer").status(), 404);
    let bad = format!("{}/f/Bad_Name/", api(&cluster, "n1"));
    assert_eq!(http.get(bad).send().await.expect("an answer").status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_completes_once_and_again_when_it_is_deployed_again() {
    let mut cluster = Cluster::of(1, &[]).await;
    let package = guest("command-component");
    let completed = async |cluster: &Cluster, what: &str, after: Option<u64>| {
        cluster
            .until(what, PATIENCE, async || {
                let summary = cluster.api("n1").firmware_of(&name("job")).await.ok()?;
                let epoch = summary.epoch?.0;
                let is_later = after.is_none_or(|after| epoch > after);
                (summary.state == FirmwareState::Completed && is_later).then_some(())?;
                assert_eq!(summary.exit_code, Some(0));
                Some(epoch)
            })
            .await
    };
    let options = DeployOptions::default();
    cluster.api("n1").put_firmware(&name("job"), package.clone(), &options).await.expect("deploys");
    let first = completed(&cluster, "the job to complete", None).await;
    let refused = cluster.call("n1", "job", "hello", Duration::from_secs(5)).await;
    assert!(refused.expect_err("is refused").to_string().contains("is a job"));
    // Its outcome outlives the node.
    cluster.stop("n1").await;
    cluster.start("n1", None).await;
    cluster.whole().await;
    completed(&cluster, "the job to be known as completed", None).await;
    cluster.api("n1").put_firmware(&name("job"), package, &options).await.expect("deploys");
    completed(&cluster, "the job to complete again", Some(first)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_reaches_guests_on_another_node() {
    let mut cluster = Cluster::of(1, &[]).await;
    cluster.start("n2", Some("n1")).await;
    cluster.whole().await;
    for firmware in ["a", "b", "c"] {
        let actor = package("[capabilities]\nmessages = ['*']", &guest("actor-component"));
        cluster.deploy("n1", firmware, actor).await;
    }
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        let ask = format!("ask {to} name");
        cluster.call("n1", from, &ask, Duration::from_secs(10)).await.expect("asks");
        cluster
            .until(&format!("the answer of {to}"), PATIENCE, async || {
                let answer =
                    cluster.call("n1", from, "get answer", Duration::from_secs(5)).await.ok()?;
                (answer.body == to.as_bytes()).then_some(())
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_actor_publishes_is_heard_on_every_node() {
    let mut cluster = Cluster::of(1, &[]).await;
    cluster.start("n2", Some("n1")).await;
    cluster.whole().await;
    let granted = "[capabilities]\npublish = ['news/*']\nsubscribe = ['news/*']";
    let (mut hosts, within) = (BTreeSet::new(), Duration::from_secs(5));
    for firmware in ["a", "b"] {
        let actor = package(granted, &guest("actor-component"));
        hosts.insert(cluster.deploy("n1", firmware, actor).await);
        cluster.call("n1", firmware, "subscribe news/here", within).await.expect("subscribes");
    }
    assert_eq!(hosts.len(), 2, "they are spread");
    for (speaker, hearer) in [("a", "b"), ("b", "a")] {
        let said = format!("publish news/here by {speaker}");
        let heard = format!("news/here: by {speaker}");
        cluster
            .until(&format!("{heard:?} at {hearer}"), PATIENCE, async || {
                // What is published before the other node knows of the subscription is lost.
                cluster.call("n1", speaker, &said, within).await.ok()?;
                let answer = cluster.call("n1", hearer, "get heard", within).await.ok()?;
                (answer.body == heard.as_bytes()).then_some(())
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_nothing_would_see_to_are_refused_with_their_key() {
    let cluster = Cluster::of(1, &[]).await;
    let memory = r#"{"health": {"memory": {"above": "1 GiB", "lasting": "10s"}}}"#;
    let liveness = r#"{"health": {"liveness": {"interval": "1s"}}}"#;
    let transient = r#"{"transient": {"idle": "1m"}}"#;
    for (file, asked, key) in [
        ("command-component", memory, "health.memory"),
        ("http-component", memory, "health.memory"),
        ("command-component", liveness, "health.liveness"),
        ("http-component", transient, "transient"),
    ] {
        let (api, settings) = (cluster.api("n1"), settings(asked));
        let deployed = api.put_firmware(&name("guest"), guest(file), &settings).await;
        let refused = deployed.expect_err("is refused");
        assert_eq!(refused.code(), Some("bad-request"), "{refused}");
        let said = format!("the settings ask for `{key}`, which a guest of the ABI");
        assert!(refused.to_string().contains(&said), "{file}: {refused}");
    }
    assert!(cluster.api("n1").firmware().await.expect("a list").is_empty());
    cluster.deploy_with("n1", "actor", guest("actor-component"), &settings(memory)).await;
    cluster.deploy_with("n1", "server", guest("http-component"), &DeployOptions::default()).await;
}
