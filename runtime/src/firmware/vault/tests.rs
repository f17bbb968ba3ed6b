//! The promises of the vault: nothing wrong is ever loaded, everything wrong is replaced, and what is
//! kept is bounded.

mod processes;

use std::os::unix::fs::{PermissionsExt, chown, symlink};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{
    firmware::{
        abi::shape::Layer,
        engine::{Engine, Sorted},
        native::{Native, Origin, native},
        tests::{ACTOR, COMMAND, COUNTER, SERVER, compile},
    },
    package::manifest::Limits,
};

/// Room for whatever a test keeps.
const MUCH: u64 = 1 << 30;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn vault(folder: &Path) -> Vault {
    Vault::new(folder.join("compiled"), MUCH)
}

fn sorted(limits: &Limits) -> Sorted {
    Engine::new().expect("an engine").for_limits(limits).expect("an engine for them")
}

fn key(wasm: &[u8]) -> Key {
    Key::of(&sorted(&Limits::default()), wasm)
}

/// A file that is kept under that key, of 1,000 bytes.
fn keep(vault: &Vault, key: Key, byte: u8) {
    vault.keep_code(key, &[byte; 1_000 - seal::HEADER]);
}

fn has(vault: &Vault, key: Key) -> Option<u8> {
    vault.find(key).map(|code| code.code()[0])
}

fn path(vault: &Vault, key: Key) -> PathBuf {
    vault.path_of(&key.to_string())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode is set");
}

/// Names in the vault's folder.
fn names(vault: &Vault) -> Vec<String> {
    let files = fs::read_dir(vault.folder()).expect("a folder");
    let mut names: Vec<String> =
        files.map(|file| file.expect("a file").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn what_is_kept_is_found_by_any_vault_on_the_folder() {
    let folder = folder();
    let key = key(b"a");
    assert_eq!(has(&vault(folder.path()), key), None);
    assert!(!folder.path().join("compiled").exists(), "looking makes nothing");
    keep(&vault(folder.path()), key, 7);
    assert_eq!(has(&vault(folder.path()), key), Some(7));
    assert_eq!(names(&vault(folder.path())), [format!("{key}.native"), "seal.key".to_owned()]);
}

#[test]
fn every_changed_byte_of_a_file_is_found() {
    let folder = folder();
    let key = key(b"a");
    let secret = Secret::of(folder.path()).expect("a secret");
    let code: Vec<u8> = (0..=255).collect();
    let mut file = seal::header(&secret, key, &code).to_vec();
    file.extend_from_slice(&code);
    assert_eq!(seal::unseal(&secret, key, file.clone()).expect("whole").code(), code);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            assert!(seal::unseal(&secret, key, changed).is_err(), "bit {bit} of byte {at}");
        }
        assert!(seal::unseal(&secret, key, file[..at].to_vec()).is_err(), "cut at {at}");
    }
    file.push(0);
    assert!(seal::unseal(&secret, key, file).is_err(), "one byte more");
}

/// What somebody may do to a file of the vault.
type Tamper = fn(&Vault, &Path);

