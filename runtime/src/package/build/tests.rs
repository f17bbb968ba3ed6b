//! Equal inputs give equal packages, and nothing gets in that nobody named.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::*;

const WAT: &str = r#"(module (memory (export "memory") 1) (global (mut i32) (i32.const 0)))"#;

fn name() -> Name {
    "x".parse().expect("a name")
}

fn folder(manifest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("odeum.toml"), manifest).expect("written");
    fs::write(folder.path().join("module.wasm"), wat::parse_str(WAT).expect("it parses"))
        .expect("written");
    folder
}

fn refused(root: &Path) -> String {
    of_folder(root).expect_err("it is refused").to_string()
}

const LEAST: &str = "name = 'x'\nversion = '1.0.0'\n";

#[test]
fn a_module_alone_becomes_a_package_that_grants_nothing() {
    let text = of_module(name(), WAT.into()).expect("a package");
    let binary = of_module(name(), wat::parse_str(WAT).expect("it parses").into());
    let binary = binary.expect("a package");
    assert_eq!(text.package.file(), binary.package.file(), "whether as text or not");
    assert_eq!(text.movability, Movability::Movable);
    assert_eq!(text.package.manifest(), &Manifest::new(name(), Version::new(0, 0, 0)));
    assert_eq!(normalise::movability(&text.package.module()), Ok(Movability::Movable));
}

#[test]
fn a_package_is_opened_as_it_is() {
    let package = of_module("other".parse().expect("a name"), WAT.into()).expect("built").package;
    let opened = open(name(), package.file().clone()).expect("it opens");
    assert_eq!(opened.file(), package.file());
    assert_eq!(opened.manifest().name.as_str(), "other");
}

#[test]
fn a_folder_gives_the_same_bytes_wherever_and_whenever_it_is() {
    let make = || {
        let folder = folder(&format!("{LEAST}files = ['docs', 'LICENSE']\n"));
        fs::create_dir_all(folder.path().join("docs/deep")).expect("made");
        for file in ["docs/b", "docs/a", "docs/deep/c", "LICENSE", "not-named.key"] {
            fs::write(folder.path().join(file), file).expect("written");
        }
        of_folder(folder.path()).expect("a package").package
    };
    let package = make();
    assert_eq!(package.file(), make().file());
    let paths: Vec<&str> = package.index().files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["odeum.toml", "module.wasm", "LICENSE", "docs/a", "docs/b", "docs/deep/c"]);
}

#[test]
fn a_module_as_text_is_translated() {
    let folder = folder(&format!("{LEAST}entry = 'm.wat'\n"));
    fs::write(folder.path().join("m.wat"), WAT).expect("written");
    let package = of_folder(folder.path()).expect("a package").package;
    assert!(package.module().starts_with(b"\0asm"));
}

#[test]
fn no_link_leads_out_of_the_folder() {
    let secret = tempfile::tempdir().expect("a folder");
    fs::write(secret.path().join("key"), "secret").expect("written");
    for named in ["link", "link/key", "docs"] {
        let folder = folder(&format!("{LEAST}files = ['{named}']\n"));
        symlink(secret.path(), folder.path().join("link")).expect("linked");
        fs::create_dir(folder.path().join("docs")).expect("made");
        symlink(secret.path().join("key"), folder.path().join("docs/key")).expect("linked");
        assert!(refused(folder.path()).contains("no plain file or folder"), "{named}");
    }
    let folder = folder(LEAST);
    fs::remove_file(folder.path().join("module.wasm")).expect("removed");
    symlink(secret.path().join("key"), folder.path().join("module.wasm")).expect("linked");
    assert!(refused(folder.path()).contains("no plain file or folder"));
}

#[test]
fn what_is_missing_or_wrong_in_a_folder_is_named() {
    let empty = tempfile::tempdir().expect("a folder");
    assert!(refused(empty.path()).contains("`odeum package init` makes one"));
    let cases = [
        ("name = 'x'\nversion = '1.0.0'\nentry = 'gone.wasm'\n", "names the module gone.wasm"),
        ("name = 'x'\nversion = '1.0.0'\nfiles = ['gone']\n", "gone: No such file"),
        ("name = 'x'\nversion = '1.0.0'\nentry = 'odeum.toml'\n", "no WebAssembly module"),
        ("name = 'x'\nversoin = '1.0.0'\n", "odeum.toml:2:1: there is no key `versoin`"),
    ];
    for (manifest, told) in cases {
        let error = refused(folder(manifest).path());
        assert!(error.contains(told), "{error}");
    }
    let invalid = folder(LEAST);
    let body = b"\0asm\x01\0\0\0\x0a\x04\x01\x02\0\x0b";
    fs::write(invalid.path().join("module.wasm"), body).expect("written");
    assert!(refused(invalid.path()).contains("not valid"), "{}", refused(invalid.path()));
}

#[test]
fn the_template_of_a_manifest_is_one() {
    let text = MANIFEST_TEMPLATE.replace("{name}", "x").replace("{entry}", "x.wasm");
    let manifest = Manifest::parse(text.as_bytes()).expect("it is a manifest");
    assert_eq!((manifest.name, manifest.entry.as_str()), (name(), "x.wasm"));
    // What is shown as a comment is right, too.
    let all = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    let all: Vec<&str> = all.filter(|line| !line.starts_with("All ")).collect();
    Manifest::parse(all.join("\n").replace("\n#\n", "\n\n").as_bytes()).expect("it is one, too");
}
