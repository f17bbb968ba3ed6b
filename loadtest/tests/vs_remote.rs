//! The comparisons of two processes as a person runs them, with as little work as they can do:
//! that they end, print their table, write their rows and leave nothing behind. Whether rows pass
//! is for a release build on a machine with nothing else to do.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// What `vs` answers when there is nobody to compare with.
const NOT_INSTALLED: i32 = 3;

fn compare(peer: &str, temporary: &Path) -> (Output, Vec<Value>) {
    let file = temporary.join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["vs", peer, "--rounds", "1", "--quick", "400", "--json"])
        .arg(&file)
        .env("TMPDIR", temporary)
        .output()
        .unwrap();
    let rows = std::fs::read(&file).map(|rows| serde_json::from_slice(&rows).unwrap());
    (output, rows.unwrap_or_default())
}

/// Every process of a side has its folder in its arguments.
fn processes_of(temporary: &Path) -> Vec<String> {
    let folder = temporary.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|words| String::from_utf8_lossy(&words).replace('\0', " "))
        .filter(|words| words.contains(folder))
        .collect()
}

fn check(peer: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let (output, rows) = compare(peer, temporary.path());
    if output.status.code() == Some(NOT_INSTALLED) {
        eprintln!("{peer} is not installed: skipped");
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 99)), "{output:?}");
    assert!(
        said.contains("hold on CPU") && said.contains("tell 64 B") && said.contains("verdict"),
        "{said}"
    );
    assert_eq!(rows.len(), 7, "{said}");
    for row in &rows {
        let positive = |key: &str| row[key].as_f64().is_some_and(|value| value > 0.0);
        assert!(positive("ours") && positive("theirs") && positive("ratio"), "{row}");
        assert!(row["target"].is_number() || row["pass"] == true, "{row}");
    }
    assert_eq!(processes_of(temporary.path()), Vec::<String>::new());
    let left: Vec<_> = std::fs::read_dir(temporary.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "rows.json")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bare_quinn_is_compared_in_two_processes_that_end() {
    check("bare-quinn");
}

#[test]
fn ractor_cluster_is_compared_in_two_processes_that_end() {
    check("ractor_cluster");
}

#[test]
fn erlang_is_compared_in_two_processes_that_end() {
    check("erlang");
}