#[test]
fn whatever_is_in_the_place_of_a_file_is_not_taken_and_replaced() {
    let cases: [(&str, Tamper); 11] = [
        ("ends too soon", |_, path| {
            let file = fs::OpenOptions::new().write(true).open(path).expect("opens");
            file.set_len(500).expect("is cut");
        }),
        ("is empty", |_, path| fs::write(path, "").expect("is written")),
        ("is longer", |_, path| {
            let mut content = fs::read(path).expect("reads");
            content.push(0);
            fs::write(path, content).expect("is written");
        }),
        ("is that of another module", |vault, path| {
            fs::copy(self::path(vault, key(b"other")), path).expect("is copied");
        }),
        ("was sealed by somebody else", |vault, path| {
            let other = super::Vault::new(vault.folder().join("other"), MUCH);
            keep(&other, key(b"a"), 9);
            fs::copy(self::path(&other, key(b"a")), path).expect("is copied");
        }),
        ("is a link to itself", |vault, path| {
            let moved = vault.folder().join("moved");
            fs::rename(path, &moved).expect("is moved");
            symlink(moved, path).expect("a link");
        }),
        ("is a pipe", |_, path| {
            fs::remove_file(path).expect("is removed");
            let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(rustix::fs::CWD, path, fifo, mode, 0).expect("a pipe");
        }),
        ("is a folder with something in it", |_, path| {
            fs::remove_file(path).expect("is removed");
            fs::create_dir(path).expect("a folder");
            fs::write(path.join("something"), "").expect("is written");
        }),
        ("may be written by others", |_, path| set_mode(path, 0o620)),
        ("may not be read", |_, path| {
            // Root may.
            if folder::user() == 0 { set_mode(path, 0o602) } else { set_mode(path, 0o000) }
        }),
        ("is another user's", |_, path| {
            // Only root can give files away.
            if folder::user() == 0 {
                chown(path, Some(12_345), None).expect("is given away");
            } else {
                set_mode(path, 0o622);
            }
        }),
    ];
    for (what, tamper) in cases {
        let folder = folder();
        let vault = vault(folder.path());
        let key = key(b"a");
        keep(&vault, key, 7);
        keep(&vault, self::key(b"other"), 8);
        tamper(&vault, &path(&vault, key));
        assert_eq!(has(&vault, key), None, "a file that {what}");
        keep(&vault, key, 7);
        assert_eq!(has(&vault, key), Some(7), "a file that {what}, replaced");
        assert_eq!(has(&vault, self::key(b"other")), Some(8), "beside one that {what}");
    }
}

#[test]
fn a_folder_that_others_can_write_to_is_not_used_until_that_is_put_right() {
    let folder = folder();
    let vault = vault(folder.path());
    let key = key(b"a");
    keep(&vault, key, 7);
    for mode in [0o770, 0o707, 0o777, 0o1777] {
        set_mode(vault.folder(), mode);
        assert_eq!(has(&vault, key), None, "{mode:o}");
        let said = vault.list().expect_err("is refused").to_string();
        let cure = format!("chmod go-w {}", vault.folder().display());
        assert!(said.contains(&cure), "{said}");
        keep(&vault, self::key(b"b"), 8);
    }
    set_mode(vault.folder(), 0o755);
    assert_eq!(has(&vault, key), Some(7));
    assert_eq!(has(&vault, self::key(b"b")), None, "nothing was kept");
    if folder::user() == 0 {
        chown(vault.folder(), Some(12_345), None).expect("is given away");
        assert_eq!(has(&vault, key), None);
        let said = vault.list().expect_err("is refused").to_string();
        assert!(said.contains("belongs to user 12345"), "{said}");
    }
}

#[test]
fn a_secret_that_others_can_use_is_refused_until_it_is_removed() {
    let folder = folder();
    let vault = vault(folder.path());
    let key = key(b"a");
    keep(&vault, key, 7);
    let secret = vault.folder().join(secret::FILE);
    for mode in [0o640, 0o604, 0o620, 0o601] {
        set_mode(&secret, mode);
        assert_eq!(has(&vault, key), None, "{mode:o}");
        let said = Secret::of(vault.folder()).expect_err("is refused").to_string();
        assert!(said.contains("remove it"), "{said}");
    }
    fs::write(&secret, "short").expect("is written");
    set_mode(&secret, 0o600);
    assert_eq!(has(&vault, key), None, "a short one");
    fs::remove_file(&secret).expect("is removed");
    assert_eq!(has(&vault, key), None, "sealed with the old one");
    keep(&vault, key, 7);
    assert_eq!(has(&vault, key), Some(7));
}

#[test]
fn all_that_make_the_secret_at_once_get_the_same_one_whoever_cleans_up() {
    for _ in 0..20 {
        let folder = folder();
        let secrets: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let make = |_| scope.spawn(|| *Secret::of(folder.path()).expect("a secret").bytes());
            let makers: Vec<_> = (0..8).map(make).collect();
            folder::sweep_dead(folder.path());
            makers.into_iter().map(|maker| maker.join().expect("does not panic")).collect()
        });
        assert!(secrets.iter().all(|secret| secret == &secrets[0] && secret != &[0; 32]));
    }
}

