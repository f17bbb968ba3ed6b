//! What the node that gives an entity away does next: the pure machine.
//!
//! It is told what came of the last act and says the next one; it knows no time, no network and no
//! entity. `model` tries it out with the table in all orders in which things can happen.
//!
//! ```text
//! Preparing ─▶ Copying ⟲ ─▶ Freezing ─▶ Sending ─▶ Switching ─▶ Moved
//!     └──────────┴─────────────┴──────────┘            │ ⟲ until its outcome is known
//!                 failed │                              │ refused
//!                        ▼                              ▼
//!                   CallingOff ⟲ ──▶ Stayed ◀── Retracting ⟲
//! ```
//! An entity that was frozen goes on as soon as it is sure that nobody will switch it. Only this
//! machine asks for that: before it has, the entity goes on first, and the move is called off then.
//! After it has, one that it asked for may still be on its way to the log, though another was
//! refused; so the entity stays frozen until the log has forgotten the move.

/// Rounds of copying at most. What changes as fast as it is copied will do so for ever.
const ROUNDS: u32 = 6;

/// Where a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The other node makes room.
    Preparing,
    /// Its state is copied while it runs.
    Copying {
        /// Which time, from 1.
        round: u32,
    },
    /// It comes to the end of the message at hand.
    Freezing,
    /// The rest of its state is sent.
    Sending,
    /// The log is to say that it is there now.
    Switching,
    /// It stays; the log is to say so.
    CallingOff,
    /// It is to stay, if the log has not switched it after all.
    Retracting,
    /// The move is over.
    Over(End),
}

/// How a move ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum End {
    /// The entity is there.
    Moved,
    /// It is here.
    Stayed,
    /// Something else gave it another epoch: this activation is over.
    Overtaken,
}

/// What came of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The other node has made room.
    Prepared {
        /// Whether there is so little state that it need not be copied before.
        small: bool,
    },
    /// All of the state was copied once, or once more.
    Copied {
        /// Whether so little was left to copy that the rest can be sent at once.
        small: bool,
    },
    /// It is at rest.
    Frozen,
    /// The other node has all of it and could go on.
    Thawed,
    /// The act cannot be done, here or there, or took too long.
    Failed,
    /// The log says that it is there.
    Switched,
    /// The log refuses it as things are now.
    Refused,
    /// The log says that the activation is over.
    Stale,
    /// Nobody knows whether the log will say so.
    Unknown,
    /// The log says that it stays.
    CalledOff,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Have the other node make room.
    Prepare,
    /// Copy its state while it runs.
    Copy,
    /// Let it handle the message at hand and nothing more.
    Freeze,
    /// Send the rest, and have it made ready there.
    Send,
    /// Have the log say that it is there.
    Switch,
    /// Let it go on here, and have the log say so.
    CallOff,
    /// Have the log say that it stays, and let it go on only then.
    Retract,
    /// Nothing more: tell the entity how it ended.
    Finish(End),
}

/// A move, from its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Machine {
    phase: Phase,
}

impl Machine {
    /// One that begins, and its first act.
    #[must_use]
    pub(super) fn begin() -> (Self, Act) {
        (Self { phase: Phase::Preparing }, Act::Prepare)
    }

    /// Where the move is.
    #[must_use]
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The next act. An event that cannot come of the last one ends the move where that does no
    /// harm.
    pub(super) fn on(&mut self, event: Event) -> Act {
        let (phase, act) = self.next(event);
        self.phase = phase;
        act
    }

