//! What firmware has logged over HTTP, and what is said of a deployment in a header.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tokio::time::timeout;

use super::{Served, id};
use crate::api::types::{DeployOptions, FirmwareSettings, LogLine, LogOptions, SETTINGS_HEADER};

/// How long a line that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn lines_come_in_order_and_end_when_there_are_no_more() {
    let served = Served::start().await;
    let options = LogOptions { tail: Some(3), ..LogOptions::default() };
    let mut lines = served.client.logs(&"x", &options).await.expect("lines");
    let mut all = Vec::new();
    while let Some(line) = timeout(PATIENCE, lines.next()).await.expect("in time").expect("a line")
    {
        all.push(line);
    }
    let missed = |lines| LogLine::Missed { node: id("n1"), lines };
    assert_eq!(all, [missed(0), missed(1), missed(2)]);
}

#[tokio::test]
async fn who_follows_gets_a_last_line_when_the_node_stops() {
    let served = Served::start().await;
    let options = LogOptions { tail: Some(1), follow: true, ..LogOptions::default() };
    let mut lines = served.client.logs(&"x", &options).await.expect("lines");
    let first = timeout(PATIENCE, lines.next()).await.expect("in time");
    assert!(matches!(first, Ok(Some(LogLine::Missed { .. }))), "{first:?}");
    timeout(PATIENCE, served.root.shutdown()).await.expect("it holds nothing up");
    assert!(matches!(lines.next().await, Ok(Some(LogLine::End { .. }))));
    assert!(matches!(lines.next().await, Ok(None)));
}

#[tokio::test]
async fn settings_come_in_a_header_and_what_the_query_says_goes_before_them() {
    let served = Served::start().await;
    let mut settings = FirmwareSettings::default();
    settings.labels.insert("disk".parse().expect("a label"), "ssd".parse().expect("a label"));
    let options =
        DeployOptions { memory: Some("2 MiB".to_owned()), settings, ..DeployOptions::default() };
    let name = id("x");
    let deployed = served.client.put_firmware(&name, Bytes::from_static(b"x"), &options);
    let (deployed, ()) = tokio::join!(deployed, async {
        served.node.arrived.wait().await;
        served.node.let_go.send();
    });
    deployed.expect("deployed");
    let said = served.node.said.lock().expect("not poisoned").clone().expect("settings");
    assert_eq!(said.limits.memory.map(|memory| memory.bytes()), Some(2 << 20));
    assert_eq!(said.labels.len(), 1);

    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}/v1/firmware/x", served.url);
    let wrong = r#"{"limits": {"memroy": "1 MiB"}}"#;
    let request = http.request(Method::PUT, url).header(SETTINGS_HEADER, wrong).body("x");
    let answer = request.send().await.expect("answered");
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.expect("a text");
    assert!(text.contains("odeum-settings") && text.contains("memroy"), "{text}");
}
