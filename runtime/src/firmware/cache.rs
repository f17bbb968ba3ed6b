//! Packages of this node, compiled: in memory, by their content.
//!
//! The packages themselves are blobs of the cluster, on the disks of those that hold them and as
//! copies wherever they are used; this knows only where to ask for one. Many may ask for one package
//! at once; it is fetched, checked and compiled once, and all get the same module. What no deployed
//! firmware uses makes room when there are too many, the least recently used first. The code that the
//! compiler made of it is on disk, too, for all nodes of the machine ([`Vault`](super::Vault)).
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Load` | [`CacheHandle::load`], [`CacheHandle::check`] | the compiled module, or why there is none |
//! | `Loaded` | a task of the actor | none |
//! | `Retain` | [`CacheHandle::retain`] | none |

mod eviction;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_actors::{Actor, ActorError, ChildSpec, Context, Handle, Reply, child};
use odeum_proto::{Digest, Name, limits};

use self::eviction::evicted;
use super::{
    engine::Engine,
    error::{CacheError, PackageError},
    module::{Module, beyond::beyond},
};
use crate::package::{
    Package, build,
    manifest::{Abi, Manifest},
    trust::Trust,
};

/// Compiled modules kept beyond those in use. A module is some times its package's size.
const SPARE_MODULES: usize = 16;

/// Longest wait for a package: the largest one over a slow link, then compiled on a busy machine.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);

/// Where packages come from.
pub trait PackageSource: Send + Sync + 'static {
    /// The bytes of `digest`, from this node's disk or from another node. They are checked by the
    /// cache.
    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, FetchError>>;
}

/// Nobody gave the package. Retry when more of them can be reached.
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

/// A package that can run.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The content of its file.
    pub digest: Digest,
    /// Its file.
    pub file: Bytes,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its ABI, be it said or found out.
    pub abi: Abi,
}

impl Checked {
    /// The first key of `manifest`, which is its own with what is said beside it, that nothing here
    /// would see to.
    #[must_use]
    pub fn beyond(&self, manifest: &Manifest) -> Option<&'static str> {
        beyond(manifest, self.abi)
    }
}

/// What the cache works with.
#[derive(Clone)]
pub(super) struct CacheParts {
    /// Compiles.
    pub(super) engine: Engine,
    /// Where packages come from.
    pub(super) source: Arc<dyn PackageSource>,
    /// Which of them are taken.
    pub(super) trust: Arc<Trust>,
}

impl std::fmt::Debug for CacheParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheParts").finish_non_exhaustive()
    }
}

/// The package cache of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CacheHandle {
    actor: Handle<CacheMessage>,
    trust: Arc<Trust>,
}

impl CacheHandle {
    /// Takes a file that a user deploys as `name`, a package or a module: makes a package of a
    /// module, checks it and compiles it. `Ok` means that it can run, here without being fetched; who
    /// deploys it sees to it that it is kept.
    ///
    /// # Errors
    /// [`CacheError`] says what is wrong with the file, or why this node does not take it.
    pub async fn check(&self, name: Name, file: Bytes) -> Result<Checked, CacheError> {
        let trust = Arc::clone(&self.trust);
        let package = blocking(move || opened(name, file, &trust)).await?;
        let (digest, file) = (Digest::of(package.file()), package.file().clone());
        let manifest = package.manifest().clone();
        let abi = self.load_given(digest, Some(package)).await?.abi();
        Ok(Checked { digest, file, manifest, abi })
    }

    /// The compiled module of a package, fetched if it is not in memory.
    ///
    /// # Errors
    /// [`CacheError`] when it cannot be had, or is no firmware.
    pub async fn load(&self, digest: Digest) -> Result<Module, CacheError> {
        self.load_given(digest, None).await
    }

    async fn load_given(&self, digest: Digest, given: Option<Package>) -> Loaded {
        let load = |reply| CacheMessage::Load { digest, given, reply };
        let asked = self.actor.ask(LOAD_DEADLINE, load);
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
}

/// The cache's handle and its spec, a child of the `FirmwareSupervisor`.
pub(super) fn package_cache(parts: CacheParts) -> (CacheHandle, ChildSpec) {
    let trust = Arc::clone(&parts.trust);
    let (actor, spec) = child("PackageCache", move || CacheActor {
        parts: parts.clone(),
        modules: BTreeMap::new(),
        waiting: HashMap::new(),
        used: BTreeSet::new(),
        clock: 0,
    });
    (CacheHandle { actor, trust }, spec)
}

type Loaded = Result<Module, CacheError>;

#[derive(Debug)]
enum CacheMessage {
    Load { digest: Digest, given: Option<Package>, reply: Reply<Loaded> },
    Loaded { digest: Digest, result: Loaded },
    Retain { used: BTreeSet<Digest> },
}

struct CacheActor {
    parts: CacheParts,
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
            CacheMessage::Load { digest, given, reply } => {
                self.on_load(ctx, digest, given, reply);
            }
            CacheMessage::Loaded { digest, result } => self.on_loaded(digest, &result),
            CacheMessage::Retain { used } => self.used = used,
        }
        Ok(())
    }
}

impl CacheActor {
    fn on_load(
        &mut self,
        ctx: &mut Context<Self>,
        digest: Digest,
        given: Option<Package>,
        reply: Reply<Loaded>,
    ) {
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
        let (parts, myself) = (self.parts.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            let result = load(&parts, digest, given).await;
            // An error means that the actor ended; those who wait know it already.
            let _ = myself.tell(CacheMessage::Loaded { digest, result }).await;
        });
    }

    fn on_loaded(&mut self, digest: Digest, result: &Loaded) {
        for reply in self.waiting.remove(&digest).unwrap_or_default() {
            reply.send(result.clone());
        }
        let Ok(module) = result else { return };
        self.modules.insert(digest, (self.clock, module.clone()));
        let by_use = self.modules.iter().map(|(digest, (last_use, _))| (*last_use, *digest));
        let mut by_use: Vec<_> = by_use.collect();
        by_use.sort_unstable();
        let by_use = by_use.into_iter().map(|(_, digest)| digest);
        for digest in evicted(by_use, &self.used, SPARE_MODULES) {
            self.modules.remove(&digest);
        }
    }
}

async fn load(parts: &CacheParts, digest: Digest, given: Option<Package>) -> Loaded {
    let package = match given {
        Some(package) => package,
        None => {
            let fetched = parts.source.fetch(digest).await;
            let file = fetched.map_err(|reason| CacheError::Fetch { digest, reason })?;
            let trust = Arc::clone(&parts.trust);
            // What another node took is not taken by this one for that.
            blocking(move || opened(nameless()?, checked(digest, file)?, &trust)).await?
        }
    };
    Ok(Module::compile(&parts.engine, digest, &package).await?)
}

/// What a module is called that is stored without a package, as those of earlier versions are. Only
/// messages name it: what is deployed has a name of its own.
fn nameless() -> Result<Name, CacheError> {
    "module".parse().map_err(|error: odeum_proto::IdError| CacheError::Unavailable {
        reason: error.to_string().into(),
    })
}

/// The package that a file is, if this node takes it.
fn opened(name: Name, file: Bytes, trust: &Trust) -> Result<Package, CacheError> {
    let package = build::open(name, file)?;
    trust.admit(&package)?;
    Ok(package)
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
