//! The thread that writes the log: takes what waits, writes it in one go, flushes once, reports.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use odeum_proto::GroupId;
use odeum_proto::log::{Change, Entry, LogId, Payload, Record, Vote};
use tokio::sync::{mpsc, watch};

use super::lazy::{self, Lazy};
use super::{Done, GroupLog, Health, Pinned, WalConfig, frame, is_no_space, segment};
use crate::store::disk::{Disk, DiskFile, Held};

/// Bytes after which no further waiting batch is taken into the same flush. Large enough that a
/// flush is never wasted on little, small enough that the first waiter is not kept for long: a
/// slow disk writes it in some 20 ms.
const FLUSH_BYTES: usize = 4 << 20;

/// Of what is written at once so many bytes of memory are kept for the next time.
const KEPT_BYTES: usize = 1 << 20;

/// How often a write is tried again on a full disk.
const FULL_RETRY: Duration = Duration::from_millis(200);

/// Records that are written together, and who wants to know when they are on the disk.
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// `None` when nobody waits for the disk.
    pub(super) done: Option<Done>,
}

/// What the writer tells of itself.
#[derive(Debug)]
pub(super) struct Signs {
    pub(super) health: watch::Sender<Health>,
    pub(super) pinned: watch::Sender<Pinned>,
}

/// The writer of an open log with what it is to write.
pub(in crate::store) struct LogWriter {
    pub(super) writer: Writer,
    pub(super) queue: mpsc::Receiver<Batch>,
    pub(super) signs: Signs,
    pub(super) lazy: Arc<Lazy>,
}

impl LogWriter {
    /// Writes until all senders are gone or the log fails, waiting `before` each flush. Blocks on
    /// the disk, so it has a thread of its own.
    pub(in crate::store) async fn run<F: Future<Output = ()>>(
        mut self,
        mut before: impl FnMut() -> F,
    ) {
        while let Some(first) = self.next().await {
            before().await;
            let batches = self.collect(first);
            if !self.writer.serve(batches, &self.queue, &self.signs) {
                return self.writer.fail(&mut self.queue);
            }
        }
        self.writer.end(self.lazy.take());
    }

    /// The next batch; an empty one when only what is written lazily is to be written.
    async fn next(&mut self) -> Option<Batch> {
        match tokio::time::timeout(lazy::PATIENCE, self.queue.recv()).await {
            Ok(batch) => batch,
            Err(_) if self.lazy.sleep() => self.queue.recv().await,
            Err(_) => Some(Batch { records: Vec::new(), done: None }),
        }
    }

    /// `first` and what waits behind it, up to [`FLUSH_BYTES`].
    fn collect(&mut self, first: Batch) -> Vec<Batch> {
        // Before the queue is looked at: what it must come behind has been sent before it.
        let records = self.lazy.take();
        let mut bytes = weight(&first);
        let mut batches = vec![first];
        while bytes < FLUSH_BYTES {
            let Ok(batch) = self.queue.try_recv() else {
                batches.push(Batch { records, done: None });
                return batches;
            };
            bytes += weight(&batch);
            batches.push(batch);
        }
        self.lazy.put_back(records);
        batches
    }
}

/// The highest entry of each group in a segment.
#[derive(Debug, Default)]
pub(super) struct Tops(BTreeMap<GroupId, u64>);

impl Tops {
    pub(super) fn note(&mut self, group: GroupId, index: u64) {
        let top = self.0.entry(group).or_insert(index);
        *top = index.max(*top);
    }
}

/// A segment that is complete.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) number: u64,
    pub(super) tops: Tops,
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) number: u64,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// How long the file is: zeros from `end` on.
    pub(super) length: u64,
    pub(super) tops: Tops,
}

impl Current {
    /// The first segment of a new log.
    pub(super) fn first(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        Self::create(disk, dir, 1, &[])
    }

    fn create(disk: &dyn Disk, dir: &Path, number: u64, head: &[u8]) -> io::Result<Self> {
        let file = segment::create(disk, dir, number, head)?;
        let end = (segment::HEADER + head.len()) as u64;
        Ok(Self { file, number, end, length: end, tops: Tops::default() })
    }
}

/// What a new segment repeats from the older ones.
#[derive(Debug, Default)]
struct Marks {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
}

pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    config: WalConfig,
    /// Unlocks the folder when the writer ends.
    _lock: Held,
    current: Current,
    /// How much of the current segment is on the disk.
    synced: u64,
    sealed: VecDeque<Sealed>,
    marks: BTreeMap<GroupId, Marks>,
    /// What is written at once. Kept, because memory that is had anew for each write costs as much
    /// as what is written into it.
    frames: Vec<u8>,
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        config: WalConfig,
        lock: Held,
        current: Current,
        sealed: VecDeque<Sealed>,
        groups: &BTreeMap<GroupId, GroupLog>,
    ) -> Self {
        let marks = |log: &GroupLog| Marks {
            vote: log.vote.clone(),
            committed: log.committed,
            purged: log.purged,
        };
        let marks = groups.iter().map(|(group, log)| (*group, marks(log))).collect();
        Self {
            disk,
            config,
            _lock: lock,
            synced: current.end,
            current,
            sealed,
            marks,
            frames: Vec::new(),
        }
    }

    /// Writes `batches`; whether the log goes on.
    fn serve(&mut self, batches: Vec<Batch>, queue: &mpsc::Receiver<Batch>, signs: &Signs) -> bool {
        let written = self.write_until_space(&batches, queue, &signs.health);
        report(batches, &written);
        let kept = written.and_then(|()| self.remove_purged());
        if let Err(error) = &kept {
            tracing::error!(%error, "the log failed");
            signs.health.send_replace(Health::Failed);
        }
        signs.pinned.send_if_modified(|pinned| {
            let now = self.pinned();
            let changed = *pinned != now;
            *pinned = now;
            changed
        });
        kept.is_ok()
    }

    /// Refuses what is left after a failure.
    fn fail(&mut self, queue: &mut mpsc::Receiver<Batch>) {
        queue.close();
        while let Ok(batch) = queue.try_recv() {
            report(vec![batch], &Err(io::Error::other(super::WalError::Closed)));
        }
    }

    /// Saves the last lazy records. Nobody waits for them, so nobody is told when that fails.
    fn end(&mut self, records: Vec<Record>) {
        let _ = self.write(&[Batch { records, done: None }]);
        let _ = self.current.file.sync_data();
    }

    fn write_until_space(
        &mut self,
        batches: &[Batch],
        queue: &mpsc::Receiver<Batch>,
        health: &watch::Sender<Health>,
    ) -> io::Result<()> {
        loop {
            match self.write(batches) {
                Err(error) if is_no_space(&error) && !queue.is_closed() => {
                    if health.send_replace(Health::Full) != Health::Full {
                        let dir = self.config.dir.display();
                        tracing::error!(%dir, "disk full, writes wait for space");
                    }
                    std::thread::sleep(FULL_RETRY);
                }
                Ok(()) => {
                    if health.send_replace(Health::Good) == Health::Full {
                        tracing::info!("space found, writes go on");
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes `batches` at the end and flushes if anybody waits. On an error the segment ends
    /// where it ended before.
    fn write(&mut self, batches: &[Batch]) -> io::Result<()> {
        self.frame(batches)?;
        let would_end = self.current.end + self.frames.len() as u64;
        if would_end > self.config.segment_bytes && self.current.end > self.fresh_end() {
            self.rotate()?;
            self.frame(batches)?;
        }
        let bytes = &mut self.frames;
        let must_sync = batches.iter().any(|batch| batch.done.is_some());
        let end = self.current.end + bytes.len() as u64;
        if end > self.current.length {
            let ahead = end.next_multiple_of(self.config.ahead_bytes.max(1));
            bytes.resize(bytes.len() + usize::try_from(ahead - end).unwrap_or_default(), 0);
        }
        let length = self.current.length.max(self.current.end + bytes.len() as u64);
        let file = &mut *self.current.file;
        let written = file
            .write_at(bytes, self.current.end)
            .and_then(|()| if must_sync { flush(file) } else { Ok(()) });
        if let Err(error) = written {
            file.set_len(self.current.end)?;
            self.current.length = self.current.end;
            return Err(error);
        }
        (self.current.end, self.current.length) = (end, length);
        if must_sync {
            self.synced = self.current.end;
        }
        self.note(batches);
        Ok(())
    }

    /// Below this a segment is not worth closing: nothing but its head is in it.
    fn fresh_end(&self) -> u64 {
        // A head has three small records per group; 1 KiB each is generous.
        (segment::HEADER + 1024 * self.marks.len()) as u64
    }

    /// Makes [`frames`](Self::frames) those of `batches`.
    fn frame(&mut self, batches: &[Batch]) -> io::Result<()> {
        self.frames.clear();
        self.frames.shrink_to(KEPT_BYTES);
        for record in batches.iter().flat_map(|batch| &batch.records) {
            frame::append(&mut self.frames, self.synced, record).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Remembers what the next segment's head and the removal of segments need.
    fn note(&mut self, batches: &[Batch]) {
        for Record { group, change } in batches.iter().flat_map(|batch| &batch.records) {
            let marks = self.marks.entry(*group).or_default();
            match change {
                Change::Entry(entry) => self.current.tops.note(*group, entry.id.index),
                Change::Vote(vote) => marks.vote = Some(vote.clone()),
                Change::Committed(committed) => marks.committed = *committed,
                Change::Purge(upto) => marks.purged = marks.purged.max(Some(*upto)),
                Change::Truncate { .. } => {}
            }
        }
    }

    /// Closes the current segment and begins the next with the marks of all groups.
    fn rotate(&mut self) -> io::Result<()> {
        self.current.file.set_len(self.current.end)?;
        self.current.length = self.current.end;
        flush(&mut *self.current.file)?;
        self.synced = self.current.end;
        let mut head = Vec::new();
        for (group, marks) in &self.marks {
            let changes = [
                marks.vote.clone().map(Change::Vote),
                marks.purged.map(Change::Purge),
                Some(Change::Committed(marks.committed)),
            ];
            for change in changes.into_iter().flatten() {
                let record = Record { group: *group, change };
                frame::append(&mut head, 0, &record).map_err(io::Error::other)?;
            }
        }
        let next = Current::create(&*self.disk, &self.config.dir, self.current.number + 1, &head)?;
        let last = std::mem::replace(&mut self.current, next);
        self.synced = self.current.end;
        self.sealed.push_back(Sealed { number: last.number, tops: last.tops });
        Ok(())
    }

    /// Removes the oldest segments while all entries in them are purged. That a file could not be
    /// removed is no loss: the next purge tries again.
    ///
    /// # Errors
    /// When what was written cannot be flushed.
    fn remove_purged(&mut self) -> io::Result<()> {
        while self.sealed.front().is_some_and(|oldest| self.is_purged(&oldest.tops)) {
            // The purge must not be lost while the entries are: that would be a gap.
            if self.synced < self.current.end {
                flush(&mut *self.current.file)?;
                self.synced = self.current.end;
            }
            if let Err(error) = self.remove_oldest() {
                tracing::warn!(error = %error, "a purged log segment could not be removed");
                break;
            }
        }
        Ok(())
    }

    /// The groups that keep the oldest segment when there are many, each with its last entry in it.
    fn pinned(&self) -> Pinned {
        match self.sealed.front() {
            Some(oldest) if self.sealed.len() > self.config.keep_segments => {
                let kept = oldest.tops.0.iter().filter(|(group, top)| {
                    let purged = self.marks.get(group).and_then(|marks| marks.purged);
                    purged.is_none_or(|purged| purged.index < **top)
                });
                kept.map(|(group, top)| (*group, *top)).collect()
            }
            _ => BTreeMap::new(),
        }
    }

    fn is_purged(&self, tops: &Tops) -> bool {
        tops.0.iter().all(|(group, top)| {
            let purged = self.marks.get(group).and_then(|marks| marks.purged);
            purged.is_some_and(|purged| *top <= purged.index)
        })
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.sealed.front() else { return Ok(()) };
        self.disk.remove(&segment::path(&self.config.dir, oldest.number))?;
        self.disk.sync_dir(&self.config.dir)?;
        self.sealed.pop_front();
        Ok(())
    }
}

/// Flushes `file`. Whatever the reason of a failure, also when it is a full disk, it ends the log:
/// nobody knows then which of the bytes before are on the disk.
fn flush(file: &mut dyn DiskFile) -> io::Result<()> {
    file.sync_data().map_err(io::Error::other)
}

/// Roughly how many bytes a batch will have.
fn weight(batch: &Batch) -> usize {
    let of_record = |record: &Record| match &record.change {
        Change::Entry(Entry { payload: Payload::Command(proposal), .. }) => proposal.weight(),
        _ => 64,
    };
    batch.records.iter().map(of_record).sum()
}

/// Tells everybody who waits.
fn report(batches: Vec<Batch>, result: &io::Result<()>) {
    for done in batches.into_iter().filter_map(|batch| batch.done) {
        done(match result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
}
