//! `odeum-loadtest vs all` as a person runs it, with as little work as it can do.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs some parts where programs of others are not found.
fn all(only: &str, out: &Path, temporary: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["vs", "all", "--rounds", "1", "--quick", "1000", "--only", only, "--out"])
        .arg(out)
        .arg("--json")
        .arg(out.with_extension("json"))
        .env("TMPDIR", temporary)
        .env("PATH", "")
        .output()
        .expect("it runs")
}

#[test]
fn a_peer_that_is_not_installed_is_left_out_and_the_rest_is_measured() {
    let temporary = tempfile::tempdir().unwrap();
    let out = temporary.path().join("figures.md");
    let output = all("redis,entities", &out, temporary.path());
    assert!(matches!(output.status.code(), Some(0 | 99)), "{output:?}");
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.contains("left out: Redis is not installed; --install gets it"), "{text}");
    for expected in
        ["## run entities", "vs all --rounds 1 --quick 1000", "beside ractor 0.", "Linux"]
    {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| memory"));
    assert_eq!(rows.count(), 4, "{text}");
    let json: Value =
        serde_json::from_slice(&std::fs::read(out.with_extension("json")).unwrap()).unwrap();
    assert_eq!(json["sections"].as_array().map(Vec::len), Some(2), "{json}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 2, "only the files are left");
}

#[test]
fn a_part_that_fails_is_written_down_with_its_error_and_the_exit_code_says_so() {
    let temporary = tempfile::tempdir().unwrap();
    let out = temporary.path().join("figures.md");
    let output = all("entities,store", &out, Path::new("/nowhere"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.contains("2 of 2 parts failed"), "{text}");
    assert!(text.contains("**Failed** after") && text.contains("No such file"), "{text}");
}

#[test]
fn what_is_for_all_is_refused_for_one_peer() {
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["vs", "ractor", "--only", "etcd"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("are for `vs all`"), "{output:?}");
}
