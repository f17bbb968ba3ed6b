//! The promises of services that run in processes of their own, with real processes.
//!
//! Without libtest's harness: the children are this same program, so `main` must be ours.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test with its own main"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use odeum_actors::{
    ActorError, Backoff, Catalog, Change, Executor, Exit, Health, Intensity, Restart, Service,
    ServiceContext, ServiceHandle, ServiceSpec, Settings, Strategy, Subscription, Supervisor,
    SupervisorSpec,
};
use rustix::process::{Pid, Signal, kill_process};

/// Set for the process that is killed to see whether its child survives it.
const VICTIM: &str = "ODEUM_TEST_VICTIM";

/// Does as it is told by messages, and echoes them.
struct Puppet {
    fails_to_start: bool,
}

impl Puppet {
    fn new(settings: &Settings) -> Result<Self, ActorError> {
        Ok(Self { fails_to_start: settings.0.contains_key("fails") })
    }
}

impl Service for Puppet {
    async fn start(&mut self, ctx: &mut ServiceContext) -> Result<(), ActorError> {
        ctx.health(Health::Good).await;
        if self.fails_to_start { Err(ActorError::msg("no luck")) } else { Ok(()) }
    }

    async fn run(&mut self, ctx: &mut ServiceContext) -> Result<(), ActorError> {
        while let Some(message) = ctx.receive().await {
            match message.as_slice() {
                b"exit 3" => std::process::exit(3),
                b"abort" => std::process::abort(),
                b"panic" => panic!("as told"),
                b"fail" => return Err(ActorError::msg("as told")),
                b"done" => return Ok(()),
                b"spawn" => {
                    let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn()?;
                    ctx.send(child.id().to_string().into_bytes()).await;
                }
                b"hang" => loop {
                    std::thread::park();
                },
                _ => ctx.send(message).await,
            }
        }
        Ok(())
    }

    async fn stop(&mut self) {
        // Nothing to clean up.
    }
}

fn catalog() -> Catalog {
    Catalog::new().with("puppet", Puppet::new)
}