#[test]
fn one_holds_a_file_and_nothing_stays_of_it() {
    let folder = folder();
    let path = folder.path().join("x.lock");
    let held = Hold::take(&path).expect("takes").expect("is free");
    assert!(Hold::take(&path).expect("looks").is_none());
    folder::sweep_dead(folder.path());
    assert!(path.exists(), "the living are not swept");
    drop(held);
    assert!(!path.exists());
    fs::write(&path, "").expect("one of the dead");
    folder::sweep_dead(folder.path());
    assert!(!path.exists());
}

#[test]
fn never_two_hold_a_file_while_it_comes_and_goes() {
    let folder = folder();
    let (path, inside) = (folder.path().join("x.lock"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut times = 0;
                while times < 200 {
                    let Some(hold) = Hold::take(&path).expect("takes") else { continue };
                    assert!(!inside.swap(true, Ordering::SeqCst), "two hold it");
                    inside.store(false, Ordering::SeqCst);
                    drop(hold);
                    times += 1;
                }
            });
        }
    });
}

#[test]
fn the_least_recently_found_makes_room() {
    let folder = folder();
    let vault = Vault::new(folder.path().join("compiled"), 3_000);
    let keys: Vec<Key> = [b"a", b"b", b"c"].into_iter().map(|wasm| key(wasm)).collect();
    let begin = SystemTime::now() - Duration::from_secs(1_000);
    for (key, age) in keys.iter().zip(0..) {
        keep(&vault, *key, 7);
        let file = file::open(&path(&vault, *key)).expect("opens");
        file.set_modified(begin + Duration::from_secs(age)).expect("is set");
    }
    assert_eq!(has(&vault, keys[0]), Some(7), "and so it was used last");
    keep(&vault, key(b"d"), 7);
    let kept: Vec<bool> = keys.iter().map(|key| has(&vault, *key).is_some()).collect();
    assert_eq!(kept, [true, false, true]);
}

#[test]
fn what_is_larger_than_the_bound_is_not_kept_and_a_bound_of_nothing_keeps_nothing() {
    let folder = folder();
    for size in [0, 999] {
        let vault = Vault::new(folder.path().join("compiled"), size);
        keep(&vault, key(b"a"), 7);
        assert_eq!(has(&vault, key(b"a")), None, "{size}");
        assert!(!vault.folder().exists(), "{size}");
    }
}

#[test]
fn what_is_listed_is_what_is_there_and_clearing_leaves_the_secret() {
    let folder = folder();
    let vault = vault(folder.path());
    assert_eq!(vault.list().expect("lists"), []);
    assert_eq!(vault.clear().expect("clears"), Cleared::default());
    keep(&vault, key(b"a"), 7);
    fs::write(vault.folder().join("of-somebody.native"), "").expect("is written");
    let kept = vault.list().expect("lists");
    let [kept] = &kept[..] else { panic!("one is kept: {kept:?}") };
    let module = blake3::hash(b"a").to_string();
    assert_eq!((kept.key.clone(), kept.bytes), (key(b"a").to_string(), 1_000));
    assert_eq!(kept.module, Some(module));
    assert_eq!(vault.clear().expect("clears"), Cleared { modules: 1, bytes: 1_000 });
    assert_eq!(names(&vault), ["of-somebody.native", "seal.key"], "what is not ours stays");
}

#[test]
fn a_key_is_the_same_for_the_same_and_another_for_anything_else() {
    let limits = |lines: &str| {
        let text = format!("name = 'guest'\nversion = '1.0.0'\n[limits]\n{lines}");
        let manifest = crate::package::manifest::Manifest::parse(text.as_bytes());
        manifest.expect("a manifest").limits
    };
    let usual = Limits::default();
    assert_eq!(Key::of(&sorted(&usual), b"a"), Key::of(&sorted(&usual), b"a"));
    let others = [
        Key::of(&sorted(&usual), b"a"),
        Key::of(&sorted(&usual), b"b"),
        Key::of(&sorted(&limits("fuel = 9")), b"a"),
        Key::of(&sorted(&limits("stack = '2 MiB'")), b"a"),
    ];
    let different: std::collections::BTreeSet<String> =
        others.iter().map(ToString::to_string).collect();
    assert_eq!(different.len(), others.len());
}

