//! What is a name, and what is printed can be typed back.

use proptest::prelude::*;

use super::*;

#[test]
fn a_node_id_is_a_dns_label() {
    for good in ["n1", "a", "rack-7-node-12"] {
        assert!(good.parse::<NodeId>().is_ok(), "{good}");
    }
    let too_long = "x".repeat(limits::NAME_BYTES + 1);
    assert_eq!(
        EntityKind::FIRMWARE.parse::<EntityKind>().map(|k| k.to_string()),
        Ok("firmware".into())
    );
    for bad in ["", "N1", "n_1", "-n", "n-", "n 1", "ä", &too_long] {
        assert!(bad.parse::<NodeId>().is_err(), "{bad}");
    }
}

#[test]
fn the_longest_key_has_room_for_the_longest_session_name() {
    let longest = |bytes: usize| "x".repeat(bytes);
    let kind = longest(limits::NAME_BYTES).parse().expect("a kind");
    let owner = EntityId::new(kind, longest(limits::KEY_BYTES).parse().expect("a key"));
    let session = SessionId::owned_by(&owner, &longest(limits::KEY_BYTES)).expect("fits");
    assert_eq!(session.as_str().len(), limits::SESSION_ID_BYTES);
    assert!(SessionId::owned_by(&owner, &longest(limits::KEY_BYTES + 1)).is_err());
}

#[test]
fn decoding_validates_names() {
    let bytes = crate::codec::encode("Not A Label").expect("encodes");
    assert!(crate::codec::decode::<NodeId>(&bytes).is_err());
}

proptest! {
    #[test]
    fn what_is_printed_can_be_typed_back(n in any::<u16>(), bytes in any::<Vec<u8>>()) {
        let group = GroupId::Data(n);
        prop_assert_eq!(group.to_string().parse::<GroupId>(), Ok(group));
        let digest = Digest::of(&bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }

    #[test]
    fn entity_ids_round_trip(kind in "[a-z][a-z0-9]{0,8}", key in "[!-~]{1,40}") {
        let id: EntityId = format!("{kind}/{key}").parse().expect("valid");
        prop_assert_eq!(id.key().as_str(), key);
        prop_assert_eq!(id.to_string().parse::<EntityId>(), Ok(id));
    }

    #[test]
    fn no_two_entities_have_a_session_in_common(
        a in ("firmware|f|k", "[a1:/]{1,6}", "[a1:/]{1,6}"),
        b in ("firmware|f|k", "[a1:/]{1,6}", "[a1:/]{1,6}"),
    ) {
        let session = |(kind, key, name): &(String, String, String)| {
            let owner = EntityId::new(kind.parse().expect("kind"), key.parse().expect("key"));
            SessionId::owned_by(&owner, name).expect("valid")
        };
        // Of firmware only names exist.
        let exists = |(kind, key, _): &(String, String, String)| {
            kind != EntityKind::FIRMWARE || key.parse::<Name>().is_ok()
        };
        prop_assume!(a != b && exists(&a) && exists(&b));
        prop_assert_ne!(session(&a), session(&b));
    }
}
