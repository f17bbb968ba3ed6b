//! What this machine is, and what the system knows of processes.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::outcome::Machine;

/// Processor time is told in hundredths of a second.
const TICKS: f64 = 100.0;

/// This machine.
pub(crate) fn this() -> Machine {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let of = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = of(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: u64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
    Machine {
        cpu: of(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown CPU".to_owned()),
        cpus: std::thread::available_parallelism().map_or(0, Into::into),
        memory_bytes: kib << 10,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
    }
}

/// Enters a network namespace with this thread, and all threads and processes that it starts from then on.
pub(crate) fn enter(namespace: &Path) -> anyhow::Result<()> {
    let file = File::open(namespace)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Resident memory of a process, in bytes.
pub(crate) fn memory_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Open files of a process.
pub(crate) fn files_of(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

/// Processor time of a process since its start, in seconds.
pub(crate) fn cpu_of(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have anything in it.
    let rest = stat.rsplit_once(')')?.1;
    let mut words = rest.split_whitespace().skip(11);
    let ticks = |word: Option<&str>| word?.parse::<f64>().ok();
    Some((ticks(words.next())? + ticks(words.next())?) / TICKS)
}

/// Processes whose command line has `text` in it.
pub(crate) fn processes_of(text: &str) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let has_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    };
    pids.filter(has_it).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_time() {
        let pid = std::process::id();
        assert!(memory_of(pid).is_some_and(|bytes| bytes > 1 << 20));
        assert!(files_of(pid).is_some_and(|files| files >= 3));
        assert!(cpu_of(pid).is_some_and(|seconds| seconds >= 0.0));
        assert!(processes_of(&std::env::args().next().unwrap()).contains(&pid));
        let machine = this();
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty());
    }
}