fn main() -> ExitCode {
    if let Some(code) = catalog().enter() {
        return code;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if std::env::var_os(VICTIM).is_some() {
        runtime.block_on(be_the_victim());
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    macro_rules! check {
        ($name:ident) => {
            if chosen(stringify!($name)) {
                println!("test {} ...", stringify!($name));
                runtime.block_on($name());
                assert_eq!(children(), BTreeSet::new(), "orphans or zombies are left");
                println!("test {} ... ok", stringify!($name));
            }
        };
    }
    check!(a_process_talks_both_ways_and_stops_in_order);
    check!(exit_code_signal_panic_error_and_silence_are_crashes);
    check!(a_process_that_cannot_start_fails_its_add_with_its_reason);
    check!(what_a_process_started_itself_ends_with_it);
    check!(a_process_dies_with_its_parent_that_was_killed);
    check!(two_hundred_random_deaths_leave_no_orphan_and_no_zombie);
    ExitCode::SUCCESS
}

async fn root() -> Supervisor {
    SupervisorSpec::new("root", Strategy::OneForOne)
        .intensity(Intensity::unlimited())
        .start()
        .await
        .unwrap()
}

async fn add(root: &Supervisor, spec: ServiceSpec) -> ServiceHandle {
    let (handle, child) = catalog().service(spec).unwrap();
    root.add(child.backoff(Backoff::immediate())).await.unwrap();
    handle
}

/// All processes whose parent is this one, zombies too.
fn children() -> BTreeSet<u32> {
    let me = std::process::id();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        if parent(pid) == Some(me) {
            found.insert(pid);
        }
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may contain anything but ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..4000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

async fn next_exit(events: &mut Subscription) -> Exit {
    loop {
        if let Change::Exited(exit) | Change::Stopped(exit) = events.next().await.unwrap().change {
            return exit;
        }
    }
}

async fn a_process_talks_both_ways_and_stops_in_order() {
    for executor in [Executor::Process, Executor::AsyncProcess] {
        let root = root().await;
        let mut events = root.events();
        let service = add(&root, ServiceSpec::new("echo", "puppet", executor)).await;
        let pid = service.pid().unwrap();
        assert_eq!(children(), BTreeSet::from([pid]));
        let mut messages = service.messages();
        for n in 0..100u8 {
            service.send(vec![n]).await.unwrap();
            assert_eq!(&*messages.next().await.unwrap(), [n]);
        }
        assert_eq!(service.health(), Health::Good);
        root.shutdown().await;
        assert_eq!(next_exit(&mut events).await, Exit::Shutdown);
        assert!(!is_alive(pid) && service.pid().is_none());
    }
}

async fn exit_code_signal_panic_error_and_silence_are_crashes() {
    let root = root().await;
    let mut events = root.events();
    let spec = ServiceSpec::new("puppet", "puppet", Executor::Process)
        .heartbeat(Duration::from_millis(50), Duration::from_secs(3));
    let service = add(&root, spec).await;
    for (order, expected) in [
        ("exit 3", Exit::Code { code: 3 }),
        ("abort", Exit::Signal { signal: 6 }),
        ("panic", Exit::Code { code: 101 }),
        ("fail", Exit::Failed { reason: "as told".into() }),
        ("hang", Exit::Silent),
        ("done", Exit::Normal),
    ] {
        let before = service.pid();
        service.send(order.into()).await.unwrap();
        assert_eq!(next_exit(&mut events).await, expected, "{order}");
        eventually("restarted", || service.is_running() && service.pid() != before).await;
    }
    root.shutdown().await;
}

async fn a_process_that_cannot_start_fails_its_add_with_its_reason() {
    let root = root().await;
    let mut settings = Settings::default();
    settings.0.insert("fails".into(), true.into());
    let spec = ServiceSpec::new("bad", "puppet", Executor::Process).settings(settings);
    let (_, child) = catalog().service(spec).unwrap();
    let error = root.add(child.restart(Restart::Transient)).await.unwrap_err();
    assert_eq!(error.to_string(), "bad failed to start: no luck");
    root.shutdown().await;
}

async fn what_a_process_started_itself_ends_with_it() {
    let root = root().await;
    let service = add(&root, ServiceSpec::new("parent", "puppet", Executor::Process)).await;
    for how in ["kill", "done", "shutdown"] {
        let before = service.pid();
        let mut messages = service.messages();
        service.send(b"spawn".to_vec()).await.unwrap();
        let grandchild = messages.next().await.unwrap();
        let grandchild: u32 = std::str::from_utf8(&grandchild).unwrap().parse().unwrap();
        assert!(is_alive(grandchild));
        match how {
            "kill" => service.kill(),
            "done" => service.send(b"done".to_vec()).await.unwrap(),
            _ => root.shutdown().await,
        }
        eventually("the grandchild is gone", || !is_alive(grandchild)).await;
        if how != "shutdown" {
            eventually("restarted", || service.is_running() && service.pid() != before).await;
        }
    }
}

/// The other process of the next test.
async fn be_the_victim() {
    let root = root().await;
    let service = add(&root, ServiceSpec::new("child", "puppet", Executor::Process)).await;
    println!("{}", service.pid().unwrap());
    root.finished().await;
}

async fn a_process_dies_with_its_parent_that_was_killed() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(victim.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child: u32 = line.trim().parse().unwrap();
    assert!(is_alive(child));
    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually("the child died", || !is_alive(child)).await;
}

async fn two_hundred_random_deaths_leave_no_orphan_and_no_zombie() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = seed;
    let mut draw = move |below: u64| {
        // Source: Steele 2014, SplitMix64.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
    let root = root().await;
    let mut services = Vec::new();
    for (name, executor) in
        [("a", Executor::Process), ("b", Executor::AsyncProcess), ("c", Executor::Process)]
    {
        services.push(add(&root, ServiceSpec::new(name, "puppet", executor)).await);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let service = &services[usize::try_from(draw(3)).unwrap()];
        eventually("up", || service.is_running() && service.pid().is_some()).await;
        let pid = service.pid().unwrap();
        seen.insert(pid);
        match draw(5) {
            0 => {
                let pid = Pid::from_raw(pid.cast_signed()).unwrap();
                kill_process(pid, Signal::KILL).unwrap();
            }
            1 => {
                let pid = Pid::from_raw(pid.cast_signed()).unwrap();
                kill_process(pid, Signal::TERM).unwrap();
            }
            2 => service.kill(),
            3 => root.restart(service.name()).await.unwrap(),
            // It may be down already from the last one.
            _ => drop(service.send(b"abort".to_vec()).await),
        }
        eventually("that one is gone", || !is_alive(pid) && service.pid() != Some(pid)).await;
    }
    root.shutdown().await;
    eventually("all are gone", || children().is_empty()).await;
    assert!(seen.iter().all(|pid| !is_alive(*pid)));
}
