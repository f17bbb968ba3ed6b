//! What is kept is found again, and nothing else is taken for it.

use super::*;
use crate::package::manifest::Manifest;

fn package(name: &str, version: &str) -> Package {
    let manifest =
        Manifest::new(name.parse().expect("a name"), version.parse().expect("a version"));
    let text = manifest.to_text().expect("it can be written");
    let module = ("module.wasm".parse().expect("a path"), b"\0asm\x01\0\0\0"[..].into());
    Package::assemble(text.into(), [module]).expect("a package")
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::at(Some(folder.path().join("packages"))).expect("a store");
    (folder, store)
}

fn version(kept: &Kept) -> String {
    kept.package.as_ref().expect("a package").manifest().version.to_string()
}

#[test]
fn what_is_kept_is_found_by_name_version_and_digest_the_newest_first() {
    let (_folder, store) = store();
    assert!(store.list().expect("an empty list").is_empty());
    for (name, version) in [("a", "1.9.0"), ("a", "1.10.0"), ("b", "1.0.0"), ("a", "1.9.0")] {
        store.keep(&package(name, version)).expect("it is kept");
    }
    let versions: Vec<String> = store.list().expect("a list").iter().map(version).collect();
    assert_eq!(versions, ["1.10.0", "1.9.0", "1.0.0"]);
    assert_eq!(version(&store.find("a").expect("found")), "1.10.0");
    assert_eq!(version(&store.find("a@1.9.0").expect("found")), "1.9.0");
    let digest = Digest::of(package("b", "1.0.0").file()).to_string();
    assert_eq!(store.find(&digest[..12]).expect("found").file_digest.to_string(), digest);
    for missing in ["c", "a@2.0.0", "a@", &digest[..5]] {
        assert!(matches!(store.find(missing), Err(StoreError::Missing { .. })), "{missing}");
    }
}

#[test]
fn a_removed_package_is_gone_and_the_others_stay() {
    let (_folder, store) = store();
    store.keep(&package("a", "1.0.0")).expect("it is kept");
    store.keep(&package("b", "1.0.0")).expect("it is kept");
    store.remove("a").expect("it is removed");
    assert!(matches!(store.remove("a"), Err(StoreError::Missing { .. })));
    assert_eq!(store.list().expect("a list").len(), 1);
}

#[test]
fn two_builds_of_one_version_are_told_apart_by_digest() {
    let (_folder, store) = store();
    let first = package("a", "1.0.0");
    let key = crate::package::key::SecretKey::generate();
    let signed = first.signed(key.sign(first.digest())).expect("signed");
    store.keep(&first).expect("it is kept");
    store.keep(&signed).expect("it is kept");
    assert!(matches!(store.find("a"), Err(StoreError::Ambiguous { .. })));
    let digest = Digest::of(signed.file()).to_string();
    assert_eq!(store.find(&digest).expect("found").file_digest.to_string(), digest);
}

#[test]
fn a_damaged_file_is_listed_as_such_and_can_be_removed() {
    let (_folder, store) = store();
    let path = store.keep(&package("a", "1.0.0")).expect("it is kept");
    let mut bytes = fs::read(&path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] = 1;
    fs::write(&path, bytes).expect("written");
    let kept = store.list().expect("a list").remove(0);
    assert!(kept.package.is_err_and(|error| error.is_damage()));
    store.remove(&kept.file_digest.to_string()).expect("it is removed");
    assert!(store.list().expect("a list").is_empty());
}
