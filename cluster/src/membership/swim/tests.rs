//! Clusters of detectors in virtual time: no sockets, no clock, a seed for every chance.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::RngExt;

use super::*;

/// One way over the network.
const DELAY: Duration = Duration::from_millis(1);

enum Event {
    Packet { from: usize, to: usize, bytes: Bytes },
    Rang { at: usize, timer: Timer },
    Greet,
}

/// A cluster of nodes `n0`, `n1`, … and everything that is to happen.
struct Net {
    nodes: Vec<Swim>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    next: u64,
    now: Duration,
    /// When it began, by the detectors' clock.
    began: Instant,
    chance: StdRng,
    /// Share of packets that are lost.
    loss: f64,
    /// Dead nodes: they neither receive nor send.
    dead: BTreeSet<usize>,
    /// Nodes that receive, and whose packets are lost.
    mute: BTreeSet<usize>,
    /// Paused nodes: what happens to them happens when they go on.
    paused: BTreeMap<usize, Duration>,
    incarnations: Vec<Incarnation>,
    config: MembershipConfig,
}

fn name(n: usize) -> NodeId {
    format!("n{n}").parse().expect("valid")
}

impl Net {
    fn new(size: usize, seed: u64) -> Self {
        let config = MembershipConfig::default();
        let incarnations = vec![Incarnation(1); size];
        let nodes = (0..size)
            .map(|n| Swim::new(identity(n, Incarnation(1)), &config, seed * 1_000 + n as u64))
            .collect();
        let mut net = Self {
            nodes,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next: 0,
            now: Duration::ZERO,
            began: Instant::now(),
            chance: StdRng::seed_from_u64(seed),
            loss: 0.0,
            dead: BTreeSet::new(),
            mute: BTreeSet::new(),
            paused: BTreeMap::new(),
            incarnations,
            config,
        };
        net.push(Duration::ZERO, Event::Greet);
        net.run_for(Duration::from_secs(3));
        assert!(net.all_see(|_| MemberState::Alive), "seed {seed}: the cluster did not form");
        net
    }

    fn instant(&self) -> Instant {
        self.began + self.now
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.queue.push(Reverse((at, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    fn carry_out(&mut self, at: usize, effects: Effects) {
        for (to, bytes) in effects.send {
            let to = to.as_str()[1..].parse().expect("a node of this net");
            if !self.mute.contains(&at) && self.chance.random::<f64>() >= self.loss {
                self.push(self.now + DELAY, Event::Packet { from: at, to, bytes });
            }
        }
        for (after, timer) in effects.timers {
            self.push(self.now + after, Event::Rang { at, timer });
        }
    }

    fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span, |_| false);
    }

    /// Runs until `done` or the end; returns when it was done.
    fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        while let Some(&Reverse((at, key))) = self.queue.peek() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at;
            let event = self.events.remove(&key).expect("queued");
            self.happen(event);
            if done(self) {
                return Some(self.now);
            }
        }
        self.now = end;
        None
    }

    fn happen(&mut self, event: Event) {
        let whom = match &event {
            Event::Packet { to, .. } => Some(*to),
            Event::Rang { at, .. } => Some(*at),
            Event::Greet => None,
        };
        if let Some(until) = whom.and_then(|n| self.paused.get(&n)).copied()
            && until > self.now
        {
            // Its timers ring at once; what came meanwhile lies in its socket.
            let is_packet = matches!(event, Event::Packet { .. });
            return self.push(until + if is_packet { DELAY } else { Duration::ZERO }, event);
        }
        if whom.is_some_and(|n| self.dead.contains(&n)) {
            return;
        }
        let now = self.instant();
        match event {
            Event::Packet { from, to, bytes } => {
                let taken = self.nodes[to].receive(&name(from), &bytes, |_| true, now);
                let effects = taken.expect("valid");
                self.carry_out(to, effects);
            }
            Event::Rang { at, timer } => {
                let effects = self.nodes[at].rang(timer, now);
                self.carry_out(at, effects);
            }
            Event::Greet => self.greet(),
        }
    }

