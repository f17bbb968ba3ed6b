//! Load tests as a person runs them, with as little time as they can take: that they end, find what is
//! wrong and nothing else, write their reports and leave nothing behind. Whether times are within their
//! budgets is for a release build on a machine with nothing else to do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

use serde_json::Value;

/// They disturb each other's times.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn loadtest(temporary: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(arguments)
        .current_dir(temporary)
        .env("TMPDIR", temporary)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

/// Every node has its folder in its arguments.
fn processes_of(temporary: &Path) -> Vec<String> {
    let folder = temporary.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|words| String::from_utf8_lossy(&words).replace('\0', " "))
        .filter(|words| words.contains(folder))
        .collect()
}

fn report(temporary: &Path, name: &str) -> Value {
    let file = temporary.join("odeum-loadtest-reports").join(name);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_short_smoke_finds_nothing_wrong_and_writes_reports_that_need_no_network() {
    let _alone = ONE_AT_A_TIME.lock();
    let temporary = tempfile::tempdir().unwrap();
    let output = loadtest(temporary.path(), &["run", "smoke", "--quick", "4", "--seed", "5"]);
    assert!(matches!(output.status.code(), Some(0 | 99)), "{output:?}");
    let outcome = report(temporary.path(), "smoke.json");
    assert_eq!(outcome["found"], Value::Array(Vec::new()), "{output:?}");
    for target in outcome["targets"].as_array().unwrap() {
        assert!(target["answered"].as_u64() > Some(0), "{target}");
    }
    let looked: Vec<&str> = outcome["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|check| check["looked_at"].as_str())
        .collect();
    assert!(looked.iter().all(|looked| !looked.is_empty()), "{looked:?}");
    let faults = outcome["faults"].as_array().unwrap();
    assert!(faults.iter().all(|fault| fault["ends_s"].is_number()), "{faults:?}");

    let folder = temporary.path().join("odeum-loadtest-reports");
    let html = std::fs::read_to_string(folder.join("smoke.html")).unwrap();
    assert!(html.contains("<svg") && !html.contains("src=") && !html.contains("href="));
    let junit = std::fs::read_to_string(folder.join("smoke.xml")).unwrap();
    assert_eq!(junit.matches("<testcase").count(), 5 + 8);
    assert_eq!(processes_of(temporary.path()), Vec::<String>::new());

    let json = folder.join("smoke.json");
    let (json, other) = (json.to_str().unwrap(), folder.join("other.json"));
    let compared = loadtest(temporary.path(), &["compare", json, json]);
    assert!(compared.status.success(), "{compared:?}");
    let mut elsewhere = outcome;
    elsewhere["machine"]["cpus"] = 4_096.into();
    std::fs::write(&other, elsewhere.to_string()).unwrap();
    let arguments = ["compare", json, other.to_str().unwrap()];
    let refused = loadtest(temporary.path(), &arguments);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("different hardware"));
    let allowed = loadtest(temporary.path(), &[&arguments[..], &["--other-hardware"]].concat());
    assert!(allowed.status.success(), "{allowed:?}");
}

#[test]
fn a_message_that_a_node_drops_is_found() {
    let _alone = ONE_AT_A_TIME.lock();
    let temporary = tempfile::tempdir().unwrap();
    let scenario = "\
name: tells
targets:
  tells:
    tell: { entities: 50 }
phases:
  - hold: { rate: 200, for: 3s }
";
    std::fs::write(temporary.path().join("tells.yaml"), scenario).unwrap();
    let output = loadtest(temporary.path(), &["run", "tells.yaml"]);
    assert!(output.status.success(), "{output:?}");
    let output = loadtest(temporary.path(), &["run", "tells.yaml", "--defect", "drop:50"]);
    assert_eq!(output.status.code(), Some(99), "{output:?}");
    let outcome = report(temporary.path(), "tells.json");
    let found = outcome["found"].as_array().unwrap();
    assert!(!found.is_empty() && found.iter().all(|it| it["check"] == "lost"), "{found:?}");
    let folder = temporary.path().join("odeum-loadtest-reports");
    assert!(folder.join("tells-findings").join("finding-1.txt").exists());
    assert!(std::fs::read_to_string(folder.join("tells.xml")).unwrap().contains("<failure"));
}

/// What the checks find where nodes have these defects.
fn found(defects: &[&str]) -> BTreeSet<String> {
    let temporary = tempfile::tempdir().unwrap();
    let scenario = "\
name: defects
deadline: 2s
targets:
  tells:
    tell: { entities: 20 }
  writes:
    write: { sessions: 8 }
  reads:
    read: { sessions: 8 }
phases:
  - hold: { rate: 240, for: 3s }
";
    std::fs::write(temporary.path().join("defects.yaml"), scenario).unwrap();
    let defects = defects.iter().flat_map(|defect| ["--defect", *defect]);
    let arguments: Vec<&str> = ["run", "defects.yaml"].into_iter().chain(defects).collect();
    let output = loadtest(temporary.path(), &arguments);
    assert_eq!(output.status.code(), Some(99), "{output:?}");
    let outcome = report(temporary.path(), "defects.json");
    let found = outcome["found"].as_array().unwrap().iter();
    found.map(|found| found["check"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_message_that_comes_twice_or_late_and_a_change_that_no_watch_tells_are_found() {
    let _alone = ONE_AT_A_TIME.lock();
    let found = found(&["double:10", "swap:10", "omit:10"]);
    assert_eq!(found, BTreeSet::from(["doubled", "reordered", "watch"].map(str::to_owned)));
}

#[test]
fn a_write_that_is_acknowledged_and_not_made_is_found() {
    let _alone = ONE_AT_A_TIME.lock();
    let found = found(&["forget:10"]);
    assert_eq!(found, BTreeSet::from(["linearizability", "watch"].map(str::to_owned)));
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_line_and_column() {
    let temporary = tempfile::tempdir().unwrap();
    let scenario =
        "name: x\ntargets: { a: { write: {} } }\nphases:\n  - hodl: { rate: 1, for: 1s }\n";
    std::fs::write(temporary.path().join("x.yaml"), scenario).unwrap();
    let output = loadtest(temporary.path(), &["run", "x.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("x.yaml:4:5: there is no word `hodl` here"), "{said}");
    let output = loadtest(temporary.path(), &["run", "caos"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("there are smoke, steady"));
}
