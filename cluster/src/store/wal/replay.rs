//! From records back to the logs of the groups. Pure: bytes are read elsewhere.

use std::collections::VecDeque;

use odeum_proto::log::{Change, Entry, LogId, Vote};

/// What the log on disk says about one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupLog {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last known commit index; may lag, because it is written without waiting for the disk.
    pub committed: Option<LogId>,
    /// The last entry that was removed because a snapshot has it.
    pub purged: Option<LogId>,
    /// The entries behind `purged`, without gaps.
    pub entries: VecDeque<Entry>,
}

impl GroupLog {
    /// The index of the last entry, purged or not.
    pub(in crate::store) fn last_index(&self) -> Option<u64> {
        self.next_index().checked_sub(1)
    }

    /// The index that the next entry must have.
    pub(super) fn next_index(&self) -> u64 {
        let behind = |id: LogId| id.index + 1;
        let last = self.entries.back().map(|entry| behind(entry.id));
        last.max(self.purged.map(behind)).unwrap_or(0)
    }

    /// Applies one record.
    ///
    /// # Errors
    /// What is wrong with the record at this place, in words.
    pub(super) fn apply(&mut self, change: Change) -> Result<(), Box<str>> {
        match change {
            Change::Entry(entry) => return self.append(entry),
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Committed(committed) => self.committed = committed,
            Change::Truncate { from } => {
                while self.entries.back().is_some_and(|entry| entry.id.index >= from) {
                    self.entries.pop_back();
                }
            }
            Change::Purge(upto) => {
                self.purged = self.purged.max(Some(upto));
                while self.entries.front().is_some_and(|entry| entry.id.index <= upto.index) {
                    self.entries.pop_front();
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, entry: Entry) -> Result<(), Box<str>> {
        let index = entry.id.index;
        // Left in a segment that also holds newer entries.
        if self.purged.is_some_and(|purged| index <= purged.index) {
            return Ok(());
        }
        match self.next_index() {
            next if next == index => {
                self.entries.push_back(entry);
                Ok(())
            }
            next => Err(format!("entry {index} where entry {next} must come").into()),
        }
    }
}
