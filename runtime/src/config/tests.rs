//! The promises of the layers.

use std::path::PathBuf;

use odeum_proto::NodeId;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn sources() -> Sources {
    with_log_filters(Sources::new(PREFIX))
}

fn file(text: &str) -> Sources {
    sources().file("odeum.toml", text)
}

fn environment(pairs: &[(&str, &str)]) -> Sources {
    sources().environment(pairs.iter().copied())
}

fn refusal(sources: &Sources) -> String {
    resolve(sources).expect_err("refused").to_string()
}

#[test]
fn without_any_source_everything_is_at_its_default() {
    let resolved = resolve(&sources()).expect("resolves");
    assert_eq!(resolved.config, NodeConfig::default());
    assert!(resolved.entries().expect("shows").iter().all(|e| e.origin == Origin::Default));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let sources = file("[api]\nlisten = '127.0.0.1:1'\n[node]\nname = 'n1'\ndata-dir = 'a'\n")
        .environment([
            ("ODEUM_API__LISTEN", "127.0.0.1:2"),
            ("ODEUM_NODE__DATA_DIR", "b"),
            // These are for the commands, not for a node.
            ("ODEUM_API", "http://elsewhere:1"),
            ("ODEUM_CONFIG", "odeum.toml"),
            ("ODEUM_PROFILE", "test"),
        ])
        .flag("--api", "api.listen", "127.0.0.1:3");
    let resolved = resolve(&sources).expect("resolves");

    assert_eq!(resolved.config.api.listen.port(), 3);
    assert_eq!(resolved.config.node.data_dir, PathBuf::from("b"));
    assert_eq!(resolved.config.node.name.as_ref().map(NodeId::as_str), Some("n1"));
    let origins = [
        ("api.listen", "flag --api"),
        ("node.data-dir", "environment ODEUM_NODE__DATA_DIR"),
        ("node.name", "odeum.toml:4:1"),
        ("log.format", "default"),
    ];
    for (key, origin) in origins {
        assert_eq!(resolved.origin(key).to_string(), origin, "{key}");
    }
}

