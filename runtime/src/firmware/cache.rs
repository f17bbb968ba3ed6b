//! Packages of this node: on disk by their content, in memory compiled.
//!
//! Many may ask for one package at once; it is read or fetched, checked and compiled once, and
//! all get the same module. What no deployed firmware uses makes room when the bounds are
//! reached, the least recently used first.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Load` | [`CacheHandle::load`] | the compiled module, or why there is none |
//! | `Loaded` | a task of the actor | none |
//! | `Retain` | [`CacheHandle::retain`] | none |

mod eviction;
mod files;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_actors::{Actor, ActorError, ChildSpec, Context, Handle, Reply, child};
use odeum_proto::{Digest, limits};

use self::{
    eviction::evicted,
    files::{Files, Found},
};
use super::{
    engine::Engine,
    error::{CacheError, PackageError},
    module::{Module, to_wasm},
};

/// Compiled modules kept beyond those in use. A module is some times its package's size.
const SPARE_MODULES: usize = 16;

/// Longest wait for a package: the largest one over a slow link, then compiled on a busy machine.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);

/// Where packages that are not on this node come from.
pub trait PackageSource: Send + Sync + 'static {
    /// The bytes of `digest` from any other node. They are checked by the cache.
    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, FetchError>>;
}

/// No other node gave the package. Retry when more of them can be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Every node that was asked answered that it has no such package.
    #[error("none of {asked} other nodes has it")]
    Missing {
        /// How many were asked.
        asked: usize,
    },
    /// Nodes that may have it did not answer.
    #[error("{reason}")]
    Failed {
        /// What the last of them said.
        reason: Box<str>,
    },
}

/// A package that the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Its content.
    pub digest: Digest,
    /// Its length in bytes, in the binary form.
    pub size: u64,
}

/// What the cache works with.
#[derive(Clone)]
pub(super) struct CacheParts {
    /// The folder of the files, `<data-dir>/packages`; made if it is not there.
    pub(super) folder: PathBuf,
    /// Compiles.
    pub(super) engine: Engine,
    /// Where missing packages come from.
    pub(super) source: Arc<dyn PackageSource>,
}

impl std::fmt::Debug for CacheParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheParts").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The package cache of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CacheHandle {
    actor: Handle<CacheMessage>,
    files: Files,
}

impl CacheHandle {
    /// Takes a file that a user deploys: checks it, compiles it, keeps it. `Ok` means that it is
    /// on disk and can run.
    ///
    /// # Errors
    /// [`CacheError::Package`] says what is wrong with the file, which is not kept then.
    pub async fn put(&self, file: Bytes) -> Result<Package, CacheError> {
        let wasm = blocking(move || to_wasm(file).map_err(CacheError::from)).await?;
        let package = Package { digest: Digest::of(&wasm), size: wasm.len() as u64 };
        self.write(package.digest, wasm).await?;
        match self.load(package.digest).await {
            Ok(_) => Ok(package),
            Err(error) => {
                if let CacheError::Package(_) = error {
                    let files = self.files.clone();
                    blocking(move || files.remove(package.digest)).await?;
                }
                Err(error)
            }
        }
    }

    /// Keeps a package that another node sent. It is checked and compiled when it is loaded.
    ///
    /// # Errors
    /// [`CacheError`] when the bytes are not what `digest` says or cannot be written.
    pub async fn keep(&self, digest: Digest, bytes: Bytes) -> Result<(), CacheError> {
        self.write(digest, checked(digest, bytes)?).await
    }

    /// The bytes of a package, for another node; `None` when it is not here.
    ///
    /// # Errors
    /// [`CacheError::Io`] when the file cannot be read.
    pub async fn read(&self, digest: Digest) -> Result<Option<Bytes>, CacheError> {
        read(&self.files, digest).await
    }

    /// The compiled module of a package, fetched from another node if it is not here.
    ///
    /// # Errors
    /// [`CacheError`] when it cannot be had, or is no firmware.
    pub async fn load(&self, digest: Digest) -> Result<Module, CacheError> {
        let asked = self.actor.ask(LOAD_DEADLINE, |reply| CacheMessage::Load { digest, reply });
        let unavailable = |error: odeum_actors::AskError| CacheError::Unavailable {
            reason: error.to_string().into(),
        };
        asked.await.map_err(unavailable)?
    }

    /// Says which packages deployed firmware uses; these are never evicted.
    pub async fn retain(&self, used: BTreeSet<Digest>) {
        // A cache that restarts is told again at the next change.
        let _ = self.actor.tell(CacheMessage::Retain { used }).await;
    }

    async fn write(&self, digest: Digest, bytes: Bytes) -> Result<(), CacheError> {
        let files = self.files.clone();
        blocking(move || files.write(digest, &bytes)).await
    }
}

