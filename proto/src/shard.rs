//! Which shard of its kind an entity belongs to, and which group of the store its sessions.
//!
//! Pure functions of the name and the number of shards or groups, the same on every node and for
//! ever: the number of a kind's shards never changes, so an entity never changes its shard, only
//! the shard its node, and the number of groups never changes, so a session never changes its
//! group. No table has a row per entity or per session.

use crate::ids::{EntityId, EntityKey, GroupId, SessionId};

/// The shard of `key` when its kind has `shards` of them: 0 ≤ result < `shards`; 0 when there are
/// none, which no kind has.
///
/// FNV-1a over the key's bytes, the finaliser of MurmurHash3 over that (FNV alone leaves the high
/// bits of short keys alike), then the high half of the product with `shards`. Sources: Fowler,
/// Noll, Vo 1991; Appleby 2011; Lemire 2019, "Fast random integer generation in an interval".
#[must_use]
pub fn shard_of(key: &EntityKey, shards: u16) -> u16 {
    spread(key.as_str(), shards)
}

/// The group of `session` in a cluster with so many groups of sessions. The sessions of one owner
/// are in one group.
#[must_use]
pub fn group_of(session: &SessionId, groups: u16) -> GroupId {
    group(session.owner(), groups)
}

/// The group of the sessions of `entity`, and of its deduplication window.
#[must_use]
pub fn group_of_entity(entity: &EntityId, groups: u16) -> GroupId {
    group(&SessionId::owner_text(entity), groups)
}

/// Without groups of their own, sessions are in the one of everything else.
fn group(owner: &str, groups: u16) -> GroupId {
    if groups == 0 { GroupId::Control } else { GroupId::Data(spread(owner, groups)) }
}

/// How much `text` prefers the replica of that number: the one with the most is the one that it
/// selects. With one replica more only the texts that prefer that one go elsewhere.
///
/// Source: Thaler, Ravishankar 1998, "Using name-based mappings to increase hit rates".
#[must_use]
pub fn rendezvous(text: &str, replica: u32) -> u64 {
    mixed(mixed(fnv(text.as_bytes())) ^ mixed(u64::from(replica)))
}

fn spread(text: &str, shards: u16) -> u16 {
    let product = u128::from(mixed(fnv(text.as_bytes()))) * u128::from(shards);
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

    /// When this fails, undo the change: a request that is sent again would come to another replica.
    #[test]
    fn a_text_selects_the_same_replica_for_ever_and_all_are_selected_alike() {
        let select = |text: &str, of: u32| {
            (1..=of).max_by_key(|number| rendezvous(text, *number)).expect("some")
        };
        let texts = ["a", "b", "alice", "order-17", "0123456789abcdef"];
        assert_eq!(texts.map(|text| select(text, 3)), [3, 3, 1, 1, 3]);
        assert_eq!(texts.map(|text| select(text, 5)), [4, 4, 4, 5, 3]);
        assert_eq!(texts.map(|text| select(text, 128)), [4, 101, 4, 80, 63]);
        let mut count = [0_u32; 5];
        for n in 0..5_000 {
            count[select(&format!("order-{n}"), 5) as usize - 1] += 1;
        }
        assert!(count.iter().all(|count| (800..1_200).contains(count)), "{count:?}");
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

    /// When this fails, undo the change: sessions would be looked for in other groups.
    #[test]
    fn a_session_has_the_same_group_for_ever_and_its_owner_the_same() {
        let session = |text: &str| text.parse::<SessionId>().expect("a session id");
        let groups = ["a/x", "b/x", "user-1", "user-2", "lamp:3:r/1/x", "c"].map(session);
        let groups = groups.map(|session| group_of(&session, 4).to_string());
        assert_eq!(groups, ["data-2", "data-1", "data-1", "data-2", "data-2", "data-1"]);
        assert_eq!(group_of(&session("a/x"), 0), GroupId::Control);
        for owner in ["firmware/a", "lamp/r/1", "lamp/12"] {
            let owner: EntityId = owner.parse().expect("an entity id");
            for name in ["x", "y/z"] {
                let session = SessionId::owned_by(&owner, name).expect("valid");
                assert_eq!(group_of(&session, 16), group_of_entity(&owner, 16), "{session}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_shard(text in "[!-~]{1,128}", shards in 1..=limits::SHARDS_PER_KIND) {
            prop_assert!(shard_of(&key(&text), shards) < shards);
        }
    }
}
