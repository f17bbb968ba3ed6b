//! `odeum-loadtest vs bare-wasmtime` as a person runs it, with as little work as it can do: that it
//! ends, prints its table and writes its rows. Whether they pass is for a release build on a machine with
//! nothing else to do.

use std::process::Command;

#[test]
fn a_comparison_prints_a_table_and_writes_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["vs", "bare-wasmtime", "--rounds", "1", "--quick", "200", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 99)), "{output:?}");
    assert!(said.contains("cold start") && said.contains("verdict"), "{said}");
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(rows.len(), 8);
}
