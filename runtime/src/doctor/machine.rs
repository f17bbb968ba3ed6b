//! Facts of this machine: files, limits, memory, disk. Blocks on the disk.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use odeum_cluster::transport::{UDP_BUFFER, pki};
use odeum_proto::NodeId;
use rustix::process::{Resource, getrlimit};

use super::{CertificateFacts, FolderFacts, MachineFacts};

/// Writes that are timed: the median of them is not disturbed by one slow one.
const SYNCS: usize = 9;

/// Bytes of each: a page, as a small commit has.
const SYNC_BYTES: usize = 4_096;

/// What the files in `folder` are to `node`.
pub(crate) fn certificates(folder: PathBuf, node: &NodeId, dev: bool) -> CertificateFacts {
    let cert = folder.join(pki::NODE_CERT);
    let made_at_start = dev && !cert.exists();
    let problem = (!made_at_start)
        .then(|| pki::verify(&folder, node).err())
        .flatten()
        .map(|error| error.to_string());
    let authorities = pki::inspect_all(&folder.join(pki::CA_CERT)).unwrap_or_default();
    let key = fs::metadata(folder.join(pki::NODE_KEY));
    CertificateFacts {
        made_at_start,
        problem,
        days_left: pki::inspect(&cert).ok().map(|info| info.days_left),
        authority_days_left: authorities.iter().map(|info| info.days_left).max(),
        key_mode: key.ok().map(|key| key.permissions().mode() & 0o777),
        folder,
    }
}

/// What the disk of `folder` is like; of the nearest folder above it while it is not there.
pub(crate) fn folder(folder: PathBuf) -> FolderFacts {
    let there = folder.ancestors().find(|path| path.is_dir());
    let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let free_bytes = rustix::fs::statvfs(there).ok().map(|disk| disk.f_bavail * disk.f_frsize);
    let (sync_us, problem) = match sync_time(there) {
        Ok(time) => (u64::try_from(time.as_micros()).ok(), None),
        Err(error) => (None, Some(error.to_string())),
    };
    FolderFacts { folder, problem, free_bytes, sync_us }
}

/// How long a small write takes to be on the disk.
fn sync_time(folder: &Path) -> std::io::Result<Duration> {
    // Removed when it is dropped.
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = [Duration::ZERO; SYNCS];
    for time in &mut times {
        let start = Instant::now();
        file.write_all(&[0; SYNC_BYTES])?;
        file.sync_data()?;
        *time = start.elapsed();
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// What this process may use.
pub(crate) fn machine() -> MachineFacts {
    let setting = |name: &str| number(&Path::new("/proc/sys").join(name));
    let (memory_limit, memory_used) = control_group();
    MachineFacts {
        // No limit is as good as the greatest.
        open_files: Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)),
        mappings: setting("vm/max_map_count"),
        receive_buffer: setting("net/core/rmem_max"),
        send_buffer: setting("net/core/wmem_max"),
        wanted_buffer: UDP_BUFFER as u64,
        memory_available: available_memory(),
        memory_limit,
        memory_used,
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1_024)
}

/// The tightest bound among the control groups of this process (version 2), and what that group
/// uses.
fn control_group() -> (Option<u64>, Option<u64>) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(path);
    let groups = own.ancestors().take_while(|group| group.starts_with(root));
    let bounded = groups.filter_map(|group| {
        let limit = number(&group.join("memory.max"))?;
        Some((limit, number(&group.join("memory.current"))))
    });
    match bounded.min_by_key(|(limit, _)| *limit) {
        Some((limit, used)) => (Some(limit), used),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_judged_by_its_disk_and_not_made() {
        let there = tempfile::tempdir().expect("a folder");
        let later = there.path().join("a/b");
        let facts = folder(later.clone());
        assert_eq!((facts.problem, facts.folder), (None, later));
        assert!(facts.free_bytes.is_some() && facts.sync_us.is_some());
        assert_eq!(fs::read_dir(there.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn certificates_that_are_missing_are_named_with_their_remedy() {
        let empty = tempfile::tempdir().expect("a folder");
        let node = "n1".parse().expect("a name");
        let facts = certificates(empty.path().to_owned(), &node, false);
        assert!(facts.problem.expect("a problem").contains("odeum certs"));
        let facts = certificates(empty.path().to_owned(), &node, true);
        assert_eq!((facts.made_at_start, facts.problem), (true, None));
    }
}
