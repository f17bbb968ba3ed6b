//! Packages from the command line: made, signed, moved through a real registry, and run by a real
//! node. The test of the registry needs Debian's `docker-registry` and says so when it is not there.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/process.rs"]
mod process;
#[path = "support/registry.rs"]
mod registry;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use process::{COUNTER, Up, complaint, folder, text};
use registry::Registry;
use serde_json::{Value, json};

/// A user with a folder to work in and a data directory.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        Self { folder: folder() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn odeum(&self, arguments: &[&str]) -> Command {
        let mut command = process::odeum(arguments);
        command
            .current_dir(self.folder.path())
            .env("XDG_DATA_HOME", self.path("share"))
            .env("HOME", self.folder.path())
            .env_remove("DOCKER_CONFIG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.odeum(arguments).output().expect("the binary runs")
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.done(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&printed).expect("JSON")
    }

    fn refused(&self, arguments: &[&str], code: i32) -> String {
        complaint(&self.run(arguments), code)
    }

    /// The counter as a folder with a manifest, which has `more` at its end.
    fn counter(&self, more: &str) -> &'static str {
        let folder = self.path("counter");
        fs::create_dir_all(&folder).expect("made");
        fs::copy(COUNTER, folder.join("counter.wasm")).expect("copied");
        let manifest =
            format!("name = 'counter'\nversion = '1.0.0'\nentry = 'counter.wasm'\n{more}");
        fs::write(folder.join("odeum.toml"), manifest).expect("written");
        "counter"
    }
}

fn kept(user: &User) -> Vec<Value> {
    user.json(&["package", "ls"]).as_array().expect("a list").clone()
}

#[test]
fn a_package_is_begun_built_looked_at_and_removed() {
    let user = User::new();
    let app = user.path("my_app");
    fs::create_dir(&app).expect("made");
    fs::copy(COUNTER, app.join("guest.wasm")).expect("copied");
    assert!(user.done(&["package", "init", "my_app"]).contains("odeum package build my_app"));
    let again = user.refused(&["package", "init", "my_app"], 1);
    assert!(again.contains("odeum.toml is there already"), "{again}");

    let built = user.done(&["package", "build", "my_app"]);
    assert!(built.starts_with("built my-app-0.1.0.odeum: "), "{built}");
    assert!(built.trim_end().ends_with("movable: yes"), "{built}");
    let first = fs::read(user.path("my-app-0.1.0.odeum")).expect("the package");
    user.done(&["package", "build", "my_app", "--out", "again.odeum"]);
    assert_eq!(fs::read(user.path("again.odeum")).expect("the package"), first, "the same bytes");

    let shown = user.done(&["package", "inspect", "my-app"]);
    for words in ["my-app 0.1.0", "movable", "yes", "granted", "nothing", "guest.wasm"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let json = user.json(&["package", "inspect", "my-app-0.1.0.odeum"]);
    assert_eq!(json["manifest"]["entry"], "guest.wasm");
    assert_eq!(json["movable"]["movable"], true);

    let listed = kept(&user);
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &"my-app".into()));
    let path = listed[0]["path"].as_str().expect("a path");
    assert!(path.starts_with(user.path("share/odeum/packages").to_str().expect("text")), "{path}");
    user.done(&["package", "rm", "my-app@0.1.0"]);
    assert!(kept(&user).is_empty());
    assert!(user.refused(&["package", "rm", "my-app"], 1).contains("`odeum package ls`"));
}

