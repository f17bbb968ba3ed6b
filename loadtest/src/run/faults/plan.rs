//! Which faults come, by lot: the same ones in the same order for the same seed.
//!
//! Pure. Who leads a group is decided by the cluster, so a fault that is for a leader says so.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::cluster::MEMBERS;
use super::wire::GROUPS;

/// A class of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Class {
    /// kill -9 of one node, of two of three, of all; started again after a while.
    Kill,
    /// SIGTERM to one node, started again.
    Restart,
    /// One node cut off: wholly, only what it sends, only what it is sent; the leader of a group.
    Partition,
    /// SIGSTOP of the leader of a group for longer than its lease and an election, SIGCONT.
    Pause,
    /// The disk of one node full for a while.
    DiskFull,
    /// All nodes killed, the end of one node's log cut off at any byte.
    Torn,
    /// A byte changed inside one node's log: it must refuse to start and say where. Its folder is
    /// removed and it joins under another name.
    Flip,
    /// The time of day of one node jumps.
    Clock,
    /// All of them.
    Mix,
}

/// For whom a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The node in a place.
    Place(usize),
    /// Who leads a group of sessions then.
    Leader(u16),
}

/// What of a node's traffic is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Everything.
    Both,
    /// What it sends.
    Out,
    /// What it is sent.
    In,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9 of one node.
    Kill(Who),
    /// kill -9 of all but one.
    KillAllBut(usize),
    /// kill -9 of all.
    KillAll,
    /// SIGTERM.
    Restart(Who),
    /// A partition.
    Cut(Who, Way),
    /// SIGSTOP.
    Pause(Who),
    /// No space left.
    FillDisk,
    /// The end of the log of the node in a place cut off.
    Tear(usize),
    /// A byte of the log of the node in a place changed.
    Flip(usize),
    /// The time of day of the node in a place jumps by so many seconds.
    Jump(usize, i64),
}

/// A fault in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// How long nothing happens before it.
    pub(super) calm: Duration,
    /// What happens.
    pub(super) fault: Fault,
    /// How long it lasts.
    pub(super) lasts: Duration,
}

/// What this machine cannot do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Without {
    /// Change the time of day of a process.
    pub(super) clock: bool,
}

/// Draws faults.
#[derive(Debug)]
pub(super) struct Lots {
    rng: StdRng,
    class: Class,
    without: Without,
}

impl Lots {
    /// Of a class.
    pub(super) fn new(class: Class, seed: u64, without: Without) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), class, without }
    }

    /// The next fault.
    pub(super) fn draw(&mut self) -> Planned {
        let class = match self.class {
            Class::Mix => self.any_class(),
            class => class,
        };
        let calm = self.between(1_500, 5_000);
        let fault = self.fault(class);
        // A pause has to be longer than a lease, and some of all longer than it takes the others
        // to give a node up.
        let lasts = self.between(1_200, 9_000);
        Planned { calm, fault, lasts }
    }

    fn any_class(&mut self) -> Class {
        let all = [
            Class::Kill,
            Class::Restart,
            Class::Partition,
            Class::Partition,
            Class::Pause,
            Class::DiskFull,
            Class::Torn,
            Class::Flip,
            Class::Clock,
        ];
        let possible: Vec<Class> =
            all.into_iter().filter(|class| *class != Class::Clock || !self.without.clock).collect();
        possible.choose(&mut self.rng).copied().unwrap_or(Class::Kill)
    }

    fn fault(&mut self, class: Class) -> Fault {
        let place = self.rng.random_range(0..MEMBERS);
        match class {
            Class::Kill => match self.rng.random_range(0..6) {
                0 | 1 => Fault::Kill(Who::Place(place)),
                2 | 3 => Fault::Kill(self.leader()),
                4 => Fault::KillAllBut(place),
                _ => Fault::KillAll,
            },
            Class::Restart => Fault::Restart(self.whoever(place)),
            Class::Partition => {
                let ways = [Way::Both, Way::Both, Way::Out, Way::In];
                let way = ways.choose(&mut self.rng).copied().unwrap_or(Way::Both);
                Fault::Cut(self.whoever(place), way)
            }
            Class::Pause => Fault::Pause(self.leader()),
            Class::DiskFull => Fault::FillDisk,
            Class::Torn => Fault::Tear(place),
            Class::Flip => Fault::Flip(place),
            Class::Clock | Class::Mix => {
                // Within what certificates bear: they are of today.
                let seconds = self.rng.random_range(60..7_200);
                let ahead = self.rng.random_bool(0.5);
                Fault::Jump(place, if ahead { seconds } else { -seconds })
            }
        }
    }

    fn leader(&mut self) -> Who {
        Who::Leader(self.rng.random_range(0..GROUPS))
    }

    fn whoever(&mut self, place: usize) -> Who {
        if self.rng.random_bool(0.5) { self.leader() } else { Who::Place(place) }
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from..to))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => write!(f, "n{}", place + 1),
            Self::Leader(group) => write!(f, "the leader of data-{group}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who) => write!(f, "kill -9 of {who}"),
            Self::KillAllBut(place) => write!(f, "kill -9 of all but {}", Who::Place(*place)),
            Self::KillAll => f.write_str("kill -9 of all"),
            Self::Restart(who) => write!(f, "restart of {who}"),
            Self::Cut(who, Way::Both) => write!(f, "{who} cut off"),
            Self::Cut(who, Way::Out) => write!(f, "what {who} sends lost"),
            Self::Cut(who, Way::In) => write!(f, "what {who} is sent lost"),
            Self::Pause(who) => write!(f, "{who} stopped"),
            Self::FillDisk => f.write_str("a disk full"),
            Self::Tear(place) => write!(f, "the log of {} torn", Who::Place(*place)),
            Self::Flip(place) => write!(f, "a byte of the log of {} changed", Who::Place(*place)),
            Self::Jump(place, seconds) => {
                write!(f, "the time of day of {} moved by {seconds} s", Who::Place(*place))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn drawn(class: Class, seed: u64, without: Without) -> Vec<Planned> {
        let mut lots = Lots::new(class, seed, without);
        (0..400).map(|_| lots.draw()).collect()
    }

    #[test]
    fn a_seed_gives_the_same_faults_again_and_another_seed_others() {
        let of = |seed| drawn(Class::Mix, seed, Without::default());
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn a_mix_has_every_fault_but_what_the_machine_cannot_do() {
        let kinds = |without| -> BTreeSet<_> {
            let kind = |planned: Planned| format!("{:?}", planned.fault);
            let name = |text: String| text.split(['(', ' ']).next().map(str::to_owned);
            drawn(Class::Mix, 1, without).into_iter().map(kind).filter_map(name).collect()
        };
        assert_eq!(kinds(Without::default()).len(), 10);
        let without = kinds(Without { clock: true });
        assert!(without.len() == 9 && !without.contains("Jump"), "{without:?}");
    }
}