    /// As the actor does for linked peers that are no members.
    fn greet(&mut self) {
        let now = self.instant();
        let paused = |n: &usize| self.paused.get(n).is_some_and(|until| *until > self.now);
        let awake = (0..self.nodes.len()).filter(|n| !self.dead.contains(n) && !paused(n));
        for n in awake.collect::<Vec<_>>() {
            for peer in (0..self.nodes.len()).filter(|peer| *peer != n).collect::<Vec<_>>() {
                if !self.dead.contains(&peer) && self.state(n, peer) != Some(MemberState::Alive) {
                    let effects = self.nodes[n].announce(&name(peer), self.incarnations[peer], now);
                    self.carry_out(n, effects);
                }
            }
        }
        self.push(self.now + Duration::from_millis(500), Event::Greet);
    }

    fn restart(&mut self, n: usize) {
        self.dead.remove(&n);
        self.incarnations[n] = self.incarnations[n].next();
        let seed = self.chance.random();
        self.nodes[n] = Swim::new(identity(n, self.incarnations[n]), &self.config, seed);
    }

    fn state(&self, at: usize, of: usize) -> Option<MemberState> {
        let of = name(of);
        self.nodes[at].members().find(|(node, ..)| **node == of).map(|(_, _, state)| state)
    }

    fn all_see(&self, expected: impl Fn(usize) -> MemberState) -> bool {
        let live = || (0..self.nodes.len()).filter(|n| !self.dead.contains(n));
        live().all(|at| {
            (0..self.nodes.len())
                .filter(|of| *of != at)
                .all(|of| self.state(at, of) == Some(expected(of)))
        })
    }

    fn anyone_down(&self) -> bool {
        (0..self.nodes.len())
            .any(|at| (0..self.nodes.len()).any(|of| self.state(at, of) == Some(MemberState::Down)))
    }
}

fn identity(n: usize, incarnation: Incarnation) -> Identity {
    Identity { node: name(n), incarnation, renewal: 0 }
}

fn only_down(dead: usize) -> impl Fn(usize) -> MemberState {
    move |of| if of == dead { MemberState::Down } else { MemberState::Alive }
}

#[test]
fn a_killed_node_is_down_for_all_within_two_seconds() {
    for (size, seeds) in [(3, 100), (5, 100), (9, 30)] {
        let mut times = Vec::new();
        for seed in 0..seeds {
            let mut net = Net::new(size, seed);
            net.run_for(Duration::from_millis(10 * seed));
            let killed = net.now;
            net.dead.insert(0);
            let end = killed + Duration::from_secs(5);
            let seen = net.run_until(end, |net| {
                (1..size).all(|at| net.state(at, 0) == Some(MemberState::Down))
            });
            times.push(
                seen.unwrap_or_else(|| panic!("size {size}, seed {seed}: not seen")) - killed,
            );
        }
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("of {size}: {:?} to {longest:?}, median {median:?}", times[0]);
        assert!(longest < Duration::from_secs(2), "of {size}: median {median:?}, {longest:?}");
    }
}

#[test]
fn a_pause_of_a_second_evicts_nobody() {
    for seed in 0..100 {
        let mut net = Net::new(3, seed);
        net.run_for(Duration::from_millis(10 * seed));
        let until = net.now + Duration::from_secs(1);
        net.paused.insert(0, until);
        let end = until + Duration::from_secs(3);
        assert_eq!(net.run_until(end, Net::anyone_down), None, "seed {seed}");
        assert!(net.all_see(|_| MemberState::Alive), "seed {seed}");
    }
}

/// When it goes on, its own timers ring before it reads what came meanwhile.
#[test]
fn who_was_paused_itself_declares_nobody_down_for_it() {
    for seed in 0..100 {
        let mut net = Net::new(3, seed);
        net.run_for(Duration::from_millis(10 * seed));
        let (suspect, accuser) =
            (net.now + Duration::from_secs(1), net.now + Duration::from_secs(3));
        net.paused.insert(0, suspect);
        net.run_for(Duration::from_millis(900));
        net.paused.insert(1, accuser);
        let end = accuser + Duration::from_secs(3);
        let evicted = net.run_until(end, |net| {
            [0, 2].iter().any(|of| net.state(1, *of) == Some(MemberState::Down))
        });
        assert_eq!(evicted, None, "seed {seed}");
    }
}

#[test]
fn losing_every_twentieth_packet_evicts_nobody() {
    for seed in 0..10 {
        let mut net = Net::new(5, seed);
        net.loss = 0.05;
        let end = net.now + Duration::from_secs(60);
        assert_eq!(net.run_until(end, Net::anyone_down), None, "seed {seed}");
    }
}

