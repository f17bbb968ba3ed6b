//! What WASI guests of both previews get of the world: what the manifest asks for and the node
//! gives, and nothing else.

mod sockets;
mod stdio;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use wasmtime_wasi::{FsPerms, HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use self::{sockets::Sockets, stdio::Stdio};
use crate::{
    firmware::{
        denied::Denials,
        error::GuestFailure,
        output::{Output, Stream},
        setting::{Grants, Setting},
    },
    package::manifest::{Folder, Manifest},
};

/// The context of one instance. Opening folders may block, so a thread for that does it.
///
/// # Errors
/// [`GuestFailure::NotGranted`] when the node does not give what the manifest asks for.
pub(super) async fn context(
    manifest: &Manifest,
    setting: &Setting,
    denials: &Arc<Denials>,
) -> Result<WasiCtxBuilder, GuestFailure> {
    let (manifest, setting, denials) = (manifest.clone(), setting.clone(), Arc::clone(denials));
    let built = tokio::task::spawn_blocking(move || builder(&manifest, &setting, denials)).await;
    built.unwrap_or_else(|error| {
        Err(GuestFailure::Trapped { reason: error.to_string().into(), frames: Vec::new() })
    })
}

fn builder(
    manifest: &Manifest,
    setting: &Setting,
    denials: Arc<Denials>,
) -> Result<WasiCtxBuilder, GuestFailure> {
    let mut builder = WasiCtxBuilder::new();
    // By convention the first argument is the program's name.
    builder.arg(setting.firmware.to_string());
    for arg in &manifest.args {
        builder.arg(arg.as_str());
    }
    for (name, value) in &manifest.environment {
        builder.env(name.as_str(), value.as_str());
    }
    let granted = &manifest.capabilities;
    for name in &granted.environment {
        if !setting.grants.environment.contains(name) {
            return Err(not_granted(
                format!("the variable {name}"),
                format!("the node does not give it: add {name:?} to its `packages.environment`"),
            ));
        }
        if let Ok(value) = std::env::var(name.as_str()) {
            builder.env(name.as_str(), value);
        }
    }
    for folder in &granted.folders {
        let host = given(folder, &setting.grants)?;
        let perms = if folder.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder
            .preopened_dir(&host, folder.guest.as_str(), perms)
            .map_err(|error| folder_error(folder, &error.root_cause().to_string()))?;
    }
    if !granted.clock {
        builder.wall_clock(Still).monotonic_clock(Still);
    }
    let output = Output::new(setting.log.clone(), manifest.limits.log.bytes());
    builder
        .stdout(Stdio::new(output.clone(), Stream::Stdout))
        .stderr(Stdio::new(output, Stream::Stderr))
        // Blocking work goes to threads for it.
        .allow_blocking_current_thread(false)
        .allow_ip_name_lookup(!granted.sockets.is_empty());
    let sockets = Arc::new(Sockets::new(granted.sockets.clone(), denials));
    builder.socket_addr_check(move |addr, usage| {
        let sockets = Arc::clone(&sockets);
        Box::pin(async move { sockets.admit(addr, usage).await })
    });
    Ok(builder)
}

/// The folder of the node that is meant, with all links followed, if the node gives it.
pub(in crate::firmware) fn given(
    folder: &Folder,
    grants: &Grants,
) -> Result<PathBuf, GuestFailure> {
    let resolved = |path: &str| fs::canonicalize(path);
    let host = resolved(folder.host.as_str());
    // What is there and not given must not differ from what is not there.
    let is_given = |host: &PathBuf| {
        grants
            .folders
            .iter()
            .any(|given| resolved(given.as_str()).is_ok_and(|given| host.starts_with(given)))
    };
    match host {
        Ok(host) if is_given(&host) => Ok(host),
        Err(error) if grants.folders.iter().any(|given| folder.host.is_within(given)) => {
            Err(folder_error(folder, &error.to_string()))
        }
        _ => Err(not_granted(
            format!("the folder {}", folder.host),
            format!("the node does not give it: add \"{}\" to its `packages.folders`", folder.host),
        )),
    }
}

fn folder_error(folder: &Folder, reason: &str) -> GuestFailure {
    not_granted(format!("the folder {}", folder.host), format!("it cannot be opened: {reason}"))
}

fn not_granted(what: String, reason: String) -> GuestFailure {
    GuestFailure::NotGranted { what: what.into(), reason: reason.into() }
}

/// A clock that stands still, for guests that may not read one.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}
