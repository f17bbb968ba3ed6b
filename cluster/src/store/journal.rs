//! The write-ahead log of this process, open: the groups' logs as they were found, and the way to
//! write on.
//!
//! | message | from | answer |
//! |---|---|---|
//! | none | | |
//!
//! The first child of the `StoreSupervisor`. Every replica takes the log of its group from here,
//! once: it is what the files said when they were opened. So a replica that fails is not started
//! again alone; all of them are, with this actor before them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context};
use odeum_proto::GroupId;

use super::disk::{self, Disk};
use super::error::StoreError;
use super::shared::Shared;
use super::wal::{GroupLog, Wal, WalConfig};

/// How long what a replica has left may take to let go of the log: its running requests end
/// first, and each of them has a deadline.
const LETTING_GO: Duration = Duration::from_secs(10);

/// The open log and what nobody has taken of it.
#[derive(Debug)]
pub(super) struct Journal {
    wal: Wal,
    found: Mutex<BTreeMap<GroupId, Option<GroupLog>>>,
}

impl Journal {
    async fn open(on: &Arc<dyn Disk>, config: WalConfig) -> Result<Self, StoreError> {
        let shared = Arc::clone(on);
        let opened = disk::wait_for(on, move || Wal::open_on(&shared, &config));
        let (wal, groups) = opened.await.map_err(StoreError::broken)??;
        let found = groups.into_iter().map(|(group, log)| (group, Some(log))).collect();
        Ok(Self { wal, found: Mutex::new(found) })
    }

    /// The way to write.
    pub(super) fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The log of `group` as it was found.
    ///
    /// # Errors
    /// When it was taken before.
    pub(super) fn take(&self, group: GroupId) -> Result<GroupLog, StoreError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let log = found.insert(group, None).unwrap_or_else(|| Some(GroupLog::default()));
        log.ok_or_else(|| StoreError::stopped("another replica has written to its log"))
    }

    /// The groups that this process has ever had a part in.
    pub(super) fn groups(&self) -> Vec<GroupId> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

/// Keeps the log open while it runs.
pub(super) struct JournalActor {
    shared: Arc<Shared>,
}

impl JournalActor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Actor for JournalActor {
    type Message = ();

    async fn started(&mut self, _ctx: &mut Context<Self>) -> Result<(), ActorError> {
        // One that a crash left open is closed first.
        close(&self.shared).await?;
        let disk = &self.shared.disk;
        let config = disk.log_in(self.shared.config.dir.join("wal"));
        let journal = Arc::new(Journal::open(disk, config).await?);
        self.shared.journal.send_replace(Some(journal));
        Ok(())
    }

    async fn handle(&mut self, _ctx: &mut Context<Self>, (): ()) -> Result<(), ActorError> {
        Ok(())
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) {
        if let Err(error) = close(&self.shared).await {
            tracing::warn!(error = %error, "the log was left open");
        }
    }
}

/// Ends what may be left of the replicas, and waits until the log is closed.
async fn close(shared: &Shared) -> Result<(), StoreError> {
    for seat in shared.seats() {
        if let Some(group) = seat.running.send_replace(None) {
            group.shutdown().await;
        }
    }
    let Some(journal) = shared.journal.send_replace(None) else { return Ok(()) };
    let ended = journal.wal.ended();
    drop(journal);
    tokio::time::timeout(LETTING_GO, ended)
        .await
        .map_err(|_| StoreError::stopped("a former replica still holds the log"))
}
