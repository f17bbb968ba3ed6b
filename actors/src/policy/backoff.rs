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
    Logistic { cap: Duration, middle: u32 },
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

    /// An S-curve up to `cap`: short waits for the first few crashes, half of `cap` after
    /// `middle` of them, nearly `cap` after twice as many. Patient with a glitch, and firm
    /// with a lasting fault.
    #[must_use]
    pub fn logistic(cap: Duration, middle: u32) -> Self {
        Self::of(Curve::Logistic { cap, middle: middle.max(1) }, false)
    }

    /// For firmware: logistic up to a minute, half of it after five crashes in a row; ten
    /// minutes without a crash are healthy. With [`Intensity::firmware`], a firmware that
    /// crashes more than ten times in an hour is given up.
    ///
    /// [`Intensity::firmware`]: crate::Intensity::firmware
    #[must_use]
    pub fn firmware() -> Self {
        Self::logistic(Duration::from_secs(60), 5).reset_after(Duration::from_secs(600))
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
            Curve::Logistic { cap, middle } => {
                let middle = f64::from(middle);
                // Steep enough that the curve begins at a hundredth of the cap.
                let steepness = 99.0_f64.ln() / middle.max(2.0);
                let share = 1.0 / (1.0 + (-steepness * (f64::from(streak) - middle)).exp());
                cap.mul_f64(share.clamp(0.0, 1.0))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_backoff() -> impl Strategy<Value = Backoff> {
        let millis = || (0u64..100_000).prop_map(Duration::from_millis);
        prop_oneof![
            Just(Backoff::immediate()),
            millis().prop_map(Backoff::fixed),
            (millis(), millis()).prop_map(|(step, cap)| Backoff::linear(step, cap)),
            (millis(), millis()).prop_map(|(first, cap)| Backoff::exponential(first, cap)),
            (millis(), 0u32..50).prop_map(|(cap, middle)| Backoff::logistic(cap, middle)),
        ]
    }

    proptest! {
        #[test]
        fn a_wait_never_shrinks_with_more_crashes_and_never_exceeds_its_cap(
            backoff in any_backoff(), streak in 1u32..10_000, random in 0.0f64..=1.0,
        ) {
            let full = backoff.jitter(false);
            prop_assert!(full.wait(streak, 0.0) <= full.wait(streak + 1, 0.0));
            prop_assert!(full.wait(streak, 0.0) <= full.wait(u32::MAX, 0.0));
            prop_assert!(backoff.jitter(true).wait(streak, random) <= full.wait(streak, 0.0));
        }
    }

    #[test]
    fn firmware_waits_at_most_a_minute_and_half_of_it_after_five_crashes() {
        let seconds: Vec<u64> =
            [1, 3, 5, 7, 20].map(|streak| Backoff::firmware().wait(streak, 0.0).as_secs()).into();
        assert_eq!(seconds, [1, 8, 30, 51, 59]);
    }
}
