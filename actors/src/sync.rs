//! Locking without poisoning: every lock of this crate guards data that stays valid when
//! a holder panics, because no user code runs while it is held.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, ignoring that an earlier holder panicked.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
