//! The promises of pools, on a real runtime whose clock is stopped: time passes only when
//! every task waits for it.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use odeum_actors::testing::eventually;
use odeum_actors::{
    ActorError, AskError, Exit, Job, Key, Pool, PoolConfig, PoolError, PoolSpec, Priority, Recycle,
    Strategy, Supervisor, SupervisorSpec, Task, WhenFull, Worker,
};
use tokio::sync::Semaphore;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

/// What the workers of a test share with it.
#[derive(Default)]
struct Stage {
    /// The jobs begun, in order, with the worker.
    begun: Mutex<Vec<(usize, u32)>>,
    /// `Order::Wait` takes a permit.
    gate: Gate,
    starts: AtomicU32,
    /// How many starts fail.
    bad_starts: AtomicU32,
    memory: AtomicU64,
    stopped: AtomicU32,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Stage {
    fn begun(&self) -> Vec<u32> {
        self.begun.lock().unwrap().iter().map(|(_, number)| *number).collect()
    }

    fn open(&self) {
        self.gate.0.add_permits(1);
    }

    async fn until_begun(&self, count: usize) {
        eventually("the jobs are begun", async || self.begun().len() >= count).await;
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Order {
    /// Answer at once.
    Do(u32),
    /// Answer when the gate opens.
    Wait(u32),
    /// Die the first so many times.
    Die(u32, u32),
    Fail(u32),
    /// Never answer.
    Hang(u32),
}

struct Hand {
    index: usize,
    stage: Arc<Stage>,
}

impl Worker for Hand {
    type Job = Order;
    type Output = (usize, u32);

    async fn started(&mut self) -> Result<(), ActorError> {
        self.stage.starts.fetch_add(1, Ordering::SeqCst);
        let bad = &self.stage.bad_starts;
        if bad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            return Err(ActorError::msg("no luck"));
        }
        Ok(())
    }

    async fn work(&mut self, order: Order, task: Task) -> Result<(usize, u32), ActorError> {
        let (Order::Do(number)
        | Order::Wait(number)
        | Order::Die(number, _)
        | Order::Fail(number)
        | Order::Hang(number)) = order;
        self.stage.begun.lock().unwrap().push((self.index, number));
        match order {
            Order::Do(_) => {}
            Order::Wait(_) => self.stage.gate.0.acquire().await?.forget(),
            Order::Die(_, times) if task.attempt <= times => panic!("as told"),
            Order::Die(..) => {}
            Order::Fail(_) => return Err(ActorError::msg("as told")),
            Order::Hang(_) => std::future::pending().await,
        }
        Ok((self.index, number))
    }

    fn memory(&self) -> Option<u64> {
        Some(self.stage.memory.load(Ordering::SeqCst))
    }

    async fn stopping(&mut self) {
        self.stage.stopped.fetch_add(1, Ordering::SeqCst);
    }
}

type HandPool = Pool<Order, (usize, u32)>;

async fn start(config: PoolConfig) -> (Arc<Stage>, HandPool, Supervisor) {
    let stage = Arc::new(Stage::default());
    let (pool, root) = start_on(&stage, config).await;
    pool.settled(LONG).await.unwrap();
    (stage, pool, root)
}

async fn start_on(stage: &Arc<Stage>, config: PoolConfig) -> (HandPool, Supervisor) {
    let hands = Arc::clone(stage);
    let spec =
        PoolSpec::new("hands", config, move |index| Hand { index, stage: Arc::clone(&hands) });
    let (pool, child) = spec.child();
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(child).start().await.unwrap();
    (pool, root)
}

fn size(size: usize) -> PoolConfig {
    PoolConfig { size, ..PoolConfig::default() }
}

/// A key whose worker in a pool of this size is that one.
async fn key_of(pool: &HandPool, worker: usize) -> Key {
    for value in 0..1000u32 {
        let key = Key::of(&value);
        if pool.run(Job::new(Order::Do(0)).only(key)).await.unwrap().0 == worker {
            return key;
        }
    }
    panic!("no key of worker {worker}");
}

#[tokio::test(start_paused = true)]
async fn a_job_is_done_and_its_result_comes_back() {
    let (_, pool, root) = start(size(2)).await;
    assert_eq!(pool.run(Order::Do(7)).await.unwrap().1, 7);
    let stats = pool.stats().await.unwrap();
    assert_eq!((stats.counters.done, stats.running, stats.waiting), (1, 0, 0));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn waiting_jobs_are_done_by_priority_then_in_order() {
    let (stage, pool, root) = start(size(1)).await;
    let first = pool.submit(Order::Wait(0)).await.unwrap();
    stage.until_begun(1).await;
    let mut pending = Vec::new();
    for (number, priority) in [
        (1, Priority::Low),
        (2, Priority::Normal),
        (3, Priority::High),
        (4, Priority::Normal),
        (5, Priority::High),
    ] {
        pending.push(pool.submit(Job::new(Order::Do(number)).priority(priority)).await.unwrap());
    }
    stage.open();
    first.await.unwrap();
    for answer in pending {
        answer.await.unwrap();
    }
    assert_eq!(stage.begun(), [0, 3, 5, 2, 4, 1]);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_gives_the_job_back_or_makes_the_caller_wait() {
    let config = PoolConfig { queue: 1, when_full: WhenFull::Reject, ..size(1) };
    let (stage, pool, root) = start(config).await;
    let first = pool.submit(Order::Wait(0)).await.unwrap();
    stage.until_begun(1).await;
    let second = pool.submit(Order::Do(1)).await.unwrap();
    match pool.submit(Order::Do(2)).await {
        Err(PoolError::Full(order)) => assert_eq!(order, Order::Do(2)),
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.stats().await.unwrap().rejected, 1);
    stage.open();
    first.await.unwrap();
    second.await.unwrap();
    root.shutdown().await;

    let (stage, pool, root) = start(PoolConfig { queue: 1, ..size(1) }).await;
    let first = pool.submit(Order::Wait(0)).await.unwrap();
    stage.until_begun(1).await;
    let second = pool.submit(Order::Do(1)).await.unwrap();
    assert!(matches!(pool.try_submit(Order::Do(2)), Err(PoolError::Full(Order::Do(2)))));
    let waits = Job::new(Order::Do(3)).expires(SECOND);
    assert!(matches!(pool.run(waits).await, Err(PoolError::Expired(Order::Do(3)))));
    let (third, ()) = tokio::join!(pool.run(Order::Do(4)), async { stage.open() });
    assert_eq!(third.unwrap().1, 4);
    first.await.unwrap();
    second.await.unwrap();
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_the_least_urgent_makes_room_where_that_is_the_policy() {
    let config = PoolConfig { queue: 2, when_full: WhenFull::DropOldest, ..size(1) };
    let (stage, pool, root) = start(config).await;
    let first = pool.submit(Order::Wait(0)).await.unwrap();
    stage.until_begun(1).await;
    let urgent = pool.submit(Job::new(Order::Do(1)).priority(Priority::High)).await.unwrap();
    let oldest = pool.submit(Order::Do(2)).await.unwrap();
    let newer = pool.try_submit(Order::Do(3)).unwrap();
    assert!(matches!(oldest.await, Err(PoolError::Evicted(Order::Do(2)))));
    // Nothing that waits is less urgent than this one.
    let low = Job::new(Order::Do(4)).priority(Priority::Low);
    assert!(matches!(pool.run(low).await, Err(PoolError::Evicted(Order::Do(4)))));
    assert_eq!(pool.stats().await.unwrap().counters.evicted, 2);
    stage.open();
    for pending in [first, urgent, newer] {
        pending.await.unwrap();
    }
    assert_eq!(stage.begun(), [0, 1, 3]);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_job_is_not_begun_and_comes_back() {
    let (stage, pool, root) = start(PoolConfig { prefetch: 2, ..size(1) }).await;
    let first = pool.submit(Order::Wait(0)).await.unwrap();
    stage.until_begun(1).await;
    // One held by the worker, one in the queue.
    let held = pool.submit(Job::new(Order::Do(1)).expires(SECOND)).await.unwrap();
    let queued = pool.submit(Job::new(Order::Do(2)).expires(SECOND)).await.unwrap();
    assert!(matches!(held.await, Err(PoolError::Expired(Order::Do(1)))));
    assert!(matches!(queued.await, Err(PoolError::Expired(Order::Do(2)))));
    stage.open();
    first.await.unwrap();
    pool.drain(LONG).await.unwrap();
    assert_eq!(stage.begun(), [0]);
    assert_eq!(pool.stats().await.unwrap().counters.expired, 2);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_answers_the_caller_and_a_stuck_worker_is_made_anew() {
    let (stage, pool, root) = start(size(1)).await;
    let stuck = Job::new(Order::Hang(0)).deadline(SECOND);
    assert!(matches!(pool.run(stuck).await, Err(PoolError::Deadline)));
    assert_eq!(pool.run(Order::Do(1)).await.unwrap().1, 1);
    let counters = pool.stats().await.unwrap().counters;
    assert_eq!((counters.overdue, counters.killed, counters.deaths), (1, 1, 1));
    assert_eq!(stage.starts.load(Ordering::SeqCst), 2);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_worker_dies_in_the_middle_fails_and_is_not_begun_again() {
    let (stage, pool, root) = start(size(2)).await;
    match pool.run(Order::Die(1, 9)).await {
        Err(PoolError::WorkerDied { exit: Exit::Panicked { reason }, attempts: 1 }) => {
            assert_eq!(&*reason, "as told");
        }
        other => panic!("{other:?}"),
    }
    match pool.run(Order::Fail(2)).await {
        Err(PoolError::WorkerDied { exit: Exit::Failed { .. }, attempts: 1 }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.begun(), [1, 2]);
    pool.settled(LONG).await.unwrap();
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_job_is_begun_again_a_bounded_number_of_times() {
    let (stage, pool, root) = start(size(2)).await;
    assert_eq!(pool.run(Job::new(Order::Die(1, 2)).idempotent(3)).await.unwrap().1, 1);
    match pool.run(Job::new(Order::Die(2, 9)).idempotent(3)).await {
        Err(PoolError::WorkerDied { attempts: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.begun(), [1, 1, 1, 2, 2, 2]);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_a_worker_had_not_begun_when_it_died_are_done_by_the_next() {
    let (stage, pool, root) = start(PoolConfig { prefetch: 3, ..size(1) }).await;
    let dies = pool.submit(Order::Hang(0)).await.unwrap();
    stage.until_begun(1).await;
    let second = pool.submit(Order::Do(1)).await.unwrap();
    let third = pool.submit(Order::Do(2)).await.unwrap();
    eventually("the worker holds all", async || pool.stats().await.unwrap().running == 3).await;
    pool.workers().restart("worker-0").await.unwrap();
    assert!(matches!(dies.await, Err(PoolError::WorkerDied { attempts: 1, .. })));
    second.await.unwrap();
    third.await.unwrap();
    assert_eq!(stage.begun(), [0, 1, 2]);
    assert_eq!(pool.stats().await.unwrap().counters.requeued, 2);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_start_is_tried_again_while_others_work() {
    let stage = Arc::new(Stage::default());
    stage.bad_starts.store(20, Ordering::SeqCst);
    let (pool, root) = start_on(&stage, size(2)).await;
    assert_eq!(pool.run(Order::Do(1)).await.unwrap().1, 1);
    pool.settled(Duration::from_secs(600)).await.unwrap();
    assert_eq!(stage.starts.load(Ordering::SeqCst), 22);
    // The same after a crash.
    stage.bad_starts.store(3, Ordering::SeqCst);
    assert!(pool.run(Order::Die(2, 9)).await.is_err());
    assert_eq!(pool.run(Order::Do(3)).await.unwrap().1, 3);
    pool.settled(LONG).await.unwrap();
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn preferred_jobs_go_to_their_worker_or_to_any_that_is_free() {
    let (stage, pool, root) = start(size(3)).await;
    let key = key_of(&pool, 2).await;
    assert_eq!(pool.run(Job::new(Order::Do(1)).prefer(key)).await.unwrap().0, 2);
    let before = stage.begun().len();
    let busy = pool.submit(Job::new(Order::Wait(2)).prefer(key)).await.unwrap();
    stage.until_begun(before + 1).await;
    assert_ne!(pool.run(Job::new(Order::Do(3)).prefer(key)).await.unwrap().0, 2);
    stage.open();
    assert_eq!(busy.await.unwrap().0, 2);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn strict_jobs_wait_for_their_worker_and_hold_up_nobody() {
    let (stage, pool, root) = start(size(2)).await;
    let key = key_of(&pool, 1).await;
    let before = stage.begun().len();
    let busy = pool.submit(Job::new(Order::Wait(1)).only(key)).await.unwrap();
    stage.until_begun(before + 1).await;
    let strict = pool.submit(Job::new(Order::Do(2)).only(key)).await.unwrap();
    assert_eq!(pool.run(Order::Do(3)).await.unwrap(), (0, 3));
    assert_eq!(pool.stats().await.unwrap().waiting, 1);
    stage.open();
    busy.await.unwrap();
    assert_eq!(strict.await.unwrap(), (1, 2));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn fail_fast_jobs_come_back_when_their_worker_is_busy_or_gone() {
    let config = PoolConfig { backoff: slow_backoff(), ..size(2) };
    let (stage, pool, root) = start(config).await;
    let key = key_of(&pool, 1).await;
    let fast = |number| Job::new(Order::Do(number)).only_if_free(key);
    assert_eq!(pool.run(fast(1)).await.unwrap(), (1, 1));
    let before = stage.begun().len();
    let busy = pool.submit(Job::new(Order::Wait(2)).only(key)).await.unwrap();
    stage.until_begun(before + 1).await;
    assert!(matches!(pool.run(fast(3)).await, Err(PoolError::Busy(Order::Do(3)))));
    stage.open();
    busy.await.unwrap();
    stage.bad_starts.store(1000, Ordering::SeqCst);
    assert!(pool.run(Job::new(Order::Die(4, 9)).only(key)).await.is_err());
    assert!(matches!(pool.run(fast(5)).await, Err(PoolError::Gone(Order::Do(5)))));
    root.shutdown().await;
}

fn slow_backoff() -> odeum_actors::BackoffConfig {
    let reset_after = Duration::from_secs(3600);
    odeum_actors::BackoffConfig { first: SECOND, cap: SECOND, reset_after }
}

#[tokio::test(start_paused = true)]
async fn a_pool_grows_and_shrinks_without_losing_a_job() {
    let (stage, pool, root) = start(size(1)).await;
    pool.resize(4).await.unwrap();
    pool.settled(LONG).await.unwrap();
    let mut pending = Vec::new();
    for number in 0..4 {
        pending.push(pool.submit(Order::Wait(number)).await.unwrap());
    }
    // Four at once, by four workers.
    stage.until_begun(4).await;
    pool.resize(1).await.unwrap();
    assert_eq!(pool.stats().await.unwrap().size, 1);
    assert_eq!(pool.settled(SECOND).await, Err(AskError::Deadline));
    stage.gate.0.add_permits(4);
    let mut workers: Vec<usize> = Vec::new();
    for answer in pending {
        workers.push(answer.await.unwrap().0);
    }
    workers.sort_unstable();
    assert_eq!(workers, [0, 1, 2, 3]);
    pool.settled(LONG).await.unwrap();
    assert_eq!(stage.stopped.load(Ordering::SeqCst), 3);
    let tree = root.tree().await;
    assert_eq!(tree.find("workers").unwrap().children.len(), 1, "{tree}");
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_pool_finishes_what_it_has_and_takes_no_more() {
    let (stage, pool, root) = start(size(1)).await;
    let first = pool.submit(Order::Wait(0)).await.unwrap();
    let second = pool.submit(Order::Do(1)).await.unwrap();
    stage.until_begun(1).await;
    assert_eq!(pool.drain(SECOND).await, Err(AskError::Deadline));
    assert!(matches!(pool.run(Order::Do(2)).await, Err(PoolError::Draining(Order::Do(2)))));
    stage.open();
    pool.drain(LONG).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    let stats = pool.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.running, stats.draining), (0, 0, true));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn workers_are_made_anew_by_jobs_memory_and_age() {
    let recycle = Recycle { jobs: Some(3), memory: Some(100), age: Some(600 * SECOND) };
    let (stage, pool, root) = start(PoolConfig { recycle, ..size(1) }).await;
    for number in 0..4 {
        pool.run(Order::Do(number)).await.unwrap();
    }
    let recycled = async || pool.stats().await.unwrap().counters.recycled;
    assert_eq!(recycled().await, 1);
    stage.memory.store(100, Ordering::SeqCst);
    pool.run(Order::Do(4)).await.unwrap();
    stage.memory.store(0, Ordering::SeqCst);
    pool.settled(LONG).await.unwrap();
    assert_eq!(recycled().await, 2);
    tokio::time::advance(600 * SECOND).await;
    eventually("the old one went", async || recycled().await == 3).await;
    pool.settled(LONG).await.unwrap();
    // In good order, and not as crashes.
    assert_eq!(stage.stopped.load(Ordering::SeqCst), 3);
    assert_eq!(pool.stats().await.unwrap().counters.deaths, 0);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_memory_probe_is_asked_instead_of_the_worker() {
    let stage = Arc::new(Stage::default());
    let hands = Arc::clone(&stage);
    let recycle = Recycle { memory: Some(10), ..Recycle::default() };
    let config = PoolConfig { recycle, ..size(1) };
    let make = move |index| Hand { index, stage: Arc::clone(&hands) };
    let (pool, child) = PoolSpec::new("hands", config, make).memory_probe(|_| Some(10)).child();
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(child).start().await.unwrap();
    pool.run(Order::Do(1)).await.unwrap();
    pool.run(Order::Do(2)).await.unwrap();
    pool.settled(LONG).await.unwrap();
    assert_eq!(pool.stats().await.unwrap().counters.recycled, 2);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_stops_finishes_the_jobs_at_hand_and_gives_the_others_back() {
    let (stage, pool, root) = start(size(1)).await;
    let first = pool.submit(Order::Wait(0)).await.unwrap();
    let second = pool.submit(Order::Do(1)).await.unwrap();
    stage.until_begun(1).await;
    let stops = async {
        let answer = second.await;
        stage.open();
        answer
    };
    let (second, ()) = tokio::join!(stops, root.shutdown());
    assert!(matches!(second, Err(PoolError::Down(Order::Do(1)))));
    assert_eq!(first.await.unwrap().1, 0);
    assert!(matches!(pool.run(Order::Do(2)).await, Err(PoolError::Down(Order::Do(2)))));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_stopped_by_force_gives_back_what_its_workers_had_not_begun() {
    let (stage, pool, root) = start(PoolConfig { prefetch: 2, ..size(1) }).await;
    let stuck = pool.submit(Order::Hang(0)).await.unwrap();
    let held = pool.submit(Order::Do(1)).await.unwrap();
    stage.until_begun(1).await;
    eventually("the worker holds both", async || pool.stats().await.unwrap().running == 2).await;
    root.shutdown().await;
    assert!(matches!(held.await, Err(PoolError::Down(Order::Do(1)))));
    assert!(matches!(stuck.await, Err(PoolError::Dropped)));
    assert_eq!(stage.begun(), [0]);
}

#[tokio::test(start_paused = true)]
async fn the_pool_and_its_workers_are_in_the_tree() {
    let (_, pool, root) = start(size(2)).await;
    assert!(pool.run(Order::Die(1, 9)).await.is_err());
    pool.settled(LONG).await.unwrap();
    let drawn = root.tree().await.to_string();
    for name in ["hands", "workers", "worker-0", "worker-1", "queue"] {
        assert!(drawn.contains(name), "{name} in\n{drawn}");
    }
    assert!(drawn.contains("worker-0 (running, 1 restarts)"), "{drawn}");
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_restarted_keeps_its_handle_and_its_size() {
    let (stage, pool, root) = start(size(1)).await;
    pool.resize(3).await.unwrap();
    let first = pool.submit(Order::Wait(0)).await.unwrap();
    stage.until_begun(1).await;
    stage.open();
    root.restart("hands").await.unwrap();
    assert_eq!(first.await.unwrap().1, 0);
    assert_eq!(pool.run(Order::Do(1)).await.unwrap().1, 1);
    pool.settled(LONG).await.unwrap();
    assert_eq!(pool.stats().await.unwrap().ready, 3);
    root.shutdown().await;
}

#[test]
fn a_pool_is_configured_in_toml_and_what_is_not_named_has_its_default() {
    let config: PoolConfig =
        toml::from_str("size = 8\ngrace = \"2s\"\n[recycle]\nage = \"1h\"\njobs = 5").unwrap();
    assert_eq!((config.size, config.grace), (8, Some(2 * SECOND)));
    assert_eq!(config.recycle.age, Some(3600 * SECOND));
    assert_eq!(config.queue, PoolConfig::default().queue);
    let again: PoolConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again.recycle.jobs, Some(5));
    assert!(toml::from_str::<PoolConfig>("sise = 8").is_err());
}

/// Many callers on several threads, workers killed all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_is_answered_once_while_workers_are_killed() {
    let backoff = odeum_actors::BackoffConfig { first: Duration::ZERO, ..slow_backoff() };
    let config = PoolConfig { prefetch: 2, queue: 64, backoff, ..size(4) };
    let (stage, pool, root) = start(config).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8u32 {
        let pool = pool.clone();
        callers.spawn(async move {
            let mut failed = Vec::new();
            for number in caller * 1000..caller * 1000 + 300 {
                let order =
                    if number % 25 == 0 { Order::Die(number, 9) } else { Order::Do(number) };
                match pool.run(order).await {
                    Ok((_, done)) => assert_eq!(done, number),
                    Err(PoolError::WorkerDied { attempts: 1, .. }) => failed.push(number),
                    Err(error) => panic!("{number}: {error:?}"),
                }
            }
            failed
        });
    }
    let failed = callers.join_all().await;
    assert_eq!(failed.iter().map(Vec::len).sum::<usize>(), 8 * 12);
    let mut begun: HashMap<u32, u32> = HashMap::new();
    for number in stage.begun() {
        *begun.entry(number).or_default() += 1;
    }
    assert_eq!(begun.len(), 8 * 300);
    assert!(begun.values().all(|times| *times == 1), "a job was begun twice");
    pool.drain(LONG).await.unwrap();
    root.shutdown().await;
}