#[tokio::test]
async fn modules_and_components_come_back_from_the_vault() {
    let folder = folder();
    for wasm in [COUNTER, COMMAND, SERVER, ACTOR] {
        // The version is of one byte, then come its layer and nothing.
        let layer = if wasm[4] == 1 { Layer::Core } else { Layer::Component };
        for origin in [Origin::Compiled, Origin::Kept] {
            let engine = Engine::with_vault(vault(folder.path())).expect("an engine");
            let sorted = engine.for_limits(&Limits::default()).expect("an engine");
            let wasm = Bytes::from_static(wasm);
            let (_, is) = native(&engine, &sorted, layer, wasm).await.expect("compiles");
            assert_eq!(is, origin);
        }
        // And can be linked.
        let engine = Engine::with_vault(vault(folder.path())).expect("an engine");
        compile(&engine, "", wasm).await.expect("links");
    }
}

#[tokio::test]
async fn code_that_wasmtime_does_not_take_is_compiled_anew() {
    let folder = folder();
    let vault = vault(folder.path());
    let engine = Engine::with_vault(vault.clone()).expect("an engine");
    let sorted = engine.for_limits(&Limits::default()).expect("an engine");
    let key = Key::of(&sorted, COUNTER);
    keep(&vault, key, 7);
    for origin in [Origin::Compiled, Origin::Kept] {
        let wasm = Bytes::from_static(COUNTER);
        let (_, is) = native(&engine, &sorted, Layer::Core, wasm).await.expect("compiles");
        assert_eq!(is, origin);
    }
}

#[tokio::test]
async fn a_module_of_no_abi_is_refused_before_it_is_compiled() {
    let folder = folder();
    let vault = vault(folder.path());
    let engine = Engine::with_vault(vault.clone()).expect("an engine");
    for text in [
        "(module)",
        r#"(module (import "env" "abort" (func)) (func (export "_start")))"#,
        r#"(module (func (export "odeum_handle")))"#,
        r#"(component (instance $a) (export "a:b/c" (instance $a)))"#,
    ] {
        compile(&engine, "", text).await.expect_err("is refused");
        // Whatever is compiled is kept.
        assert!(!vault.folder().exists(), "{text}");
    }
}

#[tokio::test]
async fn a_stuck_process_is_not_waited_for_beyond_the_bound() {
    let folder = folder();
    let place = folder.path().join("compiled");
    let vault = Vault::with_patience(place, MUCH, Duration::from_millis(100));
    let engine = Engine::with_vault(vault.clone()).expect("an engine");
    let sorted = engine.for_limits(&Limits::default()).expect("an engine");
    let held = vault.hold(Key::of(&sorted, COUNTER)).await.expect("is free");
    for origin in [Origin::Compiled, Origin::Kept] {
        let wasm = Bytes::from_static(COUNTER);
        let (_, is) = native(&engine, &sorted, Layer::Core, wasm).await.expect("compiles");
        assert_eq!(is, origin);
    }
    drop(held);
}

/// What a hit costs beside what it cannot do without. Run by hand:
/// `cargo test -p odeum-runtime --release -- --ignored --nocapture what_a_hit_costs`.
#[test]
#[ignore = "a measurement"]
fn what_a_hit_costs() {
    let folder = folder();
    let vault = vault(folder.path());
    let sorted = sorted(&Limits::default());
    let wasm = processes::large(0, 20_000);
    let key = Key::of(&sorted, &wasm);
    let begin = std::time::Instant::now();
    let native = Native::compile(&sorted.engine, Layer::Core, &wasm).expect("compiles");
    println!("{} bytes of wasm, compiled in {:?}", wasm.len(), begin.elapsed());
    vault.keep(key, &native);
    let millis = |work: &dyn Fn()| {
        let mut times: Vec<f64> = (0..9)
            .map(|_| {
                let begin = std::time::Instant::now();
                work();
                begin.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let load = millis(&|| drop(native.load(&sorted.engine).expect("loads")));
    let mac = millis(&|| {
        std::hint::black_box(blake3::keyed_hash(&[7; 32], native.code()));
    });
    let hit = millis(&|| {
        let code = vault.find(key).expect("is kept");
        drop(Native::kept(Layer::Core, code).load(&sorted.engine).expect("loads"));
    });
    let bytes = native.code().len();
    println!("{bytes} bytes of code: deserialize {load:.2} ms, seal {mac:.2} ms, hit {hit:.2} ms");
}
