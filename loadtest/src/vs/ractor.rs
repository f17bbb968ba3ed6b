//! Our actors against the raw ractor actors they are made of.
//!
//! Both sides do the same work in the same shape: one counter actor, the same number in
//! flight, a deadline on every ask.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use futures::stream::{self, StreamExt};
use odeum_actors::{
    Backoff, Change, Handle, Intensity, Restart, Strategy, Subscription, Supervisor,
    SupervisorSpec, child,
};

use crate::report::{Report, Row, Target, median};

use self::actors::{Count, Counter, RawCount, RawCounter, RawSupervisor};

mod actors;

const DEADLINE: Duration = Duration::from_secs(30);

/// Whose actors are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Odeum's.
    Ours,
    /// ractor's.
    Theirs,
}

/// How much work a round does.
#[derive(Debug, Clone, Copy)]
struct Load {
    tells: u64,
    asks: u64,
    spawns: u64,
    idle: usize,
    restarts: u32,
    siblings: u64,
}

impl Load {
    fn new(quick: usize) -> Self {
        let by = quick as u64;
        Self {
            tells: 400_000 / by,
            asks: 100_000 / by,
            spawns: 20_000 / by,
            idle: 50_000 / quick,
            restarts: 100,
            siblings: (100_000 / by).max(2_000),
        }
    }
}

/// Runs all rows.
///
/// # Errors
/// If an actor cannot be spawned or does not answer, or the memory step cannot be run.
pub async fn run(rounds: usize, quick: usize) -> anyhow::Result<Report> {
    // On the runtime's own threads, where a program's actors and tasks are. `main` is another
    // thread: each answer would wake it through the kernel, which takes longer than the rest.
    tokio::spawn(measure(rounds, quick)).await?
}

async fn measure(rounds: usize, quick: usize) -> anyhow::Result<Report> {
    let load = Load::new(quick);
    let mut tell = Vec::new();
    let mut ask = Vec::new();
    let mut asks = Vec::new();
    let mut spawn = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..rounds {
        tell.push((tell_ours(load.tells).await?, tell_theirs(load.tells).await?));
        ask.push((ask_ours(load.asks, 1).await?, ask_theirs(load.asks, 1).await?));
        asks.push((ask_ours(load.asks, 64).await?, ask_theirs(load.asks, 64).await?));
        spawn.push((spawn_ours(load.spawns).await?, spawn_theirs(load.spawns).await?));
        memory.push((memory_of(Side::Ours, load.idle)?, memory_of(Side::Theirs, load.idle)?));
    }
    let mut rows = vec![
        Row::new("tell", "ns", Target::AtMost(1.2), &tell),
        Row::new("ask, 1 in flight", "ns", Target::AtMost(1.2), &ask),
        Row::new("ask, 64 in flight", "ns", Target::AtMost(1.2), &asks),
        Row::new("spawn under a supervisor", "ns", Target::AtMost(1.5), &spawn),
        Row::new("memory of an idle supervised actor", "bytes", Target::AtMost(1.2), &memory),
    ];
    rows.extend(restart_rows(rounds, load).await?);
    Ok(Report { peer: "ractor", conditions: Vec::new(), rows })
}

/// Restart of one of N: ours at N against ours at 10, for raw ractor restarts nothing. One
/// of each in turn, so that both meet the same machine.
async fn restart_rows(rounds: usize, load: Load) -> anyhow::Result<Vec<Row>> {
    let mut few = Tree::new(10).await?;
    let mut rows = Vec::new();
    for siblings in [1_000, load.siblings] {
        let mut many = Tree::new(siblings).await?;
        let mut measured = Vec::new();
        for _ in 0..rounds {
            let (mut of_many, mut of_few) = (Vec::new(), Vec::new());
            for _ in 0..load.restarts {
                of_many.push(many.restart().await?);
                of_few.push(few.restart().await?);
            }
            measured.push((median(of_many.into_iter()), median(of_few.into_iter())));
        }
        let name = format!("restart of one of {siblings}, against one of 10");
        rows.push(Row::new(name, "ns", Target::AtMost(1.5), &measured));
        many.root.shutdown().await;
    }
    few.root.shutdown().await;
    Ok(rows)
}

async fn tell_ours(count: u64) -> anyhow::Result<f64> {
    let (counter, spec) = child("counter", || Counter(0));
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec).start().await?;
    let began = Instant::now();
    for _ in 0..count {
        counter.tell(Count::Add(1)).await?;
    }
    let seen = counter.ask(DEADLINE, Count::Get).await?;
    let took = began.elapsed();
    anyhow::ensure!(seen == count, "{seen} of {count} messages arrived");
    root.shutdown().await;
    Ok(per(took, count))
}

async fn tell_theirs(count: u64) -> anyhow::Result<f64> {
    let (supervisor, _) = ractor::Actor::spawn(None, RawSupervisor, ()).await?;
    let (counter, _) =
        ractor::Actor::spawn_linked(None, RawCounter, (), supervisor.get_cell()).await?;
    let began = Instant::now();
    for _ in 0..count {
        counter.cast(RawCount::Add(1))?;
    }
    let seen = raw_get(&counter).await?;
    let took = began.elapsed();
    anyhow::ensure!(seen == count, "{seen} of {count} messages arrived");
    supervisor.stop_and_wait(None, None).await?;
    Ok(per(took, count))
}

