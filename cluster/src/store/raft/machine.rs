//! The state machine as openraft drives it: applies committed entries to [`State`], makes and
//! installs snapshots.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use odeum_proto::log::Proposal;
use odeum_proto::store::{Command, Outcome};
use odeum_proto::{Revision, codec};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::convert::{meta_from, meta_to};
use super::snapshot::Saved;
use super::{LogId, SnapshotFile, StoredMembership, Types};
use crate::store::data::{self, Data};
use crate::store::disk;
use crate::store::sessions::Bells;
use crate::store::state::State;
use crate::store::wal::WalError;

/// An encoded state. Shared, because it is large and sent to several followers.
pub(super) type Encoded = Bytes;

/// What is replicated, as far as this replica has applied it.
#[derive(Debug, Default)]
pub(in crate::store) struct Replicated {
    inner: RwLock<Inner>,
    revision: watch::Sender<Revision>,
    bells: Bells,
    /// The last entry of the newest snapshot on disk. It outlives a replica as the writing of one
    /// does, which may still be under way when the next replica has begun.
    saved: Saved,
}

#[derive(Debug, Default)]
struct Inner {
    last: Option<LogId>,
    membership: StoredMembership,
    state: GroupState,
}

/// What a group has agreed on. Both parts are in every group; of a group of sessions the first
/// stays empty, and of the control group the second, unless there are no groups of sessions.
#[derive(Debug, Default, Serialize, Deserialize)]
struct GroupState {
    control: State,
    data: Data,
}

impl GroupState {
    /// # Errors
    /// When the log has what is no command, which no leader proposes: this replica ends.
    fn apply(&mut self, revision: Revision, proposal: &Proposal) -> io::Result<Outcome> {
        Ok(match proposal.decode().map_err(io::Error::other)? {
            Command::Data(command) => {
                Outcome::Data(self.data.apply(revision, proposal.at, &command))
            }
            command => self.control.apply(revision, &command),
        })
    }
}

impl Inner {
    /// The last entry in the state.
    fn last_index(&self) -> Option<u64> {
        self.last.as_ref().map(LogId::index)
    }

    fn meta(&self) -> SnapshotMetaOf<Types> {
        SnapshotMetaOf::<Types> { last_log_id: self.last, last_membership: self.membership.clone() }
    }
}

