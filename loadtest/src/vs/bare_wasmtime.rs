//! Our firmware hosts against wasmtime used without them, with the same settings of the engine.
//!
//! | row | ours | against |
//! |---|---|---|
//! | cold start | from a compiled module of 2 MB to its first message handled, less 100 µs | the same calls by hand |
//! | message | one message to a host and its reply on one thread, less 2 µs; behind it the same on all threads | the same calls by hand |
//! | instances | 10,000 instances of one module, started | a budget; by hand beside it |
//! | memory | what each of those takes beyond what one takes that is made by hand | a budget |
//! | ping | 99 of 100 pings to one guest beside two that never end, on two threads | a budget |
//! | crash | from the kill of a host process to the next one ready | a budget |
//!
//! What is subtracted is what a host may cost whatever the guest does.

mod desk;
mod guests;
mod hand;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use odeum_proto::store::FirmwareLimits;
use odeum_runtime::firmware::{
    Engine, Grants, GuestLog, HostState, Launcher, Module, Publisher, Runner, Setting, Usage,
    Variables,
};
use odeum_runtime::package::Package;

use self::desk::Desk;
use self::hand::ByHand;
use crate::report::{Report, Row, Target, median};
use crate::vs::ractor::resident;

/// What a cold start may cost beyond its share.
const START_COSTS: f64 = 100.0;
/// What a message may cost beyond the same by hand.
const MESSAGE_COSTS: f64 = 2_000.0;
/// How long the instances may take to start, in milliseconds.
const INSTANCES_MILLIS: f64 = 3_000.0;
/// What each may take beyond one that is made by hand, in KiB.
const INSTANCE_KIB: f64 = 12.0;
/// How long a ping may take, in milliseconds.
const PING_MILLIS: f64 = 15.0;
/// How long it may take from a crash to ready, in milliseconds.
const CRASH_MILLIS: f64 = 150.0;

/// Whose instances are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Odeum's.
    Ours,
    /// Bare wasmtime's.
    Bare,
}

/// How much work a round does.
#[derive(Debug, Clone, Copy)]
struct Load {
    starts: usize,
    messages: u64,
    instances: usize,
    pings: usize,
    crashes: usize,
}

impl Load {
    fn new(quick: usize) -> Self {
        Self {
            starts: (200 / quick).max(10),
            messages: (100_000 / quick as u64).max(1_000),
            instances: 10_000 / quick,
            pings: (500 / quick).max(100),
            crashes: (10 / quick).max(3),
        }
    }
}

/// Runs all rows.
///
/// # Errors
/// If a guest cannot be started or does not answer.
pub async fn run(rounds: usize, quick: usize) -> anyhow::Result<Report> {
    // On the runtime's own threads, where a node's hosts are.
    tokio::spawn(measure(rounds, Load::new(quick))).await?
}

async fn measure(rounds: usize, load: Load) -> anyhow::Result<Report> {
    let engine = Engine::new()?;
    let (large, small) = (guests::large()?, guests::echo()?);
    let (large_by_hand, echo_by_hand) = (ByHand::new(&large)?, ByHand::new(&small)?);
    let large = compiled(&engine, &large).await?;
    let (mut start, mut message, mut instances) = (Vec::new(), Vec::new(), Vec::new());
    let mut across = Vec::new();
    let (mut of_hand, mut memory, mut ping, mut crash) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let desk = Desk::open().await?;
    let echo = desk.deploy("echo", &small).await?;
    for _ in 0..rounds {
        start.push((
            cold_start(&large, load.starts).await? - START_COSTS,
            large_by_hand.cold_start(load.starts).await?,
        ));
        let by_hand = echo_by_hand.messages(load.messages).await?;
        message.push((messages_on_one_thread(load.messages)? - MESSAGE_COSTS, by_hand));
        across.push((desk::messages(&echo, load.messages).await?, by_hand));
        let (ours, bare) = (many(Side::Ours, load.instances)?, many(Side::Bare, load.instances)?);
        instances.push((ours.millis, INSTANCES_MILLIS));
        of_hand.push((ours.millis, bare.millis));
        memory.push((ours.kib - bare.kib, INSTANCE_KIB));
        ping.push((pings(load.pings).await?, PING_MILLIS));
        crash.push((crashes(load.crashes).await?, CRASH_MILLIS));
    }
    desk.close().await;
    let rows = vec![
        Row::new("cold start, 2 MB module, less 100 µs", "µs", Target::AtMost(1.5), &start),
        Row::new("message to a host, less 2 µs", "ns", Target::AtMost(1.0), &message),
        Row::new("message to a host, threads at rest", "ns", Target::None, &across),
        Row::new("start of 10,000 instances (budget)", "ms", Target::AtMost(1.0), &instances),
        Row::new("start of 10,000 instances", "ms", Target::None, &of_hand),
        Row::new("memory of each beyond bare (budget)", "KiB", Target::AtMost(1.0), &memory),
        Row::new("ping beside two endless guests, p99 (budget)", "ms", Target::AtMost(1.0), &ping),
        Row::new("host process: crash to ready (budget)", "ms", Target::AtMost(1.0), &crash),
    ];
    let conditions = vec![
        "both sides: epochs every 5 ms, 512 KiB of stack, instances on demand".to_owned(),
        "the store of this comparison is in memory and answers at once".to_owned(),
        "messages: one thread on both sides; in the row behind it a thread that has nothing else to do \
         wakes another one with every other message, as a node does that has nothing else to do"
            .to_owned(),
    ];
    Ok(Report { peer: "bare or budget", conditions, rows })
}