#[test]
fn what_stands_in_the_way_of_moving_a_module_is_told_when_it_is_built_and_looked_at() {
    let user = User::new();
    let component = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/guests/command-component/command-component.wasm"
    );
    fs::copy(component, user.path("job.wasm")).expect("copied");
    let of_component = "it is a component, of which only core modules can move yet";
    let names = r#"(module (memory (export "memory") 1) (func (export "odeum.move.mine"))
        (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
        (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#;
    fs::write(user.path("names.wat"), names).expect("written");
    let of_name = "it exports `odeum.move.mine`, which is a name of Odeum's own";
    for (file, name, reason) in [("job.wasm", "job", of_component), ("names.wat", "names", of_name)]
    {
        let built = user.done(&["package", "build", file, "--out", "built.odeum"]);
        assert!(built.trim_end().ends_with(&format!("movable: no: {reason}")), "{name}: {built}");
        let shown = user.done(&["package", "inspect", "built.odeum"]);
        let told = shown.lines().find(|line| line.starts_with("movable ")).expect("a line");
        assert!(told.ends_with(&format!("  no: {reason}")), "{name}: {told}");
        let json = user.json(&["package", "inspect", "built.odeum"]);
        let expected = json!({ "movable": false, "obstacles": [reason] });
        assert_eq!(json["movable"], expected, "{name}");
    }
}

#[test]
fn a_mistake_in_a_manifest_is_told_with_its_place_and_the_way_out() {
    let user = User::new();
    let counter = user.counter("[limits]\nmemroy = '1 MiB'\n");
    let line = user.refused(&["package", "build", counter], 1);
    assert!(line.contains("odeum.toml:5:1: there is no key `memroy` here"), "{line}");
    assert!(line.contains("`memory`"), "{line}");
    let line = user.refused(&["package", "build", "share"], 1);
    assert!(line.contains("share"), "{line}");
    fs::create_dir(user.path("empty")).expect("made");
    let line = user.refused(&["package", "build", "empty"], 1);
    assert!(line.contains("`odeum package init` makes one"), "{line}");
}

#[test]
fn what_is_signed_is_trusted_by_key_and_by_no_other() {
    let user = User::new();
    user.done(&["package", "build", user.counter("")]);
    let file = "counter-1.0.0.odeum";
    let line = user.refused(&["package", "verify", file], 1);
    assert!(line.contains("is not signed: sign it with `odeum package sign`"), "{line}");
    assert!(user.done(&["package", "verify", file, "--allow-unsigned"]).contains("by nobody"));

    let made = user.json(&["package", "keygen", "--out", "mine.key"]);
    let mode = fs::metadata(user.path("mine.key")).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(user.refused(&["package", "keygen", "--out", "mine.key"], 1).contains("overwritten"));
    user.done(&["package", "keygen", "--out", "other.key"]);

    let before = user.json(&["package", "inspect", file]);
    let signed = user.json(&["package", "sign", file, "--key", "mine.key"]);
    assert_eq!(signed["digest"], before["digest"], "the package is the same");
    assert_ne!(signed["file_digest"], before["file_digest"]);
    for trusted in ["mine.key.pub", made["public_key"].as_str().expect("a key")] {
        let said = user.done(&["package", "verify", file, "--trusted", trusted]);
        assert!(said.contains("which is trusted"), "{said}");
    }
    let line = user.refused(&["package", "verify", file, "--trusted", "other.key.pub"], 1);
    assert!(line.contains(made["id"].as_str().expect("an id")), "{line}");
    assert!(line.contains("`packages.trusted`"), "{line}");

    fs::set_permissions(user.path("mine.key"), fs::Permissions::from_mode(0o644)).expect("set");
    let line = user.refused(&["package", "sign", file, "--key", "mine.key"], 1);
    assert!(line.contains("chmod 600"), "{line}");
}

#[test]
fn a_tampered_package_exits_with_3_and_names_file_and_digests() {
    let user = User::new();
    user.done(&["package", "build", user.counter("")]);
    let file = user.path("counter-1.0.0.odeum");
    let mut bytes = fs::read(&file).expect("the package");
    let at = bytes.windows(4).position(|bytes| bytes == b"\0asm").expect("the module");
    let index = user.json(&["package", "inspect", "counter-1.0.0.odeum"]);
    let files = index["files"].as_array().expect("a list");
    let module = files.iter().find(|file| file["path"] == "counter.wasm").expect("the module");
    let size = usize::try_from(module["size"].as_u64().expect("a number")).expect("small");
    bytes[at + 20] ^= 1;
    let is = blake3::hash(&bytes[at..at + size]);
    let claimed = module["blake3"].as_str().expect("a digest");
    fs::write(user.path("bad.odeum"), &bytes).expect("written");
    let told = format!(
        "bad.odeum: counter.wasm is not what the index says: it is {is}, the index says {claimed}"
    );
    for command in ["verify", "inspect"] {
        let line = user.refused(&["package", command, "bad.odeum"], 3);
        assert!(line.contains(&told), "{line}");
    }
    fs::write(user.path("cut.odeum"), &bytes[..at]).expect("written");
    assert!(user.refused(&["package", "verify", "cut.odeum"], 3).contains("cut off"));
    fs::write(user.path("zip.odeum"), b"PK\x03\x04").expect("written");
    assert!(user.refused(&["package", "verify", "zip.odeum"], 1).contains("no package"));
}

#[test]
fn a_module_of_200_megabytes_is_refused_by_the_command_and_by_the_node() {
    let user = User::new();
    let size = 200 << 20;
    let file = fs::File::create(user.path("big.wasm")).expect("made");
    file.set_len(size).expect("grown");
    for arguments in [&["package", "build", "big.wasm"][..], &["package", "inspect", "big.wasm"]] {
        let line = user.refused(arguments, 1);
        assert!(line.contains("at most 134217728 are allowed"), "{line}");
    }
    let node = Up::n1(user.folder.path()).start();
    let path = user.path("big.wasm");
    let line = node.refused(&["run", path.to_str().expect("text")]);
    assert!(line.contains("at most 134217728 are allowed"), "{line}");
    // A client that sends it all the same.
    let (code, body) = put(node.api_addr(), "big", size, &vec![0; 130 << 20]);
    assert_eq!((code, body["error"].as_str()), (413, Some("too-large")), "{body}");
    node.done(&["run", COUNTER]);
    assert_eq!(node.done(&["call", "counter"]), "1\n", "the node goes on");
}

#[test]
fn a_node_runs_what_its_operator_trusts_and_nothing_else() {
    let user = User::new();
    user.counter("[limits]\nmemory = '2 MiB'\n");
    user.done(&["package", "build", "counter"]);
    let key = user.json(&["package", "keygen", "--out", "mine.key"]);
    let config = user.path("node.toml");
    let trusted = key["public_key"].as_str().expect("a key");
    fs::write(&config, format!("[packages]\ntrusted = ['{trusted}']\nallow-unsigned = false\n"))
        .expect("written");
    let node =
        Up::n1(user.folder.path()).and(&["--config", config.to_str().expect("text")]).start();
    let file = user.path("counter-1.0.0.odeum");
    let file = file.to_str().expect("text");

    for unsigned in [file, COUNTER] {
        let line = node.refused(&["run", unsigned]);
        assert!(line.contains("is not signed"), "{line}");
        assert!(line.contains("`packages.allow-unsigned = true`"), "{line}");
    }
    user.done(&["package", "keygen", "--out", "other.key"]);
    fs::copy(file, user.path("theirs.odeum")).expect("copied");
    user.done(&["package", "sign", "theirs.odeum", "--key", "other.key"]);
    let theirs = user.path("theirs.odeum");
    let line = node.refused(&["run", theirs.to_str().expect("text"), "--name", "theirs"]);
    assert!(line.contains("which this node does not trust: to trust it, add"), "{line}");
    assert_eq!(node.done(&["get", "firmware", "-o", "json"]).trim(), "[]");

    user.done(&["package", "sign", file, "--key", "mine.key"]);
    node.done(&["run", file]);
    assert_eq!(node.done(&["call", "counter"]), "1\n");
    // Its limit of memory is the manifest's.
    assert!(node.refused(&["call", "counter", "eat"]).contains("at most 2097152 are allowed"));

    // Over HTTP a damaged package is told, too.
    let mut bytes = fs::read(file).expect("the package");
    let last = bytes.len() - 2_000;
    bytes[last] ^= 1;
    let (code, body) = put(node.api_addr(), "damaged", bytes.len() as u64, &bytes);
    assert_eq!((code, body["error"].as_str()), (422, Some("bad-package")), "{body}");
    let stranger = fs::read(user.path("theirs.odeum")).expect("the package");
    let (code, body) = put(node.api_addr(), "theirs", stranger.len() as u64, &stranger);
    assert_eq!((code, body["error"].as_str()), (403, Some("untrusted-package")), "{body}");
    assert_eq!(node.done(&["call", "counter"]), "2\n", "the others go on");
}

/// `PUT /v1/firmware/NAME` of `length` bytes, of which `body` are sent: the status and the answer.
fn put(address: &str, name: &str, length: u64, body: &[u8]) -> (u16, Value) {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };
    let mut stream = TcpStream::connect(address).expect("the node listens");
    let head = format!(
        "PUT /v1/firmware/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // The node need not take all of it.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("text");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (code, serde_json::from_str(body).expect("JSON"))
}

/// A package as it was built, in which the file `from` is called `to`.
fn renamed(package: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut bytes = package.to_vec();
    let is_header = |at: &usize| {
        let name = &package[*at..*at + 100];
        name.starts_with(from.as_bytes()) && name[from.len()] == 0
    };
    let at = (0..package.len()).step_by(512).find(is_header).expect("it is in there");
    let header = &mut bytes[at..at + 512];
    header[..100].fill(0);
    header[..to.len()].copy_from_slice(to.as_bytes());
    // The sum of all bytes, where its own are spaces. Source: tar(5).
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

/// What `gzip` makes of so many mebibytes of zeros.
fn zipped(mebibytes: usize) -> Vec<u8> {
    let command = format!("head -c {mebibytes}M /dev/zero | gzip -9");
    let output = Command::new("sh").args(["-c", &command]).output().expect("gzip runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    output.stdout
}

#[test]
fn hostile_archives_are_refused_in_words_and_the_guest_beside_them_goes_on() {
    let user = User::new();
    user.done(&["package", "build", user.counter("")]);
    let good = fs::read(user.path("counter-1.0.0.odeum")).expect("the package");
    let node = Up::n1(user.folder.path()).start();
    node.done(&["run", COUNTER]);
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    let before = memory();
    // A megabyte that would be a gigabyte; and one archive that says it is larger than there is room.
    let gzip = zipped(1 << 10);
    assert!(gzip.len() < 2 << 20, "{}", gzip.len());
    let zip = [&b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0"[..], &[0xff; 12], &gzip].concat();
    let claims = {
        let mut bytes = renamed(&good, "counter.wasm", "counter.wasm");
        let name = bytes.windows(13).position(|it| it == b"counter.wasm\0").expect("a header");
        bytes[name + 124..name + 136].copy_from_slice(b"77777777777\0");
        renamed(&bytes, "counter.wasm", "counter.wasm")
    };
    let inside = renamed(&good, "counter.wasm", "../counter.wasm");
    let absolute = renamed(&good, "counter.wasm", "/etc/counter");
    for (name, bytes, told) in [
        ("gzip", &gzip, "a gzip archive"),
        ("zip", &zip, "a zip archive"),
        ("claims", &claims, "the package is cut off: counter.wasm ends at byte"),
        ("leads-out", &inside, "\"../counter.wasm\" has \"..\" in it"),
        ("leads-elsewhere", &absolute, "\"/etc/counter\" is absolute"),
    ] {
        let (code, body) = put(node.api_addr(), name, bytes.len() as u64, bytes);
        let message = body["message"].as_str().unwrap_or_default();
        assert_eq!((code, body["error"].as_str()), (422, Some("bad-package")), "{name}: {body}");
        assert!(message.contains(told), "{name}: {body}");
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 256 << 20, "the node took {grown} bytes for what it refused");
    let there = node.done(&["get", "firmware", "-o", "json"]);
    let there: Value = serde_json::from_str(&there).expect("JSON");
    assert_eq!(there.as_array().map(Vec::len), Some(1), "{there}");
    assert_eq!(node.done(&["call", "counter"]), "1\n", "the guest goes on");
    assert!(!user.path("counter.wasm").exists(), "nothing was unpacked");
    // As it was built it is taken.
    let (code, body) = put(node.api_addr(), "good", good.len() as u64, &good);
    assert!((200..300).contains(&code), "{code}: {body}");
}

#[test]
fn a_folder_is_run_without_being_built_by_hand() {
    let user = User::new();
    user.counter("abi = 'odeum-actor-core'\n");
    let node = Up::n1(user.folder.path()).start();
    let folder = user.path("counter");
    let folder = folder.to_str().expect("text");
    node.done(&["run", folder]);
    assert_eq!(node.done(&["call", "counter"]), "1\n");
    user.counter("abi = 'firmlet'\n");
    let line = node.refused(&["run", folder, "--name", "lying"]);
    assert!(line.contains("firmlet"), "{line}");
    user.counter("[capabilities]\nfolders = [{ guest = '/', host = '/' }]\n");
    let line = node.refused(&["run", folder, "--name", "greedy"]);
    assert!(line.contains("`packages.folders`"), "{line}");
    assert_eq!(node.done(&["call", "counter"]), "2\n", "the others go on");
}

#[test]
fn a_package_goes_through_a_registry_unchanged_and_runs_from_there() {
    let user = User::new();
    let Some(registry) = Registry::start(user.folder.path()) else { return };
    let place = |rest: &str| format!("oci://{}/team/counter{rest}", registry.address());
    let counter = user.counter("files = ['odeum.md']\n");
    fs::write(user.path(counter).join("odeum.md"), "# Counter\n").expect("written");
    user.done(&["package", "build", counter]);
    user.done(&["package", "keygen", "--out", "mine.key"]);
    user.done(&["package", "sign", "counter@1.0.0", "--key", "mine.key"]);
    // The folder of that name comes before what is kept under it.
    let before = user.json(&["package", "inspect", "counter@1.0.0"]);

    let pushed = user.json(&["package", "push", "counter@1.0.0", &place("")]);
    assert_eq!(pushed["place"], place(":1.0.0").as_str(), "the tag is the version");
    user.done(&["package", "rm", "counter@1.0.0"]);
    let pulled = user.json(&["package", "pull", &place(":1.0.0"), "--out", "pulled.odeum"]);
    for digest in ["digest", "file_digest"] {
        assert_eq!(pulled[digest], before[digest]);
    }
    assert_eq!(pulled["oci_digest"], pushed["oci_digest"]);
    user.done(&["package", "verify", "pulled.odeum", "--trusted", "mine.key.pub"]);
    let exact = place(&format!("@{}", pushed["oci_digest"].as_str().expect("a digest")));
    user.done(&["package", "verify", &exact, "--trusted", "mine.key.pub"]);

    // Other tools find the module as what it is.
    let manifest = registry.manifest("team/counter", "1.0.0");
    let layers = manifest["layers"].as_array().expect("layers");
    let module = layers.iter().find(|layer| layer["mediaType"] == "application/wasm");
    let digest = module.expect("a module")["digest"].as_str().expect("text");
    assert!(registry.blob("team/counter", digest).starts_with(b"\0asm"));

    let node = Up::n1(user.folder.path()).start();
    let line = node.refused(&["run", &place(":1.0.0")]);
    assert!(line.contains("which this node does not trust"), "{line}");
    drop(node);
    // A node that trusts the key runs it from there, though it takes nothing that nobody signed.
    let key = fs::read_to_string(user.path("mine.key.pub")).expect("the key");
    let config = user.path("node.toml");
    let packages = format!("[packages]\ntrusted = ['{}']\nallow-unsigned = false\n", key.trim());
    fs::write(&config, packages).expect("written");
    let config = config.to_str().expect("text");
    fs::create_dir(user.path("trusting")).expect("made");
    let node = Up::n1(&user.path("trusting")).and(&["--config", config]).start();
    for from in [place(":1.0.0"), exact] {
        assert!(node.done(&["run", &from]).contains("counter is running"), "{from}");
    }
    assert_eq!(node.done(&["call", "counter", "add 2"]), "2\n");
    let line = node.refused(&["run", COUNTER, "--name", "unsigned"]);
    assert!(line.contains("is not signed"), "{line}");

    let gone = user.refused(&["package", "pull", &place(":9.9.9")], 1);
    assert!(gone.contains("9.9.9"), "{gone}");
    let nobody = user.refused(&["package", "pull", "oci://127.0.0.1:1/counter:1"], 1);
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
}

#[test]
fn what_another_tool_put_into_a_registry_becomes_a_package_that_grants_nothing() {
    let user = User::new();
    let Some(registry) = Registry::start(user.folder.path()) else { return };
    let module = fs::read(COUNTER).expect("the guest");
    registry.put_wasm("counter", "1", &module);
    let place = format!("oci://{}/counter:1", registry.address());
    let pulled = user.json(&["package", "pull", &place]);
    assert_eq!((&pulled["name"], &pulled["version"]), (&"counter".into(), &"0.0.0".into()));
    let node = Up::n1(user.folder.path()).start();
    node.done(&["run", &place]);
    assert_eq!(node.done(&["call", "counter"]), "1\n");
}

#[test]
fn a_registry_that_lies_is_found_out() {
    let user = User::new();
    let Some(registry) = Registry::start(user.folder.path()) else { return };
    user.done(&["package", "build", user.counter("")]);
    let place = format!("oci://{}/counter:1.0.0", registry.address());
    user.done(&["package", "push", "counter", &place]);
    let manifest = registry.manifest("counter", "1.0.0");
    // The module is swapped for another, with the digests of the registry all right.
    let other = registry.put_blob("counter", b"\0asm\x01\0\0\0");
    let mut swapped = manifest;
    for layer in swapped["layers"].as_array_mut().expect("layers") {
        if layer["mediaType"] == "application/wasm" {
            layer["digest"] = other.as_str().into();
            layer["size"] = 8.into();
        }
    }
    registry.put_manifest("counter", "1.0.0", &swapped);
    let line = user.refused(&["package", "pull", &place], 3);
    assert!(line.contains("counter.wasm is not what the index says"), "{line}");
    // A layer that claims more than a package can have.
    for layer in swapped["layers"].as_array_mut().expect("layers") {
        layer["size"] = (1_u64 << 40).into();
    }
    registry.put_manifest("counter", "1.0.0", &swapped);
    let line = user.refused(&["package", "pull", &place], 1);
    assert!(line.contains("at most"), "{line}");
    assert!(kept(&user).len() == 1, "nothing of it is kept");
}
