//! Who dials whom and when, and which of two connections stays. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use odeum_proto::{Incarnation, NodeId};

/// The node with the larger name leaves the dialling to the other for so long, which saves most
/// simultaneous connects. It does dial then: the other may not know its address.
const GRACE: Duration = Duration::from_millis(400);

/// The first pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: what a node that comes back waits for at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A link that was lost within this time of coming up did not work; its dialler backs off
/// instead of trying again at once.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// The order of the connections between two nodes, the same on both: the higher one stays.
///
/// A connection of a later start of either node is higher; then one that the node with the
/// smaller name dialled; then the later attempt of the same dialler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    incarnations: (Incarnation, Incarnation),
    dialled_by_smaller: bool,
    attempt: u64,
}

impl Rank {
    /// The rank of the connection that `dialler` opened to `acceptor` as its `attempt`th.
    pub(super) fn new(
        dialler: (&NodeId, Incarnation),
        acceptor: (&NodeId, Incarnation),
        attempt: u64,
    ) -> Self {
        let dialled_by_smaller = dialler.0 < acceptor.0;
        let incarnations =
            if dialled_by_smaller { (dialler.1, acceptor.1) } else { (acceptor.1, dialler.1) };
        Self { incarnations, dialled_by_smaller, attempt }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing; something else will happen.
    Rest,
    /// Dial this address now.
    Dial(SocketAddr),
    /// Ask again with [`Plan::woken`] after this pause.
    Wake(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no address, or nobody to link to.
    Resting,
    /// A pause before the next attempt.
    Pausing,
    /// An attempt is under way.
    Dialling,
    /// There is a link.
    Up,
}

/// The dialling side of one link.
#[derive(Debug)]
pub(super) struct Plan {
    /// Whether this node has the smaller name.
    first: bool,
    addr: Option<SocketAddr>,
    phase: Phase,
    failures: u32,
}

impl Plan {
    pub(super) fn new(first: bool) -> Self {
        Self { first, addr: None, phase: Phase::Resting, failures: 0 }
    }

    /// Attempts in a row that came to nothing.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the peer is to be linked to.
    pub(super) fn is_wanted(&self) -> bool {
        self.addr.is_some()
    }

    /// The address book says so.
    pub(super) fn address(&mut self, addr: Option<SocketAddr>) -> Step {
        let moved = self.addr != addr;
        self.addr = addr;
        match (self.phase, addr) {
            (Phase::Resting, Some(_)) => self.begin(),
            (Phase::Pausing, Some(_)) if moved => self.dial(),
            (Phase::Pausing, None) => self.rest(),
            _ => Step::Rest,
        }
    }

    /// A request waits for the link: a pause that is no more than politeness is cut short. One
    /// after repeated failures is not, or a dead peer with many requests would be dialled in a
    /// loop.
    pub(super) fn wanted(&mut self) -> Step {
        match self.phase {
            Phase::Resting => self.dial(),
            Phase::Pausing if self.failures <= 1 => self.dial(),
            _ => Step::Rest,
        }
    }

    /// A pause is over.
    pub(super) fn woken(&mut self) -> Step {
        if self.phase == Phase::Pausing { self.dial() } else { Step::Rest }
    }

    /// An attempt came to nothing. `jitter` is in 0..1.
    pub(super) fn failed(&mut self, jitter: f64) -> Step {
        if self.phase == Phase::Up {
            return Step::Rest;
        }
        self.failures = self.failures.saturating_add(1);
        if self.addr.is_none() {
            return self.rest();
        }
        self.phase = Phase::Pausing;
        Step::Wake(pause(self.failures, jitter))
    }

    /// There is a link, whoever dialled it.
    pub(super) fn up(&mut self) {
        self.phase = Phase::Up;
    }

    /// The link was lost after `lived`. `jitter` is in 0..1.
    pub(super) fn down(&mut self, lived: Duration, jitter: f64) -> Step {
        self.phase = Phase::Resting;
        if lived < SHORT_LIVED {
            return self.failed(jitter);
        }
        self.failures = 0;
        self.begin()
    }

    fn begin(&mut self) -> Step {
        if self.addr.is_none() {
            return self.rest();
        }
        if self.first {
            return self.dial();
        }
        self.phase = Phase::Pausing;
        Step::Wake(GRACE)
    }

    fn dial(&mut self) -> Step {
        match self.addr {
            Some(addr) => {
                self.phase = Phase::Dialling;
                Step::Dial(addr)
            }
            None => self.rest(),
        }
    }

    fn rest(&mut self) -> Step {
        self.phase = Phase::Resting;
        Step::Rest
    }
}

/// Exponential, with jitter over the upper half: nodes that lost each other together do not come
/// back together.
fn pause(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    let longest = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7071))
    }

    fn node(name: &str) -> NodeId {
        name.parse().expect("valid")
    }

    #[test]
    fn the_smaller_name_dials_at_once_and_the_larger_after_a_grace() {
        assert_eq!(Plan::new(true).address(Some(addr())), Step::Dial(addr()));
        let mut larger = Plan::new(false);
        assert_eq!(larger.address(Some(addr())), Step::Wake(GRACE));
        assert_eq!(larger.woken(), Step::Dial(addr()));
    }

    #[test]
    fn a_request_cuts_the_grace_short_but_not_the_backoff() {
        let mut plan = Plan::new(false);
        plan.address(Some(addr()));
        assert_eq!(plan.wanted(), Step::Dial(addr()));
        plan.failed(0.5);
        assert_eq!(plan.wanted(), Step::Dial(addr()));
        plan.failed(0.5);
        assert_eq!(plan.wanted(), Step::Rest);
    }

    #[test]
    fn a_link_that_dies_young_is_not_redialled_in_a_loop() {
        let mut plan = Plan::new(true);
        plan.address(Some(addr()));
        for _ in 0..8 {
            plan.up();
            assert!(matches!(plan.down(Duration::ZERO, 0.0), Step::Wake(_)));
            assert_eq!(plan.woken(), Step::Dial(addr()));
        }
        plan.up();
        assert_eq!(plan.down(Duration::from_secs(60), 0.0), Step::Dial(addr()));
    }

    #[test]
    fn nobody_dials_who_left_the_book() {
        let mut plan = Plan::new(true);
        plan.address(Some(addr()));
        plan.failed(0.0);
        assert_eq!(plan.address(None), Step::Rest);
        assert_eq!(plan.woken(), Step::Rest);
    }

    #[test]
    fn a_later_start_of_either_node_outranks_everything() {
        let (a, b) = (node("a"), node("b"));
        let old = Rank::new((&a, Incarnation(1)), (&b, Incarnation(1)), 9);
        assert!(Rank::new((&b, Incarnation(2)), (&a, Incarnation(1)), 1) > old);
        assert!(Rank::new((&b, Incarnation(1)), (&a, Incarnation(2)), 1) > old);
    }

    #[test]
    fn of_simultaneous_connects_the_smaller_names_stays() {
        let (a, b) = (node("a"), node("b"));
        let by_a = Rank::new((&a, Incarnation(1)), (&b, Incarnation(1)), 1);
        let by_b = Rank::new((&b, Incarnation(1)), (&a, Incarnation(1)), 5);
        assert!(by_a > by_b);
    }

    proptest! {
        #[test]
        fn pauses_are_bounded_and_never_zero(failures in any::<u32>(), jitter in 0.0..1.0) {
            let pause = pause(failures, jitter);
            prop_assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE);
        }
    }
}
