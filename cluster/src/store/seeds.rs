//! Tests that make their own chances: from which seeds, and how to repeat one.
//!
//! `ODEUM_SEEDS=100000 cargo test …` tries so many, `ODEUM_SEED=4711 cargo test …` that one.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The seed of the only run that is wanted.
pub(super) const ONE: &str = "ODEUM_SEED";
/// How many runs are wanted.
const MANY: &str = "ODEUM_SEEDS";

/// Source: Steele, Lea, Flood 2014 (SplitMix64). The same numbers for a seed on every machine.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number of `range`.
    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// Whether it happens, which it does so many times of a hundred.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One time of three.
    pub(super) fn maybe<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(3) == 0).then(|| some(self))
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub(super) fn many<T>(&mut self, most: u64, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }
}

/// The seeds to try, `usual` of them unless told otherwise.
pub(super) fn seeds(usual: u64) -> Range<u64> {
    let told = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().unwrap_or_else(|_| panic!("{name} is {value}, no number")))
    };
    match told(ONE) {
        Some(seed) => seed..seed + 1,
        None => 0..told(MANY).unwrap_or(usual),
    }
}

/// Runs `history` from each seed; `test` is this test's name.
pub(super) fn from_each_seed(test: &str, usual: u64, history: impl Fn(u64)) {
    for seed in seeds(usual) {
        let run = catch_unwind(AssertUnwindSafe(|| history(seed)));
        assert!(run.is_ok(), "seed {seed}, its panic is above; again: {}", repeat(test, seed));
    }
}

/// The command that repeats a run.
pub(super) fn repeat(test: &str, seed: u64) -> String {
    format!("{ONE}={seed} cargo test -p odeum-cluster --lib -- --exact {test} --nocapture")
}