impl Replicated {
    /// Nothing yet.
    pub(in crate::store) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Shows the state of the cluster to `look`. Entries wait meanwhile.
    pub(in crate::store) fn view<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.read(|inner| look(&inner.state.control))
    }

    /// Shows the sessions to `look`. Entries wait meanwhile.
    pub(in crate::store) fn view_data<R>(&self, look: impl FnOnce(&Data) -> R) -> R {
        self.read(|inner| look(&inner.state.data))
    }

    /// As [`view_data`](Self::view_data), with the revision it is as of.
    pub(in crate::store) fn view_data_at<R>(&self, look: impl FnOnce(&Data, Revision) -> R) -> R {
        self.read(|inner| {
            let data = &inner.state.data;
            look(data, data.revision_at(Revision(inner.last_index().unwrap_or_default())))
        })
    }

    /// What is known of the snapshot on disk.
    pub(in crate::store) fn saved(&self) -> Saved {
        Arc::clone(&self.saved)
    }

    /// What wakes the watchers of single sessions.
    pub(in crate::store) fn bells(&self) -> &Bells {
        &self.bells
    }

    /// The last applied revision, as it moves on.
    pub(in crate::store) fn changes(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    fn read<R>(&self, look: impl FnOnce(&Inner) -> R) -> R {
        look(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells watchers what has been applied.
    fn publish(&self) {
        let before = *self.revision.borrow();
        let applied = self.read(|inner| {
            let applied = Revision(inner.last_index().unwrap_or_default());
            if applied != before {
                let data = &inner.state.data;
                self.bells.ring(data, data.revision_at(before), data.revision_at(applied));
            }
            applied
        });
        self.revision.send_if_modified(|revision| {
            let moved = *revision != applied;
            *revision = applied;
            moved
        });
    }
}

/// One group's state machine with its snapshots.
#[derive(Debug, Clone)]
pub(in crate::store) struct Machine {
    replicated: Arc<Replicated>,
    file: SnapshotFile,
}

impl Machine {
    /// The state machine as its newest snapshot says, shown through `replicated`, and the index
    /// of that snapshot.
    ///
    /// What an earlier replica of this process has applied beyond the snapshot stays, unless the
    /// log, which ends at `log_end`, has lost it: it was committed, and whoever looks must not
    /// see the past while the log is applied again.
    ///
    /// # Errors
    /// [`WalError`] when the snapshot is damaged, of another format, or cannot be read.
    pub(in crate::store) fn open(
        file: &SnapshotFile,
        replicated: Arc<Replicated>,
        log_end: Option<u64>,
    ) -> Result<(Self, Option<u64>), WalError> {
        let saved = match file.load()? {
            None => Inner::default(),
            Some((meta, bytes)) => {
                let state = codec::decode(&bytes).map_err(|error| WalError::Corrupt {
                    file: file.path().to_owned(),
                    offset: 0,
                    reason: error.to_string().into(),
                })?;
                let meta = meta_from(meta);
                Inner { last: meta.last_log_id, membership: meta.last_membership, state }
            }
        };
        let snapshot = saved.last_index();
        replicated.write(|current| {
            let stays = snapshot < current.last_index() && current.last_index() <= log_end;
            if !stays {
                *current = saved;
            }
        });
        replicated.publish();
        Ok((Self { replicated, file: file.clone() }, snapshot))
    }

    fn apply_one(&self, entry: super::Entry) -> io::Result<Outcome> {
        self.replicated.write(|inner| {
            let revision = Revision(entry.log_id.index());
            let outcome = match entry.payload {
                EntryPayload::Blank => Outcome::Applied { revision },
                EntryPayload::Normal(proposal) => inner.state.apply(revision, &proposal)?,
                EntryPayload::Membership(membership) => {
                    inner.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Outcome::Applied { revision }
                }
            };
            inner.last = Some(entry.log_id);
            Ok(outcome)
        })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Encoded;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok(self.replicated.read(|inner| (inner.last, inner.membership.clone())))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcome = self.apply_one(entry)?;
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        self.replicated.publish();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let still = self.replicated.read(|inner| Still {
            meta: inner.meta(),
            control: inner.state.control.clone(),
            data: inner.state.data.snapshot(),
        });
        Builder { still: Some(still), file: self.file.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        snapshot: Encoded,
    ) -> Result<(), io::Error> {
        let file = self.file.clone();
        let on_disk = meta_to(meta);
        let state = blocking(&self.file, move || {
            let state: GroupState = codec::decode(&snapshot).map_err(io::Error::other)?;
            file.save(&on_disk, &snapshot)?;
            Ok(state)
        })
        .await?;
        self.replicated.write(|inner| {
            *inner =
                Inner { last: meta.last_log_id, membership: meta.last_membership.clone(), state };
        });
        self.replicated.publish();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Types, Encoded>>, io::Error> {
        let file = self.file.clone();
        let loaded = blocking(&self.file, move || file.load().map_err(io::Error::other)).await?;
        Ok(loaded.map(|(meta, state)| SnapshotOf::<Types, Encoded> {
            meta: meta_from(meta),
            snapshot: state,
        }))
    }
}

/// A state as it was at one moment, to be written.
#[derive(Debug)]
pub(in crate::store) struct Builder {
    /// `None` when it has been.
    still: Option<Still>,
    file: SnapshotFile,
}

/// What is replicated of an [`Inner`], and nothing that is made from it.
#[derive(Debug)]
struct Still {
    meta: SnapshotMetaOf<Types>,
    control: State,
    data: data::Snapshot,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Encoded;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, Encoded>, io::Error> {
        let still = self.still.take();
        let Still { meta, control, data } =
            still.ok_or_else(|| io::Error::other("the snapshot has been built"))?;
        let file = self.file.clone();
        blocking(&self.file, move || {
            // As a `GroupState` is encoded.
            let state = Bytes::from(codec::encode(&(control, data)).map_err(io::Error::other)?);
            file.save(&meta_to(&meta), &state)?;
            Ok(SnapshotOf::<Types, Encoded> { meta, snapshot: state })
        })
        .await
    }
}

/// Runs what encodes much or waits for the disk where it stalls no actor.
async fn blocking<R: Send + 'static>(
    file: &SnapshotFile,
    work: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> io::Result<R> {
    disk::wait_for(file.disk(), work).await?
}
