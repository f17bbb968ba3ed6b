//! What is written reads back, and nothing else does.

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::package::key::SecretKey;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const MANIFEST: &str = "name = 'x'\nversion = '1.0.0'\nfiles = ['LICENSE', 'data']\n";

fn path(text: &str) -> PackagePath {
    text.parse().expect("a path")
}

fn files() -> Vec<(PackagePath, Bytes)> {
    [("module.wasm", MODULE), ("LICENSE", b"free"), ("data/b", b"2"), ("data/a", b"")]
        .map(|(name, content)| (path(name), Bytes::from_static(content)))
        .into()
}

fn package() -> Package {
    Package::assemble(MANIFEST.into(), files()).expect("a package")
}

fn refused(file: impl Into<Bytes>) -> ContainerError {
    Package::read(file.into()).expect_err("it is refused")
}

/// A tar file as another program writes it.
fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new_ustar();
        // Not by `set_path`, which refuses what a hostile program writes.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, *content).expect("it is written");
    }
    builder.into_inner().expect("it is written")
}

fn index_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let entries = files.iter().map(|(name, content)| FileEntry::of(path(name), content));
    Index::new(entries.collect()).to_bytes().expect("it is written")
}

const PLAIN: EntryType = EntryType::Regular;

#[test]
fn a_package_reads_back_as_it_was_written() {
    let package = package();
    let again = Package::read(package.file().clone()).expect("it is a package");
    assert_eq!(again.digest(), package.digest());
    assert_eq!(again.manifest(), &Manifest::parse(MANIFEST.as_bytes()).expect("a manifest"));
    assert_eq!(&again.module()[..], MODULE);
    assert_eq!(again.content(&path("data/b")).as_deref(), Some(&b"2"[..]));
    assert_eq!(again.content(&path("data/c")), None);
    let paths: Vec<&str> = again.index().files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["odeum.toml", "module.wasm", "LICENSE", "data/a", "data/b"]);
    let mut other_order = files();
    other_order.reverse();
    let other_order = Package::assemble(MANIFEST.into(), other_order).expect("a package");
    assert_eq!(other_order.file(), package.file());
}

#[test]
fn its_bytes_are_the_same_on_every_machine_and_for_good() {
    // A change of these changes every digest that anybody has signed.
    let digest = package().digest().to_string();
    assert_eq!(
        digest, "e008c99a7a9aadc869eab80f5948665a20137a6e99f0d64f3649d3996b9f81fe",
        "the format has changed"
    );
    let file = Digest::of(package().file()).to_string();
    assert_eq!(
        file, "39681662dae8a695c9e2646606f757244f9dee8574272a40fcfddec3972dcaa0",
        "the format has changed"
    );
}

#[test]
fn other_tools_can_list_and_read_it() {
    let file = package().file().clone();
    let mut archive = tar::Archive::new(&file[..]);
    let names: Vec<String> = archive
        .entries()
        .expect("a tar file")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    assert_eq!(names, [INDEX, "odeum.toml", "module.wasm", "LICENSE", "data/a", "data/b"]);
}

#[test]
fn a_signature_changes_the_file_and_not_the_digest() {
    let (package, key) = (package(), SecretKey::generate());
    let signed = package.signed(key.sign(package.digest())).expect("it is signed");
    assert_eq!(signed.digest(), package.digest());
    assert_ne!(signed.file(), package.file());
    let again = Package::read(signed.file().clone()).expect("it is a package");
    let keys: Vec<_> = again.signatures().iter().map(Signature::key).cloned().collect();
    assert_eq!(keys, [key.public()]);
    let twice = signed.signed(key.sign(package.digest())).expect("it is signed");
    assert_eq!(twice.file(), signed.file(), "one signature of each key");
    let (a, b) = (SecretKey::generate(), SecretKey::generate());
    let sign = |package: &Package, key: &SecretKey| {
        package.signed(key.sign(package.digest())).expect("it is signed")
    };
    assert_eq!(sign(&sign(&package, &a), &b).file(), sign(&sign(&package, &b), &a).file());
}

