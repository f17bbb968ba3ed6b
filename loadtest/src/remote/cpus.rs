//! Which CPUs the two processes of a side run on.
//!
//! Where the system places them is worth more than most of what is compared: a question between
//! two processes takes a third of the time when both happen to be on one CPU, for nobody sleeps
//! and wakes on another. So the placement is part of the comparison and the same for both sides.

use std::fmt;

use anyhow::Context as _;
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::process::{Child, Command};

use super::{DRIVE, HOLD};

/// How the processes of a side are placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Cpus {
    /// Each process on a CPU of its own, of two cores where there are two.
    #[default]
    Spread,
    /// Both on the same CPU.
    One,
    /// Wherever the system puts them, which may change at any time.
    Free,
}

/// The CPU of each process; none where the system chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) hold: Option<usize>,
    pub(crate) drive: Option<usize>,
}

impl Cpus {
    /// Chooses among the CPUs that this process may use.
    pub(crate) fn place(self) -> anyhow::Result<Placement> {
        let allowed = sched_getaffinity(None).context("cannot ask which CPUs may be used")?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        Ok(self.choose(&allowed, core))
    }

    /// `core` names the core of a CPU: two hardware threads of one core slow each other down.
    fn choose<C: PartialEq>(self, allowed: &[usize], core: impl Fn(usize) -> C) -> Placement {
        let first = allowed.first().copied();
        let hold = if self == Self::Free { None } else { first };
        let drive = match self {
            Self::Free => None,
            Self::One => first,
            Self::Spread => {
                let elsewhere = |cpu: &&usize| first.map(&core) != Some(core(**cpu));
                allowed.iter().find(elsewhere).or(allowed.get(1)).copied().or(first)
            }
        };
        Placement { hold, drive }
    }
}

/// The package and core of a CPU; empty where the system does not tell.
fn core(cpu: usize) -> [String; 2] {
    ["physical_package_id", "core_id"].map(|part| {
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/{part}");
        std::fs::read_to_string(file).unwrap_or_default()
    })
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.hold, self.drive) {
            (Some(hold), Some(drive)) => {
                write!(f, "both sides: {HOLD} on CPU {hold}, {DRIVE} on CPU {drive}")
            }
            _ => f.write_str("both sides: on whichever CPUs the system chooses"),
        }
    }
}

/// Starts `command` on one CPU. All its threads stay there, for they inherit it from the thread
/// that starts them: the first from this one, which is back on its own CPUs afterwards.
pub(crate) fn spawn_on(cpu: Option<usize>, command: &mut Command) -> anyhow::Result<Child> {
    let Some(cpu) = cpu else { return Ok(command.spawn()?) };
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).with_context(|| format!("CPU {cpu} cannot be used"))?;
    let child = command.spawn();
    sched_setaffinity(None, &before).context("cannot return from the CPU of a new process")?;
    Ok(child?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPUs 0 and 1 are one core, 2 and 3 the next.
    fn pairs(cpu: usize) -> usize {
        cpu / 2
    }

    #[test]
    fn spread_processes_share_no_core_where_there_are_two() {
        let placement = Cpus::Spread.choose(&[0, 1, 2, 3], pairs);
        assert_eq!(placement, Placement { hold: Some(0), drive: Some(2) });
    }

    #[test]
    fn spread_processes_share_no_cpu_where_there_are_two() {
        let placement = Cpus::Spread.choose(&[2, 3], pairs);
        assert_eq!(placement, Placement { hold: Some(2), drive: Some(3) });
    }

    #[test]
    fn on_a_machine_with_one_cpu_both_are_there() {
        let there = Placement { hold: Some(5), drive: Some(5) };
        assert_eq!(Cpus::Spread.choose(&[5], pairs), there);
        assert_eq!(Cpus::One.choose(&[5, 6], pairs), there);
    }

    #[test]
    fn free_processes_are_placed_by_the_system() {
        let placement = Cpus::Free.choose(&[0, 1], pairs);
        assert_eq!(placement, Placement { hold: None, drive: None });
    }

    #[tokio::test]
    async fn a_process_stays_on_its_cpu_and_whoever_started_it_does_not() {
        let mine = sched_getaffinity(None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).rfind(|cpu| mine.is_set(*cpu)).unwrap();
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(std::process::Stdio::piped());
        let said = spawn_on(Some(cpu), &mut command).unwrap().wait_with_output().await.unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let list = said.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(list.unwrap().trim(), cpu.to_string());
        assert_eq!(sched_getaffinity(None).unwrap(), mine);
    }
}
