//! `odeum-loadtest run SCENARIO` as a person runs it, with as little work as it can do.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

/// Runs a scenario once, and checks that it gives so many rows, the first with a figure.
fn gives_rows(scenario: &str, count: usize) {
    let temporary = tempfile::tempdir().expect("a folder");
    let file = temporary.path().join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["run", scenario, "--rounds", "1", "--quick", "1000", "--json"])
        .arg(&file)
        .env("TMPDIR", temporary.path())
        .output()
        .expect("it runs");
    assert!(matches!(output.status.code(), Some(0 | 99)), "{output:?}");
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&file).expect("written")).expect("rows");
    assert_eq!(rows.len(), count);
    assert!(rows.iter().all(|row| row["ours"].is_number() && row["pass"].is_boolean()), "{rows:?}");
    assert!(
        rows.first().expect("some")["ours"].as_f64().is_some_and(|ours| ours > 0.0),
        "{rows:?}"
    );
}

#[test]
fn the_scenario_of_a_million_entities_prints_what_each_costs() {
    gives_rows("entities", 6);
}

#[test]
fn the_scenario_of_a_million_variables_restarts_and_gives_each_watcher_every_change() {
    gives_rows("store", 4);
}

#[test]
fn the_generator_is_measured_beside_a_bare_client() {
    gives_rows("generator", 4);
}
