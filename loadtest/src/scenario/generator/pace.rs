//! Waits until a moment to within some microseconds: tokio's own timers have a resolution of a
//! millisecond. A timer of the kernel wakes the task a little early, and for the rest it yields, so that
//! answers are handled meanwhile; but not at the very end, when handling them would take longer than
//! there is time. Those that come then are taken down up to [`ALONE`] late.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::monotonic;

/// How early it wakes at most: longer than it takes a process to come to a CPU that sleeps.
const EARLY: Duration = Duration::from_micros(250);

/// What of the time it may spend with waiting awake.
const AWAKE: f64 = 0.25;

/// How long before a moment nothing else is begun, at most: longer than a few answers take.
const ALONE: Duration = Duration::from_micros(60);

/// What of the time may be spent so.
const AWAKE_ALONE: f64 = 0.06;

/// Waits until moments.
#[derive(Debug)]
pub(crate) struct Pace {
    timer: AsyncFd<OwnedFd>,
}

impl Pace {
    /// For the runtime that calls it.
    ///
    /// # Errors
    /// If the system gives no timer.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(unsafe_code, reason = "tokio has no other way that is not deprecated")]
        // SAFETY: the timer owns its descriptor, which is the same one until the timer is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Self { timer })
    }

    /// Waits until `due`, in nanoseconds of [`monotonic::now`]. The longer the wait, the earlier it wakes:
    /// a quarter of it, at most [`EARLY`]. Of a sixteenth or so at the end, at most [`ALONE`], the
    /// thread does nothing else.
    ///
    /// # Errors
    /// If the timer cannot be set.
    pub(crate) async fn until(&self, due: u64) -> io::Result<()> {
        let now = monotonic::now();
        let Some(wait) = due.checked_sub(now).filter(|wait| *wait > 0) else { return Ok(()) };
        let before = |part: f64, most: Duration| {
            due - (wait as f64 * part).min(most.as_nanos() as f64) as u64
        };
        let (awake, alone) = (before(AWAKE, EARLY), before(AWAKE_ALONE, ALONE));
        // A shorter sleep ends later than it should.
        if wait > 20_000 {
            self.sleep(awake).await?;
        }
        loop {
            match monotonic::now() {
                now if now >= due => return Ok(()),
                now if now >= alone => std::hint::spin_loop(),
                _ => tokio::task::yield_now().await,
            }
        }
    }

    async fn sleep(&self, until: u64) -> io::Result<()> {
        let at = |nanos: u64| Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or_default(),
        };
        let once = Itimerspec { it_interval: at(0), it_value: at(until) };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expired = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expired)?));
            match read {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                // Not yet.
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_never_ends_early_and_at_once_when_it_is_late() {
        let pace = Pace::new().unwrap();
        for micros in [0, 5, 50, 500, 5_000] {
            let due = monotonic::now() + micros * 1_000;
            pace.until(due).await.unwrap();
            assert!(monotonic::now() >= due);
        }
        pace.until(0).await.unwrap();
    }
}
