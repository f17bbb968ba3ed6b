//! A process that makes load: one thread, which sends when sends are due and handles answers in between.
//!
//! In an open loop a request is sent at its time whatever became of those before, and its time counts
//! from then, also when it was sent late. What would be too many at a time is not sent, and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use anyhow::Context as _;
use odeum_runtime::api::client::ApiClient;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::pace::Pace;
use self::target::Asked;
use self::tries::Nodes;
use super::choice::Mix;
use super::measure::Second;
use super::protocol::{Assignment, Check, Found, Order, Said};
use super::schedule::{Due, Segment};
use super::spec::{Scenario, Target};
use crate::monotonic;
use crate::remote::driver;

mod calls;
mod entities;
mod look;
pub(crate) mod pace;
mod target;
mod tries;
mod variables;

pub(crate) use self::target::{guest_prefix, server_name};

use self::entities::Entities;
use self::variables::Variables;

/// How often what was measured is told.
const TELL: Duration = Duration::from_millis(500);

/// What waits to be told. Somebody reads it all the time.
const TOLD: usize = 256;

/// Says things to the director, from a thread of its own: histograms take a millisecond to write.
#[derive(Debug, Clone)]
pub(crate) struct Teller(SyncSender<Said>);

impl Teller {
    fn start() -> (Self, std::thread::JoinHandle<()>) {
        let (sender, queue) = sync_channel(TOLD);
        let thread = std::thread::spawn(move || {
            for said in queue {
                let Ok(line) = serde_json::to_string(&said) else { continue };
                if driver::say(&line).is_err() {
                    return;
                }
            }
        });
        (Self(sender), thread)
    }

    fn say(&self, said: Said) {
        // When nobody listens any more, this process is about to end.
        let _ = self.0.send(said);
    }

    /// Something is wrong.
    pub(crate) fn found(&self, check: Check, title: String, account: String) {
        self.say(Said::Found(Found { check, title, account }));
    }
}

/// What came of one request.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Why it failed, if it did.
    error: Option<String>,
    /// Tries beyond the first.
    retried: u64,
    /// Bytes that were sent.
    bytes: u64,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// The place of the target.
    target: usize,
    /// The key, among those of this generator.
    key: usize,
    /// Bytes.
    size: usize,
    /// When it was to be sent.
    due: u64,
}

/// What all requests of a generator share.
#[derive(Debug)]
pub(crate) struct Work {
    scenario: Scenario,
    index: usize,
    of: usize,
    nodes: Nodes,
    /// For routes of firmware.
    http: reqwest::Client,
    targets: Vec<Asked>,
    mix: Mix,
    variables: Option<Variables>,
    entities: Option<Entities>,
    teller: Teller,
    /// When the load began.
    began: AtomicU64,
    /// By the second in which requests were due.
    seconds: Mutex<BTreeMap<u32, Second>>,
    in_flight: AtomicUsize,
    last_answer: AtomicU64,
    longest_gap: AtomicU64,
}

/// Runs a generator, which does what its input says.
///
/// # Errors
/// If it is told nonsense, or its cluster does not answer in the beginning.
pub fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (teller, thread) = Teller::start();
    let result = runtime.block_on(conduct(teller.clone()));
    if let Err(error) = &result {
        teller.say(Said::Failed(format!("{error:#}")));
    }
    drop(runtime);
    drop(teller);
    // Everything is told then.
    let _ = thread.join();
    result
}

async fn order(lines: &mut mpsc::Receiver<String>) -> anyhow::Result<Order> {
    let line = lines.recv().await.context("nobody says anything any more")?;
    serde_json::from_str(&line).context("an order")
}

