//! Debian's packages, for peers that come from there.

use std::process::Stdio;

use anyhow::Context as _;
use tokio::process::Command;

/// Installs packages.
///
/// # Errors
/// If `apt-get` fails, which it does without the rights of root.
pub(crate) async fn install(packages: &[&str]) -> anyhow::Result<()> {
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    for mut command in [apt(&["update"]), apt(&install)] {
        let status = command.status().await.context("apt-get cannot be run")?;
        anyhow::ensure!(status.success(), "apt-get failed: {status}");
    }
    Ok(())
}
