//! A disk from which the power is taken.
//!
//! It promises what a file system does and no more. What was written after the last sync of a file
//! is there after a loss of power wholly, in part, in any order, or not at all; what happened to
//! names since the last sync of their folder is there up to some moment.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::store::disk::{Disk, DiskFile, Held, Open, Work};
use crate::store::seeds::Random;
use crate::store::wal::{LogWriter, WalConfig};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One node's disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(super) struct SimDisk(Arc<Mutex<Platter>>);

/// How a disk is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Make {
    /// The longest time that a flush takes.
    pub(super) flush: Duration,
    /// How large a segment of a log becomes on it.
    pub(super) segment_bytes: u64,
}

#[derive(Debug)]
struct Platter {
    make: Make,
    random: Random,
    /// Which contents have which name: now, and after a loss of power at this moment.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<Naming>,
    contents: Vec<Contents>,
    locked: BTreeSet<PathBuf>,
    /// Files that were opened in an earlier life of the process are nobody's any more.
    life: u64,
    /// After so many syncs the power goes in the middle of one.
    syncs_left: Option<u64>,
    off: bool,
}

#[derive(Debug, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Edit>,
}

#[derive(Debug)]
enum Edit {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug)]
enum Naming {
    Put(PathBuf, usize),
    Gone(PathBuf),
    Moved(PathBuf, PathBuf),
}

impl Naming {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Put(path, _) | Self::Gone(path) | Self::Moved(_, path)) = self;
        path.parent() == Some(dir)
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Put(path, contents) => _ = names.insert(path, contents),
            Self::Gone(path) => _ = names.remove(&path),
            Self::Moved(from, to) => {
                if let Some(contents) = names.remove(&from) {
                    names.insert(to, contents);
                }
            }
        }
    }
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: written } => {
                let end = offset + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }

    /// What there is of it when only the first `most` bytes got to the disk.
    fn cut(&mut self, most: usize) {
        if let Self::Write { bytes, .. } = self {
            bytes.truncate(most);
        }
    }

    /// As edits that get to the disk each for itself.
    fn sectors(self) -> Vec<Self> {
        match self {
            Self::Write { offset, bytes } => {
                let first = SECTOR - offset % SECTOR;
                let (head, rest) = bytes.split_at(first.min(bytes.len()));
                let pieces = std::iter::once(head).chain(rest.chunks(SECTOR));
                let mut at = offset;
                pieces
                    .map(|piece| {
                        let edit = Self::Write { offset: at, bytes: piece.to_vec() };
                        at += piece.len();
                        edit
                    })
                    .collect()
            }
            length => vec![length],
        }
    }
}

impl Contents {
    fn edit(&mut self, edit: Edit) {
        edit.apply(&mut self.now);
        self.unsynced.push(edit);
    }

    fn sync(&mut self) {
        for edit in self.unsynced.drain(..) {
            edit.apply(&mut self.durable);
        }
    }

    fn lose_power(&mut self, random: &mut Random) {
        let mut edits = std::mem::take(&mut self.unsynced);
        match random.below(4) {
            0 => edits.clear(),
            1 => {}
            2 => {
                edits.truncate(random.below(edits.len() as u64 + 1) as usize);
                if let Some(last) = edits.last_mut() {
                    last.cut(random.below(2_000) as usize);
                }
            }
            _ => {
                edits = edits.into_iter().flat_map(Edit::sectors).collect();
                edits.retain(|_| random.percent(50));
            }
        }
        for edit in edits {
            edit.apply(&mut self.durable);
        }
        self.now.clone_from(&self.durable);
    }
}

impl SimDisk {
    pub(super) fn new(make: Make, random: Random) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            make,
            random,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            contents: Vec::new(),
            locked: BTreeSet::new(),
            life: 0,
            syncs_left: None,
            off: false,
        })))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that used it has died; the system writes what it has.
    pub(super) fn lose_process(&self) {
        let mut platter = self.platter();
        platter.life += 1;
        platter.locked.clear();
    }

    /// The machine has lost its power, and has it again.
    pub(super) fn lose_power(&self) {
        self.lose_process();
        let platter = &mut *self.platter();
        let kept = platter.random.below(platter.unsynced_names.len() as u64 + 1) as usize;
        platter.unsynced_names.truncate(kept);
        for naming in platter.unsynced_names.drain(..) {
            naming.apply(&mut platter.durable_names);
        }
        platter.names.clone_from(&platter.durable_names);
        for contents in &mut platter.contents {
            contents.lose_power(&mut platter.random);
        }
        (platter.off, platter.syncs_left) = (false, None);
    }

    /// Lets the power go in the middle of a sync, after `syncs` more.
    pub(super) fn lose_power_after(&self, syncs: u64) {
        self.platter().syncs_left = Some(syncs);
    }

    /// The power does not go any more.
    pub(super) fn keep_power(&self) {
        self.platter().syncs_left = None;
    }

    /// Whether the power went in the middle of a sync.
    pub(super) fn is_off(&self) -> bool {
        self.platter().off
    }

    /// Waits as long as a flush takes.
    fn flush_time(&self) -> tokio::time::Sleep {
        let mut platter = self.platter();
        let most = platter.make.flush.as_millis() as u64;
        let time = Duration::from_millis(platter.random.below(most + 1));
        tokio::time::sleep(time)
    }
}

