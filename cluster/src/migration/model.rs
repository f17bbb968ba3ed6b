//! All that can happen to moves: every order in which the nodes, the log and the network can act, with
//! a node that dies, one that is cut off for shorter or longer than its lease, a migrator that dies and
//! messages that are lost at any step.
//!
//! The table is the real one, and so is the machine; entities, carrier and door are as small as they
//! can be: an entity's memory is the number of messages that it has answered. Whoever has an entity in
//! memory, not frozen, and a lease may answer, whatever the table says by then.
//!
//! There are three nodes. One entity moves from the first to the second; another one, where there are
//! two, from the second to the third, so that each of them is struck in every part that it can have.

mod happens;
mod tests;

use odeum_proto::store::{Command, FirmwareLimits, FirmwarePolicy, FirmwareSpec, Outcome};
use odeum_proto::{Digest, EntityId, Epoch, NodeId, Revision, codec};

use super::steps::{Act, Event, Machine};
use crate::placement::fixtures::record;
use crate::store::State;

const NODES: usize = 3;

/// An activation of an entity in a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Active {
    epoch: Epoch,
    memory: u8,
    frozen: bool,
}

/// What is on its way to the other node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Arrival {
    epoch: Epoch,
    memory: Option<u8>,
}

/// A move that is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Well,
    /// It hears nothing and is not heard, and has its lease.
    Cut,
    /// It is cut off, and its lease is over: it has ended all it had.
    Lapsed,
    Dead,
}

/// What may still happen.
#[derive(Debug, Clone, Copy, Default)]
struct Budget {
    deaths: u8,
    cuts: u8,
    /// Of migrators.
    crashes: u8,
    /// Messages that are answered, of each entity.
    messages: u8,
}

/// One entity, and its move.
#[derive(Debug, Clone)]
struct Part {
    entity: EntityId,
    source: usize,
    target: usize,
    active: [Option<Active>; NODES],
    giving: Option<Giving>,
    arrival: Option<Arrival>,
    /// A switch that is under way to the log.
    on_its_way: Option<Epoch>,
    answered: u8,
    /// Whether the memory may be gone: it was placed anew, because its node died or had no lease.
    may_forget: bool,
}

/// Everything there is at one moment.
#[derive(Clone)]
struct World {
    on: On,
    table: State,
    standing: [Standing; NODES],
    parts: Vec<Part>,
    budget: Budget,
}

fn name(node: usize) -> NodeId {
    record(u8::try_from(node).expect("few") + 1, 100).id
}

fn spec(name: &str) -> FirmwareSpec {
    FirmwareSpec {
        name: name.parse().expect("valid"),
        digest: Digest::of(name.as_bytes()),
        size: 1,
        limits: FirmwareLimits { memory_bytes: 1, message_time: std::time::Duration::from_secs(1) },
        policy: FirmwarePolicy::default(),
        replicas: 1,
    }
}

impl Part {
    fn of(number: usize) -> Self {
        let (source, target) = (number, number + 1);
        let entity = EntityId::firmware(format!("e{number}").parse().expect("valid"));
        Self {
            entity,
            source,
            target,
            active: [const { None }; NODES],
            giving: None,
            arrival: None,
            on_its_way: None,
            answered: 0,
            may_forget: false,
        }
    }

    /// What is moved, if it is there under that epoch.
    fn at_source(&mut self, epoch: Epoch) -> Option<&mut Active> {
        self.active[self.source].as_mut().filter(|active| active.epoch == epoch)
    }

    fn freeze(&mut self, frozen: bool) {
        if let Some(epoch) = self.giving.as_ref().map(|giving| giving.epoch)
            && let Some(active) = self.at_source(epoch)
        {
            active.frozen = frozen;
        }
    }
}

impl World {
    fn begin(entities: usize, budget: Budget) -> Self {
        let mut table = State::default();
        let mut apply = |command: &Command| {
            let outcome = table.apply(Revision(1), command);
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        };
        for node in 0..NODES {
            apply(&Command::PutNode(record(u8::try_from(node).expect("few") + 1, 100)));
        }
        let mut parts: Vec<Part> = (0..entities).map(Part::of).collect();
        for (number, part) in parts.iter().enumerate() {
            apply(&Command::PutFirmware(spec(&format!("e{number}"))));
            let (entity, node) = (part.entity.clone(), name(part.source));
            apply(&Command::Place { entity, node, expected: None });
        }
        for part in &mut parts {
            let epoch = table.placements()[&part.entity].epoch;
            let (entity, to) = (part.entity.clone(), name(part.target));
            table.apply(Revision(1), &Command::BeginMove { entity, to, expected: epoch });
            part.active[part.source] = Some(Active { epoch, memory: 0, frozen: false });
        }
        Self { on: Machine::on, table, standing: [Standing::Well; NODES], parts, budget }
    }

    fn key(&self) -> Vec<u8> {
        let table = (self.table.placements(), self.table.moves(), self.table.last_epoch());
        let mut key = codec::encode(&table).expect("encodes");
        let rest = format!("{:?}{:?}{:?}", self.standing, self.parts, self.budget);
        key.extend_from_slice(&blake3::hash(rest.as_bytes()).as_bytes()[..16]);
        key
    }

    /// Where an entity is by the table.
    fn place(&self, of: usize) -> (usize, Epoch) {
        let place = &self.table.placements()[&self.parts[of].entity];
        let owner = (0..NODES).find(|node| name(*node) == place.node);
        (owner.expect("one of them"), place.epoch)
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next
    }

    /// With a change to one entity.
    fn with_part(&self, of: usize, change: impl FnOnce(&mut Part)) -> Self {
        self.with(|next| change(&mut next.parts[of]))
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.table.apply(Revision(1), command)
    }

    fn is_well(&self, node: usize) -> bool {
        self.standing[node] == Standing::Well
    }

    /// Whether a node may answer for an entity.
    fn speaks(&self, of: usize, node: usize) -> bool {
        let has_lease = matches!(self.standing[node], Standing::Well | Standing::Cut);
        let active = self.parts[of].active[node].as_ref();
        has_lease && active.is_some_and(|active| !active.frozen)
    }
}
