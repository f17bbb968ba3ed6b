//! What makes room. Pure.

use std::{cmp::Reverse, time::SystemTime};

use super::folder::Entry;

/// The keys of those that have to go so that the others take at most `size` bytes: the least recently
/// used. Of the same time, any process takes the same ones.
pub(super) fn victims(mut entries: Vec<Entry>, size: u64, now: SystemTime) -> Vec<String> {
    // A use that a wrong clock put into the future is no better than one of now.
    entries.sort_by_cached_key(|entry| (Reverse(entry.last_use.min(now)), entry.key.clone()));
    let mut together = 0_u64;
    let mut victims = Vec::new();
    for Entry { key, bytes, .. } in entries {
        match together.checked_add(bytes).filter(|together| *together <= size) {
            Some(more) if victims.is_empty() => together = more,
            // Nothing older stays in the place of something newer.
            _ => victims.push(key),
        }
    }
    victims
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn entry(key: &str, bytes: u64, used: u64) -> Entry {
        let last_use = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
        Entry { key: key.to_owned(), bytes, last_use }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let entries = vec![entry("b", 4, 2), entry("a", 4, 1), entry("c", 4, 3)];
        assert_eq!(victims(entries.clone(), 12, at(9)), [""; 0]);
        assert_eq!(victims(entries.clone(), 11, at(9)), ["a"]);
        assert_eq!(victims(entries, 4, at(9)), ["b", "a"]);
    }

    #[test]
    fn a_use_in_the_future_protects_no_more_than_one_of_now() {
        let entries = vec![entry("b", 4, 900), entry("a", 4, 5)];
        assert_eq!(victims(entries, 4, at(5)), ["b"]);
    }

    proptest! {
        #[test]
        fn what_stays_fits_and_was_used_after_what_goes(
            files in prop::collection::vec((0_u64..50, 0_u64..20), 0..12), size in 0_u64..200,
        ) {
            let entries: Vec<Entry> = (0..)
                .zip(&files)
                .map(|(n, (bytes, used))| entry(&format!("{n:02}"), *bytes, *used))
                .collect();
            let gone = victims(entries.clone(), size, at(100));
            let (gone, stay): (Vec<_>, Vec<_>) =
                entries.iter().partition(|entry| gone.contains(&entry.key));
            prop_assert!(stay.iter().map(|entry| entry.bytes).sum::<u64>() <= size);
            let last = gone.iter().map(|entry| entry.last_use).max();
            prop_assert!(stay.iter().all(|entry| Some(entry.last_use) >= last));
            prop_assert!(gone.is_empty() || entries.iter().map(|e| e.bytes).sum::<u64>() > size);
        }
    }
}
