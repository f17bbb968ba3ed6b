//! Sessions on a real node, from the command line as a person or a script uses it.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Output, Stdio},
};

use process::{Node, Up, complaint, folder, odeum, text};
use serde_json::{Value, json};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Runs `odeum session` with `input` on stdin.
fn piped(node: &Node, arguments: &[&str], input: &str) -> Output {
    let url = format!("http://{}", node.api_addr());
    let mut child = odeum(arguments)
        .args(["--api-url", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("reads");
    drop(stdin);
    child.wait_with_output().expect("ends")
}

#[test]
fn a_session_is_created_written_read_and_deleted() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    let run = |arguments: &[&str]| node.done(&[&["session"], arguments].concat());

    assert!(run(&["create", "team/a", "--ttl", "1h", "--meta", "owner=me"]).contains("is created"));
    assert!(run(&["create", "team/a", "--ttl", "1h", "--meta", "owner=me"]).contains("already"));
    assert!(node.refused(&["session", "create", "team/a"]).contains("3600s"));

    // What each is read as, with and without its type said.
    for (key, value, kind, shown) in [
        ("count", "7", None, "7"),
        ("name", "two words", None, "two words"),
        ("code", "7", Some("string"), "7"),
        ("ratio", "0.5", None, "0.5"),
        ("on", "true", None, "true"),
        ("shape", "{\"a\": [1]}", None, "{\"a\":[1]}"),
        ("vector", "[1, 0.5]", Some("embedding"), "[1.0,0.5]"),
        ("raw", "bytes", Some("bytes"), "bytes"),
        ("negative", "-3", None, "-3"),
    ] {
        let kind: Vec<&str> = kind.into_iter().flat_map(|kind| ["--type", kind]).collect();
        run(&[&["set", "team/a", key, value], &kind[..]].concat());
        assert_eq!(run(&["get", "team/a", key]).trim_end(), shown, "{key}");
    }
    let one = parsed(&run(&["get", "team/a", "code", "-o", "json"]));
    assert_eq!(
        (&one["type"], &one["value"], &one["version"]),
        (&json!("string"), &json!("7"), &json!(1))
    );

    let whole = run(&["get", "team/a"]);
    for part in ["session team/a", "ttl 1h", "owner", "VARIABLE", "embedding"] {
        assert!(whole.contains(part), "{part} is not in: {whole}");
    }
    assert!(node.done(&["get", "sessions", "team/a"]).lines().any(|row| row.starts_with("count ")));
    assert!(run(&["list", "--match", "team/*"]).contains("team/a"));
    assert!(!run(&["list", "--match", "other/*"]).contains("team/a"));

    run(&["unset", "team/a", "count"]);
    assert!(node.refused(&["session", "get", "team/a", "count"]).contains("count"));
    run(&["meta", "set", "team/a", "note", "hi there"]);
    assert!(run(&["meta", "list", "team/a"]).contains("hi there"));
    run(&["ttl", "team/a", "none"]);
    run(&["touch", "team/a"]);
    let program = piped(
        &node,
        &["session", "program", "put", "team/a", "p", "-", "--language", "lua"],
        "return 1\n",
    );
    assert!(program.status.success(), "{}", text(&program.stderr));
    assert_eq!(run(&["program", "get", "team/a", "p"]), "return 1\n");
    run(&["delete", "team/a"]);
    assert!(node.refused(&["session", "get", "team/a"]).contains("team/a"));
}

#[test]
fn what_a_session_refuses_is_said_in_one_line_with_both_sides() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    let run = |arguments: &[&str]| node.done(&[&["session"], arguments].concat());
    run(&["create", "s"]);
    let bounds = ["--type", "integer", "--min", "-5", "--max", "10", "--history", "3"];
    run(&[&["register", "s", "score", "1"], &bounds[..]].concat());
    run(&["register", "s", "mood", "blue", "--type", "choice", "--enum", "blue", "--enum", "red"]);

    let cases: [(&[&str], &[&str]); 6] = [
        (&["set", "s", "score", "11"], &["score", "session s", "11", "max 10"]),
        (&["set", "s", "score", "high"], &["score", "integer", "string"]),
        (&["set", "s", "mood", "green"], &["mood", "green", "blue"]),
        (&["cas", "s", "score", "2", "--expected", "9"], &["score", "version 1", "version 9"]),
        (&["set", "s", "other", "1", "--must-exist"], &["other"]),
        (&["register", "s", "score", "1", "--type", "integer"], &["score", "definition"]),
    ];
    for (arguments, words) in cases {
        let line = node.refused(&[&["session"], arguments].concat());
        for word in words {
            assert!(line.contains(word), "{arguments:?}: {word:?} is not in: {line}");
        }
    }
    run(&["cas", "s", "score", "2", "--expected", "1"]);
    let history = parsed(&run(&["history", "s", "score", "-o", "json"]));
    assert_eq!(
        (&history["values"][0]["value"], &history["values"][1]["value"]),
        (&json!(1), &json!(2))
    );

    let usage: [(&[&str], &str); 5] = [
        (&["set", "s", "x", "1", "--type", "flaot"], "`float`"),
        (&["get", "s", "--consistency", "lcoal"], "`local`"),
        (&["set", "s", "x", "{\"a\": 1,}"], "line 1 column 9"),
        (&["set", "s", "x", "one", "--type", "integer"], "line 1 column 1"),
        (&["ttl", "s", "soon"], "soon"),
    ];
    for (arguments, word) in usage {
        let output = node.run(&[&["session"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in: {said}");
    }
}

#[test]
fn a_change_under_one_name_and_a_batch_are_made_once_and_whole() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    let run = |arguments: &[&str]| node.done(&[&["session"], arguments].concat());
    run(&["create", "s"]);
    let set = ["set", "s", "x", "1", "--request-id", "mine", "-o", "json"];
    assert_eq!(run(&set), run(&set));
    assert_eq!(parsed(&run(&["get", "s", "x", "-o", "json"]))["version"], 1);

    let batch = |operations: Value| {
        let json = json!({ "operations": operations }).to_string();
        piped(&node, &["session", "batch", "s", "-o", "json"], &json)
    };
    let done = batch(json!([{"set": {"key": "x", "value": 2}}, {"set": {"key": "y", "value": 3}}]));
    let done = parsed(&text(&done.stdout));
    assert_eq!(done["results"], json!([{"version": 2}, {"version": 1}]));
    let refused = batch(json!([{"set": {"key": "y", "value": 4}},
                               {"set": {"key": "x", "value": "text"}}]));
    let line = complaint(&refused, 1);
    assert!(line.contains("operation 1") && line.contains("integer"), "{line}");
    assert_eq!(run(&["get", "s", "y"]), "3\n");

    let transaction = json!({
        "compare": [{"key": "y", "value": 3}],
        "then": [{"set": {"key": "y", "value": 5}}],
    });
    for expected in [true, false] {
        let arguments = ["session", "transaction", "s", "-o", "json"];
        let done = piped(&node, &arguments, &transaction.to_string());
        assert_eq!(parsed(&text(&done.stdout))["succeeded"], expected, "{}", text(&done.stderr));
    }
    assert_eq!(run(&["get", "s", "y"]), "5\n");
    let line = complaint(&piped(&node, &["session", "batch", "s"], "{\"operations\": [}"), 2);
    assert!(line.contains("stdin") && line.contains("line 1 column 17"), "{line}");
}

/// The values of `x` that the lines of a watch say were written.
fn values(lines: &str) -> Vec<i64> {
    let changes = lines.lines().map(parsed).filter(|line| line["event"] == "changes");
    let changes = changes.flat_map(|line| line["changes"].as_array().cloned().unwrap_or_default());
    changes.filter_map(|change| change["value"].as_i64()).collect()
}

#[test]
fn a_watch_tells_every_change_once_also_when_its_node_is_killed_meanwhile() {
    let folder = folder();
    let up = Up::n1(folder.path());
    let node = up.start();
    node.done(&["session", "create", "s"]);
    for value in ["1", "2", "3"] {
        node.done(&["session", "set", "s", "x", value]);
    }
    let told = node.done(&["watch", "s", "--after", "0", "--count", "3", "-o", "json"]);
    assert_eq!(values(&told), [1, 2], "the first change is the creation");
    let last = told.lines().map(parsed).next_back().expect("a line");
    let after = last["revision"].as_u64().expect("a revision").to_string();

    // It goes on at the same address, for which the node needs the same port.
    let (api, url) = (node.api_addr().to_owned(), format!("http://{}", node.api_addr()));
    let mut watch = odeum(&["watch", "s", "--after", &after, "--count", "3", "-o", "json"])
        .args(["--api-url", &url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped"));
    let mut told = String::new();
    while values(&told).is_empty() {
        assert_ne!(lines.read_line(&mut told).expect("reads"), 0, "it ended: {told}");
    }
    node.done(&["session", "set", "s", "x", "4"]);
    node.kill();
    let node = up.and(&["--api", &api]).start();
    node.done(&["session", "set", "s", "x", "5"]);
    lines.read_to_string(&mut told).expect("reads");
    assert!(watch.wait().expect("ends").success());
    assert_eq!(values(&told), [3, 4, 5]);

    let line = node.refused(&["watch", "s", "--after", "99999"]);
    assert!(line.contains("99999") && line.contains("yet to come"), "{line}");
    let line = node.refused(&["watch", "--match", "*", "--after", "1"]);
    assert!(line.contains("data-0:1,data-1:1"), "{line}");
}

#[test]
fn the_store_shows_its_groups() {
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    node.done(&["session", "create", "s"]);
    let status = parsed(&node.done(&["store", "status", "-o", "json"]));
    let groups = status["groups"].as_array().expect("groups");
    let names: Vec<_> = groups.iter().map(|group| &group["group"]).collect();
    assert_eq!(names, ["control", "data-0", "data-1"]);
    for group in groups {
        assert_eq!((&group["leader"], &group["health"]), (&json!("n1"), &json!("good")), "{group}");
        assert_eq!(group["members"][0]["node"], "n1");
        assert!(group["applied"].as_u64().is_some_and(|applied| applied > 0), "{group}");
    }
    let table = node.done(&["store", "status"]);
    assert!(table.starts_with("GROUP") && table.contains("data-1"), "{table}");
}