#[test]
fn every_setting_can_be_given_by_a_file_and_by_the_environment() {
    let defaults = resolve(&sources()).expect("resolves");
    for entry in defaults.entries().expect("shows") {
        let (section, key) = entry.key.split_once('.').expect("has a section");
        let value = match (&entry.value, entry.key.as_str()) {
            (Value::Null, "node.name") => json!("n1"),
            (Value::Null, "node.zone") => json!("rack-1"),
            (Value::Null, "cluster.advertise") => json!("127.0.0.1:7071"),
            (Value::Null, "cluster.certs") => json!("certs"),
            (Value::Null, "packages.allow-unsigned") => json!(true),
            (Value::Null, "firmware.cache-dir") => json!("compiled"),
            (Value::Null, "mqtt.broker") => json!("mqtt://127.0.0.1:1883"),
            (Value::Null, "mqtt.user") => json!("odeum"),
            (Value::Null, "mqtt.password-file") => json!("broker.password"),
            (Value::Null, "mqtt.ca-file" | "packages.ca-file") => json!("ca.pem"),
            (Value::Null, "mqtt.cert-file") => json!("node.pem"),
            (Value::Null, "mqtt.key-file") => json!("node.key"),
            (value, _) => value.clone(),
        };
        let by_file = file(&format!("[{section}]\n{key} = {value}\n"));
        let resolved = resolve(&by_file).expect("the file is taken");
        assert_eq!(resolved.origin(&entry.key).to_string(), "odeum.toml:2:1", "{}", entry.key);

        let name = format!("ODEUM_{section}__{key}").replace('-', "_").to_uppercase();
        let text = match &value {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let by_environment = environment(&[(&name, &text)]);
        assert_eq!(
            resolve(&by_environment).expect("the variable is taken").config,
            resolved.config,
            "{name}"
        );
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_key() {
    let cases = [
        ("[api]\nlisten = '127.0.0.1:1'\n  lisen = 1", "odeum.toml:3:3", "api.lisen", "api.listen"),
        ("[node]\njoin = []", "odeum.toml:2:1", "node.join", "cluster.join"),
        ("data-dir = 'x'", "odeum.toml:1:1", "data-dir", "node.data-dir"),
        ("api = {lsten = 1}", "odeum.toml:1:8", "api.lsten", "api.listen"),
    ];
    for (text, at, key, nearest) in cases {
        let message = refusal(&file(text));
        assert_eq!(
            message,
            format!("{at}: there is no setting `{key}`; the nearest is `{nearest}`"),
            "{text}"
        );
    }
    assert_eq!(
        refusal(&file("# ä\n[ndoe]\nname = 'n1'\n")),
        "odeum.toml:2:2: there is no section [ndoe]; the nearest is [node]"
    );
    let message = refusal(&environment(&[("ODEUM_API__LISTN", "x")]));
    assert!(message.contains("ODEUM_API__LISTN") && message.contains("`api.listen`"), "{message}");
}

#[test]
fn a_value_that_does_not_fit_is_refused_where_it_stands() {
    let cases = [
        ("[api]\nlisten = 'here'", "odeum.toml:2:1: `api.listen`: "),
        ("[api]\nlisten = 1", "odeum.toml:2:1: `api.listen`: "),
        ("[api]\nlisten.port = 1", "odeum.toml:2:1: `api.listen`: "),
        ("[api]\ndrain = 250", "odeum.toml:2:1: `api.drain`: "),
        ("[firmware]\nmemory = '4 MiBs'", "odeum.toml:2:1: `firmware.memory`: "),
        ("[node]\nname = 'Not A Name'", "odeum.toml:2:1: `node.name`: "),
        ("[blobs]\ncopies = 9", "odeum.toml:2:1: `blobs.copies`: 9 where at most 8"),
        ("[store]\nsnapshot-every = 0", "odeum.toml:2:1: `store.snapshot-every`: "),
        ("[log]\nformat = 'xml'", "odeum.toml:2:1: `log.format`: "),
        ("api = 1", "odeum.toml:1:1: `api`: this is a section"),
        ("[api\n", "odeum.toml:1:5: "),
    ];
    for (text, start) in cases {
        let message = refusal(&file(text));
        assert!(message.starts_with(start), "{text}: {message}");
    }
    let message = refusal(&environment(&[("ODEUM_NODE__DEV", "perhaps")]));
    assert!(message.starts_with("environment ODEUM_NODE__DEV: `node.dev`: "), "{message}");
}

#[test]
fn a_wrong_value_is_refused_even_when_a_later_layer_sets_another() {
    let sources = file("[api]\nlisten = 'here'").flag("--api", "api.listen", "127.0.0.1:3");
    assert!(refusal(&sources).contains("odeum.toml:2:1"));
}

#[test]
fn the_api_leaves_loopback_only_when_told_so() {
    let open = "[api]\nlisten = '0.0.0.0:7070'\n";
    assert!(refusal(&file(open)).contains("odeum.toml:2:1: `api.listen`: "));
    assert!(resolve(&file(&format!("{open}allow-remote = true\n"))).is_ok());
}

#[test]
fn the_log_filter_is_taken_from_the_usual_variables() {
    let all = [("ODEUM_LOG__FILTER", "c"), ("ODEUM_LOG", "b"), ("RUST_LOG", "a")];
    for (given, expected) in [(&all[2..], "a"), (&all[1..], "b"), (&all[..], "c")] {
        let resolved = resolve(&environment(given)).expect("resolves");
        assert_eq!(resolved.config.log.filter, expected);
    }
}

#[test]
fn nodes_to_join_are_a_list_in_the_environment() {
    let resolved = resolve(&environment(&[("ODEUM_CLUSTER__JOIN", "a:1, b:2")]));
    assert_eq!(resolved.expect("resolves").config.cluster.join, ["a:1", "b:2"]);
}

#[test]
fn labels_are_given_one_by_one_wherever_they_stand() {
    let sources = file("[node]\nlabels.disk = 'ssd'\nlabels.os = 'linux'\n")
        .environment([("ODEUM_NODE__LABELS__GPU", "none")])
        .flag("--label", "node.labels.disk", "nvme");
    let labels = resolve(&sources).expect("resolves").config.node.labels;
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["disk=nvme", "gpu=none", "os=linux"]);
    let message = refusal(&file("[node]\nlabels.disk = 'two words'"));
    assert!(message.starts_with("odeum.toml:2:8: `node.labels.disk`: "), "{message}");
}

proptest! {
    #[test]
    fn no_text_makes_the_configuration_panic(text in "[\\[\\]a-z.='\"\\{\\}\n#0-9 ä-]{0,60}") {
        let _ = resolve(&file(&text));
    }
}

#[test]
fn files_for_tls_need_a_broker_that_is_reached_by_it_and_fit_together() {
    let broker = |address: &str, lines: &str| {
        let text = format!("[mqtt]\nbroker = 'mqtt{address}'\n{lines}");
        resolve(&file(&text)).map(drop).map_err(|error| error.to_string())
    };
    let all = "ca-file = 'a'\ncert-file = 'b'\nkey-file = 'c'";
    assert_eq!(broker("s://x", all), Ok(()));
    let error = broker("://x", "ca-file = 'a'").expect_err("is refused");
    assert!(error.contains("mqtt.ca-file") && error.contains("write `mqtts://`"), "{error}");
    for (one, other) in [("cert-file", "key-file"), ("key-file", "cert-file")] {
        let error = broker("s://x", &format!("{one} = 'b'")).expect_err("is refused");
        assert!(error.contains(&format!("`mqtt.{other}` is missing")), "{error}");
    }
}