impl Platter {
    fn powered(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn there(&self, file: &Path) -> io::Result<usize> {
        self.powered()?;
        self.names.get(file).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn name(&mut self, naming: Naming, now: impl FnOnce(&mut BTreeMap<PathBuf, usize>)) {
        now(&mut self.names);
        self.unsynced_names.push(naming);
    }

    /// Counts a sync; an error when the power goes in it.
    fn sync(&mut self) -> io::Result<()> {
        self.powered()?;
        if let Some(left) = &mut self.syncs_left {
            self.off = *left == 0;
            *left = left.saturating_sub(1);
        }
        self.powered()
    }
}

impl Disk for SimDisk {
    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        self.platter().powered()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let platter = self.platter();
        platter.powered()?;
        let inside = platter.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()).map(ToOwned::to_owned).collect())
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        let platter = self.platter();
        Ok(platter.contents[platter.there(file)?].now.clone())
    }

    fn open(&self, file: &Path, which: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut platter = self.platter();
        platter.powered()?;
        let there = platter.names.get(file).copied();
        let contents = match (there, which) {
            (None, Open::There) => return Err(io::ErrorKind::NotFound.into()),
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(contents), Open::There | Open::Anew) => contents,
            (None, Open::New | Open::Anew) => {
                let contents = platter.contents.len();
                platter.contents.push(Contents::default());
                let path = file.to_owned();
                platter.name(Naming::Put(path.clone(), contents), |names| {
                    names.insert(path, contents);
                });
                contents
            }
        };
        if which == Open::Anew {
            platter.contents[contents].edit(Edit::Length(0));
        }
        Ok(Box::new(SimFile { disk: self.clone(), life: platter.life, contents }))
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut platter = self.platter();
        platter.there(file)?;
        platter.name(Naming::Gone(file.to_owned()), |names| _ = names.remove(file));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.platter();
        let contents = platter.there(from)?;
        platter.name(Naming::Moved(from.to_owned(), to.to_owned()), |names| {
            names.remove(from);
            names.insert(to.to_owned(), contents);
        });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let platter = &mut *self.platter();
        platter.sync()?;
        let all = std::mem::take(&mut platter.unsynced_names);
        let (synced, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|n| n.is_in(dir));
        platter.unsynced_names = rest;
        for naming in synced {
            naming.apply(&mut platter.durable_names);
        }
        Ok(())
    }

    fn lock(&self, file: &Path) -> Result<Held, TryLockError> {
        let mut platter = self.platter();
        platter.powered().map_err(TryLockError::Error)?;
        if !platter.locked.insert(file.to_owned()) {
            return Err(TryLockError::WouldBlock);
        }
        let life = platter.life;
        Ok(Box::new(SimLock { disk: self.clone(), life, file: file.to_owned() }))
    }

    fn log_in(&self, dir: PathBuf) -> WalConfig {
        let segment_bytes = self.platter().make.segment_bytes;
        WalConfig { segment_bytes, ahead_bytes: 4_096, ..WalConfig::new(dir) }
    }

    fn run(&self, work: Work) -> BoxFuture<'static, io::Result<()>> {
        let ready = self.flush_time();
        Box::pin(async move {
            ready.await;
            work();
            Ok(())
        })
    }

    fn attend(&self, writer: LogWriter) -> io::Result<Option<JoinHandle<()>>> {
        let disk = self.clone();
        tokio::spawn(writer.run(move || disk.flush_time()));
        Ok(None)
    }
}

struct SimLock {
    disk: SimDisk,
    life: u64,
    file: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut platter = self.disk.platter();
        if platter.life == self.life {
            platter.locked.remove(&self.file);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    life: u64,
    contents: usize,
}

impl SimFile {
    fn edit(&mut self, edit: Edit) -> io::Result<()> {
        let mut platter = self.disk.platter();
        platter.powered()?;
        if platter.life != self.life {
            return Err(io::Error::other("a process that is dead writes"));
        }
        platter.contents[self.contents].edit(edit);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.edit(Edit::Write { offset: offset as usize, bytes: bytes.to_vec() })
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.edit(Edit::Length(length as usize))
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut platter = self.disk.platter();
        platter.sync()?;
        platter.contents[self.contents].sync();
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
