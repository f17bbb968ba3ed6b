//! One real node, started and used from the command line as a person would.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;

use process::{COUNTER, Up, folder};
use serde_json::{Value, json};

#[test]
fn a_guest_is_run_called_looked_at_and_deleted() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();

    assert!(node.done(&["run", COUNTER]).contains("odeum call counter"));
    assert_eq!(node.done(&["call", "counter"]), "1\n");
    assert_eq!(node.done(&["call", "counter", "add 2"]), "3\n");
    for replayed in [false, true] {
        let answer = node.done(&["call", "counter", "add 4", "--request-id", "mine", "-o", "json"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(
            (&answer["reply"]["value"], &answer["replayed"]),
            (&"7".into(), &replayed.into())
        );
        assert_eq!((&answer["node"], &answer["request"]), (&"n1".into(), &"mine".into()));
    }
    assert_eq!(node.done(&["call", "counter", "--session", "alice"]), "1\n");

    let firmware = node.done(&["get", "firmware"]);
    assert!(firmware.contains("counter") && firmware.contains("running"), "{firmware}");
    let sessions = node.done(&["get", "sessions"]);
    assert!(sessions.contains("counter/alice"), "{sessions}");
    let session = node.done(&["get", "sessions", "counter/alice"]);
    assert!(session.lines().any(|row| row.starts_with("count ")), "{session}");
    let tree = node.done(&["get", "actors", "--tree"]);
    assert!(tree.contains("├─") && tree.contains("counter"), "{tree}");
    assert!(node.done(&["get", "nodes"]).contains("leader"));

    node.done(&["delete", "session", "counter/alice"]);
    assert!(node.refused(&["get", "sessions", "counter/alice"]).contains("counter/alice"));
    node.done(&["delete", "firmware", "counter"]);
    assert!(node.refused(&["call", "counter"]).contains("counter"));
    assert!(node.refused(&["delete", "firmware", "counter"]).contains("counter"));

    node.signal("TERM");
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn what_is_deleted_is_told_to_scripts_as_json() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    node.done(&["run", COUNTER]);
    node.done(&["call", "counter", "--session", "alice"]);
    for (what, name) in [("session", "counter/alice"), ("firmware", "counter")] {
        let told = node.done(&["delete", what, name, "-o", "json"]);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(told, json!({ "deleted": { what: name } }));
        // What is not there any more is no success for them, either.
        let line = node.refused(&["delete", what, name, "-o", "json"]);
        assert!(line.contains(name), "{line}");
    }
    assert_eq!(node.done(&["get", "firmware", "-o", "json"]).trim(), "[]");
}

#[test]
fn a_guest_that_misbehaves_costs_one_message_and_the_count_goes_on() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    node.done(&["run", COUNTER, "--memory", "16MiB", "--time", "250ms"]);
    assert_eq!(node.done(&["call", "counter"]), "1\n");
    for (count, (message, word)) in
        [("trap", "trapped"), ("spin", "limit"), ("eat", "")].into_iter().enumerate()
    {
        let line = node.refused(&["call", "counter", message]);
        assert!(line.contains(word), "{message}: {line}");
        assert_eq!(node.done(&["call", "counter"]), format!("{}\n", count + 2), "{message}");
    }
    assert!(node.refused(&["call", "counter", "dance"]).contains("refused"));
}

#[test]
fn a_count_that_was_acknowledged_survives_the_kill_of_its_node() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    node.done(&["run", COUNTER]);
    assert_eq!(node.done(&["call", "counter", "add 41"]), "41\n");
    node.kill();

    let node = Up::n1(folder.path()).start();
    assert_eq!(node.done(&["call", "counter", "--deadline", "30s"]), "42\n");
}