async fn conduct(teller: Teller) -> anyhow::Result<()> {
    let mut lines = driver::lines();
    let Order::Prepare(assignment) = order(&mut lines).await? else {
        anyhow::bail!("the first order is to prepare");
    };
    let work = Arc::new(Work::prepare(*assignment, teller.clone()).await?);
    let mut helpers = JoinSet::new();
    if work.variables.is_some() {
        variables::start(&work, &mut helpers).await?;
    }
    teller.say(Said::Ready);
    let Order::Begin { at } = order(&mut lines).await? else {
        anyhow::bail!("the second order is to begin");
    };
    work.drive(at).await?;
    teller.say(Said::Over { longest_gap_us: work.longest_gap.load(Ordering::Relaxed) });
    let Order::Finish = order(&mut lines).await? else {
        anyhow::bail!("the third order is to finish");
    };
    let looked = work.look().await;
    helpers.shutdown().await;
    teller.say(Said::Done(looked));
    // It ends with its input: who ends before all others are done has failed.
    while lines.recv().await.is_some() {}
    Ok(())
}

impl Work {
    async fn prepare(assignment: Assignment, teller: Teller) -> anyhow::Result<Self> {
        let Assignment { file, text, changes, index, of, run, nodes } = assignment;
        let scenario = changes.applied(super::read::parse(&file, &text)?);
        let clients: Result<Vec<ApiClient>, _> =
            nodes.iter().map(|node| ApiClient::new(&node.url)).collect();
        let clients = clients?;
        // Connections are made before they are needed.
        for client in &clients {
            client.status().await.with_context(|| client.url().to_string())?;
        }
        let places: BTreeMap<&str, usize> =
            scenario.targets.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let mut targets = Vec::new();
        let forgets = scenario.faults.iter().any(|fault| fault.value.may_cost_memory());
        for (place, target) in scenario.targets.values().enumerate() {
            targets.push(Asked::new(target, (place, &places), (index, of), &run, forgets)?);
        }
        let weight = |name: &String| match scenario.mix.get(name) {
            Some(weight) => weight.value,
            None => u32::from(scenario.mix.is_empty()),
        };
        let mix = Mix::new(scenario.targets.keys().map(weight));
        let variables = Variables::of(&scenario, &run, index)?;
        let has_entities =
            scenario.targets.values().any(|it| matches!(it, Target::Ask(_) | Target::Tell(_)));
        let doors = nodes.iter().filter_map(|node| node.door).collect::<Vec<_>>();
        let entities = has_entities.then(|| Entities::new(&doors, (index, of), &run));
        Ok(Self {
            scenario,
            index,
            of,
            nodes: Nodes::new(clients, nodes.into_iter().map(|node| node.name).collect(), index),
            http: reqwest::Client::builder().no_proxy().build()?,
            targets,
            mix,
            variables,
            entities,
            teller,
            began: AtomicU64::new(0),
            seconds: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            last_answer: AtomicU64::new(0),
            longest_gap: AtomicU64::new(0),
        })
    }

    /// Sends all that is due, and returns when all of it is answered.
    async fn drive(self: &Arc<Self>, at: u64) -> anyhow::Result<()> {
        self.began.store(at, Ordering::Relaxed);
        self.last_answer.store(at, Ordering::Relaxed);
        let pace = Pace::new().context("a timer")?;
        let mut tasks = JoinSet::new();
        let mut telling = JoinSet::new();
        let told = Arc::clone(self);
        telling.spawn(async move {
            loop {
                tokio::time::sleep(TELL).await;
                told.tell();
            }
        });
        let seed =
            self.scenario.seed() ^ (self.index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = StdRng::seed_from_u64(seed);
        for (number, segment) in Segment::all(&self.scenario.phases).into_iter().enumerate() {
            let end = at + nanos(segment.ends());
            if segment.clients > 0 {
                pace.until(at + nanos(segment.begins)).await?;
                self.closed(segment.clients, end, seed ^ number as u64).await;
                continue;
            }
            let share = (self.index, self.of);
            for due in Due::new(segment, self.scenario.arrivals, share, seed ^ number as u64) {
                let due = at + nanos(due);
                pace.until(due).await?;
                self.send(self.draw(due, &mut random), &mut tasks);
                while tasks.try_join_next().is_some() {}
            }
            pace.until(end).await?;
        }
        while tasks.join_next().await.is_some() {}
        telling.shutdown().await;
        // The time after the last answer counts as well.
        let end = Segment::all(&self.scenario.phases).last().map(Segment::ends).unwrap_or_default();
        self.gap_until(at + nanos(end));
        self.tell();
        Ok(())
    }

    /// Clients that send when they were answered, until `end`.
    async fn closed(self: &Arc<Self>, clients: usize, end: u64, seed: u64) {
        let mut all = JoinSet::new();
        for client in (self.index..clients).step_by(self.of) {
            let work = Arc::clone(self);
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(client as u64));
            all.spawn(async move {
                while monotonic::now() < end {
                    let request = work.draw(monotonic::now(), &mut random);
                    work.count(request, |counts| counts.sent += 1);
                    work.perform(request).await;
                }
            });
        }
        while all.join_next().await.is_some() {}
    }

