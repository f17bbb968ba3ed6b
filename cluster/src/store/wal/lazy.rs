//! Records that nobody waits for: they go with the next batch, or alone when none comes soon.
//!
//! A commit index follows almost every append. Written at once each would wake the writer once
//! more for a few bytes, which on a busy machine costs as much as the append itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use odeum_proto::log::{Change, Record};

/// How long a record waits for a batch to go with. Long against a flush and short for a person: it
/// is also for as long that damage to the last batch before it could be taken for a torn tail
/// (`wal/frame.rs`).
pub(super) const PATIENCE: Duration = Duration::from_millis(10);

/// What waits, shared by those who write and the writer.
#[derive(Debug, Default)]
pub(super) struct Lazy(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    /// Whether the writer sleeps until somebody sends a batch.
    is_asleep: bool,
}

impl Lazy {
    /// Adds records; whether the writer has to be woken for them.
    #[must_use]
    pub(super) fn put(&self, records: Vec<Record>) -> bool {
        let mut waiting = self.lock();
        for record in records {
            if let Change::Committed(_) = record.change {
                // Only the last one counts.
                let is_other = |waits: &Record| {
                    waits.group != record.group || !matches!(waits.change, Change::Committed(_))
                };
                waiting.records.retain(is_other);
            }
            waiting.records.push(record);
        }
        std::mem::take(&mut waiting.is_asleep)
    }

    /// Takes all that waits.
    pub(super) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.lock().records)
    }

    /// Puts back what was taken, before what came since.
    pub(super) fn put_back(&self, mut records: Vec<Record>) {
        let mut waiting = self.lock();
        records.append(&mut waiting.records);
        waiting.records = records;
    }

    /// Whether nothing waits, so that the writer may sleep until it is woken.
    pub(super) fn sleep(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_asleep = waiting.records.is_empty();
        waiting.is_asleep
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use odeum_proto::GroupId;
    use odeum_proto::log::LogId;

    use super::*;

    fn committed(group: GroupId, index: u64) -> Record {
        Record { group, change: Change::Committed(Some(LogId { term: 1, index })) }
    }

    fn purge(group: GroupId, index: u64) -> Record {
        Record { group, change: Change::Purge(LogId { term: 1, index }) }
    }

    #[test]
    fn only_the_last_commit_index_of_each_group_is_written_and_all_else_in_order() {
        let lazy = Lazy::default();
        let (one, other) = (GroupId::Control, GroupId::Data(0));
        for record in [committed(one, 1), purge(one, 1), committed(other, 5), committed(one, 2)] {
            assert!(!lazy.put(vec![record]), "it is not asleep");
        }
        let expected = [purge(one, 1), committed(other, 5), committed(one, 2)];
        let taken = lazy.take();
        assert_eq!(taken, expected);
        let _ = lazy.put(vec![purge(one, 2)]);
        lazy.put_back(taken);
        let [first, second, third] = expected;
        assert_eq!(lazy.take(), [first, second, third, purge(one, 2)]);
    }

    #[test]
    fn a_writer_that_sleeps_is_woken_once() {
        let lazy = Lazy::default();
        assert!(lazy.sleep());
        assert!(lazy.put(vec![committed(GroupId::Control, 1)]));
        assert!(!lazy.put(vec![committed(GroupId::Control, 2)]), "it is on its way");
        assert!(!lazy.sleep(), "something waits");
    }
}
