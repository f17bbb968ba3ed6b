//! Kinds that are placed by shard, and nodes that say what they host.

use super::*;

/// A state with two nodes that host lamps.
fn lit() -> State {
    let mut state = ready();
    for n in [1, 2] {
        applied_to(&mut state, &Command::PutNode(record(n, n, 1)));
    }
    state
}

fn applied_to(state: &mut State, command: &Command) -> Outcome {
    let outcome = state.apply(Revision(50), command);
    assert!(!matches!(outcome, Outcome::Refused(_)), "{command}: {outcome:?}");
    outcome
}

fn place(moves: &[(u16, u8, Option<u64>)]) -> Command {
    let step = |&(shard, n, expected): &(u16, u8, Option<u64>)| ShardMove {
        shard,
        node: node(n),
        expected: expected.map(Epoch),
    };
    Command::PlaceShards { kind: kind(), moves: moves.iter().map(step).collect() }
}

fn refusal(state: &mut State, command: &Command) -> Refusal {
    let before = state.clone();
    let outcome = state.apply(Revision(51), command);
    assert_eq!(*state, before, "{command}");
    match outcome {
        Outcome::Refused(reason) => reason,
        other => panic!("{command}: {other:?}"),
    }
}

fn with_kinds(kinds: impl IntoIterator<Item = (EntityKind, u16)>) -> Command {
    Command::PutNode(NodeRecord { kinds: kinds.into_iter().collect(), ..record(2, 2, 1) })
}

#[test]
fn one_command_places_many_shards_under_one_new_epoch_and_leaves_out_the_stale() {
    let mut state = lit();
    let first = applied_to(&mut state, &place(&[(0, 1, None), (2, 2, None)]));
    let Outcome::ShardsPlaced { epoch, placed, .. } = first else { panic!("{first:?}") };
    assert_eq!(placed, [0, 2]);
    let second =
        applied_to(&mut state, &place(&[(0, 2, Some(epoch.0)), (2, 1, None), (1, 1, None)]));
    let Outcome::ShardsPlaced { epoch: later, placed, .. } = second else { panic!("{second:?}") };
    assert_eq!(placed, [0, 1]);
    assert!(later > epoch);
    let row = &state.kinds()[&kind()];
    let at = |shard| row.shard(shard).map(|place| (place.node.clone(), place.epoch));
    let (n1, n2) = (node(1), node(2));
    assert_eq!((at(0), at(1)), (Some((n2.clone(), later)), Some((n1, later))));
    assert_eq!(at(2), Some((n2, epoch)));
    assert_eq!(at(SHARDS), None);
    assert!(matches!(refusal(&mut state, &place(&[(2, 1, None)])), Refusal::StaleShards { .. }));
}

