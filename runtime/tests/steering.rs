//! One real node: firmware is looked at and steered from the command line.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;

use std::{fs, path::Path};

use process::{Node, Up, folder, text};
use serde_json::Value;

/// Logs each message and replies with it; one that begins with `!` traps. Its lines are of `level`.
fn echo(folder: &Path, level: u8) -> String {
    let guest = format!(
        r#"(module
          (import "odeum" "log" (func $log (param i32 i32 i32)))
          (import "odeum" "reply" (func $reply (param i32 i32)))
          (memory (export "memory") 4)
          (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
          (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
            (call $log (i32.const {level}) (local.get $ptr) (local.get $len))
            (if (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 33)) (then unreachable))
            (call $reply (local.get $ptr) (local.get $len))
            (i32.const 0)))"#
    );
    let path = folder.join(format!("echo{level}.wat"));
    fs::write(&path, guest).expect("written");
    path.display().to_string()
}

fn json(node: &Node, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["-o", "json"]].concat();
    serde_json::from_str(&node.done(&arguments)).expect("JSON")
}

fn described(node: &Node) -> Value {
    json(node, &["describe", "firmware", "echo"])
}

fn events(node: &Node) -> Vec<String> {
    let events = json(node, &["get", "events", "echo"]);
    let events = events.as_array().expect("a list").iter();
    events.map(|event| event["event"].as_str().expect("a word").to_owned()).collect()
}

#[test]
fn a_firmware_is_described_restarted_and_rolled_back_once() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    let (first, second) = (echo(folder.path(), 2), echo(folder.path(), 1));
    node.done(&["run", &first, "--name", "echo", "--memory", "1MiB"]);

    let one = described(&node);
    assert_eq!((&one["state"], &one["node"]), (&"running".into(), &"n1".into()));
    assert_eq!(one["package"]["abi"], "odeum-actor-core");
    assert_eq!(one["package"]["kind"], "messages");
    assert_eq!(one["package"]["signers"], Value::Array(vec![]));
    assert_eq!(one["settings"]["limits.memory"], "1 MiB");
    assert_eq!((&one["former"], &one["waits_for"]), (&Value::Null, &Value::Null));
    let told = node.done(&["describe", "firmware", "echo"]);
    for part in ["state", "odeum-actor-core: messages", "signed by nobody", "1 MiB of memory"] {
        assert!(told.contains(part), "{part} is missing:\n{told}");
    }

    let epoch = |of: &Value| of["epoch"].as_u64().expect("a number");
    let restarted = json(&node, &["restart", "echo"]);
    assert!(epoch(&restarted) > epoch(&one), "{restarted}");
    assert_eq!(restarted["firmware"]["state"], "running");
    assert!(node.refused(&["rollback", "echo"]).contains("nothing was deployed as echo before"));

    node.done(&["run", &second, "--name", "echo"]);
    let two = described(&node);
    assert_eq!(two["former"], one["digest"]);
    let rolled = json(&node, &["rollback", "echo"]);
    assert_eq!((&rolled["from"], &rolled["to"]), (&two["digest"], &one["digest"]));
    let back = described(&node);
    assert_eq!((&back["digest"], &back["former"]), (&one["digest"], &Value::Null));
    assert_eq!(back["settings"]["limits.memory"], "1 MiB", "with the settings that it had");
    assert!(node.refused(&["rollback", "echo"]).contains("nothing was deployed as echo before"));

    let events = events(&node);
    let known = ["deployed", "started", "running", "renewed", "stopped", "rolled-back"];
    assert!(known.iter().all(|known| events.iter().any(|event| event == known)), "{events:?}");
    let last = |what: &str| events.iter().rposition(|event| event == what);
    assert!(last("rolled-back") > last("renewed") && last("renewed") > Some(0), "{events:?}");
}

#[test]
fn what_a_guest_logs_and_why_it_crashed_is_told_by_its_node() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    node.done(&["run", &echo(folder.path(), 2), "--name", "echo"]);
    for message in ["one", "two"] {
        node.done(&["call", "echo", message]);
    }
    node.run(&["call", "echo", "!three"]);

    let lines = node.done(&["logs", "echo"]);
    let texts: Vec<&str> = lines.lines().filter_map(|line| line.split("  ").last()).collect();
    assert_eq!(texts, ["one", "two", "!three"], "{lines}");
    assert!(lines.lines().all(|line| line.contains("Z  info ")), "{lines}");
    let last = node.done(&["logs", "echo", "--tail", "1", "-o", "json"]);
    let last: Value = serde_json::from_str(&last).expect("one line of JSON");
    assert_eq!((&last["event"], &last["text"]), (&"line".into(), &"!three".into()));
    let behind = last["cursor"].as_str().expect("a text");
    assert_eq!(node.done(&["logs", "echo", "--after", behind]), "");
    assert_eq!(node.done(&["logs", "echo", "--since", "1h"]).lines().count(), 3);
    assert_eq!(node.done(&["logs", "echo", "--tail", "0"]), "");

    let known = events(&node);
    assert!(known.contains(&"crashed".to_owned()), "{known:?}");
    let events = node.done(&["get", "events", "echo"]);
    assert!(events.contains("unreachable"), "{events}");
}

#[test]
fn a_name_that_is_not_deployed_is_told_with_the_nearest() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    node.done(&["run", &echo(folder.path(), 2), "--name", "echo"]);
    for command in [
        &["describe", "firmware", "ehco"][..],
        &["get", "firmware", "ehco"],
        &["get", "events", "ehco"],
        &["logs", "ehco"],
        &["logs", "ehco", "-f"],
        &["restart", "ehco"],
        &["rollback", "ehco"],
        &["delete", "firmware", "ehco"],
    ] {
        let said = node.refused(command);
        assert!(said.contains("no firmware ehco; the nearest is echo"), "{command:?}: {said}");
    }
    let said = node.run(&["logs", "echo", "--after", "yesterday"]);
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said.stderr).contains("take the `cursor` of a line"), "{}", text(&said.stderr));
}
