//! How long to wait before a restart. A pure function of the number of crashes in a row.

use std::time::Duration;

/// How long a supervisor waits before it starts a crashed child again.
///
/// The wait grows with the number of crashes in a row; a child that then ran for
/// `reset_after` counts as healthy and its next crash as the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    curve: Curve,
    jitter: bool,
    reset_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Curve {
    Immediate,
    Fixed(Duration),
    Linear { step: Duration, cap: Duration },
    Exponential { first: Duration, cap: Duration },
}

impl Backoff {
    /// No wait.
    #[must_use]
    pub fn immediate() -> Self {
        Self::of(Curve::Immediate, false)
    }

    /// Always the same wait.
    #[must_use]
    pub fn fixed(wait: Duration) -> Self {
        Self::of(Curve::Fixed(wait), false)
    }

    /// `step`, `2·step`, `3·step` … up to `cap`.
    #[must_use]
    pub fn linear(step: Duration, cap: Duration) -> Self {
        Self::of(Curve::Linear { step, cap }, false)
    }

    /// `first`, `2·first`, `4·first` … up to `cap`, with full jitter: the wait is drawn
    /// evenly between zero and that.
    ///
    /// Source: Brooker 2015, "Exponential Backoff And Jitter".
    #[must_use]
    pub fn exponential(first: Duration, cap: Duration) -> Self {
        Self::of(Curve::Exponential { first, cap }, true)
    }

    /// With or without full jitter.
    #[must_use]
    pub fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// After how long a run counts as healthy; by default 30 s.
    #[must_use]
    pub fn reset_after(mut self, healthy: Duration) -> Self {
        self.reset_after = healthy;
        self
    }

    /// The wait before the restart after the `streak`-th crash in a row (the first is 1).
    /// `random` is between 0 and 1 and used only with jitter.
    #[must_use]
    pub fn wait(&self, streak: u32, random: f64) -> Duration {
        let ceiling = match self.curve {
            Curve::Immediate => Duration::ZERO,
            Curve::Fixed(wait) => wait,
            Curve::Linear { step, cap } => step.saturating_mul(streak).min(cap),
            Curve::Exponential { first, cap } => {
                let doublings = streak.saturating_sub(1);
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                first.saturating_mul(factor).min(cap)
            }
        };
        if self.jitter { ceiling.mul_f64(random.clamp(0.0, 1.0)) } else { ceiling }
    }

    /// Whether a run of this length was healthy.
    pub(crate) fn is_healthy(&self, ran: Duration) -> bool {
        ran >= self.reset_after
    }

    fn of(curve: Curve, jitter: bool) -> Self {
        Self { curve, jitter, reset_after: Duration::from_secs(30) }
    }
}

impl Default for Backoff {
    /// Exponential with full jitter from 50 ms to 5 s: a glitch is over at once, a lasting
    /// fault does not burn a core.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(50), Duration::from_secs(5))
    }
}
