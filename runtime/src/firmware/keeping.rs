//! How safe what a guest writes is, by the `durability` of its manifest.
//!
//! | | written to the store | a reply comes | when its node crashes |
//! |---|---|---|---|
//! | `durable` | before each reply | after that | nothing that was replied is lost |
//! | `checkpointed` | together, `checkpoint.every` or `checkpoint.messages` after the first | at once | what the last checkpoint does not have is lost |
//! | `volatile` | when it ends in good order, or its node has no room | at once | all since then is lost |
//!
//! It is about the variables of the guest's sessions, and the requests that are remembered with
//! them: both are saved as one, so that a request whose effect is lost can be made again, and one
//! whose effect is not is answered. A guest that traps loses nothing of it. A planned end (an update,
//! a restart, another placement, a node that stops) saves all of it before the next activation
//! begins, wherever that is ([`Keepers::are_done`]), and a guest that moves with its memory saves it when it
//! is frozen.
//!
//! What a guest wrote and is not saved yet is read by that guest alone: the API shows the session as
//! it was saved last. While the store cannot be written to, a guest whose checkpoint is due takes no
//! messages: what can be lost stays bounded. What the store refuses (a constraint, a quota) is lost;
//! the guest is started anew then, and its events say so.

mod draft;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use odeum_cluster::store::{Remembered, StoreError};
use odeum_proto::{
    EntityId, Epoch, ReplicaId, RequestId, SessionId,
    session::{Commit, DataOutcome, SessionRefusal, Write},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::draft::{Draft, Kept};
use super::{host::STORE_DEADLINE, ledger::Ledger};
use crate::package::manifest::{Durability, Manifest};

/// Commits of a checkpoint that are under way at once: the log takes many together.
const AT_ONCE: usize = 32;

/// How long the end of an activation may take to save what it has, and how long between two tries.
const LAST_TRIES: Duration = Duration::from_secs(20);
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Why not all is saved.
#[derive(Debug)]
pub(super) enum Unsaved {
    /// The store cannot be written to at present, or has not said whether it was.
    Later(Box<str>),
    /// A later activation has begun: it will never be.
    Over,
    /// The store refuses it: it is dropped.
    Refused(SessionRefusal),
}

fn later(error: StoreError) -> Unsaved {
    Unsaved::Later(error.to_string().into())
}

/// When what is kept is saved.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// At the latest so long after it was written, or after so many messages; `None` for never.
    checkpoint: Option<(Duration, u64)>,
}

/// Keeps what one activation of a guest writes until the store has it.
pub(super) struct Keeper {
    ledger: Arc<dyn Ledger>,
    entity: EntityId,
    epoch: Epoch,
    /// Not set for what is durable.
    terms: OnceLock<Terms>,
    drafted: Mutex<Drafted>,
    /// One checkpoint at a time.
    saving: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Drafted {
    draft: Draft,
    /// When the oldest of it was written.
    since: Option<Instant>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("entity", &self.entity).finish_non_exhaustive()
    }
}

impl Keeper {
    pub(super) fn new(ledger: Arc<dyn Ledger>, entity: EntityId, epoch: Epoch) -> Self {
        Self {
            ledger,
            entity,
            epoch,
            terms: OnceLock::new(),
            drafted: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
        }
    }

    /// From now on it keeps what the manifest says that need not be durable.
    pub(super) fn begin(&self, manifest: &Manifest) {
        let checkpoint = &manifest.checkpoint;
        let checkpoint = match manifest.durability {
            Durability::Durable => return,
            Durability::Checkpointed => {
                Some((checkpoint.every.duration(), checkpoint.messages.number()))
            }
            Durability::Volatile => None,
        };
        // A host that was started again says the same.
        if self.terms.set(Terms { checkpoint }).is_ok() {
            self.drafted().draft = Draft::new(checkpoint.is_none());
        }
    }

