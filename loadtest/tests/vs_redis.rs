//! `odeum-loadtest vs redis` as a person runs it, with as little work as it can do: that it ends,
//! prints its table, writes its rows and leaves nothing behind.

use std::process::Command;

use serde_json::Value;

/// What `vs` answers when there is nobody to compare with.
const NOT_INSTALLED: i32 = 3;

#[test]
fn the_store_is_compared_with_one_server_of_redis_that_ends() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["vs", "redis", "--rounds", "1", "--quick", "60", "--json"])
        .arg(&file)
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    if output.status.code() == Some(NOT_INSTALLED) {
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    // No row has a target that could be missed.
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.contains("not replicated") && said.contains("appendfsync always"), "{said}");
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(rows.len(), 13, "{said}");
    let counted = |row: &Value, side: &str| row[side].is_null() || row[side].is_number();
    assert!(rows.iter().all(|row| counted(row, "ours") && counted(row, "theirs")), "{said}");
    assert!(rows.iter().all(|row| row["target"].is_null()), "{said}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1, "only the rows are left");
}