#[test]
fn a_signature_of_another_package_is_refused() {
    let (package, key) = (package(), SecretKey::generate());
    let other = package.signed(key.sign(Digest::of(b"another")));
    let error = other.expect_err("it is refused");
    assert!(matches!(error, ContainerError::WrongSignature { .. }) && error.is_damage());
    assert!(error.to_string().contains(&key.public().id().to_string()), "{error}");
}

#[test]
fn what_came_apart_is_put_together_again() {
    let (package, key) = (package(), SecretKey::generate());
    let signed = package.signed(key.sign(package.digest())).expect("it is signed");
    let contents: BTreeMap<PackagePath, Bytes> = signed
        .index()
        .files()
        .iter()
        .map(|file| (file.path.clone(), signed.content(&file.path).expect("it is there")))
        .collect();
    let index = signed.index().to_bytes().expect("written");
    let signatures = signed.signature_bytes().expect("written");
    let again = Package::rejoin(&index, signatures.as_deref(), &contents).expect("a package");
    assert_eq!(again.file(), signed.file());
    let mut other = contents;
    other.insert(path("LICENSE"), Bytes::from_static(b"mine"));
    let error = Package::rejoin(&index, None, &other).expect_err("it is refused");
    assert!(matches!(error, ContainerError::Tampered { .. }), "{error}");
}

#[test]
fn a_tampered_file_is_named_with_both_digests() {
    let file = package().file().clone();
    let at = file.windows(4).position(|bytes| bytes == b"free").expect("the licence");
    let mut tampered = file.to_vec();
    tampered[at] = b'F';
    let error = refused(tampered);
    assert!(error.is_damage());
    assert_eq!(
        error.to_string(),
        format!(
            "LICENSE is not what the index says: it is {}, the index says {}",
            Digest::of(b"Free"),
            Digest::of(b"free")
        )
    );
}

#[test]
fn every_single_changed_byte_is_found_out() {
    let file = package().file().clone();
    for at in 0..file.len() {
        let mut changed = file.to_vec();
        changed[at] ^= 1;
        assert!(Package::read(changed.into()).is_err(), "byte {at}");
    }
}

#[test]
fn every_cut_and_every_addition_is_found_out() {
    let file = package().file().clone();
    for end in 0..file.len() {
        assert!(Package::read(file.slice(..end)).is_err(), "byte {end}");
    }
    for more in [&b"\0"[..], &[0; 512], b"x"] {
        let longer = [&file[..], more].concat();
        assert!(matches!(refused(longer), ContainerError::Damaged { .. }));
    }
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    for evil in ["../../etc/passwd", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", "C:x"] {
        let index = index_of(&[("odeum.toml", MANIFEST.as_bytes()), ("module.wasm", MODULE)]);
        // In the tar file alone.
        let file = archive(&[
            (INDEX, PLAIN, &index),
            ("odeum.toml", PLAIN, MANIFEST.as_bytes()),
            (evil, PLAIN, MODULE),
        ]);
        assert!(matches!(refused(file), ContainerError::Path(_)), "{evil}");
        // And in the index, too.
        let text = String::from_utf8(index).expect("text");
        let evil_json = serde_json::to_string(evil).expect("JSON");
        let index = text.replace("\"module.wasm\"", &evil_json);
        let file = archive(&[(INDEX, PLAIN, index.as_bytes())]);
        assert!(matches!(refused(file), ContainerError::Index { .. }), "{evil}");
    }
}

#[test]
fn links_devices_and_extensions_are_refused() {
    let index = index_of(&[("odeum.toml", MANIFEST.as_bytes()), ("module.wasm", MODULE)]);
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Fifo,
        EntryType::Char,
        EntryType::GNUSparse,
        EntryType::GNULongName,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ] {
        let file = archive(&[
            (INDEX, PLAIN, &index),
            ("odeum.toml", PLAIN, MANIFEST.as_bytes()),
            ("module.wasm", kind, b""),
        ]);
        assert!(matches!(refused(file), ContainerError::NoFile { .. }), "{kind:?}");
    }
}