/// The cache's handle and its spec, a child of the `FirmwareSupervisor`. Opens the folder.
///
/// # Errors
/// [`CacheError::Io`] when the folder cannot be made or read.
pub(super) fn package_cache(parts: CacheParts) -> Result<(CacheHandle, ChildSpec), CacheError> {
    let files = Files::open(parts.folder.clone())?;
    let (own, engine, source) = (files.clone(), parts.engine, parts.source);
    let (actor, spec) = child("PackageCache", move || CacheActor {
        files: own.clone(),
        engine: engine.clone(),
        source: Arc::clone(&source),
        modules: BTreeMap::new(),
        waiting: HashMap::new(),
        used: BTreeSet::new(),
        clock: 0,
    });
    Ok((CacheHandle { actor, files }, spec))
}

type Loaded = Result<Module, CacheError>;

#[derive(Debug)]
enum CacheMessage {
    Load { digest: Digest, reply: Reply<Loaded> },
    Loaded { digest: Digest, result: Loaded },
    Retain { used: BTreeSet<Digest> },
}

struct CacheActor {
    files: Files,
    engine: Engine,
    source: Arc<dyn PackageSource>,
    /// With the time of their last use, counted in uses.
    modules: BTreeMap<Digest, (u64, Module)>,
    /// Who waits for what is being loaded.
    waiting: HashMap<Digest, Vec<Reply<Loaded>>>,
    used: BTreeSet<Digest>,
    clock: u64,
}

impl Actor for CacheActor {
    type Message = CacheMessage;

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: CacheMessage,
    ) -> Result<(), ActorError> {
        match message {
            CacheMessage::Load { digest, reply } => self.on_load(ctx, digest, reply),
            CacheMessage::Loaded { digest, result } => self.on_loaded(ctx, digest, &result),
            CacheMessage::Retain { used } => self.used = used,
        }
        Ok(())
    }
}

impl CacheActor {
    fn on_load(&mut self, ctx: &mut Context<Self>, digest: Digest, reply: Reply<Loaded>) {
        self.clock += 1;
        if let Some((last_use, module)) = self.modules.get_mut(&digest) {
            *last_use = self.clock;
            reply.send(Ok(module.clone()));
            return;
        }
        let waiting = self.waiting.entry(digest).or_default();
        waiting.push(reply);
        if waiting.len() > 1 {
            return;
        }
        let (files, engine) = (self.files.clone(), self.engine.clone());
        let (source, myself) = (Arc::clone(&self.source), ctx.handle().clone());
        ctx.spawn(async move {
            let result = load(&files, &engine, &*source, digest).await;
            // An error means that the actor ended; those who wait know it already.
            let _ = myself.tell(CacheMessage::Loaded { digest, result }).await;
        });
    }

    fn on_loaded(&mut self, ctx: &mut Context<Self>, digest: Digest, result: &Loaded) {
        for reply in self.waiting.remove(&digest).unwrap_or_default() {
            reply.send(result.clone());
        }
        let Ok(module) = result else { return };
        self.modules.insert(digest, (self.clock, module.clone()));
        let by_use = self.modules.iter().map(|(digest, (last_use, _))| (*last_use, *digest, 1));
        let mut by_use: Vec<_> = by_use.collect();
        by_use.sort_unstable();
        let by_use = by_use.into_iter().map(|(_, digest, one)| (digest, one));
        for digest in evicted(by_use, &self.used, SPARE_MODULES as u64) {
            self.modules.remove(&digest);
        }
        let (files, mut used) = (self.files.clone(), self.used.clone());
        // What has just been loaded may belong to a firmware that is about to be deployed.
        used.insert(digest);
        ctx.spawn(async move {
            if let Err(error) = blocking(move || eviction::make_room(&files, &used)).await {
                tracing::warn!(%error, "package cache cannot be cleaned");
            }
        });
    }
}

async fn load(
    files: &Files,
    engine: &Engine,
    source: &dyn PackageSource,
    digest: Digest,
) -> Loaded {
    let wasm = match read(files, digest).await? {
        Some(wasm) => {
            let files = files.clone();
            blocking(move || files.touch(digest)).await?;
            wasm
        }
        None => {
            let fetched = source.fetch(digest).await;
            let wasm = fetched.map_err(|reason| CacheError::Fetch { digest, reason })?;
            let wasm = checked(digest, wasm)?;
            let (files, copy) = (files.clone(), wasm.clone());
            blocking(move || files.write(digest, &copy)).await?;
            wasm
        }
    };
    Ok(Module::compile(engine, wasm).await?)
}

async fn read(files: &Files, digest: Digest) -> Result<Option<Bytes>, CacheError> {
    let files = files.clone();
    match blocking(move || files.read(digest)).await? {
        Found::Whole(bytes) => Ok(Some(bytes)),
        Found::Nothing => Ok(None),
        Found::Damaged(path) => {
            tracing::error!(path = %path.display(), "damaged package removed");
            Ok(None)
        }
    }
}

fn checked(digest: Digest, bytes: Bytes) -> Result<Bytes, CacheError> {
    let (got, limit) = (bytes.len(), limits::PACKAGE_BYTES);
    if got > limit {
        return Err(PackageError::TooLarge { got, limit }.into());
    }
    match Digest::of(&bytes) {
        is if is == digest => Ok(bytes),
        is => Err(CacheError::OtherDigest { is, claimed: digest }),
    }
}

/// Runs what blocks on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(CacheError::Unavailable { reason: error.to_string().into() }))
}
