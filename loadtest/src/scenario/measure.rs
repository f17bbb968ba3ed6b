//! What was measured: counts and HDR histograms, which processes send to each other and which add up.
//!
//! Times are microseconds. A histogram tells each to three significant digits, up to ten minutes; what
//! took longer counts as that.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrDeserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// The longest time that is told apart, in microseconds.
const LONGEST: u64 = 600_000_000;

/// Significant digits of a time.
const DIGITS: u8 = 3;

/// Times of requests.
#[derive(Debug, Clone, Default)]
pub struct Times(Option<Box<Histogram<u64>>>);

impl Times {
    /// One more, in microseconds.
    pub fn record(&mut self, micros: u64) {
        if self.0.is_none() {
            // Fails for bounds that make no sense, which these do.
            self.0 = Histogram::new_with_bounds(1, LONGEST, DIGITS).ok().map(Box::new);
        }
        if let Some(times) = &mut self.0 {
            times.saturating_record(micros.max(1));
        }
    }

    /// Adds those of others.
    pub fn add(&mut self, others: &Self) {
        match (&mut self.0, &others.0) {
            // Both have the same bounds, so that each of theirs has its place.
            (Some(own), Some(others)) => drop(own.add(&**others)),
            (None, Some(_)) => self.0.clone_from(&others.0),
            (_, None) => {}
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |times| times.len())
    }

    /// What so many of a hundred do not exceed, in microseconds; 0 when there are none.
    #[must_use]
    pub fn percentile(&self, of: f64) -> u64 {
        self.0.as_ref().map_or(0, |times| times.value_at_quantile(of / 100.0))
    }

    /// The longest, in microseconds.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.0.as_ref().map_or(0, |times| times.max())
    }

    /// The mean, in microseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |times| times.mean())
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Some(times) = &self.0 else { return to.serialize_none() };
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(times, &mut bytes).map_err(ser::Error::custom)?;
        to.serialize_some(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(Self::default()) };
        let bytes = BASE64.decode(text).map_err(de::Error::custom)?;
        let times = HdrDeserializer::new().deserialize(&mut bytes.as_slice());
        times.map(|times| Self(Some(Box::new(times)))).map_err(de::Error::custom)
    }
}

/// What came of the requests to one target, as far as they were to be sent in some time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that were sent.
    pub sent: u64,
    /// Those that were answered as they should be.
    pub answered: u64,
    /// Those that failed.
    pub failed: u64,
    /// Requests that were not sent, for too many were under way.
    pub dropped: u64,
    /// Requests that were sent late.
    pub late: u64,
    /// Tries beyond the first of each.
    pub retried: u64,
    /// Bytes of messages and values that were sent.
    pub bytes: u64,
    /// How long those took that were answered, from when they were to be sent.
    pub times: Times,
    /// Why others failed, and how many.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds those of another generator or another time.
    pub fn add(&mut self, others: &Self) {
        self.sent += others.sent;
        self.answered += others.answered;
        self.failed += others.failed;
        self.dropped += others.dropped;
        self.late += others.late;
        self.retried += others.retried;
        self.bytes += others.bytes;
        self.times.add(&others.times);
        for (error, count) in &others.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
    }

    /// Requests that were due.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.sent + self.dropped
    }

    /// The share of those that were due and were not answered, in percent. Those still under way count
    /// as neither.
    #[must_use]
    pub fn error_percent(&self) -> f64 {
        let wrong = self.failed + self.dropped;
        let all = wrong + self.answered;
        if all == 0 { 0.0 } else { 100.0 * wrong as f64 / all as f64 }
    }
}

/// What one generator did, as far as it was to be done in one second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Second {
    /// Of each target, by place.
    pub targets: Vec<Counts>,
    /// How late sends were in an open loop.
    pub lateness: Times,
}

impl Second {
    /// Nothing, of so many targets.
    #[must_use]
    pub fn of(targets: usize) -> Self {
        Self { targets: vec![Counts::default(); targets], lateness: Times::default() }
    }

    /// Adds what another generator did, or the same one later.
    pub fn add(&mut self, others: &Self) {
        for (own, others) in self.targets.iter_mut().zip(&others.targets) {
            own.add(others);
        }
        self.lateness.add(&others.lateness);
    }

    /// All targets as one.
    #[must_use]
    pub fn all(&self) -> Counts {
        let mut all = Counts::default();
        self.targets.iter().for_each(|counts| all.add(counts));
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(of: &[u64]) -> Times {
        let mut times = Times::default();
        of.iter().for_each(|micros| times.record(*micros));
        times
    }

    fn same(one: &Times, other: &Times) -> bool {
        let all = [0.0, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0];
        one.count() == other.count()
            && one.longest() == other.longest()
            && all.iter().all(|of| one.percentile(*of) == other.percentile(*of))
    }

    proptest! {
        #[test]
        fn histograms_of_several_processes_are_that_of_one_that_saw_everything(
            parts in prop::collection::vec(prop::collection::vec(1_u64..700_000_000, 0..60), 0..6),
        ) {
            let mut merged = Times::default();
            for part in &parts {
                let sent = serde_json::to_string(&times(part)).unwrap();
                merged.add(&serde_json::from_str(&sent).unwrap());
            }
            prop_assert!(same(&merged, &times(&parts.concat())));
        }

        #[test]
        fn a_percentile_is_a_time_that_was_recorded_to_three_digits(
            mut all in prop::collection::vec(1_u64..100_000_000, 1..100), of in 1.0..100.0,
        ) {
            let told = times(&all).percentile(of) as f64;
            all.sort_unstable();
            let at = (all.len() as f64 * of / 100.0).ceil() as usize;
            let exact = all[at.clamp(1, all.len()) - 1] as f64;
            prop_assert!((told - exact).abs() <= exact / 500.0 + 1.0, "{told} for {exact}");
        }

        #[test]
        fn counts_add_up_in_any_order(sent in prop::collection::vec(0_u64..100, 3)) {
            let one = |n: u64| Counts {
                sent: n, answered: n, errors: [(format!("e{}", n % 2), n)].into(), ..Counts::default()
            };
            let sum = |order: [usize; 3]| {
                let mut sum = Counts::default();
                order.iter().for_each(|at| sum.add(&one(sent[*at])));
                (sum.sent, sum.answered, sum.errors)
            };
            prop_assert_eq!(sum([0, 1, 2]), sum([2, 0, 1]));
        }
    }

    #[test]
    fn what_was_dropped_counts_as_an_error() {
        let counts = Counts { sent: 9, answered: 8, failed: 1, dropped: 1, ..Counts::default() };
        assert!((counts.error_percent() - 20.0).abs() < 1e-9 && counts.due() == 10);
        assert!(Counts::default().error_percent().abs() < 1e-9);
    }
}
