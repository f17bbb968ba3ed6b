//! Trying again: how often, after which waits, for which errors, and within which budget.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::policy::backoff::Backoff;
use crate::sync::lock;

/// Tries an operation again while its error may pass. Usable alone.
#[derive(Debug, Clone)]
pub struct Retry {
    attempts: u32,
    backoff: Backoff,
    budget: Option<RetryBudget>,
}

impl Retry {
    /// At most so many attempts, the first included; waits by the default [`Backoff`].
    #[must_use]
    pub fn new(attempts: u32) -> Self {
        Self { attempts: attempts.max(1), backoff: Backoff::default(), budget: None }
    }

    /// The waits between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Shares a budget with other callers of the same thing.
    #[must_use]
    pub fn budget(mut self, budget: &RetryBudget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Runs `attempt` (its argument counts from 1) until it succeeds, `is_retryable` says
    /// no, or attempts or budget are used up.
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn run<T, E, F>(
        &self,
        is_retryable: impl Fn(&E) -> bool,
        mut attempt: impl FnMut(u32) -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
        let mut count = 1;
        loop {
            let error = match attempt(count).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let affordable = || self.budget.as_ref().is_none_or(RetryBudget::withdraw);
            if count >= self.attempts || !is_retryable(&error) || !affordable() {
                return Err(error);
            }
            let wait = self.backoff.wait(count, rand::random());
            if wait > Duration::ZERO {
                tokio::time::sleep(wait).await;
            }
            count += 1;
        }
    }
}

/// Bounds retries to a share of the first attempts of all who share it, so that retries
/// cannot multiply the load on something that already fails.
///
/// Source: Finagle, `RetryBudget`.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    purse: Arc<Mutex<Purse>>,
}

impl RetryBudget {
    /// `share` retries for each first attempt (0.1: one for ten), and `reserve` to begin
    /// with; never more than `reserve` and a hundred are saved up.
    #[must_use]
    pub fn new(share: f64, reserve: u32) -> Self {
        let purse = Purse::new(share.max(0.0), f64::from(reserve));
        Self { purse: Arc::new(Mutex::new(purse)) }
    }

    fn deposit(&self) {
        lock(&self.purse).deposit();
    }

    fn withdraw(&self) -> bool {
        lock(&self.purse).withdraw()
    }
}

#[derive(Debug)]
struct Purse {
    share: f64,
    tokens: f64,
    cap: f64,
}

impl Purse {
    fn new(share: f64, reserve: f64) -> Self {
        Self { share, tokens: reserve, cap: reserve + 100.0 }
    }

    fn deposit(&mut self) {
        self.tokens = (self.tokens + self.share).min(self.cap);
    }

    fn withdraw(&mut self) -> bool {
        // A share such as 0.1 is no exact number: ten of them must still buy one retry.
        let affordable = self.tokens > 1.0 - 1e-9;
        if affordable {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn only_retryable_errors_are_tried_again_and_only_so_often() {
        let retry = Retry::new(3).backoff(Backoff::immediate());
        let tried = Cell::new(0);
        let failing = |count| {
            tried.set(count);
            std::future::ready(Err::<(), u32>(count))
        };
        assert_eq!(retry.run(|_| true, failing).await, Err(3));
        assert_eq!(retry.run(|_| false, failing).await, Err(1));
        assert_eq!(tried.get(), 1);
    }

    proptest! {
        #[test]
        fn retries_never_exceed_their_share_of_the_attempts(
            share in 0.0f64..1.0, reserve in 0u32..5, asks in prop::collection::vec(0u32..4, 1..200),
        ) {
            let mut purse = Purse::new(share, f64::from(reserve));
            let (mut first, mut retried) = (0u32, 0u32);
            for wanted in asks {
                first += 1;
                purse.deposit();
                for _ in 0..wanted {
                    retried += u32::from(purse.withdraw());
                }
                prop_assert!(f64::from(retried) <= f64::from(reserve) + share * f64::from(first) + 1e-6);
            }
        }
    }
}
