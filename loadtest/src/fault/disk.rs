//! A disk of its own for one node, small enough to be filled.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Bytes of the disk. The log of half an hour and some snapshots have room in it.
const SIZE: u64 = 1 << 30;

/// Before the name under which it is mounted; the process that did follows.
const PREFIX: &str = "odeum-loadtest-disk-";

/// The file that fills it.
const FILLER: &str = "filler";

/// A file system in memory, unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// Mounts it. Those of processes that were killed are unmounted first.
    ///
    /// # Errors
    /// If it cannot be mounted, which takes root.
    pub(crate) fn mount(dir: &Path) -> anyhow::Result<Self> {
        unmount_leftovers();
        fs::create_dir_all(dir)?;
        let name = format!("{PREFIX}{}", std::process::id());
        let size = format!("size={SIZE}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, &name]).arg(dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes all space that is left.
    ///
    /// # Errors
    /// If there is no file system there.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let file = File::create(self.dir.join(FILLER))?;
        // Halves, since what is said to be free and what can be had differ a little.
        let mut end = 0;
        let free = statvfs(&self.dir)?;
        let mut step = free.f_bavail.saturating_mul(free.f_frsize);
        while step > 0 {
            match fallocate(&file, FallocateFlags::empty(), end, step) {
                Ok(()) => end += step,
                Err(_) => step /= 2,
            }
        }
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// If it was not taken.
    pub(crate) fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.dir.join(FILLER))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.dir);
    }
}

fn unmount(dir: &Path) {
    // Lazily: a process that was killed may not have closed its files yet.
    let _ = run(Command::new("umount").arg("--lazy").arg(dir));
}

fn unmount_leftovers() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let owner = words.next().and_then(|name| name.strip_prefix(PREFIX));
        let lives = |owner: &str| Path::new("/proc").join(owner).exists();
        if owner.is_some_and(|owner| !lives(owner))
            && let Some(dir) = words.next()
        {
            unmount(Path::new(dir));
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
