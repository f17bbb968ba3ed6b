//! Pools: a bounded queue of jobs and workers that do them, under supervision.
//!
//! A [`Pool`] is a nested supervisor with two children: `queue`, the actor that decides
//! which job goes where, and `workers`, the supervisor of the workers.
//!
//! What is promised:
//! * A job ends in exactly one answer: its result, or a [`PoolError`] that says whether it
//!   was begun. One that was not begun comes back in the error.
//! * Every job has a deadline, and none is begun after it expired.
//! * Jobs of one priority are begun in the order they were submitted, as far as their
//!   affinity lets them: one that waits for its own worker does not hold up the others.
//! * A job is begun at most once, unless it is [idempotent](Job::idempotent).
//! * When a worker dies, jobs it had not begun go back to their place in the queue. The job
//!   it was at fails with [`PoolError::WorkerDied`], or is begun again if it is idempotent.
//! * If the queue itself ends, everything that waits is answered at once.
//!
//! Why not ractor's `factory`: it has queues, priorities, expiry and resize, but a
//! replacement worker that does not start ends the factory with all its jobs, a stuck worker
//! is noticed only by pings sent every 10 s, a job whose worker panics is dropped without
//! a word to its caller, and there is no strict affinity, recycling or requeueing. Here a
//! worker that does not start is tried again with backoff while the others work, and
//! a stuck one is known by the deadline of its job. `benches/pool.rs` compares the two.
//!
//! Not done, and why: work stealing between workers. One queue makes it needless, except for
//! jobs held by `prefetch`, which is for jobs too short to be worth stealing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;

use crate::child::{ChildSpec, child};
use crate::error::{AskError, TellError};
use crate::handle::Handle;
use crate::policy::{Shutdown, Strategy};
use crate::supervisor::{Supervisor, SupervisorSpec};

use self::core::{Rules, Terms};
use self::queue::{MakeWorker, QueueActor, QueueMessage, QueueSetup, worker_name};
use self::ticket::Ticket;
use self::worker::{Probe, WorkerActor};

pub use self::config::{PoolConfig, Recycle, WhenFull};
pub use self::error::PoolError;
pub use self::job::{Job, Key, Pending, Priority};
pub use self::stats::{Counters, PoolStats};
pub use self::ticket::Task;
pub use self::worker::Worker;

mod config;
pub(crate) mod core;
mod error;
mod job;
mod queue;
mod stats;
mod ticket;
mod worker;

/// Requests that may wait at the queue's actor besides jobs. They are answered at once, so
/// more than a few mean that the runtime is starved.
const REQUESTS: usize = 64;

/// How long the queue may take to tell its counters: it never does anything long, so a late
/// answer means that the runtime itself is starved.
const STATS_DEADLINE: Duration = Duration::from_secs(5);

/// What the handles of a pool and its queue share; it outlives the queue's restarts.
#[derive(Debug)]
pub(crate) struct Shared {
    size: AtomicUsize,
    draining: AtomicBool,
    rejected: AtomicU64,
}

/// A pool to be: what it is configured with and how its workers are made.
pub struct PoolSpec<W: Worker> {
    name: Arc<str>,
    config: PoolConfig,
    make: Arc<dyn Fn(usize) -> W + Send + Sync>,
    probe: Option<Probe<W>>,
}

