//! The process that drives a store: does workloads with it, for every side in the same way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use super::workload::{Reading, Request, Workload, warm_up};
use crate::remote::driver::{lines, outcome, say};
use crate::remote::workload::Outcome;

/// Bytes of a value.
pub(crate) const VALUE: usize = 256;
/// Keys over which requests are spread.
pub(crate) const KEYS: u64 = 10_000;
/// Requests at a time when the keys are written for the first time.
const FILLERS: usize = 256;
/// The key that is written while a leader is killed.
const WATCHED: u64 = 0;

/// A replicated store, as one side reaches it.
pub(crate) trait Store: Clone + Send + Sync + 'static {
    /// Sets a key. Returns when a majority has it on disk.
    fn write(&self, key: u64, value: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// As [`write`](Self::write), and tried again until it is acknowledged, whoever is killed.
    fn persist(&self, key: u64, value: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// The length of the value of a key.
    fn read(&self, key: u64, how: Reading) -> impl Future<Output = anyhow::Result<usize>> + Send;
    /// Which member leads for a key, by its place in the order of the starts.
    fn leader(&self, key: u64) -> impl Future<Output = anyhow::Result<usize>> + Send;
}

/// Says `ready` with what others need to know, then does what the lines of the input say.
pub(crate) async fn drive(ready: &str, store: impl Store) -> anyhow::Result<()> {
    let mut lines = lines();
    say(&format!("ready {ready}"))?;
    while let Some(line) = lines.recv().await {
        let workload: Workload = line.parse()?;
        let store = store.clone();
        // On a worker thread: what `block_on` polls wakes across threads.
        let mut doing = JoinSet::new();
        doing.spawn(async move { perform(&store, workload).await });
        let said = doing.join_next().await.context("nothing was done")??;
        say(&said.with_context(|| format!("workload {workload}"))?)?;
    }
    Ok(())
}

async fn perform<S: Store>(store: &S, workload: Workload) -> anyhow::Result<String> {
    Ok(match workload {
        Workload::Fill => {
            fill(store).await?;
            Outcome::default().to_string()
        }
        Workload::Load { request, in_flight, millis } => {
            load(store, request, in_flight, Duration::from_millis(millis)).await?.to_string()
        }
        Workload::Gap { millis } => {
            gap(store, Duration::from_millis(millis)).await?.as_micros().to_string()
        }
        Workload::Leader => store.leader(WATCHED).await?.to_string(),
    })
}

async fn fill<S: Store>(store: &S) -> anyhow::Result<()> {
    let value = value();
    let writes = stream::iter(0..KEYS).map(|key| store.write(key, value.clone()));
    writes.buffer_unordered(FILLERS).try_collect().await
}

async fn load<S: Store>(
    store: &S,
    request: Request,
    in_flight: usize,
    measured: Duration,
) -> anyhow::Result<Outcome> {
    let next = Arc::new(AtomicU64::new(0));
    let from = Instant::now() + warm_up(measured);
    let until = from + measured;
    let mut askers = JoinSet::new();
    for _ in 0..in_flight {
        let (store, next) = (store.clone(), Arc::clone(&next));
        askers.spawn(async move {
            let value = value();
            let mut nanos = Vec::new();
            let mut began = Instant::now();
            while began < until {
                let key = key(next.fetch_add(1, Ordering::Relaxed));
                let bytes = match request {
                    Request::Write => store.write(key, value.clone()).await.map(|()| VALUE)?,
                    Request::Read(how) => store.read(key, how).await?,
                };
                anyhow::ensure!(bytes == VALUE, "key {key} has {bytes} bytes");
                let ended = Instant::now();
                if ended >= from && ended < until {
                    nanos.push(u64::try_from((ended - began).as_nanos())?);
                }
                began = ended;
            }
            anyhow::Ok(nanos)
        });
    }
    let mut nanos = Vec::new();
    while let Some(ended) = askers.join_next().await {
        nanos.extend(ended??);
    }
    Ok(outcome(nanos, measured))
}

async fn gap<S: Store>(store: &S, time: Duration) -> anyhow::Result<Duration> {
    let value = value();
    store.persist(WATCHED, value.clone()).await?;
    let mut last = Instant::now();
    let until = last + time;
    let mut longest = Duration::ZERO;
    while last < until {
        store.persist(WATCHED, value.clone()).await?;
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    Ok(longest)
}

/// The key of the `n`th request. All come in turn, but not in their order, which would spare a
/// sorted store what scattered keys cost.
fn key(n: u64) -> u64 {
    // Prime, so that it meets every key before it meets one again.
    n.wrapping_mul(2_654_435_761) % KEYS
}

fn value() -> Bytes {
    Bytes::from(vec![7; VALUE])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_comes_before_one_comes_again() {
        let keys: BTreeSet<u64> = (0..KEYS).map(key).collect();
        assert_eq!(keys.len() as u64, KEYS);
    }
}