async fn compiled(engine: &Engine, package: &Package) -> anyhow::Result<Module> {
    Ok(Module::compile(engine, package.digest(), package).await?)
}

struct Nothing;

impl Variables for Nothing {
    fn get(&self, _key: &str) -> Option<Vec<u8>> {
        None
    }
}

fn setting() -> anyhow::Result<Setting> {
    Ok(Setting {
        firmware: "guest".parse()?,
        log: GuestLog::alone("guest".parse()?),
        limits: FirmwareLimits { memory_bytes: 64 << 20, message_time: Duration::from_secs(60) },
        grants: Arc::new(Grants::default()),
        usage: Usage::default(),
    })
}

/// Microseconds from a compiled module to its first message handled, by the median.
async fn cold_start(module: &Module, count: usize) -> anyhow::Result<f64> {
    let mut micros = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let runner = Runner::new(module.clone(), setting()?, Launcher::this_executable());
        let running = runner.start(Publisher::none()).await?;
        let (running, _) = running.handle(b"hello", Arc::new(Nothing)).await?;
        micros.push(began.elapsed().as_secs_f64() * 1e6);
        running.end().await;
    }
    Ok(median(micros.into_iter()))
}

/// Nanoseconds of a message to a host and its reply where one thread does everything, as it does for who
/// calls a guest by hand.
fn messages_on_one_thread(count: u64) -> anyhow::Result<f64> {
    let measured = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build()?;
        runtime.block_on(async move {
            let desk = Desk::open().await?;
            let echo = desk.deploy("echo", &guests::echo()?).await?;
            let nanos = desk::messages(&echo, count).await;
            desk.close().await;
            nanos
        })
    });
    measured.join().map_err(|_| anyhow::anyhow!("the measurement has panicked"))?
}

/// What a process with many instances needed.
#[derive(Debug, Clone, Copy)]
struct Many {
    millis: f64,
    /// Of each.
    kib: f64,
}

/// In a process of its own, whose memory is that of the instances.
fn many(side: Side, count: usize) -> anyhow::Result<Many> {
    let name = match side {
        Side::Ours => "ours",
        Side::Bare => "bare",
    };
    let program = std::env::current_exe()?;
    let output = Command::new(program).args(["guests", name, &count.to_string()]).output()?;
    anyhow::ensure!(output.status.success(), "the step of instances failed: {}", output.status);
    let said = String::from_utf8(output.stdout)?;
    let (millis, kib) = said.trim().split_once(' ').context("not two numbers")?;
    Ok(Many { millis: millis.parse()?, kib: kib.parse()? })
}

/// Starts many instances of one module: how long it took in milliseconds, and what each needs in KiB.
///
/// # Errors
/// If one cannot be started.
pub async fn instances(side: Side, count: usize) -> anyhow::Result<(f64, f64)> {
    let package = guests::echo()?;
    let each = |before: f64| anyhow::Ok((resident()? - before) / 1024.0 / count as f64);
    match side {
        Side::Ours => {
            let engine = Engine::new()?;
            let module = compiled(&engine, &package).await?;
            let runner = Runner::new(module, setting()?, Launcher::this_executable());
            let mut running = Vec::with_capacity(count);
            running.push(runner.start(Publisher::none()).await?);
            let (before, began) = (resident()?, Instant::now());
            for _ in 1..count {
                running.push(runner.start(Publisher::none()).await?);
            }
            Ok((began.elapsed().as_secs_f64() * 1e3, each(before)?))
        }
        Side::Bare => {
            let by_hand = ByHand::new(&package)?;
            let mut kept = Vec::with_capacity(count);
            kept.push(by_hand.start().await?);
            let (before, began) = (resident()?, Instant::now());
            for _ in 1..count {
                kept.push(by_hand.start().await?);
            }
            Ok((began.elapsed().as_secs_f64() * 1e3, each(before)?))
        }
    }
}

/// Milliseconds that 99 of 100 pings take at most.
async fn pings(count: usize) -> anyhow::Result<f64> {
    let desk = Desk::open().await?;
    let echo = desk.deploy("echo", &guests::echo()?).await?;
    for name in ["first", "second"] {
        desk.deploy_job(name, &guests::endless()?).await?;
    }
    let mut millis = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        desk::message(&echo).await?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
        // So that pings do not follow the guests' own rhythm.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    desk.close().await;
    millis.sort_by(f64::total_cmp);
    millis.get(count * 99 / 100).copied().context("no pings")
}

/// Milliseconds from the kill of a host process to the next one ready, by the median.
async fn crashes(count: usize) -> anyhow::Result<f64> {
    let desk = Desk::open().await?;
    desk.deploy("apart", &guests::apart()?).await?;
    let mut millis = Vec::with_capacity(count);
    let mut process = desk.process("apart", None).await?;
    for _ in 0..count {
        let began = Instant::now();
        let pid = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        process = desk.process("apart", Some(process)).await?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
    }
    desk.close().await;
    Ok(median(millis.into_iter()))
}

/// Whether a firmware takes messages, or does its job.
fn runs(state: HostState) -> bool {
    state == HostState::Running
}