    /// Whether each reply comes after the store has what it tells of.
    pub(super) fn is_durable(&self) -> bool {
        self.terms.get().is_none()
    }

    /// A variable as the guest sees it.
    pub(super) fn variable(&self, session: &SessionId, key: &str) -> Option<Vec<u8>> {
        let written = || self.drafted().draft.written(session, key);
        let written = if self.is_durable() { None } else { written() };
        written.unwrap_or_else(|| self.ledger.variable(session, key))
    }

    /// What is remembered of a request.
    pub(super) fn remembered(&self, request: &RequestId) -> Option<Remembered> {
        let unsaved = || self.drafted().draft.remembered(request);
        let unsaved = if self.is_durable() { None } else { unsaved() };
        unsaved.or_else(|| self.ledger.remembered(&self.entity, request))
    }

    /// Keeps what a message came to; the message is given back if it is too much for that, also
    /// alone: it can be committed by itself then.
    ///
    /// # Errors
    /// Why there is no room for it, because what is there cannot be saved.
    pub(super) async fn keep(
        &self,
        session: SessionId,
        request: RequestId,
        writes: Vec<Write>,
        reply: Vec<u8>,
    ) -> Result<Option<(SessionId, Vec<Write>)>, Unsaved> {
        let kept = Kept { session, request, writes, reply };
        if !self.drafted().draft.has_room(&kept) {
            self.save().await?;
        }
        let mut drafted = self.drafted();
        if !drafted.draft.has_room(&kept) {
            return Ok(Some((kept.session, kept.writes)));
        }
        drafted.since.get_or_insert_with(Instant::now);
        drafted.draft.keep(kept);
        Ok(None)
    }

    /// Whether what is kept should have been saved by now.
    pub(super) fn is_due(&self) -> bool {
        if self.is_durable() {
            return false;
        }
        let drafted = self.drafted();
        let is_full = drafted.draft.is_full() || drafted.draft.is_in_doubt();
        let Some((every, messages)) = self.terms.get().and_then(|terms| terms.checkpoint) else {
            return is_full;
        };
        let is_old = drafted.since.is_some_and(|since| since.elapsed() >= every);
        is_full || is_old || drafted.draft.messages() >= messages
    }

