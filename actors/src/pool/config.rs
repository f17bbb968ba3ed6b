//! What a pool is configured with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{BackoffConfig, IntensityConfig};
use crate::policy::Intensity;

/// What happens to a job that finds the queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Its caller waits for space, no longer than the job's expiry.
    #[default]
    Wait,
    /// Its caller gets it back in [`PoolError::Full`](crate::PoolError::Full).
    Reject,
    /// The oldest of the least urgent jobs that wait makes room for it, and comes back in
    /// [`PoolError::Evicted`](crate::PoolError::Evicted). That may be this one, if all the
    /// others are more urgent.
    DropOldest,
}

/// A pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PoolConfig {
    /// How many workers; at least 1. More do more at once and cost their memory.
    pub size: usize,
    /// How many jobs may wait for a worker; at least 1. More ride out longer bursts, fewer
    /// let callers know sooner that the pool cannot keep up.
    pub queue: usize,
    /// What happens to a job that finds the queue full.
    pub when_full: WhenFull,
    /// How many jobs a worker may hold, of which it does one at a time; at least 1. With 2
    /// the next job is there when one ends, which pays when jobs take microseconds; but a
    /// held job waits for its worker while another may be free.
    pub prefetch: usize,
    /// The deadline of a job that names none, counted from when it is submitted.
    #[serde(with = "crate::config::duration")]
    pub deadline: Duration,
    /// How long a worker may go on with a job past its deadline before it is killed; none
    /// means for ever. Less frees a stuck worker sooner. A worker that blocks its thread
    /// cannot be killed; it keeps its place until it returns.
    #[serde(with = "optional_duration")]
    pub grace: Option<Duration>,
    /// When workers are made anew.
    pub recycle: Recycle,
    /// The wait before a crashed worker is started again.
    pub backoff: BackoffConfig,
    /// How many crashes of workers are tolerated before the pool itself fails and is made
    /// anew, its queue with it; by default any number, since jobs have deadlines and a job
    /// that kills its worker should not take the others along.
    pub intensity: IntensityConfig,
    /// How long a worker may take to finish its job on shutdown before it is killed.
    #[serde(with = "crate::config::duration")]
    pub shutdown: Duration,
    /// How long `started` of a worker may take.
    #[serde(with = "crate::config::duration")]
    pub start_timeout: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        let Intensity { max_restarts, within } = Intensity::unlimited();
        Self {
            size: 4,
            queue: 1024,
            when_full: WhenFull::default(),
            prefetch: 1,
            deadline: Duration::from_secs(30),
            // Time to return by itself for a worker that watches its deadline, too.
            grace: Some(Duration::from_secs(1)),
            recycle: Recycle::default(),
            backoff: BackoffConfig::default(),
            intensity: IntensityConfig { max_restarts, within },
            shutdown: Duration::from_secs(5),
            start_timeout: Duration::from_secs(30),
        }
    }
}

/// When a worker is made anew: between two jobs, in good order, not counted as a crash.
/// By default never.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recycle {
    /// After this time, shortened by up to an eighth so that workers started together are
    /// not made anew together.
    #[serde(with = "optional_duration")]
    pub age: Option<Duration>,
    /// After that many jobs.
    pub jobs: Option<u64>,
    /// When it uses that many bytes after a job, as told by
    /// [`Worker::memory`](crate::Worker::memory) or by the pool's probe.
    pub memory: Option<u64>,
}

mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "crate::config::duration")] Duration);

    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(Text).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
    }
}
