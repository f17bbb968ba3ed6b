//! What `odeum new` begins builds with the command it names, and runs. Each test needs the tools of its
//! language and says so when they are not there.
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it is skipped"
)]

#[path = "support/process.rs"]
mod process;

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use process::{Up, complaint, folder, odeum, text};

/// Set where all tools must be there.
const REQUIRE: &str = "ODEUM_REQUIRE_TOOLCHAINS";

/// Whether a command can be run and succeeds. Where it must, it does.
fn has(program: &str, arguments: &[&str], what: &str) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let has = command.status().is_ok_and(|status| status.success());
    assert!(has || env::var_os(REQUIRE).is_none(), "{REQUIRE} is set and {what} is not there");
    if !has {
        eprintln!("skipped: {what} is not there");
    }
    has
}

/// Begins a project, builds it as the command says, and talks to it.
fn begins_builds_and_counts(lang: &str) {
    let folder = folder();
    let user = |arguments: &[&str]| {
        let mut command = odeum(arguments);
        command.current_dir(folder.path()).env("XDG_DATA_HOME", folder.path().join("share"));
        command
    };
    let begun = user(&["new", "firmware", "my-lamp", "--lang", lang, "-o", "json"]).output();
    let begun = begun.expect("the binary runs");
    assert!(begun.status.success(), "{}", text(&begun.stderr));
    let said: serde_json::Value = serde_json::from_slice(&begun.stdout).expect("JSON");
    let project = folder.path().join("my-lamp");
    let build = said["build"].as_str().expect("a command");
    run(&project, build);
    let node = Up::n1(folder.path()).start();
    assert!(
        node.done(&["run", &project.display().to_string(), "--wait", "5m"]).contains("running")
    );
    assert_eq!(node.done(&["call", "my-lamp", "add 2"]), "2\n");
    assert_eq!(node.done(&["call", "my-lamp", "add -5"]), "-3\n");
    assert_eq!(node.done(&["call", "my-lamp", "get"]), "-3\n");
    let refused = complaint(&node.run(&["call", "my-lamp", "dance"]), 1);
    assert!(refused.contains("expected `add N` or `get`"), "{refused}");
}

fn run(project: &Path, build: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", build]).current_dir(project);
    // What cargo tells the processes that it starts is not for the one that is started here.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_") {
            command.env_remove(name);
        }
    }
    command.env("CARGO_TARGET_DIR", project.join("target"));
    let built = command.output().expect("a shell");
    assert!(built.status.success(), "{build}: {}{}", text(&built.stdout), text(&built.stderr));
}

#[test]
fn a_project_in_rust_builds_and_runs() {
    // Without the target's library the compiler has nothing to print for it.
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.map(|output| text(&output.stdout)).unwrap_or_default();
    let target = Path::new(sysroot.trim()).join("lib/rustlib/wasm32-wasip2");
    let what = "the target wasm32-wasip2 (`rustup target add wasm32-wasip2`)";
    if has("test", &["-d", &target.display().to_string()], what) {
        begins_builds_and_counts("rust");
    }
}

#[test]
fn a_project_in_c_builds_and_runs() {
    let what = "clang with wasm-ld and make (`apt-get install clang lld make`)";
    if has("sh", &["-c", "command -v clang wasm-ld make"], what) {
        begins_builds_and_counts("c");
    }
}

#[test]
fn a_project_in_python_builds_and_runs() {
    let what = "componentize-py (`pip install componentize-py`)";
    if has("componentize-py", &["--version"], what) {
        begins_builds_and_counts("python");
    }
}

#[test]
fn a_project_is_not_mixed_with_what_is_there() {
    let folder = folder();
    fs::write(folder.path().join("mine"), "x").expect("writes");
    let path = folder.path().display().to_string();
    let arguments = ["new", "firmware", "lamp", "--lang", "c", "--folder", &path];
    let refused = complaint(&odeum(&arguments).output().expect("runs"), 1);
    assert!(refused.contains("is not empty"), "{refused}");
    let refused = odeum(&["new", "firmware", "2nd", "--lang", "rust"]).output().expect("runs");
    assert!(complaint(&refused, 2).contains("cannot begin with a digit"));
}
