//! `odeum-loadtest vs etcd` as a person runs it, with as little work as it can do: that it ends,
//! prints its table, writes its rows and leaves nothing behind.

use std::process::Command;

use serde_json::Value;

/// What `vs` answers when there is nobody to compare with.
const NOT_INSTALLED: i32 = 3;

#[test]
fn the_store_is_compared_with_three_members_of_etcd_that_end() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_odeum-loadtest"))
        .args(["vs", "etcd", "--rounds", "1", "--quick", "60", "--json"])
        .arg(&file)
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    if output.status.code() == Some(NOT_INSTALLED) {
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 99)), "{output:?}");
    assert!(said.contains("writes, 64 in flight") && said.contains("verdict"), "{said}");
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(rows.len(), 14, "{said}");
    // In so short a time a store may finish nothing: there is no p99 then.
    let counted = |row: &Value, side: &str| row[side].is_null() || row[side].is_number();
    assert!(rows.iter().all(|row| counted(row, "ours") && counted(row, "theirs")), "{said}");
    let folder = temporary.path().to_str().unwrap();
    let left: Vec<String> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|words| String::from_utf8_lossy(&words).replace('\0', " "))
        .filter(|words| words.contains(folder))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1, "only the rows are left");
}
