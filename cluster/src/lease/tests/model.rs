//! Three nodes with clocks of their own, a log that takes what they send in any order and as late as
//! it likes, or never, and leaders of which any number may believe that they lead.

use odeum_proto::Epoch;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::book::{Book, Entry, Over};
use super::super::holder::Holder;
use super::*;

const NODES: usize = 3;

/// What may happen next.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes.
    Pass(u64),
    /// A node asks for a renewal.
    Ask(usize),
    /// A node looks at the log: what is placed on it, and who has which lease.
    Look(usize),
    /// A node that believes to lead ends the leases that it sees to be over.
    End(usize),
    /// A node that believes to lead places the entity elsewhere, by what it saw last.
    Place(usize, usize),
    /// The log takes one of the commands that are under way.
    Commit(usize),
    /// A node gets one of the answers that are under way.
    Answer(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let n = 0..NODES;
    prop_oneof![
        4 => (1..1_500_u64).prop_map(Event::Pass),
        4 => n.clone().prop_map(Event::Ask),
        3 => n.clone().prop_map(Event::Look),
        2 => n.clone().prop_map(Event::End),
        2 => (n.clone(), n).prop_map(|(by, to)| Event::Place(by, to)),
        6 => (0..100_usize).prop_map(Event::Commit),
        4 => (0..100_usize).prop_map(Event::Answer),
    ]
}

/// A node: its clock, its lease, and the log as it saw it last.
struct Node {
    began: Instant,
    /// How fast its clock runs, in hundredths of real time.
    rate: u64,
    holder: Holder,
    book: Book,
    sight: State,
}

impl Node {
    fn now(&self, real: u64) -> Instant {
        self.began + Duration::from_micros(real * self.rate * 10)
    }

    /// Whether it has the entity active: with a lease that it sees in the log.
    fn is_active(&self, n: usize, real: u64) -> bool {
        let lease = self.holder.lease().epoch(self.now(real));
        let seen = self.sight.lease(&node(n)).map(|lease| lease.epoch);
        let placed = self.sight.placement(&entity());
        lease.is_some() && lease == seen && placed.is_some_and(|place| place.node == node(n))
    }
}

struct World {
    real: u64,
    log: State,
    last: Revision,
    nodes: Vec<Node>,
    /// Commands under way: who asked, and when by its clock.
    sent: Vec<(Command, usize, Instant)>,
    /// Answers under way: to whom, which lease, and when it was asked for.
    answers: Vec<(usize, Epoch, Instant)>,
    /// Every lease that was ever granted.
    granted: BTreeMap<Epoch, usize>,
    /// Leases that are over by the log.
    over: Vec<Epoch>,
}

impl World {
    fn new(rates: &[u64]) -> Self {
        let (log, last) = founded(NODES);
        let node = |rate: &u64| Node {
            began: Instant::now(),
            rate: *rate,
            holder: Holder::default(),
            book: Book::default(),
            sight: log.clone(),
        };
        let nodes = rates.iter().map(node).collect();
        let (sent, answers, over) = (Vec::new(), Vec::new(), Vec::new());
        Self { real: 0, log, last, nodes, sent, answers, granted: BTreeMap::new(), over }
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Pass(ms) => self.real += ms,
            Event::Ask(n) => {
                let now = self.nodes[n].now(self.real);
                self.sent.push((renewal(n), n, now));
            }
            Event::Look(n) => {
                let (log, now) = (self.log.clone(), self.nodes[n].now(self.real));
                let entry = |(node, epoch, renewal): (&NodeId, _, _)| Entry {
                    node: node.clone(),
                    epoch,
                    renewal,
                    seen: now,
                };
                self.nodes[n].book.look(log.leased().map(entry).collect());
                self.nodes[n].sight = log;
            }
            Event::End(n) => {
                let now = self.nodes[n].now(self.real);
                for Over { node, epoch, renewed } in self.nodes[n].book.over(now) {
                    let end = Command::EndLease { node, epoch, renewed: Some(renewed) };
                    self.sent.push((end, n, now));
                }
            }
            Event::Place(by, to) => self.place(by, to),
            Event::Commit(nth) if !self.sent.is_empty() => self.commit(nth % self.sent.len()),
            Event::Answer(nth) if !self.answers.is_empty() => {
                let (n, epoch, asked) = self.answers.swap_remove(nth % self.answers.len());
                self.nodes[n].holder.granted(epoch, asked, TTL);
            }
            Event::Commit(_) | Event::Answer(_) => {}
        }
    }

    fn place(&mut self, by: usize, to: usize) {
        let sight = &self.nodes[by].sight;
        let placed = sight.placement(&entity());
        let is_free = placed.is_none_or(|place| !sight.is_leased(&place.node));
        if is_free && sight.is_leased(&node(to)) {
            let expected = placed.map(|place| place.epoch);
            let place = Command::Place { entity: entity(), node: node(to), expected };
            self.sent.push((place, by, self.nodes[by].now(self.real)));
        }
    }

    fn commit(&mut self, nth: usize) {
        let (command, n, asked) = self.sent.swap_remove(nth);
        self.last = Revision(self.last.0 + 1);
        let had = |log: &State| log.leased().map(|(_, epoch, _)| epoch).collect::<Vec<_>>();
        let before = had(&self.log);
        let outcome = self.log.apply(self.last, &command);
        let after = had(&self.log);
        self.over.extend(before.into_iter().filter(|epoch| !after.contains(epoch)));
        if let Outcome::Leased { epoch, .. } = outcome {
            let first = *self.granted.entry(epoch).or_insert(n);
            assert_eq!(first, n, "epoch {epoch} has two owners");
            assert!(!self.over.contains(&epoch), "epoch {epoch} was over");
            self.answers.push((n, epoch, asked));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn an_entity_is_active_on_one_node_at_a_time_whatever_is_late_lost_or_led_by_two(
        events in vec(event(), 0..150), rates in vec(95..=105_u64, NODES),
    ) {
        let mut world = World::new(&rates);
        for event in &events {
            world.happens(event);
            let (nodes, real) = (&world.nodes, world.real);
            let active: Vec<_> = (0..NODES).filter(|n| nodes[*n].is_active(*n, real)).collect();
            prop_assert!(active.len() <= 1, "{active:?} after {event:?} at {real} ms");
        }
    }
}
