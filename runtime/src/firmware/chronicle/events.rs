//! The last that became of one firmware, bounded. Pure.

use std::collections::VecDeque;

use odeum_proto::{
    Epoch,
    chronicle::{Happening, What},
    report::ERROR_BYTES,
};

/// Most events that are kept: more than a screen, and the whole story of what was given up after
/// crashing a dozen times.
const EVENTS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Events(VecDeque<Happening>);

impl Events {
    /// One more. What happens again, with nothing else in between, is counted.
    pub(super) fn push(&mut self, at_ms: u64, epoch: Epoch, what: What) {
        let what = shortened(what);
        if let Some(last) = self.0.back_mut().filter(|it| it.what == what && it.epoch == epoch) {
            last.count = last.count.saturating_add(1);
            last.at_ms = at_ms;
            return;
        }
        if self.0.len() >= EVENTS {
            self.0.pop_front();
        }
        self.0.push_back(Happening { at_ms, first_ms: at_ms, count: 1, epoch, what });
    }

    pub(super) fn all(&self) -> Vec<Happening> {
        self.0.iter().cloned().collect()
    }
}

/// What a guest says of its own end can be long.
fn shortened(mut what: What) -> What {
    if let What::Waits { reason }
    | What::Crashed { reason }
    | What::GivenUp { reason }
    | What::RolledBack { reason, .. }
    | What::NotAlive { reason }
    | What::Exceeded { reason } = &mut what
    {
        reason.truncate(reason.floor_char_boundary(ERROR_BYTES));
    }
    what
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_again_is_counted_and_what_is_old_makes_room() {
        let mut events = Events::default();
        events.push(1, Epoch(1), What::Running);
        events.push(2, Epoch(1), What::Running);
        events.push(3, Epoch(2), What::Running);
        let counts: Vec<_> =
            events.all().iter().map(|it| (it.first_ms, it.at_ms, it.count)).collect();
        assert_eq!(counts, [(1, 2, 2), (3, 3, 1)]);
        for times in 0..1_000 {
            events.push(times, Epoch(3), What::Restarted { times });
        }
        let all = events.all();
        assert_eq!((all.len(), all[0].first_ms), (EVENTS, 1_000 - EVENTS as u64));
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let mut events = Events::default();
        events.push(1, Epoch(1), What::Crashed { reason: "ä".repeat(ERROR_BYTES) });
        let What::Crashed { reason } = &events.all()[0].what else { panic!("another event") };
        assert_eq!(reason.len(), ERROR_BYTES);
    }
}
