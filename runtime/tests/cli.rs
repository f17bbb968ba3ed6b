//! The command line as a person or a script meets it: the real binary, its exit codes, and what it
//! says where.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;

use std::{
    path::Path,
    process::{Command, Output},
};

use process::odeum;

/// An address where nothing listens: port 1 is privileged and unused.
const NOBODY: &str = "http://127.0.0.1:1";

fn run(command: &mut Command) -> Output {
    command.output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Checks that the command failed with `code` and said one line about it and nothing else, and
/// gives that line.
fn complaint(output: &Output, code: i32) -> String {
    let line = process::complaint(output, code);
    assert_eq!(stderr(output).lines().count(), 1, "{}", stderr(output));
    line
}

fn config_file(folder: &Path, text: &str) -> String {
    let path = folder.join("odeum.toml");
    std::fs::write(&path, text).expect("the file is written");
    path.display().to_string()
}

#[test]
fn wrong_usage_exits_with_2_and_names_what_is_wrong() {
    let cases: [(&[&str], &str); 8] = [
        (&["up", "--api", "here"], "here"),
        (&["up", "--node", "Not A Name"], "Not A Name"),
        (&["--frobnicate"], "--frobnicate"),
        (&["dance"], "dance"),
        (&["call", "Not A Name", "x"], "Not A Name"),
        (&["call", "counter", "x", "--deadline", "5"], "250ms"),
        (&["run", "x.wasm", "--memory", "lots"], "lots"),
        (&["get", "nodes", "--api-url", "nowhere"], "nowhere"),
    ];
    for (arguments, named) in cases {
        let output = run(&mut odeum(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(named), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn an_unknown_setting_exits_with_2_and_names_its_line_and_the_nearest() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = config_file(folder.path(), "# mine\n[api]\nlisten = '127.0.0.1:0'\nlsten = 1\n");
    for command in [&["config", "show"][..], &["up"]] {
        let line = complaint(&run(odeum(command).args(["--config", &file])), 2);
        assert!(line.contains(&format!("{file}:4:1: ")), "{line}");
        assert!(line.contains("`api.lsten`") && line.contains("`api.listen`"), "{line}");
    }

    let line = complaint(&run(odeum(&["config", "show"]).env("ODEUM_LOG__FORMT", "json")), 2);
    assert!(line.contains("ODEUM_LOG__FORMT") && line.contains("`log.format`"), "{line}");
}

#[test]
fn a_value_that_does_not_fit_exits_with_2_and_names_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = config_file(folder.path(), "[firmware]\nmemory = 64\n");
    let line = complaint(&run(&mut odeum(&["config", "show", "--config", &file])), 2);
    assert!(line.contains(&format!("{file}:2:1: `firmware.memory`")), "{line}");
}

#[test]
fn a_configuration_that_cannot_be_read_exits_with_1_and_names_it() {
    let line = complaint(&run(&mut odeum(&["config", "show", "--config", "/no/such/file"])), 1);
    assert!(line.contains("/no/such/file"), "{line}");
}

#[test]
fn config_show_tells_where_each_value_came_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = config_file(folder.path(), "[node]\nname = 'n1'\n");
    let shown = |format: &str| {
        let arguments =
            ["config", "show", "--config", &file, "--api", "127.0.0.1:0", "--output", format];
        let output = run(odeum(&arguments).env("ODEUM_API__DRAIN", "7s"));
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };

    let json: serde_json::Value = serde_json::from_str(&shown("json")).expect("JSON");
    let expected = [
        ("node.name", "n1", format!("{file}:2:1")),
        ("api.drain", "7s", "environment ODEUM_API__DRAIN".to_owned()),
        ("api.listen", "127.0.0.1:0", "flag --api".to_owned()),
        ("log.format", "text", "default".to_owned()),
    ];
    for (key, value, from) in &expected {
        assert_eq!(json[key]["value"], *value, "{key}");
        assert_eq!(json[key]["from"], *from, "{key}");
    }

    let table = shown("table");
    for (key, value, from) in &expected {
        let row = table.lines().find(|row| row.starts_with(key)).expect("a row");
        assert!(row.contains(value) && row.ends_with(from), "{row}");
    }
    assert!(!table.contains('\u{1b}'), "no colour off a terminal");
}

#[test]
fn a_profile_lies_over_the_file_and_under_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = config_file(folder.path(), "[api]\ndrain = '1s'\n[node]\nname = 'n1'\n");
    let profile = folder.path().join("odeum.test.toml").display().to_string();
    std::fs::write(&profile, "[api]\ndrain = '2s'\nlisten = '127.0.0.1:2'\n").expect("written");
    let show = || {
        let mut command = odeum(&["config", "show", "-o", "json", "--config", &file]);
        command.env("ODEUM_API__LISTEN", "127.0.0.1:3");
        command
    };
    for command in [show().args(["--profile", "test"]), show().env("ODEUM_PROFILE", "test")] {
        let output = run(command);
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        assert_eq!(json["node.name"]["from"], format!("{file}:4:1"));
        assert_eq!(json["api.drain"]["value"], "2s");
        assert_eq!(json["api.drain"]["from"], format!("{profile}:2:1"));
        assert_eq!(json["api.listen"]["from"], "environment ODEUM_API__LISTEN");
    }
    let line = complaint(&run(show().args(["--profile", "tset"])), 1);
    assert!(line.contains("odeum.tset.toml"), "{line}");
    let line = complaint(&run(&mut odeum(&["config", "show", "--profile", "test"])), 2);
    assert!(line.contains("no profile `test`"), "{line}");
}

#[test]
fn without_a_node_every_client_command_exits_with_1_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let guest = folder.path().join("guest.wasm");
    std::fs::write(&guest, b"\0asm\x01\0\0\0").expect("the file is written");
    let guest = guest.display().to_string();
    let commands: [&[&str]; 11] = [
        &["session", "set", "s", "x", "1"],
        &["watch", "s"],
        &["store", "status"],
        &["get", "nodes"],
        &["get", "firmware"],
        &["get", "sessions"],
        &["get", "actors", "--tree"],
        &["call", "counter", "increment"],
        &["delete", "firmware", "counter"],
        &["run", &guest],
        &["get", "nodes", "-o", "json"],
    ];
    for command in commands {
        let line = complaint(&run(odeum(command).env("ODEUM_API", NOBODY)), 1);
        for part in [NOBODY, "odeum up --dev", "--api-url"] {
            assert!(line.contains(part), "{command:?}: {line}");
        }
    }
}

