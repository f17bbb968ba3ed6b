//! The moves that began at this node lately.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use odeum_proto::EntityId;
use odeum_proto::moves::{Carriage, MovePhase, MoveReport, REASON_BYTES};
use odeum_proto::store::Move;

/// Most moves that are kept. Older ones that are over are forgotten.
const KEPT: usize = 512;

/// Moves of this node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal(Arc<Mutex<VecDeque<Arc<Line>>>>);

#[derive(Debug)]
struct Line {
    began: Instant,
    told: Mutex<MoveReport>,
}

/// The line of one move.
#[derive(Debug, Clone)]
pub(super) struct Entry(Arc<Line>);

impl Journal {
    /// A move begins.
    pub(super) fn begin(&self, entity: &EntityId, made: &Move) -> Entry {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let told = MoveReport {
            entity: entity.clone(),
            from: made.from.clone(),
            to: made.to.clone(),
            epoch: made.epoch,
            began_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            took_us: 0,
            phase: MovePhase::Preparing,
            how: None,
            rounds: 0,
            bytes: 0,
            paused_us: None,
        };
        let line = Arc::new(Line { began: Instant::now(), told: Mutex::new(told) });
        let mut lines = locked(&self.0);
        while lines.len() >= KEPT {
            let Some(over) = lines.iter().position(|it| locked(&it.told).phase.is_over()) else {
                break;
            };
            lines.remove(over);
        }
        lines.push_back(Arc::clone(&line));
        Entry(line)
    }

    /// All that are kept, the oldest first.
    pub(super) fn all(&self) -> Vec<MoveReport> {
        locked(&self.0).iter().map(|line| line.report()).collect()
    }
}

impl Line {
    fn report(&self) -> MoveReport {
        let mut told = locked(&self.told).clone();
        if !told.phase.is_over() {
            told.took_us = micros(self.began);
        }
        told
    }
}

impl Entry {
    pub(super) fn is_in(&self, phase: MovePhase) {
        self.change(|told| {
            if phase.is_over() {
                told.took_us = micros(self.0.began);
            }
            told.phase = match phase {
                MovePhase::Stayed { reason } => MovePhase::Stayed { reason: clipped(&reason) },
                other => other,
            };
        });
    }

    pub(super) fn goes(&self, how: Carriage) {
        self.change(|told| told.how = Some(how));
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.change(|told| told.bytes += bytes as u64);
    }

    pub(super) fn copied(&self) {
        self.change(|told| told.rounds += 1);
    }

    /// It handles nothing since then.
    pub(super) fn paused(&self, since: Instant) {
        self.change(|told| told.paused_us = Some(micros(since)));
    }

    pub(super) fn report(&self) -> MoveReport {
        self.0.report()
    }

    fn change(&self, change: impl FnOnce(&mut MoveReport)) {
        change(&mut locked(&self.0.told));
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn clipped(text: &str) -> String {
    text[..text.floor_char_boundary(REASON_BYTES)].to_owned()
}

/// What it guards is changed by single assignments, so a panic while it was held did no harm.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use odeum_proto::{Epoch, Revision};

    use super::*;

    #[test]
    fn moves_that_are_over_make_room_and_those_under_way_stay() {
        let journal = Journal::default();
        let entity: EntityId = "firmware/e".parse().expect("valid");
        let made = Move {
            from: "a".parse().expect("valid"),
            to: "b".parse().expect("valid"),
            epoch: Epoch(1),
            began: Revision(1),
            switched: None,
        };
        let first = journal.begin(&entity, &made);
        for _ in 0..2 * KEPT {
            journal.begin(&entity, &made).is_in(MovePhase::Overtaken);
        }
        let all = journal.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].phase, MovePhase::Preparing);
        first.is_in(MovePhase::Stayed { reason: "é".repeat(REASON_BYTES) });
        let MovePhase::Stayed { reason } = &journal.all()[0].phase else { panic!("it stayed") };
        assert!(reason.len() <= REASON_BYTES);
    }
}