    fn next(&self, event: Event) -> (Phase, Act) {
        let over = |end| (Phase::Over(end), Act::Finish(end));
        let copying = |round| (Phase::Copying { round }, Act::Copy);
        let freezing = (Phase::Freezing, Act::Freeze);
        match (self.phase, event) {
            (Phase::Over(end), _) => over(end),
            // By whom, the switch is told.
            (Phase::Retracting, Event::Stale) => (Phase::Switching, Act::Switch),
            // Whatever was asked for last, it is known now.
            (_, Event::Stale) => over(End::Overtaken),
            (Phase::Preparing, Event::Prepared { small: true }) => freezing,
            (Phase::Preparing, Event::Prepared { small: false }) => copying(1),
            (Phase::Copying { round }, Event::Copied { small: false }) if round < ROUNDS => {
                copying(round + 1)
            }
            (Phase::Copying { .. }, Event::Copied { .. }) => freezing,
            (Phase::Freezing, Event::Frozen) => (Phase::Sending, Act::Send),
            (Phase::Sending, Event::Thawed) => (Phase::Switching, Act::Switch),
            (Phase::Switching, Event::Switched) => over(End::Moved),
            (Phase::Switching, Event::Refused) => (Phase::Retracting, Act::Retract),
            (Phase::Switching, _) => (Phase::Switching, Act::Switch),
            (Phase::CallingOff | Phase::Retracting, Event::CalledOff | Event::Refused) => {
                over(End::Stayed)
            }
            (Phase::Retracting, _) => (Phase::Retracting, Act::Retract),
            (
                Phase::Preparing
                | Phase::Copying { .. }
                | Phase::Freezing
                | Phase::Sending
                | Phase::CallingOff,
                _,
            ) => (Phase::CallingOff, Act::CallOff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(events: &[Event]) -> Vec<Act> {
        let (mut machine, first) = Machine::begin();
        let rest = events.iter().map(|event| machine.on(*event));
        std::iter::once(first).chain(rest).collect()
    }

    #[test]
    fn a_small_entity_is_frozen_at_once_and_a_large_one_copied_before() {
        let rest = [Event::Frozen, Event::Thawed, Event::Switched];
        let rest_acts = [Act::Freeze, Act::Send, Act::Switch, Act::Finish(End::Moved)];
        let small = [&[Event::Prepared { small: true }], &rest[..]].concat();
        assert_eq!(acts(&small), [&[Act::Prepare], &rest_acts[..]].concat());
        let copied = [Event::Copied { small: false }, Event::Copied { small: true }];
        let large = [&[Event::Prepared { small: false }], &copied[..], &rest].concat();
        let expected = [&[Act::Prepare, Act::Copy, Act::Copy], &rest_acts[..]].concat();
        assert_eq!(acts(&large), expected);
    }

    #[test]
    fn what_changes_as_fast_as_it_is_copied_is_frozen_in_the_end() {
        let mut events = vec![Event::Prepared { small: false }];
        events.extend([Event::Copied { small: false }; ROUNDS as usize]);
        assert_eq!(acts(&events).last(), Some(&Act::Freeze));
    }

    #[test]
    fn whatever_fails_before_the_switch_is_called_off_until_the_log_says_so() {
        let before =
            [Event::Prepared { small: false }, Event::Copied { small: true }, Event::Frozen];
        for upto in 0..=before.len() {
            let failed = [Event::Failed, Event::Unknown, Event::CalledOff];
            let events = [&before[..upto], &failed].concat();
            let expected = [Act::CallOff, Act::CallOff, Act::Finish(End::Stayed)];
            assert_eq!(acts(&events)[upto + 1..], expected);
        }
    }

    #[test]
    fn a_switch_in_doubt_is_asked_for_again_and_never_called_off() {
        let (mut machine, _) = Machine::begin();
        for event in [Event::Prepared { small: true }, Event::Frozen, Event::Thawed] {
            machine.on(event);
        }
        for _ in 0..9 {
            assert_eq!(machine.on(Event::Unknown), Act::Switch);
            assert_eq!(machine.on(Event::Failed), Act::Switch);
        }
        assert_eq!(machine.on(Event::Switched), Act::Finish(End::Moved));
        assert_eq!(machine.on(Event::Stale), Act::Finish(End::Moved), "over is over");
    }

    #[test]
    fn a_switch_that_is_refused_is_retracted_and_asked_for_again_if_another_was_made() {
        let begun = [Event::Prepared { small: true }, Event::Frozen, Event::Thawed];
        let retracted = [&begun[..], &[Event::Refused, Event::Unknown]].concat();
        assert_eq!(acts(&retracted)[begun.len() + 1..], [Act::Retract, Act::Retract]);
        let stays = [&retracted[..], &[Event::CalledOff]].concat();
        assert_eq!(acts(&stays).last(), Some(&Act::Finish(End::Stayed)));
        let was_made = [&retracted[..], &[Event::Stale, Event::Switched]].concat();
        let rest = [Act::Switch, Act::Finish(End::Moved)];
        assert_eq!(acts(&was_made)[retracted.len() + 1..], rest);
    }
}
