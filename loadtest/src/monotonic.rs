//! The time that all processes of a machine share and nobody sets.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment before this machine did anything of ours.
#[must_use]
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default())
}