async fn ask_ours(count: u64, in_flight: usize) -> anyhow::Result<f64> {
    let (counter, spec) = child("counter", || Counter(0));
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec).start().await?;
    let began = Instant::now();
    let counter = &counter;
    stream::iter(0..count)
        .map(|_| counter.ask(DEADLINE, Count::Get))
        .buffer_unordered(in_flight)
        .for_each(|_| std::future::ready(()))
        .await;
    let took = began.elapsed();
    root.shutdown().await;
    Ok(per(took, count))
}

async fn ask_theirs(count: u64, in_flight: usize) -> anyhow::Result<f64> {
    let (supervisor, _) = ractor::Actor::spawn(None, RawSupervisor, ()).await?;
    let (counter, _) =
        ractor::Actor::spawn_linked(None, RawCounter, (), supervisor.get_cell()).await?;
    let began = Instant::now();
    let asked = &counter;
    stream::iter(0..count)
        .map(|_| asked.call(RawCount::Get, Some(DEADLINE)))
        .buffer_unordered(in_flight)
        .for_each(|_| std::future::ready(()))
        .await;
    let took = began.elapsed();
    supervisor.stop_and_wait(None, None).await?;
    Ok(per(took, count))
}

async fn raw_get(counter: &ractor::ActorRef<RawCount>) -> anyhow::Result<u64> {
    match counter.call(RawCount::Get, Some(DEADLINE)).await? {
        ractor::rpc::CallResult::Success(seen) => Ok(seen),
        other => anyhow::bail!("no answer: {other:?}"),
    }
}

/// Spawns at once that are under way; enough to keep both threads busy.
const SPAWNING: usize = 64;

async fn spawn_ours(count: u64) -> anyhow::Result<f64> {
    let root = SupervisorSpec::new("root", Strategy::OneForOne).start().await?;
    let names: Vec<String> = (0..count).map(|n| format!("counter-{n}")).collect();
    let began = Instant::now();
    let added = stream::iter(names)
        .map(|name| root.add(child(name, || Counter(0)).1))
        .buffer_unordered(SPAWNING)
        .all(|added| std::future::ready(added.is_ok()))
        .await;
    let took = began.elapsed();
    anyhow::ensure!(added, "a child was not added");
    root.shutdown().await;
    Ok(per(took, count))
}

async fn spawn_theirs(count: u64) -> anyhow::Result<f64> {
    let (supervisor, _) = ractor::Actor::spawn(None, RawSupervisor, ()).await?;
    let cell = supervisor.get_cell();
    let began = Instant::now();
    let spawned = stream::iter(0..count)
        .map(|_| ractor::Actor::spawn_linked(None, RawCounter, (), cell.clone()))
        .buffer_unordered(SPAWNING)
        .all(|spawned| std::future::ready(spawned.is_ok()))
        .await;
    let took = began.elapsed();
    anyhow::ensure!(spawned, "an actor was not spawned");
    supervisor.stop_and_wait(None, None).await?;
    Ok(per(took, count))
}

/// A supervisor with so many children, one of which can be crashed.
struct Tree {
    root: Supervisor,
    restarted: Handle<Count>,
    events: Subscription,
}

impl Tree {
    async fn new(children: u64) -> anyhow::Result<Self> {
        let root = SupervisorSpec::new("root", Strategy::OneForOne)
            .intensity(Intensity::unlimited())
            .start()
            .await?;
        let added = stream::iter(1..children)
            .map(|n| root.add(child(format!("idle-{n}"), || Counter(0)).1))
            .buffer_unordered(SPAWNING)
            .all(|added| std::future::ready(added.is_ok()))
            .await;
        anyhow::ensure!(added, "a child was not added");
        let (restarted, spec) = child("restarted", || Counter(0));
        root.add(spec.restart(Restart::Permanent).backoff(Backoff::immediate())).await?;
        let events = root.events();
        Ok(Self { root, restarted, events })
    }

    /// From the crash until it is ready again.
    async fn restart(&mut self) -> anyhow::Result<f64> {
        let began = Instant::now();
        self.restarted.tell(Count::Crash).await?;
        while self.events.next().await?.change != Change::Ready {}
        Ok(per(began.elapsed(), 1))
    }
}

/// The memory of idle actors, measured in a process of its own: what an allocator has once
/// taken it seldom gives back.
pub(crate) fn memory_of(side: Side, count: usize) -> anyhow::Result<f64> {
    let name = match side {
        Side::Ours => "ours",
        Side::Theirs => "theirs",
    };
    let program = std::env::current_exe()?;
    let output = Command::new(program).args(["memory", name, &count.to_string()]).output()?;
    anyhow::ensure!(output.status.success(), "the memory step failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Bytes of resident memory for each of `count` idle actors under one supervisor.
///
/// # Errors
/// If they cannot be spawned, or the system does not tell.
pub async fn memory(side: Side, count: usize) -> anyhow::Result<f64> {
    let before = resident()?;
    match side {
        Side::Ours => {
            let root = SupervisorSpec::new("root", Strategy::OneForOne).start().await?;
            for n in 0..count {
                root.add(child(format!("counter-{n}"), || Counter(0)).1).await?;
            }
            Ok((resident()? - before) / count as f64)
        }
        Side::Theirs => {
            let (supervisor, _) = ractor::Actor::spawn(None, RawSupervisor, ()).await?;
            for _ in 0..count {
                let cell = supervisor.get_cell();
                ractor::Actor::spawn_linked(None, RawCounter, (), cell).await?;
            }
            Ok((resident()? - before) / count as f64)
        }
    }
}

/// The memory of this process, in bytes.
pub(crate) fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context("no VmRSS value")?.parse()?;
    Ok(kilobytes * 1024.0)
}

fn per(took: Duration, count: u64) -> f64 {
    took.as_nanos() as f64 / count as f64
}
