//! What must hold in each world, and that it does.

use std::collections::{BTreeSet, VecDeque};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::{Budget, NODES, On, Part, Standing, World};
use crate::migration::steps::{Event, Machine, Phase};

/// At most one node can speak for an entity.
fn one_owner(world: &World) -> bool {
    let all = 0..world.parts.len();
    all.into_iter().all(|of| (0..NODES).filter(|node| world.speaks(of, *node)).count() <= 1)
}

/// Whoever can answer has all that was answered in memory, unless it was placed anew.
fn nothing_forgotten(world: &World) -> bool {
    world.parts.iter().enumerate().all(|(of, part)| {
        let speakers = (0..NODES).filter(|node| world.speaks(of, *node));
        let mut memories = speakers.filter_map(|node| Some(part.active[node].as_ref()?.memory));
        part.may_forget || memories.all(|memory| memory == part.answered)
    })
}

/// Where nothing can happen any more but messages, somebody answers them, and nothing is left over.
fn not_stuck(world: &World) -> bool {
    let is_dead = world.standing.iter().all(|standing| *standing == Standing::Dead);
    let is_under_way = world.table.moves().values().any(|made| made.is_under_way());
    let is_settled = |(of, part): (usize, &Part)| {
        let (owner, epoch) = world.place(of);
        let answers = part.active[owner].as_ref().is_some_and(|active| active.epoch == epoch);
        let nothing_left = part.arrival.is_none() && part.giving.is_none();
        answers && world.speaks(of, owner) && nothing_left
    };
    is_dead || (!is_under_way && world.parts.iter().enumerate().all(is_settled))
}

/// What is wrong with a world, if anything is. `moves_on`: whether anything can happen in it.
fn fault_in(world: &World, moves_on: bool) -> Option<String> {
    let checks = [
        ("two owners", one_owner(world)),
        ("forgotten", nothing_forgotten(world)),
        ("stuck", moves_on || not_stuck(world)),
    ];
    let (fault, _) = checks.into_iter().find(|(_, holds)| !holds)?;
    Some(format!("{fault}: {:?}, {:?}, {:?}", world.standing, world.parts, world.table.moves()))
}

/// Goes through all worlds that come of the first; how many there are, or what is wrong with one.
fn explore(first: World) -> Result<usize, String> {
    let mut seen = BTreeSet::from([first.key()]);
    let mut left = VecDeque::from([first]);
    while let Some(world) = left.pop_front() {
        let nexts = world.nexts();
        let key = world.key();
        let moves_on = nexts.iter().any(|next| next.key() != key);
        if let Some(fault) = fault_in(&world, moves_on) {
            return Err(fault);
        }
        for next in nexts.into_iter().chain(world.messages()) {
            if seen.insert(next.key()) {
                left.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

/// How many worlds come of one entity.
fn worlds(budget: Budget) -> usize {
    let first = World::begin(1, Budget { messages: 2, ..budget });
    explore(first).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn no_order_of_events_has_two_owners_forgets_anything_or_is_stuck() {
    let worlds = worlds(Budget::default());
    assert!(worlds > 50, "only {worlds} worlds");
}

#[test]
fn nor_does_the_death_of_a_node_at_any_step() {
    let worlds = worlds(Budget { deaths: 1, ..Budget::default() });
    assert!(worlds > 200, "only {worlds} worlds");
}

#[test]
fn nor_does_a_node_that_is_cut_off_at_any_step() {
    let worlds = worlds(Budget { cuts: 1, ..Budget::default() });
    assert!(worlds > 200, "only {worlds} worlds");
}

#[test]
fn nor_does_a_migrator_that_crashes_at_any_step() {
    let worlds = worlds(Budget { crashes: 1, ..Budget::default() });
    assert!(worlds > 200, "only {worlds} worlds");
}

#[test]
fn nor_do_all_of_them() {
    let worlds = worlds(Budget { deaths: 1, cuts: 1, crashes: 1, ..Budget::default() });
    assert!(worlds > 2_000, "only {worlds} worlds");
}

/// How many worlds come of two entities that move at once.
fn worlds_of_two(budget: Budget) -> usize {
    explore(World::begin(2, budget)).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn nor_does_a_death_and_a_node_that_is_cut_off_with_two_moves_at_once() {
    let worlds = worlds_of_two(Budget { deaths: 1, cuts: 1, ..Budget::default() });
    assert!(worlds > 200_000, "only {worlds} worlds");
}

#[test]
fn nor_does_a_death_with_two_moves_at_once_and_a_message() {
    let worlds = worlds_of_two(Budget { deaths: 1, messages: 1, ..Budget::default() });
    assert!(worlds > 50_000, "only {worlds} worlds");
}

#[test]
fn nor_does_a_node_that_is_cut_off_with_two_moves_at_once_and_a_message() {
    let worlds = worlds_of_two(Budget { cuts: 1, messages: 1, ..Budget::default() });
    assert!(worlds > 50_000, "only {worlds} worlds");
}

/// Too many to see them all: so many courses of events, each as its seed has it.
#[test]
fn nor_does_all_of_it_with_two_moves_at_once() {
    const SEEDS: u64 = 2_000;
    const STEPS: usize = 400;
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let budget = Budget { deaths: 1, cuts: 1, crashes: 1, messages: 3 };
        let mut world = World::begin(2, budget);
        for _ in 0..STEPS {
            let (nexts, messages) = (world.nexts(), world.messages());
            let key = world.key();
            let moves_on = nexts.iter().any(|next| next.key() != key);
            if let Some(fault) = fault_in(&world, moves_on) {
                panic!("seed {seed}: {fault}");
            }
            let of =
                if messages.is_empty() || random.random_ratio(2, 3) { nexts } else { messages };
            let Some(next) = of.choose(&mut random) else { break };
            world = next.clone();
        }
    }
}

/// What is wrong with a move by a machine that has a flaw.
fn fault_of(on: On) -> String {
    let budget = Budget { messages: 2, ..Budget::default() };
    explore(World { on, ..World::begin(1, budget) }).expect_err("the flaw shows")
}

#[test]
fn a_machine_that_gives_up_a_switch_in_doubt_is_caught() {
    let fault = fault_of(|machine, event| match (machine.phase(), event) {
        (Phase::Switching, Event::Unknown) => {
            *machine = Machine::begin().0;
            machine.on(Event::Failed)
        }
        _ => machine.on(event),
    });
    assert!(!fault.starts_with("stuck"), "{fault}");
}

#[test]
fn a_machine_that_lets_it_go_on_when_a_switch_was_refused_is_caught() {
    let fault = fault_of(|machine, event| match (machine.phase(), event) {
        (Phase::Switching, Event::Refused) => {
            *machine = Machine::begin().0;
            machine.on(Event::Failed)
        }
        _ => machine.on(event),
    });
    assert!(!fault.starts_with("stuck"), "{fault}");
}

#[test]
fn a_machine_that_switches_what_did_not_arrive_is_caught() {
    let fault = fault_of(|machine, event| match (machine.phase(), event) {
        (Phase::Sending, Event::Failed) => machine.on(Event::Thawed),
        _ => machine.on(event),
    });
    assert!(fault.starts_with("forgotten") || fault.starts_with("stuck"), "{fault}");
}
