//! What all generators measured, put together: totals, and a line in time of which only the latest part is
//! kept in full, so that memory does not grow with the length of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::measure::{Counts, Second};

/// Points of a line in time, about.
const POINTS: u64 = 600;

/// A part of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it began, in seconds from the beginning of the load.
    pub at_s: f64,
    /// How long it is, in seconds.
    pub width_s: f64,
    /// Requests that were answered, a second.
    pub rate: f64,
    /// Requests that failed or were dropped, a second.
    pub errors: f64,
    /// What half of the answers did not exceed, in milliseconds.
    pub p50_ms: f64,
    /// What 99 of a hundred did not exceed, in milliseconds.
    pub p99_ms: f64,
    /// The longest, in milliseconds.
    pub max_ms: f64,
    /// Memory of the largest node, in bytes.
    pub memory_bytes: u64,
}

/// What was measured so far.
#[derive(Debug)]
pub(crate) struct Collected {
    /// Seconds of a point.
    width: u32,
    /// Points to which something may still come.
    open: BTreeMap<u32, (Counts, u64)>,
    closed: Vec<Point>,
    /// All of it.
    pub(crate) whole: Second,
}

impl Collected {
    /// Nothing, of a load of so many seconds to so many targets.
    pub(crate) fn new(seconds: u64, targets: usize) -> Self {
        let width = u32::try_from(seconds.div_ceil(POINTS)).unwrap_or(u32::MAX).max(1);
        Self { width, open: BTreeMap::new(), closed: Vec::new(), whole: Second::of(targets) }
    }

    /// Takes what a generator measured of a second.
    pub(crate) fn take(&mut self, number: u32, second: &Second) {
        self.whole.add(second);
        let (counts, _) = self.open.entry(number / self.width).or_default();
        counts.add(&second.all());
    }

    /// Takes the memory of the largest node in a second.
    pub(crate) fn takes_memory(&mut self, number: u32, bytes: u64) {
        // Before the first answer and after the last one there is no point.
        if let Some((_, memory)) = self.open.get_mut(&(number / self.width)) {
            *memory = bytes.max(*memory);
        }
    }

    /// Nothing comes any more of what was due before that second.
    pub(crate) fn close_before(&mut self, number: u32) {
        let later = self.open.split_off(&(number / self.width));
        let over = std::mem::replace(&mut self.open, later);
        self.closed.extend(over.iter().map(|(at, of)| point(*at, self.width, of)));
    }

    /// The line so far.
    pub(crate) fn points(&self) -> Vec<Point> {
        let open = self.open.iter().map(|(at, of)| point(*at, self.width, of));
        self.closed.iter().copied().chain(open).collect()
    }

    /// The latest points, at most so many.
    pub(crate) fn latest(&self, most: usize) -> Vec<Point> {
        let open = self.open.iter().rev().map(|(at, of)| point(*at, self.width, of));
        let mut latest: Vec<_> = open.chain(self.closed.iter().rev().copied()).take(most).collect();
        latest.reverse();
        latest
    }
}

fn point(at: u32, width: u32, (counts, memory): &(Counts, u64)) -> Point {
    let seconds = f64::from(width);
    let millis = |micros: u64| micros as f64 / 1_000.0;
    Point {
        at_s: f64::from(at) * seconds,
        width_s: seconds,
        rate: counts.answered as f64 / seconds,
        errors: (counts.failed + counts.dropped) as f64 / seconds,
        p50_ms: millis(counts.times.percentile(50.0)),
        p99_ms: millis(counts.times.percentile(99.0)),
        max_ms: millis(counts.times.longest()),
        memory_bytes: *memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(answered: u64, micros: u64) -> Second {
        let mut second = Second::of(1);
        second.targets[0].answered = answered;
        (0..answered).for_each(|_| second.targets[0].times.record(micros));
        second
    }

    #[test]
    fn parts_of_a_second_from_several_generators_are_one_point() {
        let mut collected = Collected::new(10, 1);
        collected.take(3, &second(2, 1_000));
        collected.take(3, &second(3, 5_000));
        collected.take(4, &second(1, 9_000));
        let points = collected.points();
        assert_eq!(points.len(), 2);
        assert!((points[0].rate - 5.0).abs() < 1e-9 && (points[0].max_ms - 5.0).abs() < 0.1);
        assert_eq!(collected.whole.all().answered, 6);
    }

    #[test]
    fn an_hour_is_some_hundred_points_and_only_the_latest_are_kept_in_full() {
        let mut collected = Collected::new(3_600, 1);
        for number in 0..3_600_u32 {
            collected.take(number, &second(1, 100));
            collected.close_before(number.saturating_sub(20));
        }
        assert!(collected.open.len() <= 5, "{}", collected.open.len());
        let points = collected.points();
        assert_eq!(points.len(), 600);
        assert!(points.windows(2).all(|pair| pair[0].at_s < pair[1].at_s));
        assert!((points[7].rate - 1.0).abs() < 1e-9);
        assert_eq!(collected.latest(3).last(), points.last());
    }
}
