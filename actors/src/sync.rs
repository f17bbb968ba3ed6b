//! Locks and the clock, as the whole crate uses them.
//!
//! Locking without poisoning: every lock of this crate guards data that stays valid when
//! a holder panics, because no user code runs while it is held.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Locks, ignoring that an earlier holder panicked.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Now, by the runtime's clock, which a test can stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
