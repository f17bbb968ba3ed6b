//! What WASI guests of both previews get of the world: what the manifest asks for and the node
//! gives, and nothing else.

mod stdio;

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use wasmtime_wasi::{
    FsPerms, HostMonotonicClock, HostWallClock, WasiCtxBuilder, sockets::SocketAddrUse,
};

use self::stdio::Stdio;
use crate::{
    firmware::{
        denied::Denials,
        error::GuestFailure,
        output::{Output, Stream},
        setting::{Grants, Setting},
    },
    package::manifest::{Folder, HostPattern, Manifest},
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
    let sockets: Arc<[HostPattern]> = granted.sockets.clone().into();
    builder.socket_addr_check(move |addr, usage| {
        let (sockets, denials) = (Arc::clone(&sockets), Arc::clone(&denials));
        Box::pin(async move { is_admitted(&sockets, &denials, addr, usage).await })
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

/// As [`may_connect`]; what is denied is said, with what would allow it.
async fn is_admitted(
    patterns: &[HostPattern],
    denials: &Denials,
    addr: SocketAddr,
    usage: SocketAddrUse,
) -> bool {
    let is_admitted = may_connect(patterns, addr, usage).await;
    match usage {
        _ if is_admitted => {}
        SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => denials.socket(addr),
        // The guest did nothing for it: a stranger sent something.
        SocketAddrUse::UdpReceive => {}
        _ => denials.listening(addr),
    }
    is_admitted
}

/// Only connections are granted; nothing listens. A pattern with a name means the addresses that the
/// name has now, because a guest connects to an address.
async fn may_connect(patterns: &[HostPattern], addr: SocketAddr, usage: SocketAddrUse) -> bool {
    match usage {
        // Who may be sent datagrams may answer.
        SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {}
        // What connects or sends is bound before, by itself.
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
            return addr.ip().is_unspecified() && addr.port() == 0;
        }
        _ => return false,
    }
    let ip = addr.ip().to_string();
    for pattern in patterns {
        if pattern.allows(&ip, addr.port()) {
            return true;
        }
        let text = pattern.as_str();
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        let is_name = !host.starts_with("*.") && !host.contains(['[', ':']);
        if is_name && pattern.allows(host, addr.port()) {
            let found = tokio::net::lookup_host((host, addr.port())).await;
            if found.is_ok_and(|mut found| found.any(|it| it.ip() == addr.ip())) {
                return true;
            }
        }
    }
    false
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

#[cfg(test)]
mod tests {
    use odeum_proto::{Epoch, ReplicaId, chronicle::Begin};

    use super::*;
    use crate::firmware::{Chronicles, GuestLog};

    fn patterns(line: &str) -> Vec<HostPattern> {
        let text = format!("name = 'guest'\nversion = '1.0.0'\n[capabilities]\n{line}");
        Manifest::parse(text.as_bytes()).expect("a manifest").capabilities.sockets
    }

    /// What the log of the guest has when that was asked for with these patterns, if it was denied.
    async fn denied(line: &str, addr: &str, usage: SocketAddrUse) -> Option<Vec<String>> {
        let chronicles = Chronicles::default();
        let name: ReplicaId = "guest".parse().expect("a name");
        let log = GuestLog::new(name.clone(), Epoch(1), chronicles.of(&name));
        let (denials, addr) = (Denials::new(log), addr.parse().expect("an address"));
        if is_admitted(&patterns(line), &denials, addr, usage).await {
            return None;
        }
        let first = Begin::Behind { ring: 0, number: 0, epoch: Epoch(0) };
        let told = chronicles.lines(&name, first, Duration::ZERO).await;
        Some(told.lines.into_iter().map(|line| line.text).collect())
    }

    #[tokio::test]
    async fn a_connection_is_denied_with_the_line_that_does_allow_it() {
        for addr in ["127.0.0.1:5432", "[::1]:443"] {
            for usage in [SocketAddrUse::TcpConnect, SocketAddrUse::UdpSend] {
                let told = denied("sockets = ['10.0.0.1']", addr, usage).await.expect("denied");
                let line = format!("sockets = [\"{addr}\"]");
                let said = format!(
                    "denied {addr}: write `{line}` under `[capabilities]` in its manifest to allow it"
                );
                assert_eq!(told, [said]);
                assert_eq!(denied(&line, addr, usage).await, None, "{addr}");
                // Who is sent to may answer, and nobody else, which is not the guest's doing.
                let answer = SocketAddrUse::UdpReceive;
                assert_eq!(denied(&line, addr, answer).await, None, "{addr}");
                assert_eq!(denied("", addr, answer).await, Some(Vec::new()), "{addr}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_listens_and_no_line_is_said_that_would_not_help() {
        let line = "sockets = ['127.0.0.1']";
        for usage in [SocketAddrUse::TcpBind, SocketAddrUse::UdpBind] {
            assert_eq!(denied("", "0.0.0.0:0", usage).await, None, "what connects is bound before");
        }
        for usage in [
            SocketAddrUse::TcpBind,
            SocketAddrUse::UdpBind,
            SocketAddrUse::TcpListen,
            SocketAddrUse::TcpAccept,
        ] {
            let told = denied(line, "127.0.0.1:80", usage).await.expect("denied");
            let said = "denied 127.0.0.1:80: a guest may connect, and nothing can connect to it";
            assert_eq!(told, [said], "{usage:?}");
        }
    }
}