#[test]
fn a_guest_that_cannot_be_read_is_named() {
    let line = complaint(&run(&mut odeum(&["run", "/no/such/guest.wasm"])), 1);
    assert!(line.contains("/no/such/guest.wasm"), "{line}");
}

#[test]
fn what_listens_and_is_no_node_is_told_apart_from_nobody() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let stranger = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().expect("accepts");
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).expect("reads");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").expect("writes");
    });
    let line = complaint(&run(&mut odeum(&["get", "nodes", "--api-url", &url])), 1);
    assert!(line.contains(&url) && line.contains("Odeum node"), "{line}");
    stranger.join().expect("served");
}

#[test]
fn an_authority_is_made_once_and_certificates_show_whom_they_are_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("ca").display().to_string();
    let done = |arguments: &[&str]| {
        let output = run(&mut odeum(arguments));
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    done(&["certs", "init", "--dir", &dir]);
    let made = done(&["certs", "issue", "n1", "--dir", &dir]);
    assert!(made.contains(&format!("odeum up --certs {dir}/n1")), "{made}");
    for file in ["n1/ca.pem", "n1/node.pem", "n1/node.key"] {
        assert!(Path::new(&dir).join(file).exists(), "{file}");
    }
    assert!(!Path::new(&dir).join("n1/ca.key").exists(), "the authority's key stays at home");

    let shown = done(&["certs", "show", &format!("{dir}/n1"), "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown[0]["authority"], true);
    assert_eq!(shown[1]["node"], "n1");
    assert!(shown[1]["days_left"].as_i64().expect("a number") > 30);
    assert!(done(&["certs", "show", &dir]).contains("ca.pem"));

    let again = complaint(&run(&mut odeum(&["certs", "init", "--dir", &dir])), 1);
    assert!(again.contains("ca."), "{again}");
    let nowhere = complaint(&run(&mut odeum(&["certs", "issue", "n1", "--dir", "/no/such"])), 1);
    assert!(nowhere.contains("/no/such"), "{nowhere}");
    let none = complaint(&run(&mut odeum(&["certs", "show", "/no/such"])), 1);
    assert!(none.contains("/no/such"), "{none}");
}

#[test]
fn certificates_are_rotated_in_place_and_the_authority_in_three_steps() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("ca").display().to_string();
    let done = |arguments: &[&str]| {
        let output = run(odeum(arguments).args(["--dir", &dir]));
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    let file = |name: &str| std::fs::read(Path::new(&dir).join(name)).expect("reads");
    done(&["certs", "init"]);
    done(&["certs", "issue", "n1"]);
    done(&["certs", "issue", "n2"]);
    let before = [file("n1/node.pem"), file("n2/node.pem"), file("ca.pem")];

    let rotated = done(&["certs", "rotate", "n1", "-o", "json"]);
    let rotated: serde_json::Value = serde_json::from_str(&rotated).expect("JSON");
    assert_eq!(rotated["nodes"][0]["node"], "n1");
    assert_eq!(rotated["nodes"].as_array().map(Vec::len), Some(1));
    assert_ne!(file("n1/node.pem"), before[0]);
    assert_eq!([file("n2/node.pem"), file("ca.pem")], before[1..]);
    let nobody = run(odeum(&["certs", "rotate", "n3"]).args(["--dir", &dir]));
    assert!(complaint(&nobody, 1).contains("n3"));

    let early = run(odeum(&["certs", "rotate", "--authority", "switch"]).args(["--dir", &dir]));
    assert!(complaint(&early, 1).contains("announce"));
    assert!(done(&["certs", "rotate", "--authority", "announce"]).contains("--authority switch"));
    assert_eq!(file("n2/node.pem"), before[1]);
    let shown = run(&mut odeum(&["certs", "show", &format!("{dir}/n2"), "-o", "json"]));
    let shown: serde_json::Value = serde_json::from_str(&stdout(&shown)).expect("JSON");
    assert_eq!(shown.as_array().map(Vec::len), Some(3), "two authorities and the node: {shown}");
    assert!(done(&["certs", "rotate", "--authority", "switch"]).contains("--authority retire"));
    assert_ne!(file("n2/node.pem"), before[1]);
    done(&["certs", "rotate", "--authority", "retire"]);
    assert_ne!(file("ca.pem"), before[2]);
    assert_eq!(file("n2/ca.pem"), file("ca.pem"));
}

#[test]
fn every_command_explains_itself() {
    let commands: [&[&str]; 51] = [
        &[],
        &["session"],
        &["session", "create"],
        &["session", "get"],
        &["session", "list"],
        &["session", "set"],
        &["session", "cas"],
        &["session", "register"],
        &["session", "unset"],
        &["session", "delete"],
        &["session", "touch"],
        &["session", "ttl"],
        &["session", "history"],
        &["session", "program"],
        &["session", "meta"],
        &["watch"],
        &["store"],
        &["store", "status"],
        &["up"],
        &["demo"],
        &["cache"],
        &["cache", "ls"],
        &["cache", "clear"],
        &["cache", "path"],
        &["certs"],
        &["certs", "init"],
        &["certs", "issue"],
        &["certs", "rotate"],
        &["certs", "show"],
        &["package"],
        &["package", "init"],
        &["package", "build"],
        &["package", "sign"],
        &["package", "verify"],
        &["package", "inspect"],
        &["package", "push"],
        &["package", "pull"],
        &["package", "ls"],
        &["package", "rm"],
        &["package", "keygen"],
        &["run"],
        &["call"],
        &["get"],
        &["get", "nodes"],
        &["get", "firmware"],
        &["get", "sessions"],
        &["get", "actors"],
        &["delete"],
        &["delete", "firmware"],
        &["config"],
        &["config", "show"],
    ];
    for command in commands {
        let output = run(odeum(command).arg("-h"));
        assert!(output.status.success(), "{command:?}");
        let help = stdout(&output);
        assert!(help.contains("Usage: odeum"), "{command:?}: {help}");
        // Each flag and command has its words, and they fit a wide terminal.
        for line in help.lines().filter(|line| line.starts_with("  ")) {
            assert!(line.len() <= 120, "{command:?}: {line}");
            assert!(line.trim().contains("  ") || line.contains("odeum "), "{command:?}: {line}");
        }
    }
}
