//! Brings this node's shelf in line with the index, on every node.
//!
//! | the index says | the shelf has | what is done |
//! |---|---|---|
//! | held here | nothing, or a damaged file | fetched; after some failures the node takes itself off the list |
//! | held elsewhere | a file | it counts as a copy, which makes room when that is needed |
//! | nothing | a file | removed, `stray_for` after it was put or read last |
//!
//! Besides, one file at a time is compared with its digest, each once in `verify_every`.
//!
//! Before anything is removed this node makes sure that its index is not behind: it waits for a
//! barrier, and one that is cut off removes nothing.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own clock | none |
//! | `Fetched` | its own tasks: a fetch has ended | none |
//! | `Verified` | its own task: a file was read | none |

mod survey;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_proto::store::{Command, Outcome};
use odeum_proto::{Digest, Revision};

use self::survey::{Survey, survey};
use super::{BlobError, Blobs, shelf::ShelfError};

/// How often the shelf is compared with the index, if there is a reason.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Blobs that are fetched at a time.
const PARALLEL: usize = 2;

/// Pause before a blob that nobody gave is asked for again.
const PAUSE: Duration = Duration::from_secs(5);

/// Tries after which a node says that it does not hold a blob. One is too few: when a node starts,
/// its links may take a moment.
const TRIES: u32 = 3;

/// How long the word of the leader is waited for.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) fn spec(blobs: Blobs) -> ChildSpec {
    let (_, spec) = child("BlobKeeper", move || Keeper {
        blobs: blobs.clone(),
        settled: None,
        fetching: BTreeMap::new(),
        verifying: false,
    });
    spec
}

#[derive(Debug)]
enum KeeperMessage {
    Look,
    Fetched { digest: Digest, result: Result<(), BlobError> },
    Verified,
}

struct Keeper {
    blobs: Blobs,
    /// The index and the shelf when there was nothing to do, and until when that holds.
    settled: Option<(Revision, u64, Option<Instant>)>,
    fetching: BTreeMap<Digest, Fetching>,
    verifying: bool,
}

/// A blob that should be here.
#[derive(Debug, Clone, Copy)]
struct Fetching {
    failures: u32,
    /// When it may be tried again; `None` while it is under way.
    again_at: Option<Instant>,
}

impl Actor for Keeper {
    type Message = KeeperMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        ctx.tell_every(LOOK_EVERY, || KeeperMessage::Look);
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: KeeperMessage,
    ) -> Result<(), ActorError> {
        match message {
            KeeperMessage::Look => self.on_look(ctx).await,
            KeeperMessage::Fetched { digest, result } => self.on_fetched(digest, result).await,
            KeeperMessage::Verified => self.verifying = false,
        }
        Ok(())
    }
}

impl Keeper {
    async fn on_look(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let inner = &self.blobs.inner;
        let changes = inner.shelf.changes();
        let index = inner.store.view(|state| state.blobs().changed());
        let is_settled = self.settled.is_some_and(|(at, shelf, until)| {
            (at, shelf) == (index, changes) && until.is_none_or(|until| now < until)
        });
        if is_settled {
            return;
        }
        let survey = self.survey(now);
        for (digest, purpose) in &survey.purposes {
            inner.shelf.set_purpose(*digest, *purpose);
        }
        self.fetch(ctx, &survey.missing, now);
        if !survey.strays.is_empty() {
            self.sweep(now).await;
        }
        if let Err(error) = self.blobs.on_shelf(|shelf| shelf.trim_copies()).await {
            tracing::warn!(%error, "copies of blobs not removed");
        }
        if let Some(digest) = survey.unverified {
            self.verify(ctx, digest);
        }
        let quiet = survey.is_quiet() && self.fetching.is_empty();
        self.settled = quiet.then_some((index, changes, survey.next));
    }

    fn survey(&self, now: Instant) -> Survey {
        let inner = &self.blobs.inner;
        let listed = inner.shelf.list();
        inner.store.view(|state| survey(state.blobs(), &inner.local, &listed, now, &inner.config))
    }

