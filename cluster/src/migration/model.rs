//! All that can happen to one move: every order in which the nodes, the log and the network can
//! act, with one node that dies, one migrator that dies and messages that are lost at any step.
//!
//! The table is the real one, and so is the machine; entity, carrier and door are as small as they
//! can be: an entity's memory is the number of messages that it has answered.

use std::collections::{BTreeSet, VecDeque};

use odeum_proto::store::{Command, FirmwareLimits, FirmwarePolicy, FirmwareSpec, Outcome, Refusal};
use odeum_proto::{Digest, EntityId, Epoch, NodeId, Revision, codec};

use super::steps::{Act, End, Event, Machine, Phase};
use crate::placement::fixtures::record;
use crate::store::State;

/// Messages that are answered at most in one history.
const MESSAGES: u8 = 2;

/// An activation of the entity in a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Active {
    epoch: Epoch,
    memory: u8,
    frozen: bool,
}

/// What is on its way to the other node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Arrival {
    epoch: Epoch,
    memory: Option<u8>,
}

/// A move that is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Giving {
    machine: Machine,
    act: Doing,
    epoch: Epoch,
}

/// The act at hand, and whether its first half is done, if it has two.
type Doing = (usize, bool);

// What is copied before is the same here as what is sent at the end.
const ACTS: [Act; 6] =
    [Act::Prepare, Act::Freeze, Act::Send, Act::Switch, Act::CallOff, Act::Retract];

fn doing(act: Act) -> Doing {
    (ACTS.iter().position(|it| *it == act).expect("an act of this model"), false)
}

/// What a machine makes of an event: the real one, or one with a flaw.
type On = fn(&mut Machine, Event) -> Act;

/// Everything there is at one moment.
#[derive(Clone)]
struct World {
    on: On,
    table: State,
    /// The entity on each node, if it is active there; `None` for a node that is dead.
    nodes: [Option<Option<Active>>; 2],
    giving: Option<Giving>,
    arrival: Option<Arrival>,
    /// A switch that is under way to the log.
    on_its_way: Option<Epoch>,
    answered: u8,
    /// What may still happen.
    deaths: u8,
    crashes: u8,
    /// Whether the memory may be gone: something died.
    may_forget: bool,
}

fn entity() -> EntityId {
    "firmware/e".parse().expect("valid")
}

fn name(n: usize) -> NodeId {
    record(u8::try_from(n).expect("few") + 1, 100).id
}

impl World {
    fn begin(deaths: u8, crashes: u8) -> Self {
        let mut table = State::default();
        let spec = FirmwareSpec {
            name: "e".parse().expect("valid"),
            digest: Digest::of(b"e"),
            size: 1,
            limits: FirmwareLimits {
                memory_bytes: 1,
                message_time: std::time::Duration::from_secs(1),
            },
            policy: FirmwarePolicy::default(),
            replicas: 1,
        };
        for command in [
            Command::PutNode(record(1, 100)),
            Command::PutNode(record(2, 100)),
            Command::PutFirmware(spec),
            Command::Place { entity: entity(), node: name(0), expected: None },
        ] {
            assert!(!matches!(table.apply(Revision(1), &command), Outcome::Refused(_)));
        }
        let epoch = table.placements()[&entity()].epoch;
        let begin = Command::BeginMove { entity: entity(), to: name(1), expected: epoch };
        table.apply(Revision(1), &begin);
        let active = Active { epoch, memory: 0, frozen: false };
        Self {
            on: Machine::on,
            table,
            nodes: [Some(Some(active)), Some(None)],
            giving: None,
            arrival: None,
            on_its_way: None,
            answered: 0,
            deaths,
            crashes,
            may_forget: false,
        }
    }

    fn key(&self) -> Vec<u8> {
        let table = codec::encode(&self.table).expect("encodes");
        let rest = format!(
            "{:?}{:?}{:?}{:?}{}{}{}{}",
            self.nodes,
            self.giving,
            self.arrival,
            self.on_its_way,
            self.answered,
            self.deaths,
            self.crashes,
            self.may_forget
        );
        [table, rest.into_bytes()].concat()
    }

    fn place(&self) -> (usize, Epoch) {
        let place = &self.table.placements()[&entity()];
        (usize::from(place.node == name(1)), place.epoch)
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.table.apply(Revision(1), command)
    }

