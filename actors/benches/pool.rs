//! Dispatch of 10,000 trivial jobs through a pool and through ractor's `factory`, in one
//! run: workers that only count, the sender waiting until all are counted.
//!
//! Ours does more per job: it keeps a deadline, a place in a bounded queue, and an answer.
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use odeum_actors::{
    ActorError, Pool, PoolConfig, PoolSpec, Strategy, Supervisor, SupervisorSpec, Task, Worker,
};
use ractor::factory::queues::DefaultQueue;
use ractor::factory::routing::QueuerRouting;
use ractor::factory::{
    Factory, FactoryArguments, FactoryMessage, Job as RactorJob, JobOptions,
    Worker as RactorWorker, WorkerBuilder, WorkerId,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::Runtime;

const JOBS: u64 = 10_000;

struct Count(Arc<AtomicU64>);

impl Worker for Count {
    type Job = u64;
    type Output = ();

    async fn work(&mut self, _: u64, _: Task) -> Result<(), ActorError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A message of ractor's, which has to be one under its `cluster` feature.
struct Message;

impl ractor::Message for Message {}

struct RactorCount(Arc<AtomicU64>);

impl RactorWorker for RactorCount {
    type Key = u64;
    type Message = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<u64, Message>>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<u64, Message>>,
        job: RactorJob<u64, Message>,
        (): &mut (),
    ) -> Result<u64, ActorProcessingErr> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(job.key)
    }
}

struct Builder(Arc<AtomicU64>);

impl WorkerBuilder<RactorCount, ()> for Builder {
    fn build(&mut self, _: WorkerId) -> (RactorCount, ()) {
        (RactorCount(Arc::clone(&self.0)), ())
    }
}

async fn ours(counter: &Arc<AtomicU64>, size: usize) -> (Pool<u64, ()>, Supervisor) {
    let counter = Arc::clone(counter);
    let queue = usize::try_from(JOBS).unwrap();
    let config = PoolConfig { size, queue, ..PoolConfig::default() };
    let (pool, spec) = PoolSpec::new("pool", config, move |_| Count(Arc::clone(&counter))).child();
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec).start().await.unwrap();
    pool.settled(std::time::Duration::from_secs(10)).await.unwrap();
    (pool, root)
}

async fn theirs(
    counter: &Arc<AtomicU64>,
    size: usize,
) -> (ActorRef<FactoryMessage<u64, Message>>, tokio::task::JoinHandle<()>) {
    type Queue = DefaultQueue<u64, Message>;
    let factory =
        Factory::<u64, Message, (), RactorCount, QueuerRouting<u64, Message>, Queue>::default();
    let builder: Box<dyn WorkerBuilder<RactorCount, ()>> = Box::new(Builder(Arc::clone(counter)));
    let arguments = FactoryArguments::builder()
        .num_initial_workers(size)
        .queue(Queue::default())
        .router(QueuerRouting::default())
        .worker_builder(builder)
        .build();
    Actor::spawn(None, factory, arguments).await.unwrap()
}

async fn until(counter: &AtomicU64, target: u64) {
    while counter.load(Ordering::Relaxed) < target {
        tokio::task::yield_now().await;
    }
}

fn dispatch(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("pool_dispatch");
    group.throughput(Throughput::Elements(JOBS)).sample_size(20);
    for size in [4, 100, 1000] {
        let counter = Arc::new(AtomicU64::new(0));
        let (pool, root) = runtime.block_on(ours(&counter, size));
        group.bench_function(BenchmarkId::new("odeum", size), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let target = counter.load(Ordering::Relaxed) + JOBS;
                    for number in 0..JOBS {
                        drop(pool.submit(number).await.unwrap());
                    }
                    until(&counter, target).await;
                });
            });
        });
        runtime.block_on(root.shutdown());

        let (factory, task) = runtime.block_on(theirs(&counter, size));
        group.bench_function(BenchmarkId::new("ractor_factory", size), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let target = counter.load(Ordering::Relaxed) + JOBS;
                    for key in 0..JOBS {
                        let options = JobOptions::default();
                        let job = RactorJob { key, msg: Message, options, accepted: None };
                        factory.cast(FactoryMessage::Dispatch(job)).unwrap();
                    }
                    until(&counter, target).await;
                });
            });
        });
        factory.stop(None);
        runtime.block_on(task).unwrap();
    }
    group.finish();
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
