//! Which shard of its kind an entity belongs to.
//!
//! A pure function of the key and the number of shards, the same on every node and for ever: the
//! number of a kind's shards never changes, so an entity never changes its shard, only the shard
//! its node. No table has a row per entity.

use crate::ids::EntityKey;

/// The shard of `key` when its kind has `shards` of them: 0 ≤ result < `shards`; 0 when there are
/// none, which no kind has.
///
/// FNV-1a over the key's bytes, the finaliser of MurmurHash3 over that (FNV alone leaves the high
/// bits of short keys alike), then the high half of the product with `shards`. Sources: Fowler,
/// Noll, Vo 1991; Appleby 2011; Lemire 2019, "Fast random integer generation in an interval".
#[must_use]
pub fn shard_of(key: &EntityKey, shards: u16) -> u16 {
    let product = u128::from(mixed(fnv(key.as_str().as_bytes()))) * u128::from(shards);
    // Below `shards`, because the factor is below 2^64.
    u16::try_from(product >> 64).unwrap_or_default()
}

fn fnv(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits;

    fn key(text: &str) -> EntityKey {
        text.parse().expect("a key")
    }

    /// When this fails, undo the change: entities with state in the store would be looked for in
    /// shards of other nodes, whatever the wire version.
    #[test]
    fn a_key_has_the_same_shard_for_ever() {
        let keys = ["a", "b", "user-1", "user-2", "rack/7/lamp", "0123456789abcdef"];
        let shards = |n| keys.map(|text| shard_of(&key(text), n));
        assert_eq!(shards(64), [32, 27, 16, 42, 58, 39]);
        assert_eq!(shards(1_000), [510, 431, 256, 663, 920, 624]);
        assert_eq!(shards(1), [0; 6]);
        assert_eq!(shards(0), [0; 6]);
    }

    /// A shard with far more entities than others would make its node busier than its share.
    #[test]
    fn numbered_keys_spread_evenly() {
        for shards in [3_u16, 64, 1_000] {
            let mut count = vec![0_u32; usize::from(shards)];
            for n in 0..u32::from(shards) * 1_000 {
                count[usize::from(shard_of(&key(&format!("user-{n}")), shards))] += 1;
            }
            // A thousand each: five standard deviations of a fair draw are 158.
            let (least, most) = (count.iter().min(), count.iter().max());
            assert!(least >= Some(&840) && most <= Some(&1_160), "{shards}: {least:?} {most:?}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_shard(text in "[!-~]{1,128}", shards in 1..=limits::SHARDS_PER_KIND) {
            prop_assert!(shard_of(&key(&text), shards) < shards);
        }
    }
}
