//! What leaves the cache when its bounds are reached.

use std::collections::BTreeSet;

use odeum_proto::{Digest, limits};

use super::files::Files;
use crate::firmware::error::CacheError;

/// Disk for packages beyond those in use: some versions of some large packages to return to.
const SPARE_BYTES: u64 = 8 * limits::PACKAGE_BYTES as u64;

/// What goes: of those not in `used`, given the least recently used first with their sizes, as
/// many as are needed until the rest of them fits in `spare`.
pub(super) fn evicted(
    by_use: impl IntoIterator<Item = (Digest, u64)>,
    used: &BTreeSet<Digest>,
    spare: u64,
) -> Vec<Digest> {
    let unused: Vec<_> = by_use.into_iter().filter(|(digest, _)| !used.contains(digest)).collect();
    let mut total: u64 = unused.iter().map(|(_, size)| size).sum();
    let mut gone = Vec::new();
    for (digest, size) in unused {
        if total <= spare {
            break;
        }
        total -= size;
        gone.push(digest);
    }
    gone
}

/// Removes files until those that nothing uses fit in their bound. Blocks.
pub(super) fn make_room(files: &Files, used: &BTreeSet<Digest>) -> Result<(), CacheError> {
    for digest in evicted(files.list()?, used, SPARE_BYTES) {
        files.remove(digest)?;
        tracing::info!(package = %digest, "package evicted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_and_what_is_used_stays() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|text| Digest::of(text.as_bytes()));
        let by_use = [(a, 10), (b, 10), (c, 10), (d, 10)];
        let used = BTreeSet::from([a]);
        assert_eq!(evicted(by_use, &used, 30), []);
        assert_eq!(evicted(by_use, &used, 29), [b]);
        assert_eq!(evicted(by_use, &used, 10), [b, c]);
        assert_eq!(evicted(by_use, &used, 0), [b, c, d]);
    }
}