    fn is_alive(&self, node: usize) -> bool {
        self.nodes[node].is_some()
    }

    /// All that can happen next, but for messages.
    fn nexts(&self) -> Vec<Self> {
        let mut nexts = Vec::new();
        self.migrator(&mut nexts);
        self.log(&mut nexts);
        self.coordinators(&mut nexts);
        self.deaths(&mut nexts);
        nexts
    }

    /// Messages that are answered: by who is active, is not frozen and has the store's word.
    fn messages(&self) -> Vec<Self> {
        let (_, epoch) = self.place();
        let answers = |node: usize| {
            let active = self.nodes[node].as_ref()?.as_ref()?;
            let may = active.epoch == epoch && !active.frozen && self.answered < MESSAGES;
            may.then(|| {
                self.with(|next| {
                    next.answered += 1;
                    if let Some(Some(active)) = &mut next.nodes[node] {
                        active.memory += 1;
                    }
                })
            })
        };
        (0..2).filter_map(answers).collect()
    }

    fn migrator(&self, nexts: &mut Vec<Self>) {
        if !self.is_alive(0) {
            return;
        }
        let Some(giving) = &self.giving else {
            let made = self.table.moves().get(&entity());
            if let Some(made) = made.filter(|made| made.is_under_way()) {
                let (machine, act) = Machine::begin();
                let giving = Giving { machine, act: doing(act), epoch: made.epoch };
                nexts.push(self.with(|next| next.giving = Some(giving)));
            }
            return;
        };
        let (act, is_half_done) = giving.act;
        match ACTS[act] {
            Act::Prepare => {
                let is_here = self.active_here(giving.epoch).is_some();
                if is_here && self.is_alive(1) {
                    let arrival = Arrival { epoch: giving.epoch, memory: None };
                    nexts.push(self.with(|next| {
                        next.arrival = Some(arrival.clone());
                        next.event(Event::Prepared { small: true });
                    }));
                    nexts.push(self.with(|next| {
                        next.arrival = Some(arrival);
                        next.event(Event::Failed);
                    }));
                }
                nexts.push(self.with(|next| next.event(Event::Failed)));
            }
            Act::Freeze => {
                if self.active_here(giving.epoch).is_some() {
                    nexts.push(self.with(|next| {
                        next.freeze(true);
                        next.event(Event::Frozen);
                    }));
                }
                nexts.push(self.with(|next| next.event(Event::Failed)));
            }
            Act::Send => {
                let is_expected = self.arrival.as_ref().is_some_and(|it| it.epoch == giving.epoch);
                let memory = self.active_here(giving.epoch).map(|it| it.memory);
                if is_expected && self.is_alive(1) && memory.is_some() {
                    for event in [Event::Thawed, Event::Failed] {
                        nexts.push(self.with(|next| {
                            if let Some(arrival) = &mut next.arrival {
                                arrival.memory = memory;
                            }
                            next.event(event);
                        }));
                    }
                }
                nexts.push(self.with(|next| next.event(Event::Failed)));
            }
            Act::Switch => self.switches(giving.epoch, nexts),
            // It goes on, and a while later the log is asked.
            Act::CallOff if !is_half_done => nexts.push(self.with(|next| {
                next.freeze(false);
                if let Some(giving) = &mut next.giving {
                    giving.act.1 = true;
                }
            })),
            Act::CallOff | Act::Retract => {
                let epoch = giving.epoch;
                for is_heard in [true, false] {
                    nexts.push(self.with(|next| {
                        let command = Command::CallOff { entity: entity(), expected: epoch };
                        let event = match next.apply(&command) {
                            Outcome::Refused(Refusal::StaleEpoch { .. }) => Event::Stale,
                            _ => Event::CalledOff,
                        };
                        next.event(if is_heard { event } else { Event::Unknown });
                    }));
                }
            }
            Act::Copy | Act::Finish(_) => unreachable!("not kept"),
        }
    }

    fn switches(&self, epoch: Epoch, nexts: &mut Vec<Self>) {
        nexts.push(self.with(|next| {
            let event = next.switch(epoch);
            next.event(event);
        }));
        // The other node cannot be given anything at the moment.
        nexts.push(self.with(|next| next.event(Event::Refused)));
        // Its outcome is not heard; it may be made now, later or never.
        nexts.push(self.with(|next| {
            next.switch(epoch);
            next.event(Event::Unknown);
        }));
        if self.on_its_way.is_none() {
            nexts.push(self.with(|next| {
                next.on_its_way = Some(epoch);
                next.event(Event::Unknown);
            }));
        }
    }

