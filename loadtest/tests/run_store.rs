//! `odeum-loadtest run store` as a person runs it, with as little work as it can do.

use std::process::Command;

#[test]
fn the_scenario_of_a_million_variables_restarts_and_gives_each_watcher_every_change() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["run", "store", "--rounds", "1", "--quick", "1000", "--json"])
        .arg(&file)
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    assert!(matches!(output.status.code(), Some(0 | 99)), "{output:?}");
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["ours"].is_number() && row["pass"].is_boolean()), "{rows:?}");
    assert!(rows.first().unwrap()["ours"].as_f64().is_some_and(|ours| ours > 0.0), "{rows:?}");
}
