//! What a pool counts.

use serde::Serialize;

/// What has been counted since the pool's queue started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Jobs that reached the queue.
    pub submitted: u64,
    /// Jobs done.
    pub done: u64,
    /// Jobs whose worker died in the middle, and that were not begun again.
    pub failed: u64,
    /// Jobs not begun before they expired.
    pub expired: u64,
    /// Jobs begun and not ended before their deadline.
    pub overdue: u64,
    /// Jobs refused by a drain or by strict affinity.
    pub refused: u64,
    /// Jobs that made room for newer ones.
    pub evicted: u64,
    /// Jobs that went back to the queue since their worker died.
    pub requeued: u64,
    /// Workers that crashed.
    pub deaths: u64,
    /// Workers killed since they went on past a deadline.
    pub killed: u64,
    /// Workers made anew by age, jobs or memory.
    pub recycled: u64,
    /// The most jobs that waited at once.
    pub most_waiting: usize,
}

/// A pool as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolStats {
    /// How many workers there should be.
    pub size: usize,
    /// How many are up and take jobs.
    pub ready: usize,
    /// How many have a job.
    pub busy: usize,
    /// Jobs that wait for a worker.
    pub waiting: usize,
    /// Jobs that a worker has.
    pub running: usize,
    /// Whether it takes no more jobs.
    pub draining: bool,
    /// Jobs that found the queue full and were given back.
    pub rejected: u64,
    /// What else has been counted.
    #[serde(flatten)]
    pub counters: Counters,
}
