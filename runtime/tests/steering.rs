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
fn the_replicas_of_a_firmware_are_told_reached_and_scaled() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    let said = node.done(&["run", &echo(folder.path(), 2), "--name", "echo", "--replicas", "2"]);
    assert!(said.contains("echo is running, 2 of 2 replicas, on n1"), "{said}");
    for to in ["echo.1", "echo.2", "echo.2"] {
        assert_eq!(node.done(&["call", to, to]).trim_end(), to);
    }
    let told = node.done(&["get", "firmware", "echo"]);
    for part in ["2/2", "echo.1", "echo.2", "running"] {
        assert!(told.contains(part), "{part} is missing:\n{told}");
    }
    let lines = node.done(&["logs", "echo"]);
    assert_eq!(lines.lines().filter(|line| line.contains("  echo.2  info ")).count(), 2, "{lines}");
    let second = node.done(&["logs", "echo.2", "-o", "json"]);
    assert!(second.lines().count() == 2 && second.contains("\"replica\":2"), "{second}");
    let restarted = node.done(&["restart", "echo"]);
    for part in ["echo.1 is restarted on n1", "echo.2 is restarted on n1"] {
        assert!(restarted.contains(part), "{restarted}");
    }
    assert!(
        node.done(&["restart", "echo.2"]).starts_with("echo.2 is restarted on n1, and running")
    );

    let said = node.done(&["scale", "echo", "--replicas", "1"]);
    assert_eq!(said.trim_end(), "echo is scaled from 2 to 1, and running on n1");
    let gone = "no replica echo.2: echo has 1 of them";
    for command in [&["logs", "echo.2"][..], &["get", "events", "echo.2"], &["restart", "echo.2"]] {
        let said = node.refused(command);
        assert!(said.contains(gone), "{command:?}: {said}");
    }
    assert!(node.refused(&["call", "echo.2", "x"]).contains("there is no firmware/echo.2"));
    for number in ["0", "129", "many"] {
        let refused = node.run(&["scale", "echo", "--replicas", number]);
        assert_eq!(refused.status.code(), Some(2), "{number}");
    }
    let events = events(&node);
    assert!(events.contains(&"scaled".to_owned()), "{events:?}");
    // Deployed again without a number it has as many as before.
    node.done(&["scale", "echo", "--replicas", "3"]);
    node.done(&["run", &echo(folder.path(), 1), "--name", "echo"]);
    assert_eq!(described(&node)["ready"], 3);
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

/// Runs `odeum apply` on a file in `folder`.
fn apply(node: &Node, file: &Path, more: &[&str]) -> Vec<Value> {
    let file = file.display().to_string();
    let applied = json(node, &[&["apply", "-f", &file], more].concat());
    applied.as_array().expect("a list").clone()
}

#[test]
fn what_a_file_declares_is_deployed_once_and_a_change_of_settings_needs_no_package() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    echo(folder.path(), 2);
    echo(folder.path(), 1);
    let file = folder.path().join("shop.toml");
    let declare = |memory: &str| {
        let text = format!(
            "[[firmware]]\nname = 'echo'\nsource = 'echo2.wat'\nlimits = {{ memory = '{memory}' }}\n\
             [[firmware]]\nname = 'other'\nsource = 'echo1.wat'\n[firmware.transient]\nidle = '1h'\n"
        );
        fs::write(&file, text).expect("written");
    };
    declare("1 MiB");
    let planned = apply(&node, &file, &["--dry-run"]);
    assert_eq!((&planned[0]["change"], &planned[0]["dry_run"]), (&"created".into(), &true.into()));
    assert!(node.done(&["get", "firmware"]).lines().count() == 1, "nothing was changed");

    let created = apply(&node, &file, &["--wait=60s"]);
    let changes: Vec<&Value> = created.iter().map(|one| &one["change"]).collect();
    assert_eq!(changes, ["created", "created"]);
    assert_eq!(created[1]["firmware"]["state"], "running");
    let before = described(&node);
    assert_eq!(before["settings"]["limits.memory"], "1 MiB");
    let other = json(&node, &["describe", "firmware", "other"]);
    assert_eq!(other["settings"]["transient.idle"], "1h");

    let text = node.done(&["apply", "-f", &file.display().to_string()]);
    assert_eq!(text, "firmware echo unchanged\nfirmware other unchanged\n");
    assert_eq!(described(&node)["epoch"], before["epoch"], "it goes on undisturbed");

    declare("2 MiB");
    let planned = node.done(&["apply", "-f", &file.display().to_string(), "--dry-run"]);
    assert!(planned.contains("firmware echo would be updated\n  limits.memory: 1 MiB -> 2 MiB"));
    assert_eq!(described(&node)["settings"]["limits.memory"], "1 MiB", "nothing was changed");
    let updated = apply(&node, &file, &["--wait=60s"]);
    assert_eq!(
        (&updated[0]["change"], &updated[1]["change"]),
        (&"updated".into(), &"unchanged".into())
    );
    assert_eq!(updated[0]["differences"][0]["key"], "limits.memory");
    let after = described(&node);
    assert_eq!(
        (&after["digest"], &after["settings"]["limits.memory"]),
        (&before["digest"], &"2 MiB".into())
    );
    assert_eq!(after["former"], Value::Null, "no other package came");
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64());
}

#[test]
fn what_cannot_be_applied_is_told_and_what_no_node_can_run_says_why() {
    let folder = folder();
    let node = Up::n1(folder.path()).and(&["--label", "disk=ssd"]).start();
    echo(folder.path(), 2);
    let file = folder.path().join("shop.yaml");
    let path = file.display().to_string();
    let write = |text: &str| fs::write(&file, text).expect("written");
    let refused = || {
        let output = node.run(&["apply", "-f", &path]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    write("firmware:\n  - source: echo2.wat\n    limts: { memory: 1 MiB }\n");
    let said = refused();
    assert!(
        said.contains("shop.yaml:3:5: there is no key `limts` here; the nearest is `limits`"),
        "{said}"
    );
    write("firmware:\n  - { name: x, source: echo2.wat }\n  - { name: x, source: echo2.wat }\n");
    assert!(refused().contains("x is declared twice"));

    let declare = |name: &str, value: &str| {
        write(&format!(
            "firmware:\n  - name: {name}\n    source: echo2.wat\n    labels: {{ disk: {value} }}\n"
        ));
    };
    declare("echo", "ssd");
    assert_eq!(apply(&node, &file, &["--wait=60s"])[0]["firmware"]["state"], "running");
    declare("new", "tape");
    let output = node.run(&["apply", "-f", &path, "--wait=200ms"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("1 of 1 failed: new is deployed and waiting"), "{said}");
    let described = json(&node, &["describe", "firmware", "new"]);
    assert_eq!(described["state"], "waiting");
    assert_eq!(described["waits_for"], "no node has the labels disk=tape");
    assert_eq!(described["settings"]["labels.disk"], "tape");
    assert!(node.refused(&["restart", "new"]).contains("no node has the labels disk=tape"));
    let source = folder.path().join("echo2.wat").display().to_string();
    let run = json(&node, &["run", &source, "--name", "new", "--label", "disk=ssd"]);
    assert_eq!(run["state"], "running", "labels of `run` count, too");
}
