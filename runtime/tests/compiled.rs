//! Compiled modules as the nodes of a machine share them, and what `odeum cache` says of them.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use process::{COUNTER, Node, Up, folder, odeum, text};
use serde_json::Value;

/// Settings of nodes that share compiled modules and tell of them; their file.
fn settings(folder: &Path) -> String {
    let path = folder.join("odeum.toml");
    let cache = folder.join("cache");
    let settings = format!(
        "[log]\nfilter = 'info,odeum_runtime::firmware=debug'\n[firmware]\ncache-dir = '{}'\n",
        cache.display()
    );
    fs::write(&path, settings).expect("is written");
    path.display().to_string()
}

/// Runs a command on the shared folder that must succeed, and gives what it printed.
fn cache(command: &str, settings: &str, more: &[&str]) -> String {
    let output = odeum(&["cache", command, "--config", settings]).args(more).output();
    let output = output.expect("runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn listed(settings: &str) -> Vec<Value> {
    let listed: Value =
        serde_json::from_str(&cache("ls", settings, &["-o", "json"])).expect("JSON");
    listed["modules"].as_array().expect("a list").clone()
}

/// A node of its own, with its own data folder.
fn node(folder: &Path, name: &str, settings: &str) -> Node {
    let data: PathBuf = folder.join(name);
    Up { node: name.to_owned(), data, ..Up::n1(folder) }.and(&["--config", settings]).start()
}

fn counts(node: &Node) {
    node.done(&["run", COUNTER]);
    let count = node.done(&["call", "counter", "add 3"]);
    assert!(count.trim().parse::<u64>().is_ok_and(|count| count >= 3), "{count}");
}

#[test]
fn nodes_with_data_folders_of_their_own_compile_a_module_once() {
    let folder = folder();
    let settings = settings(folder.path());
    let first = node(folder.path(), "a", &settings);
    counts(&first);
    assert!(first.log().contains("module compiled"), "{}", first.log());

    let second = node(folder.path(), "b", &settings);
    counts(&second);
    let log = second.log();
    assert!(log.contains("compiled module found") && !log.contains("module compiled"), "{log}");

    let path = cache("path", &settings, &[]);
    assert_eq!(Path::new(path.trim_end()), folder.path().join("cache"));
    let modules = listed(&settings);
    assert_eq!(modules.len(), 1, "{modules:?}");
    assert!(modules[0]["bytes"].as_u64() > Some(1_000), "{modules:?}");
    let key = modules[0]["key"].as_str().expect("a text");
    let table = cache("ls", &settings, &[]);
    assert!(table.contains(&key[..12]) && table.contains("at most 4.0 GiB"), "{table}");

    let cleared: Value =
        serde_json::from_str(&cache("clear", &settings, &["-o", "json"])).expect("JSON");
    assert_eq!(cleared["modules"], 1);
    assert_eq!(listed(&settings), [Value::Null; 0]);
    counts(&second);
}

#[test]
fn a_node_whose_cache_others_can_write_to_runs_without_it_and_says_once_what_to_do() {
    let folder = folder();
    let settings = settings(folder.path());
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).expect("a folder");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).expect("the mode is set");
    let node = node(folder.path(), "a", &settings);
    counts(&node);
    let cure = format!("chmod go-w {}", cache.display());
    assert_eq!(node.log().matches(&cure).count(), 1, "{}", node.log());
    assert_eq!(fs::read_dir(&cache).expect("a folder").count(), 0);

    let output = odeum(&["cache", "ls", "--config", &settings]).output().expect("runs");
    assert!(process::complaint(&output, 1).contains(&cure));
}
