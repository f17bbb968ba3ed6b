//! When each request is to be sent: pure, decided by the phases alone, before anything is sent.
//!
//! The number of requests that are due at a time is the integral of the rate. The k-th one is due when
//! that integral is k, so that no rounding adds up, whatever the rates. Several generators take turns:
//! each has every n-th of the whole.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::spec::{Arrivals, Phase};

/// A phase in its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Segment {
    /// When it begins.
    pub(crate) begins: Duration,
    /// How long it is.
    pub(crate) lasts: Duration,
    /// Requests a second at its beginning and at its end; none in a closed loop.
    pub(crate) rates: (f64, f64),
    /// Clients of a closed loop.
    pub(crate) clients: usize,
}

impl Segment {
    /// Those of some phases.
    pub(crate) fn all(phases: &[Phase]) -> Vec<Self> {
        let mut begins = Duration::ZERO;
        let segment = |phase: &Phase| {
            let (rates, clients) = match phase {
                Phase::Ramp { from, to, .. } => ((*from, *to), 0),
                Phase::Hold { rate: Some(rate), .. } | Phase::Spike { rate, .. } => {
                    ((*rate, *rate), 0)
                }
                Phase::Hold { clients, .. } => ((0.0, 0.0), clients.unwrap_or_default()),
            };
            let segment = Self { begins, lasts: phase.lasts(), rates, clients };
            begins += phase.lasts();
            segment
        };
        phases.iter().map(segment).collect()
    }

    /// When it is over.
    pub(crate) fn ends(&self) -> Duration {
        self.begins + self.lasts
    }

    /// Requests of the whole of it.
    fn total(&self) -> f64 {
        f64::midpoint(self.rates.0, self.rates.1) * self.lasts.as_secs_f64()
    }

    /// After how long so many requests are due.
    fn until(&self, count: f64) -> Duration {
        let (from, to) = self.rates;
        let slope = (to - from) / self.lasts.as_secs_f64();
        // The solution of slope / 2 t² + from t = count that does not divide by the slope.
        let root = (from * from + 2.0 * slope * count).max(0.0).sqrt();
        let seconds = 2.0 * count / (from + root);
        Duration::try_from_secs_f64(seconds).unwrap_or_default().min(self.lasts)
    }
}

/// The times of one segment, from its beginning on.
#[derive(Debug)]
pub(crate) struct Due {
    segment: Segment,
    /// What one generator has of the whole.
    share: f64,
    /// The place of the next one among those of this generator; it need not be a whole number.
    next: f64,
    random: Option<StdRng>,
}

impl Due {
    /// For generator `index` of `of`.
    pub(crate) fn new(
        segment: Segment,
        arrivals: Arrivals,
        (index, of): (usize, usize),
        seed: u64,
    ) -> Self {
        let mut random = match arrivals {
            Arrivals::Even => None,
            Arrivals::Poisson => Some(StdRng::seed_from_u64(seed)),
        };
        let first = match &mut random {
            // Generators send in turn.
            None => (index as f64 + 0.5) / of as f64,
            Some(random) => exponential(random),
        };
        Self { segment, share: 1.0 / of as f64, next: first, random }
    }
}

impl Iterator for Due {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let count = self.next / self.share;
        if count >= self.segment.total() {
            return None;
        }
        self.next += self.random.as_mut().map_or(1.0, exponential);
        Some(self.segment.begins + self.segment.until(count))
    }
}

/// The distance to the next of events that know nothing of each other, of mean 1.
fn exponential(random: &mut StdRng) -> f64 {
    -(1.0 - random.random::<f64>()).ln()
}

#[cfg(test)]
mod tests {
    use odeum_runtime::config::HumanDuration;
    use proptest::prelude::*;

    use super::*;

    fn ramp(from: f64, to: f64, millis: u64) -> Segment {
        let lasts = HumanDuration(Duration::from_millis(millis));
        Segment::all(&[Phase::Ramp { from, to, lasts }])[0]
    }

    fn due(segment: Segment, arrivals: Arrivals, of: usize) -> Vec<Duration> {
        let one = |index| Due::new(segment, arrivals, (index, of), index as u64);
        let mut all: Vec<_> = (0..of).flat_map(one).collect();
        all.sort();
        all
    }

    proptest! {
        #[test]
        fn a_phase_has_as_many_sends_as_its_rates_say_whoever_sends_them(
            from in 0.0..5_000.0, to in 0.0..5_000.0, millis in 1_u64..5_000, of in 1_usize..9,
        ) {
            let segment = ramp(from, to, millis);
            let all = due(segment, Arrivals::Even, of);
            let whole = segment.total();
            prop_assert!((all.len() as f64 - whole).abs() <= 1.0 + of as f64 / 2.0, "{} of {whole}", all.len());
            prop_assert!(all.iter().all(|at| *at <= segment.lasts));
        }

        #[test]
        fn the_sends_until_any_moment_are_as_many_as_were_due(
            from in 0.0..2_000.0, to in 0.0..2_000.0, share in 0.0..1.0,
        ) {
            let segment = ramp(from, to, 2_000);
            let moment = segment.lasts.mul_f64(share);
            let sent = due(segment, Arrivals::Even, 4).iter().filter(|at| **at <= moment).count();
            let seconds = moment.as_secs_f64();
            let was_due = from * seconds + (to - from) / 4.0 * seconds * seconds;
            prop_assert!((sent as f64 - was_due).abs() <= 3.0, "{sent} of {was_due}");
        }

        #[test]
        fn sends_of_a_generator_are_in_order(from in 0.0..2_000.0, to in 0.0..2_000.0, seed: u64) {
            for arrivals in [Arrivals::Even, Arrivals::Poisson] {
                let all: Vec<_> = Due::new(ramp(from, to, 700), arrivals, (0, 1), seed).collect();
                prop_assert!(all.is_sorted());
            }
        }
    }

    #[test]
    fn random_arrivals_have_the_rate_and_are_the_same_for_a_seed() {
        let segment = ramp(1_000.0, 1_000.0, 20_000);
        let all = due(segment, Arrivals::Poisson, 2);
        assert!((19_000..21_000).contains(&all.len()), "{}", all.len());
        assert_eq!(all, due(segment, Arrivals::Poisson, 2));
        let gaps = all.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
        let below_mean = gaps.filter(|gap| *gap < 0.001).count() as f64 / all.len() as f64;
        // 1 - 1/e of them.
        assert!((0.61..0.65).contains(&below_mean), "{below_mean}");
    }

    #[test]
    fn phases_follow_each_other() {
        let second = HumanDuration(Duration::from_secs(1));
        let phases = [
            Phase::Ramp { from: 0.0, to: 100.0, lasts: second },
            Phase::Hold { rate: None, clients: Some(4), lasts: second },
            Phase::Spike { rate: 500.0, lasts: second },
        ];
        let segments = Segment::all(&phases);
        assert_eq!(segments[2].begins, Duration::from_secs(2));
        assert_eq!(segments[1].clients, 4);
        assert!(Due::new(segments[1], Arrivals::Even, (0, 1), 0).next().is_none());
        let total: f64 = segments.iter().map(Segment::total).sum();
        assert!((total - 550.0).abs() < 1e-9);
    }
}