    /// Removes what is nobody's, when it is sure that it is.
    async fn sweep(&self, now: Instant) {
        if let Err(error) = self.blobs.inner.store.barrier(DEADLINE).await {
            tracing::debug!(%error, "files that seem to be no blobs stay");
            return;
        }
        let Some(since) = now.checked_sub(self.blobs.inner.config.stray_for) else { return };
        // What came since it was looked at has been used since then, and stays.
        for digest in self.survey(now).strays {
            match self.blobs.on_shelf(move |shelf| shelf.remove(digest, since)).await {
                Ok(true) => tracing::info!(%digest, "file of a removed blob removed"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%digest, %error, "file of a removed blob stays"),
            }
        }
    }

    fn fetch(&mut self, ctx: &mut Context<Self>, missing: &[Digest], now: Instant) {
        let wanted = |digest: &Digest| missing.binary_search(digest).is_ok();
        self.fetching.retain(|digest, fetching| fetching.again_at.is_none() || wanted(digest));
        let mut under_way =
            self.fetching.values().filter(|fetching| fetching.again_at.is_none()).count();
        for digest in missing {
            let due = match self.fetching.get(digest) {
                None => true,
                Some(fetching) => fetching.again_at.is_some_and(|at| at <= now),
            };
            if !due || under_way >= PARALLEL {
                continue;
            }
            under_way += 1;
            let fetching =
                self.fetching.entry(*digest).or_insert(Fetching { failures: 0, again_at: None });
            fetching.again_at = None;
            let (blobs, own, digest) = (self.blobs.clone(), ctx.handle().clone(), *digest);
            ctx.spawn(async move {
                let result = blobs.hold(digest, &[]).await;
                // When this actor has stopped, its next life looks anew.
                let _ = own.tell(KeeperMessage::Fetched { digest, result }).await;
            });
        }
    }

    async fn on_fetched(&mut self, digest: Digest, result: Result<(), BlobError>) {
        let error = match result {
            Ok(()) => {
                self.fetching.remove(&digest);
                tracing::info!(%digest, "missing blob fetched");
                return;
            }
            Err(error) => error,
        };
        let Some(fetching) = self.fetching.get_mut(&digest) else { return };
        fetching.failures += 1;
        fetching.again_at = Some(Instant::now() + PAUSE);
        let is_full = matches!(
            error,
            BlobError::Shelf(ShelfError::Quota { .. } | ShelfError::NoSpace { .. })
        );
        if fetching.failures % TRIES == 0 || is_full {
            tracing::warn!(%digest, %error, "this node cannot hold a blob that it should");
            self.resign(digest).await;
        }
    }

    /// Says that this node does not hold a blob, if others do: the leader finds another one.
    async fn resign(&self, digest: Digest) {
        let Some(record) = self.blobs.stat(digest) else { return };
        let mut holders = record.holders;
        holders.remove(&self.blobs.inner.local);
        if holders.is_empty() {
            return;
        }
        let command = Command::SetHolders { digest, holders, expected: record.holders_at };
        match self.blobs.inner.store.write(command, DEADLINE).await {
            Ok(Outcome::Refused(reason)) => tracing::debug!(%digest, %reason, "overtaken"),
            Ok(_) => tracing::info!(%digest, "this node is no holder any more"),
            Err(error) => tracing::debug!(%digest, %error, "not noted"),
        }
    }

    fn verify(&mut self, ctx: &mut Context<Self>, digest: Digest) {
        if std::mem::replace(&mut self.verifying, true) {
            return;
        }
        let (blobs, own) = (self.blobs.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            // What is damaged is set aside and named by the shelf, and missed at the next look.
            if let Err(error) = blobs.on_shelf(move |shelf| shelf.verify(digest)).await {
                tracing::warn!(%digest, %error, "blob not readable");
            }
            let _ = own.tell(KeeperMessage::Verified).await;
        });
    }
}
