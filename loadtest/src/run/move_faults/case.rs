//! What is tried: who is struck by what, before which step of a move.

use std::fmt;

use odeum_cluster::migration::halt::STEPS;

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9, and a new start when the others have gone on.
    Kill,
    /// It and the others hear nothing of each other.
    Isolate,
    /// SIGSTOP, until its lease is long over.
    Pause,
}

/// To which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// The one that gives the guest away.
    Source,
    /// The one that takes it in.
    Target,
    /// The leader of the control group.
    Leader,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) step: &'static str,
    pub(super) victim: Victim,
    pub(super) fault: Fault,
}

impl Case {
    /// Whether its step is one of the node that gives the guest away.
    pub(super) fn is_at_source(&self) -> bool {
        self.step.starts_with("give.")
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Kill => "kill -9 of",
            Fault::Isolate => "isolation of",
            Fault::Pause => "a pause of",
        };
        let victim = match self.victim {
            Victim::Source => "the source",
            Victim::Target => "the target",
            Victim::Leader => "the leader",
        };
        write!(f, "{fault} {victim} before {}", self.step)
    }
}

/// All there are.
pub(super) fn all() -> impl Iterator<Item = Case> {
    let victims = [Victim::Source, Victim::Target, Victim::Leader];
    let faults = [Fault::Kill, Fault::Isolate, Fault::Pause];
    STEPS.into_iter().flat_map(move |step| {
        victims.into_iter().flat_map(move |victim| {
            faults.into_iter().map(move |fault| Case { step, victim, fault })
        })
    })
}
