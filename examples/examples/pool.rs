//! A pool with affinity: workers that keep documents open, so that jobs on one document are
//! best done by one worker.
//!
//! `cargo run -p odeum-examples --example pool`
#![expect(clippy::print_stdout, reason = "it tells a story")]

use std::collections::HashSet;
use std::error::Error;
use std::time::Duration;

use odeum_actors::{
    ActorError, ChildSpec, Job, Key, Pool, PoolConfig, PoolError, PoolSpec, Strategy,
    SupervisorSpec, Task, Worker,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Prints pages of documents; opening one takes a while, so it keeps them open.
struct Printer {
    index: usize,
    open: HashSet<&'static str>,
}

#[derive(Debug, Clone, Copy)]
struct Page {
    document: &'static str,
    number: u32,
}

#[derive(Debug)]
struct Printed {
    by: usize,
    opened: bool,
}

impl Worker for Printer {
    type Job = Page;
    type Output = Printed;

    async fn work(&mut self, page: Page, task: Task) -> Result<Printed, ActorError> {
        if page.number == 13 && task.attempt == 1 {
            return Err(ActorError::msg("paper jam"));
        }
        let opened = self.open.insert(page.document);
        let takes = if opened { 60 } else { 5 };
        tokio::time::sleep(Duration::from_millis(takes)).await;
        Ok(Printed { by: self.index, opened })
    }
}

type Printers = Pool<Page, Printed>;

/// Prints three pages of three documents at once, and says how often one had to be opened.
async fn print_all(
    pool: &Printers,
    terms: impl Fn(Page) -> Job<Page>,
) -> Result<usize, PoolError<Page>> {
    let mut pending = Vec::new();
    for number in 1..=3 {
        for document in ["letter", "poster", "score"] {
            pending.push(pool.submit(terms(Page { document, number })).await?);
        }
    }
    let mut opened = 0;
    for answer in pending {
        opened += usize::from(answer.await?.opened);
    }
    Ok(opened)
}

/// Three printers that have nothing open.
fn printers(name: &str) -> (Printers, ChildSpec) {
    let config = PoolConfig { size: 3, queue: 100, ..PoolConfig::default() };
    PoolSpec::new(name, config, |index| Printer { index, open: HashSet::new() }).child()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = SupervisorSpec::new("shop", Strategy::OneForOne).start().await?;

    println!("Three printers, three documents of three pages, each page for any printer:");
    let (pool, spec) = printers("any");
    root.add(spec).await?;
    pool.settled(PATIENCE).await?;
    println!("  documents were opened {} times", print_all(&pool, Job::new).await?);
    root.remove(pool.name()).await?;

    println!("The same on fresh printers, each document for its own:");
    let (pool, spec) = printers("by-document");
    root.add(spec).await?;
    pool.settled(PATIENCE).await?;
    let strict = |page: Page| Job::new(page).only(Key::of(page.document));
    println!("  documents were opened {} times", print_all(&pool, strict).await?);

    println!("A page for the printer of a document that must not wait for it:");
    let key = Key::of("letter");
    let busy = pool.submit(Job::new(Page { document: "atlas", number: 1 }).only(key)).await?;
    let urgent = Page { document: "letter", number: 4 };
    match pool.run(Job::new(urgent).only_if_free(key)).await {
        Err(error) => {
            let why = error.to_string();
            println!("  refused: {why}; the job came back: {:?}", error.into_job());
        }
        Ok(done) => println!("  printed by {}", done.by),
    }
    let preferred = pool.run(Job::new(urgent).prefer(key)).await?;
    println!(
        "As a hint instead: printed by printer {}, while printer {} was busy",
        preferred.by,
        busy.await?.by
    );

    println!("Page 13 jams a printer:");
    let unlucky = Page { document: "score", number: 13 };
    if let Err(error) = pool.run(unlucky).await {
        println!("  once: {error}");
    }
    let done = pool.run(Job::new(unlucky).idempotent(3)).await?;
    println!("  as an idempotent job: printed by printer {} at the second attempt", done.by);

    pool.drain(PATIENCE).await?;
    let stats = pool.stats().await?;
    let counters = stats.counters;
    println!(
        "Drained: {} done, {} failed, {} begun again, {} printers crashed",
        counters.done, counters.failed, counters.requeued, counters.deaths
    );
    println!("{}", root.tree().await);
    root.shutdown().await;
    Ok(())
}
