//! Which versions were measured: ours, and those of the crates that are in this program.

use std::path::Path;
use std::process::{Command, Stdio};

/// The versions of all crates that this program was built from.
const LOCK: &str = include_str!("../../../../Cargo.lock");

/// The version of a crate in this program.
pub(super) fn locked(name: &str) -> Option<&'static str> {
    in_lock(LOCK, name)
}

/// The version of a crate in a lock file; of several, the first.
fn in_lock<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = lock.lines();
    let wanted = format!("name = \"{name}\"");
    lines.find(|line| *line == wanted)?;
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

/// Ours: the package's, and the commit where this program was built from a clone that is still there.
pub(super) fn ours() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let build = if cfg!(debug_assertions) { "built without optimisation" } else { "release build" };
    match commit(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        Some(commit) => format!("{version}, commit {commit}, {build}"),
        None => format!("{version}, {build}"),
    }
}

fn commit(folder: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        let output = command.arg("-C").arg(folder).args(arguments).stderr(Stdio::null()).output();
        let output = output.ok().filter(|it| it.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let changes = if changed.is_empty() { "" } else { " with changes" };
    Some(format!("{}{changes}", commit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_crate_is_in_the_lock_file() {
        let lock = "[[package]]\nname = \"quinn-proto\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \
                    \"quinn\"\nversion = \"0.11.12\"\n";
        assert_eq!(in_lock(lock, "quinn"), Some("0.11.12"));
        assert_eq!(in_lock(lock, "wasmtime"), None);
    }

    #[test]
    fn the_crates_that_are_measured_beside_us_have_versions() {
        for name in ["ractor", "ractor_cluster", "quinn", "wasmtime"] {
            assert!(locked(name).is_some(), "{name}");
        }
    }
}
