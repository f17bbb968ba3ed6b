//! Interest under updates that are lost, doubled and overtaken.

use proptest::prelude::*;

use super::*;

fn topic(n: u8) -> TopicName {
    format!("topic-{n}").parse().expect("valid")
}

fn node() -> NodeId {
    "n1".parse().expect("valid")
}

/// What `peer` is known to want, of the topics that are in the tests.
fn wanted(others: &Others) -> BTreeSet<TopicName> {
    (0..=u8::MAX).map(topic).filter(|topic| others.wants(&node(), topic)).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, bool),
    Send,
    /// Delivers one of the updates under way, and keeps it for another delivery.
    Deliver(prop::sample::Index, bool),
    Lose(prop::sample::Index),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => (0_u8..6, any::<bool>()).prop_map(|(n, wanted)| Step::Set(n, wanted)),
        3 => Just(Step::Send),
        4 => (index(), any::<bool>()).prop_map(|(at, again)| Step::Deliver(at, again)),
        1 => index().prop_map(Step::Lose),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..80)
}

/// A node that tells one peer.
struct Teller {
    own: Own,
    life: u64,
    known: Option<u64>,
    /// What it wanted, by life and version.
    history: HashMap<(u64, u64), BTreeSet<TopicName>>,
}

impl Teller {
    fn new() -> Self {
        let own = Own::new(Incarnation(1));
        Self { own, life: 1, known: None, history: HashMap::from([((1, 0), BTreeSet::new())]) }
    }

    fn note(&mut self) {
        self.history.insert((self.life, self.own.version), self.own.topics.clone());
    }

    fn answered(&mut self, update: &InterestUpdate, heard: &Heard) {
        if update.life.0 == self.life {
            self.known = match heard {
                Heard::Known { version, .. } => self.known.max(Some(*version)),
                Heard::Unknown => None,
            };
        }
    }
}

proptest! {
    #[test]
    fn what_a_peer_knows_was_true_and_becomes_true_again(steps in steps()) {
        let (mut teller, mut others) = (Teller::new(), Others::default());
        let mut under_way: Vec<InterestUpdate> = Vec::new();
        for step in steps {
            match step {
                Step::Set(n, wanted) => {
                    teller.own.set(&topic(n), wanted);
                    teller.note();
                }
                Step::Send => under_way.push(teller.own.since(teller.known)),
                Step::Deliver(at, again) if !under_way.is_empty() => {
                    let at = at.index(under_way.len());
                    let update =
                        if again { under_way[at].clone() } else { under_way.swap_remove(at) };
                    let heard = others.hear(&node(), update.clone());
                    teller.answered(&update, &heard);
                }
                Step::Lose(at) if !under_way.is_empty() => {
                    under_way.swap_remove(at.index(under_way.len()));
                }
                Step::Deliver(..) | Step::Lose(_) => {}
                Step::Restart => {
                    teller.life += 1;
                    teller.own = Own::new(Incarnation(teller.life));
                    teller.known = None;
                    teller.note();
                }
            }
            if let Some(peer) = others.peers.get(&node()) {
                let then = &teller.history[&(peer.life.0, peer.version)];
                prop_assert_eq!(&wanted(&others), then);
            }
        }
        // Two tries: the first may be refused for what was lost.
        for _ in 0..2 {
            let update = teller.own.since(teller.known);
            let heard = others.hear(&node(), update.clone());
            teller.answered(&update, &heard);
        }
        prop_assert_eq!(wanted(&others), teller.own.topics.clone());
        prop_assert_eq!(teller.known, Some(teller.own.version));
        others.forget(&node());
        prop_assert!(others.by_topic.is_empty());
    }
}

#[test]
fn a_peer_that_is_far_behind_gets_everything() {
    let mut own = Own::new(Incarnation(1));
    for n in 0..=CHANGES {
        own.set(&topic(0), n % 2 == 0);
    }
    own.set(&topic(1), true);
    let near = own.since(Some(own.version - 1));
    assert_eq!(
        (near.base, near.added, near.removed),
        (Some(own.version - 1), vec![topic(1)], vec![])
    );
    let far = own.since(Some(0));
    assert_eq!((far.base, far.added), (None, vec![topic(0), topic(1)]));
}

#[test]
fn topics_that_a_peer_does_not_want_any_more_are_named() {
    let (mut own, mut others) = (Own::new(Incarnation(1)), Others::default());
    own.set(&topic(1), true);
    own.set(&topic(2), true);
    others.hear(&node(), own.since(None));
    own.set(&topic(1), false);
    let heard = others.hear(&node(), own.since(Some(2)));
    assert_eq!(heard, Heard::Known { version: 3, ended: vec![topic(1)] });
    // A new life that wants nothing.
    let heard = others.hear(&node(), Own::new(Incarnation(2)).since(None));
    assert_eq!(heard, Heard::Known { version: 0, ended: vec![topic(2)] });
}