#[test]
fn names_that_come_twice_are_refused() {
    let both = [("module.wasm".parse().expect("a path"), Bytes::from(MODULE)), files().remove(0)];
    let error = Package::assemble(MANIFEST.into(), both).expect_err("it is refused");
    assert!(matches!(error, ContainerError::Twice { .. }), "{error}");
    let manifest = ("odeum.toml", MANIFEST.as_bytes());
    for (names, told) in [
        (&["a", "a"][..], "a is there twice"),
        (&["a", "a/b"], "a file and a folder have one name"),
        (&["a", "a-b", "a/b"], "a file and a folder have one name"),
        (&["b", "a"], "not in their order"),
        (&["odeum.toml"], "odeum.toml is there twice"),
        (&[".odeum/x"], ".odeum/x cannot be in a package"),
    ] {
        let others = names.iter().map(|name| (*name, &b"x"[..]));
        let all: Vec<_> = [manifest, ("module.wasm", MODULE)].into_iter().chain(others).collect();
        let error = refused(archive(&[(INDEX, PLAIN, &index_of(&all))])).to_string();
        assert!(error.contains(told), "{names:?}: {error}");
    }
}

#[test]
fn files_that_the_index_does_not_have_are_refused() {
    let index = index_of(&[("odeum.toml", MANIFEST.as_bytes()), ("module.wasm", MODULE)]);
    let file = archive(&[
        (INDEX, PLAIN, &index),
        ("odeum.toml", PLAIN, MANIFEST.as_bytes()),
        ("module.wasm", PLAIN, MODULE),
        ("extra", PLAIN, b"x"),
    ]);
    assert!(matches!(refused(file), ContainerError::Damaged { .. }));
    let file = archive(&[
        (INDEX, PLAIN, &index),
        ("odeum.toml", PLAIN, MANIFEST.as_bytes()),
        ("extra", PLAIN, b"x"),
        ("module.wasm", PLAIN, MODULE),
    ]);
    assert!(matches!(refused(file), ContainerError::OtherFile { .. }));
}

#[test]
fn a_manifest_that_lies_about_the_files_is_refused() {
    let with = |manifest: &str, names: &[&str]| {
        let files = names.iter().map(|name| (path(name), Bytes::from(MODULE)));
        Package::assemble(manifest.to_owned().into(), files).expect_err("it is refused")
    };
    let least = "name = 'x'\nversion = '1.0.0'\n";
    let other_module = with(&format!("{least}entry = 'other.wasm'"), &["module.wasm"]);
    assert!(matches!(other_module, ContainerError::NoModule { .. }), "{other_module}");
    let unlisted = with(least, &["module.wasm", "secret.key"]);
    assert!(matches!(unlisted, ContainerError::Unlisted { .. }), "{unlisted}");
    let unfilled = with(&format!("{least}files = ['docs']"), &["module.wasm"]);
    assert!(matches!(unfilled, ContainerError::Unfilled { .. }), "{unfilled}");
    let broken = with("name = 'x'\nversion = 'one'", &["module.wasm"]);
    assert!(matches!(broken, ContainerError::Manifest(_)), "{broken}");
}

#[test]
fn sizes_are_checked_before_anything_is_read() {
    let size_of = |size: u64, content: &[u8]| {
        let mut file = archive(&[(INDEX, PLAIN, content)]);
        let mut header = Header::from_byte_slice(&file[..512]).clone();
        header.set_size(size);
        header.set_cksum();
        file[..512].copy_from_slice(header.as_bytes());
        file
    };
    for size in [4_096, 0o17_777_777_777, 1 << 40, u64::MAX >> 1] {
        assert!(matches!(refused(size_of(size, b"{}")), ContainerError::CutOff { .. }), "{size}");
    }
    // An index that claims a terabyte.
    let claims = r#"{"format":1,"files":[{"path":"odeum.toml","size":1,"blake3":"H"},{"path":"module.wasm","size":1099511627776,"blake3":"H"}]}"#
        .replace('H', &Digest::of(b"").to_string());
    let file = archive(&[
        (INDEX, PLAIN, claims.as_bytes()),
        ("odeum.toml", PLAIN, b"\n"),
        ("module.wasm", PLAIN, MODULE),
    ]);
    assert!(matches!(refused(file), ContainerError::Tampered { .. } | ContainerError::Size { .. }));
}

