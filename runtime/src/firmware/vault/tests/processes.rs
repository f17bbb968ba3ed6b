//! Several processes on one vault, and such as die in it. The processes are this test program, started
//! with [`HELPER`] as its only test.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;

/// The test that is a process for the others, and does what [`ROLE`] says.
const HELPER: &str = "firmware::vault::tests::processes::a_process_for_the_other_tests";
const ROLE: &str = "VAULT_TEST_ROLE";
const FOLDER: &str = "VAULT_TEST_FOLDER";

/// What a line for the test that waits begins with.
const TOLD: &str = "told: ";

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A module that takes some time to compile, another one for each `number`.
pub(super) fn large(number: usize, functions: usize) -> Vec<u8> {
    let function = |n: usize| {
        format!(
            "(func (export \"f{n}\") (param i32 i64) (result i64) (local i64)
               (loop $again
                 (local.set 2 (i64.xor (local.get 1) (i64.rotl (local.get 2) (i64.const {n}))))
                 (local.set 1 (i64.sub (local.get 1) (i64.const {number})))
                 (i64.store (i32.and (local.get 0) (i32.const 0xfff8)) (local.get 2))
                 (br_if $again (i64.gt_s (local.get 1) (i64.load (i32.const 8)))))
               (local.get 2))"
        )
    };
    let functions: String = (0..functions).map(function).collect();
    wat::parse_str(format!("(module (memory 1) {functions})")).expect("parses")
}

/// One that two processes certainly want at the same time.
fn slow() -> Vec<u8> {
    large(0, 600)
}

fn quick(number: usize) -> Vec<u8> {
    large(number, 60)
}

/// A process that is killed when the test ends.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(role: &str, folder: &Path) -> Self {
        Self::of(Command::new(std::env::current_exe().expect("this program")), role, folder)
    }

    fn of(mut command: Command, role: &str, folder: &Path) -> Self {
        command.args([HELPER, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(FOLDER, folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the process starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    /// The next thing that it tells.
    fn told(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("it tells").expect("text");
            // The test harness may have begun the line.
            if let Some((_, told)) = line.split_once(TOLD) {
                return told.to_owned();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().expect("is killed");
        self.child.wait().expect("ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tell(what: impl std::fmt::Display) {
    println!("\n{TOLD}{what}");
}

/// Waits until whoever started this process ends it, or ends.
fn wait() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
}

/// Compiles a module, or takes it from the vault.
async fn get(vault: &Vault, wasm: Vec<u8>) -> Origin {
    let engine = Engine::with_vault(vault.clone()).expect("an engine");
    let sorted = engine.for_limits(&Limits::default()).expect("an engine");
    native(&engine, &sorted, Layer::Core, wasm.into()).await.expect("compiles").1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that the other tests start"]
async fn a_process_for_the_other_tests() {
    let (Ok(role), Some(folder)) = (std::env::var(ROLE), std::env::var_os(FOLDER)) else { return };
    let vault = vault(Path::new(&folder));
    match role.as_str() {
        "key" => tell(key(COUNTER)),
        "get" => tell(format!("{:?}", get(&vault, slow()).await)),
        "get on and on" => {
            for number in 0.. {
                get(&vault, quick(number)).await;
                tell(number);
            }
        }
        "hold" => {
            let _held = vault.hold(key(&slow())).await.expect("is free");
            tell("held");
            wait();
        }
        "write a half" => {
            let code = vec![7; 100_000];
            vault.opened().expect("can be used");
            let mut draft = Draft::begin(vault.folder()).expect("begins");
            draft.write(&code[..50_000]).expect("writes");
            tell("half");
            wait();
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn a_key_is_the_same_in_another_process() {
    let folder = folder();
    let told = Process::start("key", folder.path()).told();
    assert_eq!(told, key(COUNTER).to_string());
}

#[test]
fn processes_that_need_a_module_at_once_compile_it_once() {
    let folder = folder();
    let mut processes: Vec<Process> =
        (0..3).map(|_| Process::start("get", folder.path())).collect();
    let mut told: Vec<String> = processes.iter_mut().map(Process::told).collect();
    told.sort();
    assert_eq!(told, ["Compiled", "Kept", "Kept"]);
    assert_eq!(names(&vault(folder.path())).len(), 2, "one module and the secret");
}

#[tokio::test]
async fn who_waits_for_a_process_that_is_killed_goes_on_at_once() {
    let folder = folder();
    let mut holder = Process::start("hold", folder.path());
    assert_eq!(holder.told(), "held");
    let vault = vault(folder.path());
    let waiting = tokio::spawn({
        let vault = vault.clone();
        async move { get(&vault, slow()).await }
    });
    let lock = format!("{}.lock", key(&slow()));
    assert!(names(&vault).contains(&lock));
    tokio::task::spawn_blocking(move || holder.kill()).await.expect("is killed");
    // Much less than it would wait for the living, were it not for a slow machine.
    let origin = tokio::time::timeout(LONG, waiting).await.expect("in time").expect("no panic");
    assert_eq!(origin, Origin::Compiled);
    assert!(!names(&vault).contains(&lock), "nothing is left");
}

#[test]
fn a_half_written_file_of_the_dead_is_removed_and_one_of_the_living_is_not() {
    let folder = folder();
    let vault = vault(folder.path());
    let mut writer = Process::start("write a half", folder.path());
    assert_eq!(writer.told(), "half");
    vault.sweep();
    let half = |names: &[String]| names.iter().filter(|name| name.starts_with(".draft-")).count();
    assert_eq!(half(&names(&vault)), 1, "of the living");
    writer.kill();
    assert_eq!(half(&names(&vault)), 1, "of the dead");
    vault.sweep();
    assert_eq!(names(&vault), ["seal.key"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_at_any_moment_leave_only_what_is_whole() {
    let folder = folder();
    let vault = vault(folder.path());
    let mut told = 0;
    // One moment after the other, over more than the time that a module takes.
    for moment in 0..24 {
        let mut process = Process::start("get on and on", folder.path());
        // Those that are kept are found; then it comes to new ones.
        while process.told().parse::<usize>().expect("a number") < told {}
        told += 1;
        std::thread::sleep(Duration::from_millis(moment * 7));
        process.kill();

        let secret = vault.opened().expect("can be used");
        let mut whole = 0;
        for number in 0..told + 2 {
            let key = key(&quick(number));
            let found = file::read(&path(&vault, key), MUCH, &secret, key);
            whole += usize::from(found.expect("whole or not there").is_some());
        }
        assert!(whole >= told, "what was told is kept: {whole} of {told}");
    }
    vault.sweep();
    let left: Vec<String> =
        names(&vault).into_iter().filter(|name| !name.ends_with(".native")).collect();
    assert_eq!(left, ["seal.key"]);
    assert_eq!(get(&vault, quick(0)).await, Origin::Kept);
}

#[test]
fn what_does_not_fit_on_the_disk_is_compiled_and_not_kept() {
    let folder = folder();
    let mut shell = Command::new("sh");
    // No file may become larger than some kilobytes; the system says so in place of a signal.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe().expect("this program"));
    assert_eq!(Process::of(shell, "get", folder.path()).told(), "Compiled");
    assert_eq!(names(&vault(folder.path())), ["seal.key"]);
    assert_eq!(Process::start("get", folder.path()).told(), "Compiled", "with room again");
    assert_eq!(Process::start("get", folder.path()).told(), "Kept");
}
