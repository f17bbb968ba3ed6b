//! What leaves the cache when its bound is reached.

use std::collections::BTreeSet;

use odeum_proto::Digest;

/// What goes: of those not in `used`, given the least recently used first, as many as are needed
/// until no more than `spare` of them are left.
pub(super) fn evicted(
    by_use: impl IntoIterator<Item = Digest>,
    used: &BTreeSet<Digest>,
    spare: usize,
) -> Vec<Digest> {
    let mut unused: Vec<_> = by_use.into_iter().filter(|digest| !used.contains(digest)).collect();
    unused.truncate(unused.len().saturating_sub(spare));
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_and_what_is_used_stays() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|text| Digest::of(text.as_bytes()));
        let by_use = [a, b, c, d];
        let used = BTreeSet::from([a]);
        assert_eq!(evicted(by_use, &used, 3), []);
        assert_eq!(evicted(by_use, &used, 2), [b]);
        assert_eq!(evicted(by_use, &used, 1), [b, c]);
        assert_eq!(evicted(by_use, &used, 0), [b, c, d]);
    }
}
