//! What single processes are made to believe by a library that they are started with: another time of
//! day, and a slower disk.
//!
//! A time namespace moves what passes and not the time of day; setting the machine's clock would
//! move everybody's. So a few lines of C stand before the C library's: what they add is in a file
//! that the harness writes. It takes no rights, and a C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

/// The library.
const SOURCE: &str = include_str!("shim.c");

/// Names the file to the library.
const VARIABLE: &str = "ODEUM_LOADTEST_SHIM";

/// The library, built.
#[derive(Debug)]
pub(crate) struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Builds it in a folder.
    ///
    /// # Errors
    /// If there is no C compiler.
    pub(crate) fn build(dir: &Path) -> anyhow::Result<Self> {
        let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
        fs::write(&source, SOURCE)?;
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
        let output = command.output().context("cc cannot be run")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{command:?}: {}", said.trim());
        Ok(Self { library })
    }

    /// Has a process believe what `file` says.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn apply(&self, command: &mut Command, file: &Path) -> anyhow::Result<()> {
        if !file.exists() {
            set_clock(file, 0)?;
            set_disk(file, Duration::ZERO)?;
        }
        command.env("LD_PRELOAD", &self.library).env(VARIABLE, file);
        Ok(())
    }
}

/// Moves the time of day of the processes of `file` by so many seconds from the machine's.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn set_clock(file: &Path, seconds: i64) -> anyhow::Result<()> {
    write(file, 0, seconds)
}

/// Has each flush of a file of the processes of `file` take so much longer.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn set_disk(file: &Path, slower: Duration) -> anyhow::Result<()> {
    write(file, 8, i64::try_from(slower.as_micros())?)
}

fn write(file: &Path, at: u64, value: i64) -> anyhow::Result<()> {
    // In place: processes have it mapped.
    let file = fs::File::options().create(true).truncate(false).write(true).open(file)?;
    std::os::unix::fs::FileExt::write_all_at(&file, &value.to_ne_bytes(), at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_of_a_process_is_moved() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(shim) = Shim::build(dir.path()) else {
            eprintln!("skipped: there is no C compiler");
            return;
        };
        let file = dir.path().join("shift");
        set_disk(&file, Duration::ZERO).unwrap();
        set_clock(&file, -100_000).unwrap();
        let mut command = Command::new("date");
        shim.apply(command.arg("+%s"), &file).unwrap();
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let moved: i64 = said.trim().parse().unwrap();
        let said = Command::new("date").arg("+%s").output().unwrap().stdout;
        let machine: i64 = String::from_utf8(said).unwrap().trim().parse().unwrap();
        let apart = machine - moved;
        assert!((99_990..100_010).contains(&apart), "{apart} s");
    }

    #[test]
    fn the_disk_of_a_process_is_slower() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(shim) = Shim::build(dir.path()) else {
            eprintln!("skipped: there is no C compiler");
            return;
        };
        let file = dir.path().join("shift");
        set_clock(&file, 0).unwrap();
        set_disk(&file, Duration::from_millis(300)).unwrap();
        let mut command = Command::new("sync");
        let begin = std::time::Instant::now();
        let status = shim.apply(command.arg("-d").arg(&file), &file).map(|()| command.status());
        assert!(status.unwrap().unwrap().success());
        assert!(begin.elapsed() >= Duration::from_millis(300));
    }
}