#[test]
fn who_was_declared_down_and_lives_comes_back_by_itself() {
    for seed in 0..30 {
        let mut net = Net::new(3, seed);
        net.paused.insert(0, net.now + Duration::from_secs(4));
        net.run_for(Duration::from_millis(3_900));
        assert_eq!(net.state(1, 0), Some(MemberState::Down), "seed {seed}");
        net.run_for(Duration::from_secs(4));
        assert!(net.all_see(|_| MemberState::Alive), "seed {seed}");
        assert!(net.nodes[0].identity().renewal > 0, "seed {seed}");
    }
}

/// A node that nobody hears suspects all others, and is declared down by them. Its suspicions are
/// not to stay when it is back.
#[test]
fn a_node_that_was_not_heard_for_a_while_sees_all_others_alive_again() {
    for seed in 0..30 {
        let mut net = Net::new(3, seed);
        net.mute.insert(0);
        let down = |net: &Net| (1..3).all(|n| net.state(n, 0) == Some(MemberState::Down));
        let end = net.now + Duration::from_secs(4);
        assert!(net.run_until(end, down).is_some(), "seed {seed}");
        net.mute.clear();
        net.run_for(Duration::from_secs(5));
        assert!(net.all_see(|_| MemberState::Alive), "seed {seed}");
    }
}

#[test]
fn a_later_start_of_a_dead_node_is_a_member_again() {
    for seed in 0..30 {
        let mut net = Net::new(3, seed);
        net.dead.insert(0);
        net.run_for(Duration::from_secs(3));
        assert!(net.all_see(only_down(0)), "seed {seed}");
        net.restart(0);
        net.run_for(Duration::from_secs(3));
        assert!(net.all_see(|_| MemberState::Alive), "seed {seed}");
    }
}

#[test]
fn a_quick_restart_needs_nobody_to_be_declared_down_first() {
    for seed in 0..30 {
        let mut net = Net::new(3, seed);
        net.restart(0);
        net.run_for(Duration::from_secs(4));
        assert!(net.all_see(|_| MemberState::Alive), "seed {seed}");
    }
}

#[test]
fn a_node_that_leaves_is_down_at_once() {
    for seed in 0..30 {
        let mut net = Net::new(5, seed);
        let effects = net.nodes[0].leave(net.began + net.now);
        net.carry_out(0, effects);
        net.dead.insert(0);
        net.run_for(Duration::from_millis(400));
        assert!(net.all_see(only_down(0)), "seed {seed}");
    }
}

#[test]
fn a_packet_in_the_name_of_another_is_refused() {
    let mut net = Net::new(3, 1);
    let now = net.instant();
    let (_, packet) = net.nodes[0].announce(&name(1), Incarnation(1), now).send.remove(0);
    let error = net.nodes[1].receive(&name(2), &packet, |_| true, now).err();
    assert!(matches!(error, Some(SwimError::Sender { .. })), "{error:?}");
}

/// A packet of `n1` to `n0` that claims these nodes to be alive.
fn gossip(claimed: impl ExactSizeIterator<Item = String>) -> Vec<u8> {
    let mut packet = Vec::new();
    let header = foca::Header {
        src: identity(1, Incarnation(1)),
        src_incarnation: 0,
        dst: identity(0, Incarnation(1)),
        message: foca::Message::Gossip,
    };
    Codec.encode_header(&header, &mut packet).expect("encodes");
    packet.extend(u16::try_from(claimed.len()).expect("few").to_be_bytes());
    for name in claimed {
        let id = Identity {
            node: name.parse().expect("valid"),
            incarnation: Incarnation(1),
            renewal: 0,
        };
        Codec.encode_member(&foca::Member::alive(id), &mut packet).expect("encodes");
    }
    packet
}

#[test]
fn of_nodes_that_nobody_knows_a_peer_is_not_believed() {
    let mut swim = Swim::new(identity(0, Incarnation(1)), &MembershipConfig::default(), 1);
    let known = |node: &NodeId| *node == name(2);
    for packet in 0..500 {
        let ghosts = (0..30).map(|n| format!("ghost-{packet}-{n}"));
        let mut names: Vec<_> = ghosts.collect();
        names.push("n2".to_owned());
        let packet = gossip(names.into_iter());
        swim.receive(&name(1), &packet, known, Instant::now()).expect("a packet");
    }
    let members: Vec<_> = swim.members().map(|(node, ..)| node.clone()).collect();
    assert_eq!(members.len(), 2, "{members:?}");
    assert!(members.contains(&name(1)) && members.contains(&name(2)), "{members:?}");
}