#[test]
fn a_module_of_200_megabytes_is_refused_unread() {
    let module = Bytes::from(vec![0; 200 << 20]);
    let file = Package::assemble(MANIFEST.into(), [(path("module.wasm"), module)]);
    let error = file.expect_err("it is refused");
    assert!(matches!(error, ContainerError::TooLarge { limit: PACKAGE_BYTES, .. }), "{error}");
}

#[test]
fn an_index_with_too_many_files_or_too_long_is_refused() {
    let names: Vec<String> = (0..5_000).map(|n| format!("f{n:05}")).collect();
    let others = names.iter().map(|name| (name.as_str(), &b""[..]));
    let first = [("odeum.toml", MANIFEST.as_bytes()), ("module.wasm", MODULE)];
    let many: Vec<_> = first.into_iter().chain(others).collect();
    let error = refused(archive(&[(INDEX, PLAIN, &index_of(&many))])).to_string();
    assert!(error.contains("5002 files, at most 4096"), "{error}");
    let long = vec![b' '; (1 << 20) + 1];
    assert!(refused(archive(&[(INDEX, PLAIN, &long)])).to_string().contains("bytes, at most"));
}

#[test]
fn what_is_compressed_is_no_package() {
    for bytes in [&b"\x1f\x8b\x08"[..], b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"", b"BZh9"] {
        assert_eq!(refused(bytes), ContainerError::NoPackage);
    }
}

/// Contents of a package: paths that fit together, and bytes.
fn contents() -> impl Strategy<Value = BTreeMap<PackagePath, Vec<u8>>> {
    let name = "[a-c]{1,3}(/[d-f]{1,3}){0,2}".prop_map(|name| path(&format!("data/{name}.x")));
    proptest::collection::btree_map(name, proptest::collection::vec(any::<u8>(), 0..1_500), 1..6)
}

proptest! {
    #[test]
    fn any_contents_read_back_and_give_the_same_bytes_in_any_order(
        contents in contents(), module in proptest::collection::vec(any::<u8>(), 1..1_500),
    ) {
        let manifest = "name = 'x'\nversion = '1.0.0'\nfiles = ['data']\n";
        let mut files: Vec<(PackagePath, Bytes)> =
            contents.iter().map(|(path, bytes)| (path.clone(), bytes.clone().into())).collect();
        files.push((path("module.wasm"), module.clone().into()));
        let package = Package::assemble(manifest.into(), files.clone()).expect("a package");
        files.reverse();
        let other = Package::assemble(manifest.into(), files).expect("a package");
        prop_assert_eq!(package.file(), other.file());
        let again = Package::read(package.file().clone()).expect("it reads back");
        prop_assert_eq!(&again.module()[..], &module[..]);
        for (path, bytes) in &contents {
            let content = again.content(path);
            prop_assert_eq!(content.as_deref(), Some(&bytes[..]));
        }
    }

    #[test]
    fn no_changed_bytes_are_taken_for_the_package(
        at in any::<prop::sample::Index>(), new in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let file = package().file().clone();
        let mut changed = file.to_vec();
        let at = at.index(changed.len());
        let end = changed.len().min(at + new.len());
        changed.splice(at..end, new);
        prop_assume!(changed != file);
        prop_assert!(Package::read(changed.into()).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_with_an_error(
        rest in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let bytes = [INDEX.as_bytes(), &rest].concat();
        prop_assert!(Package::read(bytes.into()).is_err());
    }
}
