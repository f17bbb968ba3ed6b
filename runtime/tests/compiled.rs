//! Compiled modules as the nodes of a machine share them, and what `odeum cache` says of them.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
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
fn up(folder: &Path, name: &str, settings: &str) -> Up {
    let data: PathBuf = folder.join(name);
    Up { node: name.to_owned(), data, ..Up::n1(folder) }.and(&["--config", settings])
}

fn node(folder: &Path, name: &str, settings: &str) -> Node {
    up(folder, name, settings).start()
}

/// A guest that replies with what it is told, and takes a while to compile; its file.
fn slow_to_compile(folder: &Path) -> String {
    let mut guest = r#"(module
        (import "odeum" "reply" (func $reply (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
          (call $reply (local.get $ptr) (local.get $len))
          (i32.const 0))"#
        .to_owned();
    for number in 0..2_000 {
        write!(
            guest,
            "(func (param i32 i64) (result i64) (local i64)
               (loop $again
                 (local.set 2 (i64.xor (local.get 1) (i64.rotl (local.get 2) (i64.const {number}))))
                 (local.set 1 (i64.sub (local.get 1) (i64.const 1)))
                 (i64.store (i32.and (local.get 0) (i32.const 0xfff8)) (local.get 2))
                 (br_if $again (i64.gt_s (local.get 1) (i64.load (i32.const 8)))))
               (local.get 2))"
        )
        .expect("a text");
    }
    guest.push(')');
    let path = folder.join("slow.wat");
    fs::write(&path, guest).expect("is written");
    path.display().to_string()
}

/// Names of what is in the shared folder that end so.
fn in_cache(folder: &Path, end: &str) -> Vec<String> {
    let Ok(files) = fs::read_dir(folder.join("cache")) else { return Vec::new() };
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(end)).collect()
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

#[test]
fn nodes_that_need_a_module_at_the_same_time_compile_it_once() {
    let folder = folder();
    let (settings, guest) = (settings(folder.path()), slow_to_compile(folder.path()));
    let nodes = ["a", "b"].map(|name| node(folder.path(), name, &settings));
    let deploying = nodes.each_ref().map(|node| {
        let url = format!("http://{}", node.api_addr());
        let mut command = odeum(&["run", &guest, "--name", "slow", "--api-url", &url]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
    });
    for deploying in deploying {
        let output = deploying.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    for node in &nodes {
        assert_eq!(node.done(&["call", "slow", "hello"]).trim_end(), "hello");
    }
    let logs = nodes.map(|node| node.log());
    let times = |what: &str| logs.iter().map(|log| log.matches(what).count()).sum::<usize>();
    assert_eq!(times("module compiled"), 1, "{logs:?}");
    assert!(times("compiled module found") >= 1, "{logs:?}");
    assert_eq!(listed(&settings).len(), 1);
}

#[test]
fn a_node_that_is_killed_while_it_compiles_leaves_nothing_half_and_compiles_when_it_is_back() {
    let folder = folder();
    let (settings, guest) = (settings(folder.path()), slow_to_compile(folder.path()));
    let first = node(folder.path(), "a", &settings);
    first.done(&["run", &guest, "--name", "slow"]);
    assert_eq!(first.done(&["call", "slow", "hello"]).trim_end(), "hello");
    first.kill();
    cache("clear", &settings, &[]);

    // At its next start it has to compile what is deployed.
    let mut killed = up(folder.path(), "a", &settings).begin();
    killed.until("a compilation", || in_cache(folder.path(), ".lock").pop());
    killed.kill();
    assert_eq!(in_cache(folder.path(), ".native"), [""; 0], "it was at it");

    let back = node(folder.path(), "a", &settings);
    let answer = back.done(&["call", "slow", "again", "--deadline", "60s"]);
    assert_eq!(answer.trim_end(), "again");
    let log = back.log();
    assert!(log.contains("module compiled") && !log.contains("is not taken"), "{log}");
    assert_eq!(listed(&settings).len(), 1);
    let mut left = in_cache(folder.path(), "");
    left.retain(|name| !name.ends_with(".native"));
    assert_eq!(left, ["seal.key"]);
}