    fn active_here(&self, epoch: Epoch) -> Option<&Active> {
        self.nodes[0].as_ref()?.as_ref().filter(|active| active.epoch == epoch)
    }

    fn freeze(&mut self, frozen: bool) {
        let epoch = self.giving.as_ref().map(|giving| giving.epoch);
        if let Some(Some(active)) = &mut self.nodes[0]
            && Some(active.epoch) == epoch
        {
            active.frozen = frozen;
        }
    }

    fn switch(&mut self, expected: Epoch) -> Event {
        match self.apply(&Command::Switch { entity: entity(), to: name(1), expected }) {
            Outcome::Placed { .. } => Event::Switched,
            Outcome::Refused(Refusal::StaleEpoch { .. }) => Event::Stale,
            _ => Event::Refused,
        }
    }

    fn event(&mut self, event: Event) {
        let Some(giving) = &mut self.giving else { return };
        match (self.on)(&mut giving.machine, event) {
            Act::Finish(End::Moved | End::Overtaken) => {
                let epoch = giving.epoch;
                self.giving = None;
                if self.active_here(epoch).is_some() {
                    self.nodes[0] = Some(None);
                }
            }
            Act::Finish(End::Stayed) => {
                self.freeze(false);
                self.giving = None;
            }
            act => giving.act = doing(act),
        }
    }

    fn log(&self, nexts: &mut Vec<Self>) {
        if let Some(epoch) = self.on_its_way {
            nexts.push(self.with(|next| {
                next.on_its_way = None;
                next.switch(epoch);
            }));
            nexts.push(self.with(|next| next.on_its_way = None));
        }
        // Who has died loses what it had when its lease is over; the other one gets it anew.
        let (owner, epoch) = self.place();
        let other = 1 - owner;
        if !self.is_alive(owner) && self.is_alive(other) {
            let place =
                Command::Place { entity: entity(), node: name(other), expected: Some(epoch) };
            nexts.push(self.with(|next| {
                next.apply(&place);
            }));
        }
    }

    /// Each node ends what is not its own and begins what is.
    fn coordinators(&self, nexts: &mut Vec<Self>) {
        let (owner, epoch) = self.place();
        for node in 0..2 {
            let Some(active) = &self.nodes[node] else { continue };
            let is_current = active.as_ref().is_some_and(|it| it.epoch == epoch && node == owner);
            // What a move has frozen is told by it.
            let is_frozen = active.as_ref().is_some_and(|active| active.frozen);
            if active.is_some() && !is_current && !is_frozen {
                nexts.push(self.with(|next| next.nodes[node] = Some(None)));
            }
            if active.is_none() && node == owner {
                nexts.push(self.with(|next| next.start(node, epoch)));
            }
        }
        let made = self.table.moves().get(&entity());
        if let Some(arrival) = &self.arrival
            && made.is_none_or(|made| made.epoch != arrival.epoch)
        {
            nexts.push(self.with(|next| next.arrival = None));
        }
    }

    fn start(&mut self, node: usize, epoch: Epoch) {
        let came_from = self.table.moved_from(&entity(), epoch).filter(|_| node == 1);
        let arrival = self.arrival.take_if(|arrival| Some(arrival.epoch) == came_from);
        let memory = arrival.and_then(|arrival| arrival.memory).unwrap_or_default();
        self.nodes[node] = Some(Some(Active { epoch, memory, frozen: false }));
    }

    fn deaths(&self, nexts: &mut Vec<Self>) {
        if self.deaths > 0 {
            for node in 0..2 {
                nexts.push(self.with(|next| {
                    next.deaths -= 1;
                    next.may_forget = true;
                    next.nodes[node] = None;
                    if node == 0 {
                        next.giving = None;
                    } else {
                        next.arrival = None;
                    }
                }));
            }
        }
        if self.crashes > 0 && self.giving.is_some() {
            nexts.push(self.with(|next| {
                next.crashes -= 1;
                let epoch = next.giving.take().map(|giving| giving.epoch).expect("it is there");
                // Nobody knows what it has asked the log for: what is frozen begins anew.
                if next.active_here(epoch).is_some_and(|active| active.frozen) {
                    next.may_forget = true;
                    let (entity, node, expected) = (entity(), name(0), Some(epoch));
                    next.apply(&Command::Place { entity, node, expected });
                    next.nodes[0] = Some(None);
                }
            }));
        }
    }
}

