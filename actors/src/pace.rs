//! Turns for others: what handles many messages in one go must not keep its thread for as long
//! as they happen to take.

use std::time::Duration;

use tokio::time::Instant;

/// How long one task may keep its thread, apart from the length of a single message: long beside
/// the cost of giving it up, short beside what others wait for.
const SLICE: Duration = Duration::from_micros(500);

/// Gives the other tasks of a thread their turn in the midst of many small pieces of work.
///
/// The runtime cannot: its own budget counts operations of its own, such as a message taken from
/// a channel of its own, and no handler that computes.
///
/// ```
/// # async fn example() {
/// let mut pace = odeum_actors::Pace::default();
/// for number in 0..1_000_000_u64 {
///     std::hint::black_box(number);
///     pace.step().await;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    steps: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { began: Instant::now(), steps: 0 }
    }
}

impl Pace {
    /// A piece of work is done. Others get their turn when it was time.
    ///
    /// Tells whether it was time to look at the clock. Who has something else to look at that
    /// time may have changed, looks then too, and is late by no more than this is.
    pub async fn step(&mut self) -> bool {
        self.steps = self.steps.wrapping_add(1);
        // The clock costs as much as a small message: it is read more and more rarely, and late
        // by at most as long as all before took.
        let looks = self.steps.is_power_of_two();
        if looks && self.began.elapsed() >= SLICE {
            tokio::task::yield_now().await;
            *self = Self::default();
        }
        looks
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Keeps the thread for a while.
    fn compute(time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn another_task_has_a_turn_after_every_long_piece_of_work() {
        let done = Arc::<AtomicUsize>::default();
        let work = Arc::clone(&done);
        let work = tokio::spawn(async move {
            let mut pace = Pace::default();
            for _ in 0..50 {
                compute(SLICE);
                work.fetch_add(1, Ordering::Relaxed);
                pace.step().await;
            }
        });
        let mut turns = 0;
        while !work.is_finished() {
            let before = done.load(Ordering::Relaxed);
            tokio::task::yield_now().await;
            assert!(done.load(Ordering::Relaxed) - before <= 1);
            turns += 1;
        }
        assert!(turns >= 50, "{turns}");
    }

    #[tokio::test]
    async fn small_work_goes_on_without_a_break() {
        let mut pace = Pace::default();
        let began = pace.began;
        for _ in 0..64 {
            pace.step().await;
        }
        // On a machine that is busy otherwise the slice may have been used up by others.
        assert!(pace.began == began || began.elapsed() >= SLICE);
    }
}
