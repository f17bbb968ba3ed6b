//! Takes up certificate files that have changed while the node runs: certificates end, and a node
//! should not have to stop for that.
//!
//! The files are looked at every [`TransportConfig::certs_look`](super::TransportConfig). A change
//! is loaded when two looks in a row have seen the same: three files cannot be replaced at once,
//! and a half of the new ones fits no half of the old ones. What is loaded is checked as at the
//! start; if it is refused, the log says why and the certificates in use stay.
//!
//! New connections use the new certificates. Links that stand stay: both ends were checked when
//! they were made.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own timer | |

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::handle::Shared;
use super::pki::{self, CertificateInfo};
use super::{settings, tls};

/// Certificates that end within so many days are warned of: time to renew them in working hours.
const WARN_DAYS: i64 = 14;

/// How often the warning comes again.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 3_600);

/// What tells a file from what it was: it is replaced (inode), written or made readable (time of
/// change, which nobody can set back).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    changed: (i64, i64),
    bytes: u64,
}

/// The three files of a node; `None` for one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp([Option<FileStamp>; 3]);

impl Stamp {
    pub(super) fn of(dir: &Path) -> Self {
        Self([pki::CA_CERT, pki::NODE_CERT, pki::NODE_KEY].map(|file| {
            let found = std::fs::metadata(dir.join(file)).ok()?;
            Some(FileStamp {
                inode: found.ino(),
                changed: (found.ctime(), found.ctime_nsec()),
                bytes: found.size(),
            })
        }))
    }
}

/// Decides when files are to be loaded.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// What was tried last, with or without success.
    tried: Stamp,
    /// What the last look saw.
    seen: Stamp,
}

impl Watch {
    fn new(in_use: Stamp) -> Self {
        Self { tried: in_use, seen: in_use }
    }

    /// Whether what this look has seen is to be loaded.
    fn look(&mut self, now: Stamp) -> bool {
        let settled = now == self.seen;
        self.seen = now;
        let load = settled && now != self.tried;
        if load {
            self.tried = now;
        }
        load
    }
}

/// What the actor is told.
#[derive(Debug)]
pub(super) enum RenewalMessage {
    /// Look at the files.
    Look,
}

/// The actor that looks.
pub(super) struct Renewal {
    shared: Arc<Shared>,
    dir: PathBuf,
    every: Duration,
    watch: Watch,
    warned: Option<Instant>,
}

impl Renewal {
    /// `in_use` is what the files were before those in use were read.
    pub(super) fn new(shared: Arc<Shared>, dir: PathBuf, every: Duration, in_use: Stamp) -> Self {
        Self { shared, dir, every, watch: Watch::new(in_use), warned: None }
    }
}

impl Actor for Renewal {
    type Message = RenewalMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        ctx.tell_every(self.every, || RenewalMessage::Look);
        self.warn().await
    }

    async fn handle(
        &mut self,
        _: &mut Context<Self>,
        message: RenewalMessage,
    ) -> Result<(), ActorError> {
        match message {
            RenewalMessage::Look => self.on_look().await,
        }
    }
}

impl Renewal {
    async fn on_look(&mut self) -> Result<(), ActorError> {
        let dir = self.dir.clone();
        let now = spawn_blocking(move || Stamp::of(&dir)).await?;
        if self.watch.look(now) {
            self.load().await?;
        }
        if self.warned.is_some_and(|when| when.elapsed() >= WARN_AGAIN) {
            self.warn().await?;
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<(), ActorError> {
        let (dir, node) = (self.dir.clone(), self.shared.local.clone());
        let loaded = spawn_blocking(move || tls::load(&dir, &node)).await?;
        let (node, folder) = (&self.shared.local, self.dir.display());
        let new = match loaded {
            Ok(new) => Arc::new(new),
            Err(error) => {
                tracing::warn!(%node, %error, "changed certificates refused, the old ones stay in use");
                return Ok(());
            }
        };
        let authorities = new.authorities;
        self.shared.tls.store(Arc::clone(&new));
        if let Some(quic) = self.shared.quic.load_full() {
            quic.set_server_config(Some(settings::server(&new)));
        }
        tracing::info!(%node, %folder, authorities, "changed certificates loaded");
        self.warn().await
    }

    /// Says which certificates end soon.
    async fn warn(&mut self) -> Result<(), ActorError> {
        self.warned = Some(Instant::now());
        let dir = self.dir.clone();
        let ending = spawn_blocking(move || ending(&dir)).await?;
        for (file, CertificateInfo { not_after, days_left, .. }) in ending {
            let (node, file) = (&self.shared.local, file.display());
            tracing::warn!(%node, %file, until = not_after, days_left, "certificate ends soon or is over");
        }
        Ok(())
    }
}

/// The certificates in `dir` that end soon. A file that cannot be read was complained about when
/// it was loaded.
fn ending(dir: &Path) -> Vec<(PathBuf, CertificateInfo)> {
    let files = [pki::CA_CERT, pki::NODE_CERT].map(|file| dir.join(file));
    let infos = files.into_iter().flat_map(|file| {
        let infos = pki::inspect_all(&file).unwrap_or_default();
        infos.into_iter().map(move |info| (file.clone(), info))
    });
    infos.filter(|(_, info)| info.days_left < WARN_DAYS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64) -> Stamp {
        Stamp([Some(FileStamp { inode, changed: (0, 0), bytes: 1 }), None, None])
    }

    #[test]
    fn a_change_is_loaded_once_and_only_when_it_has_settled() {
        let mut watch = Watch::new(stamp(1));
        let looks = [1, 2, 3, 3, 3, 4, 3, 3, 1, 1, 1].map(|inode| watch.look(stamp(inode)));
        let expected = [false, false, false, true, false, false, false, false, false, true, false];
        assert_eq!(looks, expected);
    }

    #[test]
    fn a_file_that_is_made_readable_counts_as_changed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join(pki::NODE_KEY);
        std::fs::write(&file, "key").expect("writes");
        let before = Stamp::of(dir.path());
        let start = std::time::Instant::now();
        // The clock of the file system ticks in milliseconds.
        while Stamp::of(dir.path()) == before {
            assert!(start.elapsed() < Duration::from_secs(5));
            let mut permissions = std::fs::metadata(&file).expect("there").permissions();
            permissions.set_readonly(!permissions.readonly());
            std::fs::set_permissions(&file, permissions).expect("changes");
        }
    }
}
