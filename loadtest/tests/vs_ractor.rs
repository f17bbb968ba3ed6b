//! `odeum-loadtest vs ractor` as a person runs it, with as little work as it can do: that it
//! ends, prints its table and writes its rows. Whether they pass is for a release build on a
//! machine with nothing else to do.

use std::process::Command;

#[test]
fn a_comparison_prints_a_table_and_writes_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["vs", "ractor", "--rounds", "1", "--quick", "200", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 99)), "{output:?}");
    assert!(said.contains("ask, 1 in flight") && said.contains("verdict"), "{said}");
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(rows.len(), 7);
    for row in rows {
        for key in ["row", "ours", "theirs", "unit", "ratio", "target", "pass"] {
            assert!(row.get(key).is_some_and(|value| !value.is_null()), "{row} lacks {key}");
        }
    }
}

#[test]
fn an_unknown_peer_is_a_usage_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest")).args(["vs", "nobody"]).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
}