    /// Decides by lot what is asked.
    fn draw(&self, due: u64, random: &mut StdRng) -> Request {
        let target = self.mix.draw(random).min(self.targets.len().saturating_sub(1));
        let (key, size) = self.targets.get(target).map_or((0, 0), |asked| asked.draw(random));
        Request { target, key, size, due }
    }

    /// Sends a request, if not too many are under way.
    fn send(self: &Arc<Self>, request: Request, tasks: &mut JoinSet<()>) {
        if self.in_flight.load(Ordering::Relaxed) >= self.scenario.in_flight {
            self.count(request, |counts| counts.dropped += 1);
            return;
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let work = Arc::clone(self);
        let mut sending = Box::pin(async move {
            work.is_sent(request);
            work.perform(request).await;
            work.in_flight.fetch_sub(1, Ordering::Relaxed);
        });
        // Its first step is taken here and now: a task would wait for its turn behind what else is
        // to be done. As a task it is polled again, with a waker that is heard.
        if sending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tasks.spawn(sending);
        }
    }

    /// Takes down how late a request is sent, at this moment.
    fn is_sent(&self, request: Request) {
        let late = monotonic::now().saturating_sub(request.due);
        let is_late = u128::from(late) > self.scenario.late.0.as_nanos();
        self.in_second(request.due, |second| {
            second.lateness.record(late / 1_000);
            if let Some(counts) = second.targets.get_mut(request.target) {
                counts.sent += 1;
                counts.late += u64::from(is_late);
            }
        });
    }

    /// Sends a request and takes down what came of it.
    async fn perform(&self, request: Request) {
        let Ended { error, retried, bytes } = self.ask(request).await;
        let now = monotonic::now();
        let micros = now.saturating_sub(request.due) / 1_000;
        if error.is_none() {
            self.gap_until(now);
        }
        self.count(request, |counts| {
            counts.retried += retried;
            counts.bytes += bytes;
            match error {
                None => {
                    counts.answered += 1;
                    counts.times.record(micros);
                }
                Some(error) => {
                    counts.failed += 1;
                    *counts.errors.entry(error).or_default() += 1;
                }
            }
        });
    }

    /// Somebody was answered.
    fn gap_until(&self, now: u64) {
        let last = self.last_answer.fetch_max(now, Ordering::Relaxed);
        self.longest_gap.fetch_max(now.saturating_sub(last) / 1_000, Ordering::Relaxed);
    }

    fn in_second(&self, due: u64, f: impl FnOnce(&mut Second)) {
        let since = due.saturating_sub(self.began.load(Ordering::Relaxed));
        let number = u32::try_from(since / 1_000_000_000).unwrap_or(u32::MAX);
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        f(seconds.entry(number).or_insert_with(|| Second::of(self.targets.len())));
    }

    fn count(&self, request: Request, f: impl FnOnce(&mut super::measure::Counts)) {
        self.in_second(request.due, |second| {
            if let Some(counts) = second.targets.get_mut(request.target) {
                f(counts);
            }
        });
    }

    /// Tells what was measured since the last time.
    fn tell(&self) {
        let seconds =
            std::mem::take(&mut *self.seconds.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, counts) in seconds {
            self.teller.say(Said::Second { number, counts });
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
