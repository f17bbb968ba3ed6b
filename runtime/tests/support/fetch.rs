//! What registries have, fetched with the client of each into `target/real-guests` and kept there. What
//! cannot be had is `None`, after a message: the test that needs it is skipped.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a client of a registry may take, with what it builds.
const FETCH: Duration = Duration::from_secs(400);

/// The folder that all of it is in.
pub(crate) fn cache() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/real-guests");
    fs::create_dir_all(&folder).expect("a folder");
    folder.canonicalize().expect("a folder")
}

/// A command without what cargo tells the processes that it starts.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program to its end within `FETCH`; whether it succeeded.
fn succeeds(command: &mut Command) -> bool {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let end = Instant::now() + FETCH;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < end => sleep(Duration::from_millis(50)),
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

/// The folder called that, once `fetch` has made `wanted` in it. `what` says how it is had.
fn fetched(
    name: &str,
    wanted: &str,
    what: &str,
    fetch: impl FnOnce(&Path) -> Option<()>,
) -> Option<PathBuf> {
    let folder = cache().join(name);
    if folder.join(wanted).exists() {
        return Some(folder);
    }
    fs::create_dir_all(&folder).expect("a folder");
    let is_there = fetch(&folder).is_some() && folder.join(wanted).exists();
    if !is_there {
        eprintln!("skipped: {what} failed");
    }
    is_there.then_some(folder)
}

/// The folder with the contents of a package of PyPI.
pub(crate) fn from_pypi(name: &str, wanted: &str) -> Option<PathBuf> {
    let what = format!("`python3 -m pip download '{name}'`");
    fetched(&name.replace('<', "-before-"), wanted, &what, |folder| {
        let mut pip = command("python3");
        pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest"]);
        succeeds(pip.arg(folder).arg(name)).then_some(())?;
        let mut unzip = command("python3");
        unzip.args(["-m", "zipfile", "-e"]).arg(found(folder, ".whl")?).arg(folder);
        succeeds(&mut unzip).then_some(())
    })
}

/// The folder that a program of PyPI is installed in, with its `bin` and its modules.
pub(crate) fn tool_from_pypi(name: &str) -> Option<PathBuf> {
    let what = format!("`python3 -m pip install {name}`");
    fetched(name, &format!("bin/{name}"), &what, |folder| {
        let mut pip = command("python3");
        pip.args(["-m", "pip", "install", "--target"]).arg(folder).arg(name);
        succeeds(&mut pip).then_some(())
    })
}

/// The folder with the contents of a package of npm.
pub(crate) fn from_npm(name: &str, wanted: &str) -> Option<PathBuf> {
    fetched(&name.replace(['@', '/'], "_"), wanted, &format!("`npm pack {name}`"), |folder| {
        let mut npm = command("npm");
        npm.args(["pack", "--pack-destination"]).arg(folder).arg(name);
        succeeds(&mut npm).then_some(())?;
        let mut tar = command("tar");
        tar.arg("xzf").arg(found(folder, ".tgz")?);
        succeeds(tar.args(["--strip-components", "1", "-C"]).arg(folder)).then_some(())
    })
}

/// An example of a crate of crates.io as a component, built from its source.
pub(crate) fn example_from_crates_io(name: &str, version: &str, example: &str) -> Option<PathBuf> {
    let what = format!(
        "`cargo install {name}@{version} --example {example} --target wasm32-wasip2` (`rustup target \
         add wasm32-wasip2`)"
    );
    let wanted = format!("bin/{example}.wasm");
    let folder = fetched(&format!("{name}-{version}"), &wanted, &what, |folder| {
        let mut cargo = command("cargo");
        cargo.args(["install", "--locked", "--no-track", "--target", "wasm32-wasip2"]);
        cargo.args(["--example", example, &format!("{name}@{version}")]);
        cargo.arg("--root").arg(folder).env("CARGO_TARGET_DIR", folder.join("target"));
        succeeds(&mut cargo).then_some(())
    })?;
    Some(folder.join(wanted))
}