    /// How long until it is due by its age; `None` when there is nothing that ages.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let (every, _) = self.terms.get()?.checkpoint?;
        let drafted = self.drafted();
        let since = drafted.since?;
        let is_in_doubt = drafted.draft.is_in_doubt();
        Some(if is_in_doubt { Duration::ZERO } else { every.saturating_sub(since.elapsed()) })
    }

    /// Saves all that is kept.
    ///
    /// # Errors
    /// [`Unsaved`] says why some of it is not saved.
    pub(super) async fn save(&self) -> Result<(), Unsaved> {
        let _one = self.saving.lock().await;
        // What was sent before and may not have arrived goes alone, and then the rest.
        loop {
            let sent = {
                let mut drafted = self.drafted();
                let sent = drafted.draft.send(&self.entity, self.epoch);
                if sent.is_empty() {
                    drafted.since = None;
                    return Ok(());
                }
                sent
            };
            let mut saved = futures::stream::iter(sent)
                .map(|commit| self.send(commit))
                .buffer_unordered(AT_ONCE);
            let mut all = Ok(());
            while let Some(one) = saved.next().await {
                all = match (all, one) {
                    // The first is as good as any, but for one that ends all.
                    (Ok(()), one) | (Err(_), one @ Err(Unsaved::Over)) => one,
                    (all, _) => all,
                };
            }
            all?;
        }
    }

    async fn send(&self, commit: Commit) -> Result<(), Unsaved> {
        let request = commit.request.clone();
        let outcome = self.ledger.commit(commit, STORE_DEADLINE).await.map_err(later)?;
        let is_shown = match outcome {
            DataOutcome::Applied { revision } => self.ledger.shows(&self.entity, revision),
            DataOutcome::Replayed { .. } => false,
            DataOutcome::Refused(SessionRefusal::StaleEpoch { .. }) => return Err(Unsaved::Over),
            DataOutcome::Refused(refusal) if refusal.is_retryable() => {
                return Err(Unsaved::Later(refusal.to_string().into()));
            }
            DataOutcome::Refused(refusal) => {
                self.drafted().draft.settle(&request);
                return Err(Unsaved::Refused(refusal));
            }
            // No other outcome is one of a commit.
            _ => true,
        };
        if !is_shown {
            // The guest reads it from here until it can be read there.
            self.ledger.confirm(&self.entity, STORE_DEADLINE).await.map_err(later)?;
        }
        self.drafted().draft.settle(&request);
        Ok(())
    }

    /// Saves all that is kept at the end of the activation, and says what is lost.
    async fn finish(&self) {
        let end = Instant::now() + LAST_TRIES;
        loop {
            let error = match self.save().await {
                Ok(()) => return,
                Err(Unsaved::Later(_)) if Instant::now() < end => {
                    tokio::time::sleep(TRY_AGAIN).await;
                    continue;
                }
                Err(Unsaved::Later(reason)) => reason,
                Err(Unsaved::Over) => "a later activation has begun".into(),
                Err(Unsaved::Refused(refusal)) => refusal.to_string().into(),
            };
            tracing::error!(entity = %self.entity, epoch = %self.epoch, error, "what firmware wrote last is lost");
            return;
        }
    }

    fn is_empty(&self) -> bool {
        self.drafted().draft.is_empty()
    }

    /// Only changed whole, so a panic while it was held did no harm.
    fn drafted(&self) -> MutexGuard<'_, Drafted> {
        self.drafted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keepers of a node: what its firmware has not saved. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Keepers(Arc<watch::Sender<BTreeMap<ReplicaId, Arc<Keeper>>>>);

impl Keepers {
    /// An activation begins that may keep something.
    pub(super) fn hold(&self, name: ReplicaId, keeper: &Arc<Keeper>) {
        self.0.send_modify(|all| drop(all.insert(name, Arc::clone(keeper))));
    }

    /// The guest of `name` has crashed, and may be away for longer than its checkpoints may be apart.
    pub(super) async fn checkpoint(&self, name: &ReplicaId) {
        let Some(keeper) = self.0.borrow().get(name).cloned() else { return };
        let has_checkpoints = keeper.terms.get().is_some_and(|terms| terms.checkpoint.is_some());
        if !has_checkpoints || keeper.is_empty() {
            return;
        }
        // The next message waits for it, and the end tries again.
        if let Err(error) = keeper.save().await {
            tracing::warn!(entity = %keeper.entity, ?error, "checkpoint waits");
        }
    }

    /// An activation of `name` has ended: what it kept is saved, if it can be.
    pub(super) async fn finish(&self, name: &ReplicaId) {
        let Some(keeper) = self.0.borrow().get(name).cloned() else { return };
        if !keeper.is_empty() {
            keeper.finish().await;
        }
        self.0.send_modify(|all| drop(all.remove(name)));
    }

    /// As [`Self::finish`], for all that there is.
    pub(super) async fn finish_all(&self) {
        let names: Vec<ReplicaId> = self.0.borrow().keys().cloned().collect();
        futures::future::join_all(names.iter().map(|name| self.finish(name))).await;
    }

    /// Whether no activation of `name` before `epoch` has anything left here; waits for that, but
    /// not longer than `patience`.
    pub async fn are_done(&self, name: &ReplicaId, epoch: Epoch, patience: Duration) -> bool {
        let mut all = self.0.subscribe();
        let is_done = |all: &BTreeMap<ReplicaId, Arc<Keeper>>| {
            all.get(name).is_none_or(|keeper| keeper.epoch >= epoch)
        };
        matches!(timeout(patience, all.wait_for(is_done)).await, Ok(Ok(_)))
    }
}