/// At most one node can speak for the entity.
fn one_owner(world: &World) -> bool {
    let (_, epoch) = world.place();
    let speaks = |node: &Option<Option<Active>>| {
        node.as_ref().and_then(Option::as_ref).is_some_and(|active| active.epoch == epoch)
    };
    world.nodes.iter().filter(|node| speaks(node)).count() <= 1
}

/// Whoever can answer has all that was answered in memory, unless something has died.
fn nothing_forgotten(world: &World) -> bool {
    let (_, epoch) = world.place();
    let fits = |active: &Active| {
        active.epoch != epoch || active.memory == world.answered || world.may_forget
    };
    world.nodes.iter().flatten().flatten().all(fits)
}

/// Where nothing can happen any more but messages, somebody answers them, and nothing is left over.
fn not_stuck(world: &World) -> bool {
    let (owner, epoch) = world.place();
    let is_dead = !world.is_alive(owner) && !world.is_alive(1 - owner);
    let answers = world.nodes[owner].as_ref().and_then(Option::as_ref);
    let answers = answers.is_some_and(|active| active.epoch == epoch && !active.frozen);
    let is_under_way = world.table.moves().values().any(|made| made.is_under_way());
    is_dead || (answers && !is_under_way && world.arrival.is_none() && world.giving.is_none())
}

/// Goes through all worlds that come of the first; how many there are, or what is wrong with one.
fn explore(first: World) -> Result<usize, String> {
    let mut seen = BTreeSet::from([first.key()]);
    let mut left = VecDeque::from([first]);
    while let Some(world) = left.pop_front() {
        let nexts = world.nexts();
        let moves_on = nexts.iter().any(|next| next.key() != world.key());
        let faults = [
            ("two owners", one_owner(&world)),
            ("forgotten", nothing_forgotten(&world)),
            ("stuck", moves_on || not_stuck(&world)),
        ];
        if let Some((fault, _)) = faults.iter().find(|(_, holds)| !holds) {
            return Err(format!("{fault}: {}", told(&world)));
        }
        for next in nexts.into_iter().chain(world.messages()) {
            if seen.insert(next.key()) {
                left.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

fn told(world: &World) -> String {
    let World { nodes, giving, arrival, on_its_way, answered, .. } = world;
    let (table, moves) = (world.place(), world.table.moves());
    format!(
        "{nodes:?}, {giving:?}, {arrival:?}, {on_its_way:?}, {answered} answered, {table:?}, {moves:?}"
    )
}

/// How many worlds come of so many deaths and crashes.
fn worlds(deaths: u8, crashes: u8) -> usize {
    explore(World::begin(deaths, crashes)).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn no_order_of_events_has_two_owners_forgets_anything_or_is_stuck() {
    let worlds = worlds(0, 0);
    assert!(worlds > 50, "only {worlds} worlds");
}

#[test]
fn nor_does_the_death_of_a_node_at_any_step() {
    let worlds = worlds(1, 0);
    assert!(worlds > 200, "only {worlds} worlds");
}

#[test]
fn nor_does_a_migrator_that_crashes_at_any_step() {
    let worlds = worlds(0, 1);
    assert!(worlds > 200, "only {worlds} worlds");
}

#[test]
fn nor_do_both() {
    let worlds = worlds(1, 1);
    assert!(worlds > 500, "only {worlds} worlds");
}

/// What is wrong with a move by a machine that has a flaw.
fn fault_of(on: On) -> String {
    let flawed = World { on, ..World::begin(0, 0) };
    explore(flawed).expect_err("the flaw shows")
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
    assert!(fault.starts_with("forgotten"), "{fault}");
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
    assert!(fault.starts_with("forgotten"), "{fault}");
}

#[test]
fn a_machine_that_switches_what_did_not_arrive_is_caught() {
    let fault = fault_of(|machine, event| match (machine.phase(), event) {
        (Phase::Sending, Event::Failed) => machine.on(Event::Thawed),
        _ => machine.on(event),
    });
    assert!(fault.starts_with("forgotten") || fault.starts_with("stuck"), "{fault}");
}
