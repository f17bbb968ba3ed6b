//! What a firmware uses of its machine, and when that is too much.
//!
//! The time for which a guest computes is counted in epochs of the engine that it meets: a sample
//! every [`TICK`], right on average and free otherwise.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use odeum_proto::store::{Measure, Threshold};
use tokio::time::Instant;

use super::engine::TICK;

/// What is smoothed over: long beside a message, short beside the patience of who looks.
const SMOOTHED_OVER: Duration = Duration::from_secs(10);

/// What all instances of one firmware have used. Clones are of the same.
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<AtomicU64>);

impl Usage {
    /// A guest has met an epoch.
    pub(super) fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// For how long guests have computed.
    #[must_use]
    pub fn computed(&self) -> Duration {
        let ticks = self.0.load(Ordering::Relaxed);
        TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }
}

/// For how long a process has computed; `None` when it is not there any more, or the system does not
/// tell. Source: proc(5), `/proc/PID/stat`.
pub(super) fn of_process(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name comes second, in parentheses, and may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields =
        fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let ticks = fields.next()? + fields.next()?;
    Some(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// What one firmware uses at present, from samples.
#[derive(Debug)]
pub(super) struct Gauge {
    last: (Instant, Duration),
    /// In percent of one core.
    cpu: f64,
    /// Since when each threshold is exceeded, and whether that was said.
    exceeded: Vec<Option<(Instant, bool)>>,
}

impl Gauge {
    pub(super) fn new(now: Instant, computed: Duration) -> Self {
        Self { last: (now, computed), cpu: 0.0, exceeded: Vec::new() }
    }

    /// The time for which it computes, in percent of one core.
    pub(super) fn cpu_percent(&self) -> u32 {
        // Not negative, and of cores there are few.
        self.cpu.round() as u32
    }

    /// Takes a sample; the thresholds that have been exceeded for long enough by now, each once
    /// until it is not exceeded any more.
    pub(super) fn sample<'a>(
        &mut self,
        now: Instant,
        computed: Duration,
        memory_bytes: u64,
        thresholds: &'a [Threshold],
    ) -> Vec<&'a Threshold> {
        let (at, before) = std::mem::replace(&mut self.last, (now, computed));
        let passed = now.duration_since(at).as_secs_f64();
        if passed > 0.0 {
            let percent = computed.saturating_sub(before).as_secs_f64() / passed * 100.0;
            let weight = 1.0 - (-passed / SMOOTHED_OVER.as_secs_f64()).exp();
            self.cpu += (percent - self.cpu) * weight;
        }
        self.exceeded.resize(thresholds.len(), None);
        let mut due = Vec::new();
        for (threshold, exceeded) in thresholds.iter().zip(&mut self.exceeded) {
            let is = match threshold.of {
                Measure::Cpu => u64::from(self.cpu.round() as u32),
                Measure::Memory => memory_bytes,
            };
            if is <= threshold.above {
                *exceeded = None;
                continue;
            }
            let (since, is_said) = exceeded.get_or_insert((now, false));
            if !*is_said && now.duration_since(*since) >= threshold.lasting {
                *is_said = true;
                due.push(threshold);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use odeum_proto::store::Remedy;

    use super::*;

    fn threshold(of: Measure, above: u64, secs: u64) -> Threshold {
        Threshold { of, above, lasting: Duration::from_secs(secs), then: Remedy::Warn }
    }

    #[test]
    fn what_a_process_has_computed_is_known_while_it_is_there() {
        let own = std::process::id();
        let before = of_process(own).expect("it is there");
        let start = std::time::Instant::now();
        while of_process(own).expect("it is there") < before + Duration::from_millis(20) {
            assert!(start.elapsed() < Duration::from_secs(30), "it does compute");
        }
        assert_eq!(of_process(u32::MAX), None);
    }

    #[test]
    fn the_smoothed_cpu_goes_to_what_is_used_and_back() {
        let start = Instant::now();
        let after = |secs: u64| start + Duration::from_secs(secs);
        let mut gauge = Gauge::new(start, Duration::ZERO);
        for secs in 1..=10 {
            gauge.sample(after(secs), Duration::from_secs(secs) / 2, 0, &[]);
        }
        // 1 - 1/e of it after the time that is smoothed over.
        assert!((30..=33).contains(&gauge.cpu_percent()), "{}", gauge.cpu_percent());
        for secs in 11..=60 {
            gauge.sample(after(secs), Duration::from_secs(secs) / 2, 0, &[]);
        }
        assert!((49..=50).contains(&gauge.cpu_percent()), "{}", gauge.cpu_percent());
        for secs in 61..=120 {
            gauge.sample(after(secs), Duration::from_secs(30), 0, &[]);
        }
        assert_eq!(gauge.cpu_percent(), 0);
    }

    #[test]
    fn a_threshold_is_told_once_it_lasts_and_again_after_a_break() {
        let start = Instant::now();
        let after = |secs: u64| start + Duration::from_secs(secs);
        let thresholds = [threshold(Measure::Memory, 100, 3), threshold(Measure::Cpu, 90, 0)];
        let mut gauge = Gauge::new(start, Duration::ZERO);
        let mut told = |secs: u64, memory: u64| {
            gauge.sample(after(secs), Duration::ZERO, memory, &thresholds).len()
        };
        assert_eq!([told(1, 101), told(2, 101), told(3, 101)], [0, 0, 0]);
        assert_eq!([told(4, 101), told(5, 200)], [1, 0], "once");
        assert_eq!([told(6, 100), told(7, 101), told(9, 101), told(10, 101)], [0, 0, 0, 1]);
    }
}
