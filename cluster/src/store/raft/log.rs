//! One group's log: its entries in memory since the last purge, and their way to the shared
//! write-ahead log.
//!
//! Memory is bounded by snapshots: what a snapshot has is purged, but for the last few entries.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use odeum_proto::GroupId;
use odeum_proto::log::{Change, Record};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};

use super::convert::{entry_from, entry_to, log_id_from, log_id_to, vote_from, vote_to};
use super::{Entry, LogId, Types, Vote};
use crate::store::wal::{GroupLog, Wal};

/// Bytes of entries after which a follower's next batch is full. A quarter of a frame: a larger
/// entry travels alone, and the largest one still fits a frame.
const BATCH_BYTES: usize = 1 << 20;

/// Reads and writes one group's log. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Log {
    group: GroupId,
    wal: Wal,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug)]
struct Memory {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Behind `purged`, without gaps.
    entries: VecDeque<Entry>,
}

impl Memory {
    /// Index of the first entry in memory, or of the next one.
    fn first_index(&self) -> u64 {
        self.purged.as_ref().map_or(0, |id| id.index() + 1)
    }

    fn slice(&self, range: &impl RangeBounds<u64>) -> impl Iterator<Item = &Entry> {
        let first = self.first_index();
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let take = usize::try_from(end.saturating_sub(start.max(first))).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).take(take)
    }
}

impl Log {
    /// The log of `group` as `replayed` says.
    pub(in crate::store) fn new(group: GroupId, wal: Wal, replayed: GroupLog) -> Self {
        let memory = Memory {
            vote: replayed.vote.map(vote_from),
            committed: replayed.committed.map(log_id_from),
            purged: replayed.purged.map(log_id_from),
            entries: replayed.entries.into_iter().map(entry_from).collect(),
        };
        Self { group, wal, memory: Arc::new(Mutex::new(memory)) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, change: Change) -> Record {
        Record { group: self.group, change }
    }
}

/// Roughly how many bytes an entry has.
pub(super) fn weight(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.weight(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 64,
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.memory().slice(&range).cloned().collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let memory = self.memory();
        let mut bytes = 0;
        let mut batch = Vec::new();
        for entry in memory.slice(&(start..end)) {
            bytes += weight(entry);
            if bytes > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            batch.push(entry.clone());
        }
        Ok(batch)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote.clone())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let memory = self.memory();
        let last = memory.entries.back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: last.or(memory.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let record = self.record(Change::Vote(vote_to(vote)));
        self.wal.write_and_wait(vec![record]).await?;
        self.memory().vote = Some(vote.clone());
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let record = self.record(Change::Committed(committed.as_ref().map(log_id_to)));
        self.memory().committed = committed;
        // Lazily: it only saves work at the next start. What is committed is decided by the
        // entries on the disks of a quorum.
        self.wal.write_lazily(vec![record]).await;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut memory = self.memory();
            for entry in entries {
                records.push(self.record(Change::Entry(entry_to(&entry))));
                memory.entries.push_back(entry);
            }
        }
        self.wal.write(records, Box::new(move |result| callback.io_completed(result))).await;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index() + 1);
        {
            let mut memory = self.memory();
            while memory.entries.back().is_some_and(|entry| entry.log_id.index() >= from) {
                memory.entries.pop_back();
            }
        }
        self.wal.write_and_wait(vec![self.record(Change::Truncate { from })]).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let record = self.record(Change::Purge(log_id_to(&upto)));
        {
            let mut memory = self.memory();
            while memory.entries.front().is_some_and(|e| e.log_id.index() <= upto.index()) {
                memory.entries.pop_front();
            }
            memory.purged = memory.purged.take().max(Some(upto));
        }
        // Lazily: entries that come back after a crash are purged again.
        self.wal.write_lazily(vec![record]).await;
        Ok(())
    }
}
