//! A circuit breaker: stops calling what keeps failing, and tries again carefully.
//!
//! Source: Nygard 2007, "Release It!", §5.2. Usable alone; every clone shares one state.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;

use crate::sync::lock;

use self::state::State;

pub(crate) mod state;

/// What opens a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trip {
    /// That many failures in a row.
    Consecutive(u32),
    /// A share of failures among the last calls.
    Rate {
        /// The share that opens it, between 0 and 1.
        failures: f64,
        /// Among how many of the last calls; fewer never open it.
        of_last: u32,
    },
}

/// When a breaker opens and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerConfig {
    /// What opens it.
    pub trip: Trip,
    /// How long it stays open before it lets calls try. Longer spares the callee, shorter
    /// notices its recovery sooner.
    pub open_for: Duration,
    /// How many tries must succeed, and may run at once, when it is half open.
    pub trials: u32,
}

impl Default for BreakerConfig {
    /// Opens after five failures in a row, for ten seconds, closes after one good try.
    fn default() -> Self {
        Self { trip: Trip::Consecutive(5), open_for: Duration::from_secs(10), trials: 1 }
    }
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// A few tries.
    HalfOpen,
}

/// Why a call through a breaker failed.
#[derive(Debug, Error)]
pub enum BreakerError<E> {
    /// The breaker is open: the call was not made.
    #[error("the breaker is open for another {remaining:?}")]
    Open {
        /// When it lets calls try again; zero while tries are under way.
        remaining: Duration,
    },
    /// The call was made and failed.
    #[error(transparent)]
    Failed(E),
}

/// A circuit breaker.
#[derive(Clone)]
pub struct Breaker {
    state: Arc<Mutex<State>>,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(config))) }
    }

    /// Makes a call unless the breaker is open. A call whose future is dropped counts as
    /// failed.
    ///
    /// # Errors
    /// The call's own error, or that the breaker is open.
    pub async fn call<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>> {
        let mut attempt = self.admit().map_err(|remaining| BreakerError::Open { remaining })?;
        let result = call.await;
        attempt.succeeded = result.is_ok();
        result.map_err(BreakerError::Failed)
    }

    /// What it lets through now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        lock(&self.state).view(crate::sync::now())
    }

    fn admit(&self) -> Result<Attempt<'_>, Duration> {
        let ticket = lock(&self.state).admit(crate::sync::now())?;
        Ok(Attempt { breaker: self, ticket, succeeded: false })
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Records the outcome when it is dropped, however that comes.
struct Attempt<'a> {
    breaker: &'a Breaker,
    ticket: state::Ticket,
    succeeded: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        lock(&self.breaker.state).record(self.ticket, self.succeeded, crate::sync::now());
    }
}
