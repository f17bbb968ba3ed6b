//! The time of day of single processes, moved by a library that they are started with.
//!
//! A time namespace moves what passes and not the time of day; setting the machine's clock would
//! move everybody's. So a few lines of C stand before the C library's: what they add is in a file
//! that the harness writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// The library.
const SOURCE: &str = include_str!("clock.c");

/// Names the file to the library.
const VARIABLE: &str = "ODEUM_LOADTEST_CLOCK";

/// The library, built.
#[derive(Debug)]
pub(super) struct Clock {
    library: PathBuf,
}

impl Clock {
    /// Builds it in a folder.
    ///
    /// # Errors
    /// If there is no C compiler.
    pub(super) fn build(dir: &Path) -> anyhow::Result<Self> {
        let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
        fs::write(&source, SOURCE)?;
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
        let output = command.output().context("cc cannot be run")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{command:?}: {}", said.trim());
        Ok(Self { library })
    }

    /// Has a process read the time of day by `file`.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(super) fn apply(&self, command: &mut Command, file: &Path) -> anyhow::Result<()> {
        if !file.exists() {
            set(file, 0)?;
        }
        command.env("LD_PRELOAD", &self.library).env(VARIABLE, file);
        Ok(())
    }
}

/// Moves the time of day of the processes of `file` by so many seconds from the machine's.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn set(file: &Path, seconds: i64) -> anyhow::Result<()> {
    // In place: processes have it mapped.
    let file = fs::File::options().create(true).truncate(false).write(true).open(file)?;
    std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_of_a_process_is_moved() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(clock) = Clock::build(dir.path()) else {
            eprintln!("skipped: there is no C compiler");
            return;
        };
        let file = dir.path().join("shift");
        set(&file, -100_000).unwrap();
        let mut command = Command::new("date");
        clock.apply(command.arg("+%s"), &file).unwrap();
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let moved: i64 = said.trim().parse().unwrap();
        let said = Command::new("date").arg("+%s").output().unwrap().stdout;
        let machine: i64 = String::from_utf8(said).unwrap().trim().parse().unwrap();
        let apart = machine - moved;
        assert!((99_990..100_010).contains(&apart), "{apart} s");
    }
}