impl<W: Worker> PoolSpec<W> {
    /// A pool whose workers are made by `make`, which is given the worker's index, for every
    /// start and restart.
    pub fn new(
        name: impl Into<Arc<str>>,
        config: PoolConfig,
        make: impl Fn(usize) -> W + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), config, make: Arc::new(make), probe: None }
    }

    /// Has the memory of workers told by a probe instead of by [`Worker::memory`].
    #[must_use]
    pub fn memory_probe(
        mut self,
        probe: impl Fn(&W) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        self.probe = Some(Arc::new(probe));
        self
    }

    /// The pool's handle and its place in a supervision tree. It is ready at once; its
    /// workers start together, and jobs wait for them.
    #[must_use]
    pub fn child(self) -> (Pool<W::Job, W::Output>, ChildSpec) {
        let config = &self.config;
        let shared = Arc::new(Shared {
            size: AtomicUsize::new(config.size.max(1)),
            draining: AtomicBool::new(false),
            rejected: AtomicU64::new(0),
        });
        let (workers, workers_spec) = SupervisorSpec::new("workers", Strategy::OneForOne)
            .intensity(config.intensity.to_intensity())
            .nested();
        let places = config.queue.clamp(1, Semaphore::MAX_PERMITS / 2);
        let prefetch = config.prefetch.max(1);
        let setup = Arc::new(QueueSetup {
            rules: Rules {
                prefetch,
                room: (config.when_full == WhenFull::DropOldest).then_some(places),
                grace: config.grace,
                recycle: config.recycle.clone(),
            },
            shared: Arc::clone(&shared),
            workers: workers.clone(),
            make: self.make_worker(),
            backoff: config.backoff.to_backoff(),
        });
        let (queue, queue_spec) = child("queue", move || QueueActor::new(Arc::clone(&setup)));
        let queue_spec = queue_spec.capacity(places + REQUESTS);
        // The two know each other's state: if one is gone, both start anew.
        let (_, spec) = SupervisorSpec::new(Arc::clone(&self.name), Strategy::OneForAll)
            .child(workers_spec)
            .child(queue_spec)
            .nested();
        let pool = Pool {
            name: self.name,
            queue,
            workers,
            places: Arc::new(Semaphore::new(places)),
            shared,
            deadline: config.deadline,
            when_full: config.when_full,
        };
        (pool, spec)
    }

    fn make_worker(&self) -> MakeWorker<W::Job, W::Output> {
        let (make, probe, config) = (Arc::clone(&self.make), self.probe.clone(), &self.config);
        let backoff = config.backoff.to_backoff();
        let (shutdown, start_timeout) = (config.shutdown, config.start_timeout);
        // From 1, over all workers and restarts of the queue: the core starts at 0.
        let generations = Arc::new(AtomicU64::new(1));
        Arc::new(move |queue, index| {
            let (make, probe) = (Arc::clone(&make), probe.clone());
            let generations = Arc::clone(&generations);
            let (handle, spec) = child(worker_name(index), move || WorkerActor {
                worker: make(index),
                index,
                generation: generations.fetch_add(1, Ordering::Relaxed),
                queue: queue.clone(),
                probe: probe.clone(),
            });
            let spec = spec
                .backoff(backoff)
                .shutdown(Shutdown::Timeout(shutdown))
                .start_timeout(start_timeout);
            (handle, spec)
        })
    }
}

impl<W: Worker> fmt::Debug for PoolSpec<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolSpec")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The handle of a pool: how jobs get in and answers out.
///
/// ```
/// use std::time::Duration;
/// use odeum_actors::{
///     ActorError, Job, Key, PoolConfig, PoolSpec, Strategy, SupervisorSpec, Task, Worker,
/// };
///
/// struct Squarer;
///
/// impl Worker for Squarer {
///     type Job = u64;
///     type Output = u64;
///
///     async fn work(&mut self, number: u64, _: Task) -> Result<u64, ActorError> {
///         Ok(number * number)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = PoolConfig { size: 2, ..PoolConfig::default() };
/// let (pool, spec) = PoolSpec::new("squarers", config, |_index| Squarer).child();
/// let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec).start().await?;
///
/// assert_eq!(pool.run(7).await?, 49);
/// let job = Job::new(8).only(Key::of("eight")).idempotent(3).deadline(Duration::from_secs(2));
/// assert_eq!(pool.run(job).await?, 64);
///
/// pool.drain(Duration::from_secs(5)).await?;
/// root.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// Cheap to clone, valid before the pool starts and after restarts.
pub struct Pool<J, R> {
    name: Arc<str>,
    queue: Handle<QueueMessage<J, R>>,
    workers: Supervisor,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    deadline: Duration,
    when_full: WhenFull,
}

impl<J: Send + 'static, R: Send + 'static> Pool<J, R> {
    /// Has a job done and waits for the result.
    ///
    /// # Errors
    /// See [`PoolError`]. If this future is dropped, a job that was accepted is done all the
    /// same.
    pub async fn run(&self, job: impl Into<Job<J>> + Send) -> Result<R, PoolError<J>> {
        self.submit(job).await?.await
    }

    /// Queues a job; its answer is awaited apart. If the queue is full this waits or fails,
    /// as the pool is configured.
    ///
    /// # Errors
    /// The job comes back if it was not queued: see [`PoolError`].
    pub async fn submit(
        &self,
        job: impl Into<Job<J>> + Send,
    ) -> Result<Pending<J, R>, PoolError<J>> {
        let job = job.into();
        let limits = self.limits(&job);
        let permit = match self.place() {
            Ok(permit) => permit,
            Err(_) if self.when_full == WhenFull::Reject => return Err(self.reject(job)),
            Err(_) => match self.place_before(limits.0).await {
                Some(permit) => Some(permit),
                None => return Err(PoolError::Expired(job.job)),
            },
        };
        self.enqueue(job, limits, permit)
    }

