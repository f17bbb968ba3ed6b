//! Locking a file against other processes.

use std::fs::{File, TryLockError};
use std::time::Duration;

/// How often and how long a lock that is held is tried again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Locks `file`, waiting a moment if it is locked. Blocks.
///
/// A lock that was just given up may still be held for an instant: a process that this one starts
/// inherits all open files and closes them a little later, when it becomes its own program.
pub(super) fn lock_patiently(file: &File) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    file.try_lock()
}