#[test]
fn a_shard_goes_only_where_both_it_and_the_node_exist() {
    let mut state = lit();
    let cases = [
        (place(&[(0, 1, None), (SHARDS, 1, None)]), "no shard 3"),
        (place(&[(0, 1, None), (1, 9, None)]), "no node is called n9"),
        (
            Command::PlaceShards { kind: "stone".parse().expect("valid"), moves: vec![] },
            "no node ever hosted entities of kind stone",
        ),
    ];
    for (command, reason) in cases {
        let said = refusal(&mut state, &command).to_string();
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn the_number_of_shards_is_fixed_by_the_first_node_and_both_numbers_are_named() {
    let mut state = lit();
    let said = refusal(&mut state, &with_kinds([(kind(), SHARDS + 1)])).to_string();
    assert!(said.contains("3 shards, not 4"), "{said}");
    let none = refusal(&mut state, &with_kinds([("stone".parse().expect("valid"), 0)]));
    assert!(matches!(none, Refusal::ShardNumber { got: 0, .. }), "{none}");
    let limit = limits::SHARDS_PER_KIND;
    let many = refusal(&mut state, &with_kinds([("stone".parse().expect("valid"), limit + 1)]));
    assert!(many.to_string().contains("4097") && many.to_string().contains("4096"), "{many}");
    let firmware = EntityKind::FIRMWARE.parse().expect("valid");
    let reserved = refusal(&mut state, &with_kinds([(firmware, 1)]));
    assert!(matches!(reserved, Refusal::ShardNumber { limit: 0, .. }), "{reserved}");
    // A kind that no node hosts any more keeps its number.
    for n in [1, 2] {
        applied_to(&mut state, &Command::RemoveNode { node: node(n) });
    }
    assert!(matches!(
        refusal(&mut state, &with_kinds([(kind(), SHARDS + 1)])),
        Refusal::OtherShards { is: SHARDS, .. }
    ));
}

#[test]
fn kinds_and_labels_are_bounded() {
    let mut state = lit();
    let kinds = (0..=limits::KINDS).map(|n| (format!("k{n}").parse().expect("valid"), 1));
    assert!(matches!(refusal(&mut state, &with_kinds(kinds)), Refusal::TooMuch { .. }));
    let label = |n: usize| format!("l{n}").parse::<Label>().expect("valid");
    let labels = (0..=limits::LABELS_PER_NODE).map(|n| (label(n), label(n))).collect();
    let record = NodeRecord { labels, ..record(2, 2, 1) };
    assert!(matches!(refusal(&mut state, &Command::PutNode(record)), Refusal::TooMuch { .. }));
}

#[test]
fn a_new_life_of_a_node_ends_the_epochs_of_its_shards() {
    let mut state = lit();
    applied_to(&mut state, &place(&[(0, 1, None), (1, 1, None), (2, 2, None)]));
    let epochs = |state: &State| -> Vec<Epoch> {
        let row = &state.kinds()[&kind()];
        row.iter().filter_map(|(_, place)| place).map(|place| place.epoch).collect()
    };
    let before = epochs(&state);
    applied_to(&mut state, &Command::PutNode(record(1, 1, 2)));
    let after = epochs(&state);
    assert!(after[0] > before[0] && after[1] > before[1]);
    assert_eq!(after[2], before[2]);
    // Also when it was removed in between and nobody had taken its shards yet.
    applied_to(&mut state, &Command::RemoveNode { node: node(1) });
    applied_to(&mut state, &Command::PutNode(record(1, 1, 3)));
    assert!(epochs(&state)[0] > after[0]);
}

#[test]
fn a_command_that_names_a_shard_twice_is_the_same_when_it_is_sent_again() {
    let mut state = lit();
    let epoch = state.last_epoch().next();
    let twice = place(&[(0, 1, None), (0, 2, Some(epoch.0))]);
    applied_to(&mut state, &twice);
    assert!(matches!(refusal(&mut state, &twice), Refusal::StaleShards { .. }));
    assert_eq!(state.kinds()[&kind()].shard(0).map(|place| &place.node), Some(&node(1)));
}

#[test]
fn an_entity_of_a_kind_has_the_epoch_of_its_shard() {
    let mut state = lit();
    let entity = lamp(7);
    let shard = shard_of(entity.key(), SHARDS);
    assert_eq!(state.placement(&entity), None);
    applied_to(&mut state, &place(&[(shard, 1, None)]));
    let owner = state.placement(&entity).expect("placed").clone();
    assert_eq!(owner.node, node(1));
    applied_to(&mut state, &place(&[(shard, 2, Some(owner.epoch.0))]));
    assert!(state.placement(&entity).is_some_and(|place| place.epoch > owner.epoch));
}

#[test]
fn a_node_that_is_to_leave_is_so_until_it_is_removed_or_told_to_stay() {
    let mut state = lit();
    let leave = |leaving| Command::SetLeaving { node: node(1), leaving };
    applied_to(&mut state, &leave(true));
    applied_to(&mut state, &Command::PutNode(record(1, 1, 2)));
    assert!(state.leaving().contains(&node(1)), "a new start does not change it");
    applied_to(&mut state, &leave(false));
    assert!(state.leaving().is_empty());
    applied_to(&mut state, &leave(true));
    applied_to(&mut state, &Command::RemoveNode { node: node(1) });
    assert!(state.leaving().is_empty());
    assert!(matches!(refusal(&mut state, &leave(true)), Refusal::UnknownNode { .. }));
}

#[test]
fn every_placement_changes_the_layout_and_what_stays_as_it_was_does_not() {
    let mut state = ready();
    let mut at = 100;
    let mut changes = |state: &mut State, command: Command| {
        at += 1;
        let outcome = state.apply(Revision(at), &command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{command}: {outcome:?}");
        state.layout() == Revision(at)
    };
    assert!(changes(&mut state, Command::PutNode(record(1, 1, 1))));
    assert!(!changes(&mut state, Command::PutNode(record(1, 1, 1))), "as it was");
    assert!(changes(&mut state, place(&[(0, 1, None)])));
    assert!(changes(&mut state, Command::PutFirmware(spec(1, 1))));
    assert!(!changes(&mut state, Command::PutFirmware(spec(1, 1))), "as it was");
    assert!(changes(
        &mut state,
        Command::Place { entity: entity(1), node: node(1), expected: None }
    ));
    assert!(changes(&mut state, Command::SetLeaving { node: node(1), leaving: true }));
    assert!(changes(&mut state, Command::DeleteFirmware { name: name(1) }));
    assert!(changes(&mut state, Command::RemoveNode { node: node(1) }));
}

#[test]
fn a_large_table_takes_twenty_bytes_a_shard_and_is_read_back_as_it_was() {
    let mut row = KindState::new(limits::SHARDS_PER_KIND);
    for shard in 0..limits::SHARDS_PER_KIND {
        let owner = node(u8::try_from(shard % 100).expect("small"));
        for epoch in [u64::MAX - 1, u64::MAX] {
            row.put(shard, Placement { node: owner.clone(), epoch: Epoch(epoch) });
        }
    }
    let bytes = codec::encode(&row).expect("encodes");
    assert!(bytes.len() < usize::from(limits::SHARDS_PER_KIND) * 20, "{}", bytes.len());
    assert_eq!(codec::decode::<KindState>(&bytes), Ok(row));
    // A shard on the second of no nodes, and no shards at all.
    for lie in [&[0_u8, 1, 2, 0, 0][..], &[0, 0]] {
        assert!(codec::decode::<KindState>(lie).is_err());
    }
}
