//! What is random in this process, decided by a seed.
//!
//! Everything that draws chance in Rust (the keys of hash maps, `rand`'s generators and with them
//! openraft's election timeouts, ids) draws it from `getrandom`, and each thread keeps what it has
//! drawn. So a thread whose `getrandom` is decided before it has drawn any does the same each time.

use std::cell::Cell;
use std::fs::File;
use std::io::Read as _;

use crate::store::seeds::Random;

thread_local! {
    static DECIDED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Decides what this thread draws from now on.
pub(super) fn decide(seed: u64) {
    DECIDED.set(Some(seed));
}

/// Takes the place of the C library's, in the binary of these tests and nowhere else. A thread of
/// which nothing was decided draws from the system, by another way.
///
/// # Safety
/// As of getrandom(2): `length` bytes from `buffer` on can be written.
#[expect(unsafe_code, reason = "the one place that all randomness of a process comes from")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller promises so many bytes that can be written, and zero is a byte.
    let bytes = unsafe {
        buffer.write_bytes(0, length);
        std::slice::from_raw_parts_mut(buffer, length)
    };
    let drawn = match DECIDED.get() {
        Some(state) => {
            let mut random = Random::new(state);
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
            }
            DECIDED.set(Some(random.next()));
            true
        }
        None => File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes)).is_ok(),
    };
    if drawn { isize::try_from(length).unwrap_or(isize::MAX) } else { -1 }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    /// What a new thread draws from each source.
    fn drawn(seed: u64) -> (u64, u64, odeum_proto::DiskId) {
        let thread = std::thread::spawn(move || {
            decide(seed);
            (RandomState::new().hash_one(1), rand::random(), odeum_proto::DiskId::random())
        });
        thread.join().expect("no panic")
    }

    #[test]
    fn a_seed_decides_all_that_a_thread_draws() {
        assert_eq!(drawn(1), drawn(1));
        let (first, second) = (drawn(1), drawn(2));
        assert!(first.0 != second.0 && first.1 != second.1 && first.2 != second.2);
    }

    #[test]
    fn a_thread_of_which_nothing_is_decided_draws_from_the_system() {
        let draw = || std::thread::spawn(rand::random::<u64>).join().expect("no panic");
        assert_ne!(draw(), draw());
    }
}