    /// Queues a job without ever waiting.
    ///
    /// # Errors
    /// The job comes back if it was not queued: see [`PoolError`].
    pub fn try_submit(&self, job: impl Into<Job<J>>) -> Result<Pending<J, R>, PoolError<J>> {
        let job = job.into();
        let limits = self.limits(&job);
        match self.place() {
            Ok(permit) => self.enqueue(job, limits, permit),
            Err(_) => Err(self.reject(job)),
        }
    }

    /// Makes it grow or shrink. New workers start at once; those too many finish what they
    /// have, then stop. Jobs that wait for the worker of their key wait for its present one.
    ///
    /// # Errors
    /// If the pool is not running.
    pub async fn resize(&self, size: usize) -> Result<(), AskError> {
        let told = self.queue.tell(QueueMessage::Resize { size: size.max(1) }).await;
        told.map_err(|_| AskError::Down)
    }

    /// Takes no more jobs, and waits until those it has are answered.
    ///
    /// # Errors
    /// `Deadline` if they are not in time; it goes on draining.
    pub async fn drain(&self, deadline: Duration) -> Result<(), AskError> {
        self.queue.ask(deadline, |reply| QueueMessage::Drain { reply }).await
    }

    /// Waits until it has exactly the workers it should have, all up.
    ///
    /// # Errors
    /// `Deadline` if that is not so in time.
    pub async fn settled(&self, deadline: Duration) -> Result<(), AskError> {
        self.queue.ask(deadline, |reply| QueueMessage::AwaitSettled { reply }).await
    }

    /// What it has and what it has counted.
    ///
    /// # Errors
    /// If the pool is not running.
    pub async fn stats(&self) -> Result<PoolStats, AskError> {
        self.queue.ask(STATS_DEADLINE, |reply| QueueMessage::GetStats { reply }).await
    }

    /// The supervisor of its workers, which are named `worker-0`, `worker-1` and so on.
    #[must_use]
    pub fn workers(&self) -> &Supervisor {
        &self.workers
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When a job expires and when its deadline is.
    fn limits(&self, job: &Job<J>) -> (Instant, Instant) {
        let now = Instant::now();
        let deadline = now + job.deadline.unwrap_or(self.deadline);
        let expires = job.expires.map_or(deadline, |after| (now + after).min(deadline));
        (expires, deadline)
    }

    /// A place in the queue; none is needed where the queue itself makes room.
    fn place(&self) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        if self.when_full == WhenFull::DropOldest {
            return Ok(None);
        }
        Arc::clone(&self.places).try_acquire_owned().map(Some)
    }

    async fn place_before(&self, expires: Instant) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).acquire_owned();
        // The semaphore is never closed.
        tokio::time::timeout_at(expires, place).await.ok()?.ok()
    }

    fn reject(&self, job: Job<J>) -> PoolError<J> {
        self.shared.rejected.fetch_add(1, Ordering::Relaxed);
        PoolError::Full(job.job)
    }

    fn enqueue(
        &self,
        job: Job<J>,
        (expires, deadline): (Instant, Instant),
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Pending<J, R>, PoolError<J>> {
        if self.shared.draining.load(Ordering::Acquire) {
            return Err(PoolError::Draining(job.job));
        }
        let (expires, deadline) = (expires.into_std(), deadline.into_std());
        let Job { job, priority, affinity, attempts, copy, .. } = job;
        let terms = Terms { priority, affinity, expires, deadline, attempts };
        let (ticket, answer) = Ticket::new(job, copy, affinity.key(), (expires, deadline), permit);
        let pending = Pending { answer };
        match self.queue.try_tell(QueueMessage::Submit { ticket, terms }) {
            Ok(()) => Ok(pending),
            Err(error) => {
                let error = match error {
                    TellError::Full(message) => (message, PoolError::Full as fn(J) -> _),
                    TellError::Down(message) => (message, PoolError::Down as fn(J) -> _),
                };
                let (QueueMessage::Submit { ticket, .. }, give_back) = error else {
                    return Err(PoolError::Dropped);
                };
                Err(ticket.take().map_or(PoolError::Dropped, give_back))
            }
        }
    }
}

impl<J, R> Clone for Pool<J, R> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            queue: self.queue.clone(),
            workers: self.workers.clone(),
            places: Arc::clone(&self.places),
            shared: Arc::clone(&self.shared),
            deadline: self.deadline,
            when_full: self.when_full,
        }
    }
}

impl<J, R> fmt::Debug for Pool<J, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).finish_non_exhaustive()
    }
}
