//! A checked and compiled module.
//!
//! Everything that can be wrong with a file is found here, before it is replicated or placed, and
//! told in one sentence that names what is wrong and what was expected.

pub(super) mod beyond;
mod check;

use std::{fs::File, io, sync::Arc, time::Instant};

use bytes::Bytes;
use odeum_proto::{Digest, limits};
use tokio::sync::OnceCell;
use wasmtime::{InstancePre, Linker, component::Component};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::{
    abi::{
        Kind,
        actor::ActorModule,
        component::{self, HttpService, Part},
        core::{self, Guest},
        detect::detect,
        firmlet::{self, Firmlet},
        shape::{Layer, Shape},
        wasi_p1::{self, WasiP1, resources},
    },
    engine::{self, Engine},
    error::{EngineError, PackageError},
    native::{self, Loaded, Origin},
    process::{Artifact, raw},
};
use crate::package::{
    Package,
    manifest::{Abi, Isolation, Manifest, MissingImports},
};

/// What every WebAssembly binary begins with.
const MAGIC: &[u8] = b"\0asm";
/// Version and layer of a core module.
const CORE: &[u8] = &[1, 0, 0, 0];
/// Version and layer of a component.
const COMPONENT: &[u8] = &[13, 0, 1, 0];

/// Longest piece of a parser's message in an error, in bytes.
const REASON_BYTES: usize = 300;

/// Beginnings of files that are often taken for a module.
const KNOWN: &[(&[u8], &str)] = &[
    (b"\x7fELF", "an ELF file (native code; a `.cwasm` is one, too)"),
    (b"MZ", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BC\xc0\xde", "LLVM bitcode (link it first)"),
    (b"!<arch>", "a static library (link it first)"),
    (b"#!", "a script"),
    (b"%PDF", "a PDF document"),
];

/// A module that passed all checks, compiled and linked against the host functions of its ABI. Cheap
/// to clone.
#[derive(Clone)]
pub struct Module {
    digest: Digest,
    abi: Abi,
    manifest: Arc<Manifest>,
    linked: Linked,
    /// Its compiled form for host processes, once one is started.
    artifact: Arc<OnceCell<Artifact>>,
    /// Kept, because a guest whose engine is gone is never interrupted.
    engine: Engine,
}

/// A module with what it imports, by its ABI.
#[derive(Clone)]
pub(super) enum Linked {
    Core(InstancePre<Guest>),
    Reactor(InstancePre<Guest<WasiP1>>),
    Command(InstancePre<Guest<WasiP1>>),
    Firmlet(InstancePre<Firmlet>),
    Cli(CommandPre<Part>),
    Http(HttpService),
    Actor(ActorModule),
}

/// A module as it was compiled by the parent of this process.
#[derive(Debug)]
pub(super) enum Compiled {
    Module(File),
    Component(Vec<u8>),
}

impl Linked {
    fn is_component(&self) -> bool {
        matches!(self, Self::Cli(_) | Self::Http(_) | Self::Actor(_))
    }

    /// The native code that the engine has made of it.
    fn compiled(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::Core(it) => it.module().serialize(),
            Self::Reactor(it) | Self::Command(it) => it.module().serialize(),
            Self::Firmlet(it) => it.module().serialize(),
            Self::Cli(it) => it.instance_pre().component().serialize(),
            Self::Http(it) => it.component().serialize(),
            Self::Actor(it) => it.component().serialize(),
        }
    }
}

impl Module {
    /// Checks and compiles the module of a package, off the async workers. `digest` is what the
    /// package is known by.
    ///
    /// # Errors
    /// [`PackageError`] that says what is wrong with it.
    pub async fn compile(
        engine: &Engine,
        digest: Digest,
        package: &Package,
    ) -> Result<Self, PackageError> {
        let mut manifest = package.manifest().clone();
        let wasm = package.module();
        let sorted = engine.for_limits(&manifest.limits).map_err(no_engine)?;
        let (asked, read) = (manifest.clone(), wasm.clone());
        // Before it is compiled, which takes a minute for the largest ones.
        let (shape, abi) = native::blocking(move || told(&read, &asked)).await??;
        let (begin, bytes) = (Instant::now(), wasm.len());
        let (loaded, origin) = native::native(engine, &sorted, shape.layer, wasm).await?;
        let elapsed_ms = begin.elapsed().as_millis();
        match origin {
            Origin::Kept => tracing::debug!(%digest, bytes, elapsed_ms, "compiled module found"),
            Origin::Compiled => tracing::debug!(%digest, bytes, elapsed_ms, "module compiled"),
        }
        manifest.abi = Some(abi);
        let manifest = Arc::new(manifest);
        let asked = Arc::clone(&manifest);
        let link = move || linked(&sorted.engine, &loaded, abi, &asked);
        let linked = native::blocking(link).await??;
        let (artifact, engine) = (Arc::default(), engine.clone());
        Ok(Self { digest, abi, manifest, linked, artifact, engine })
    }

    /// A module that the parent of this process has compiled, whose manifest names its ABI.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub(super) fn of_compiled(
        engine: &Engine,
        digest: Digest,
        manifest: Manifest,
        compiled: Compiled,
    ) -> Result<Self, PackageError> {
        let sorted = engine.for_limits(&manifest.limits).map_err(no_engine)?;
        let unnamed = || PackageError::Compile { reason: "its manifest names no ABI".into() };
        let abi = manifest.abi.ok_or_else(unnamed)?;
        let loaded = match compiled {
            Compiled::Module(file) => raw::module(&sorted.engine, file).map(Loaded::Core),
            Compiled::Component(bytes) => {
                raw::component(&sorted.engine, &bytes).map(Loaded::Component)
            }
        };
        let linked = linked(&sorted.engine, &loaded.map_err(not_compiled)?, abi, &manifest)?;
        let (manifest, artifact) = (Arc::new(manifest), Arc::default());
        Ok(Self { digest, abi, manifest, linked, artifact, engine: engine.clone() })
    }

    /// Its compiled form, for a process that runs it.
    ///
    /// # Errors
    /// What the system said.
    pub(super) async fn artifact(&self) -> io::Result<Artifact> {
        let made = self.artifact.get_or_try_init(async || {
            let linked = self.linked.clone();
            let made = tokio::task::spawn_blocking(move || {
                let compiled = linked.compiled().map_err(io::Error::other)?;
                Artifact::new(&compiled, linked.is_component())
            });
            made.await.map_err(io::Error::other)?
        });
        made.await.cloned()
    }

    /// The package it was compiled from.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its ABI.
    #[must_use]
    pub fn abi(&self) -> Abi {
        self.abi
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self.abi)
    }

    /// What its package says of it.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn linked(&self) -> &Linked {
        &self.linked
    }

    /// Whether its instances want to hear that they have started.
    pub(super) fn hears_of_its_start(&self) -> bool {
        let asks_for_it = |module: &wasmtime::Module| {
            module.get_export(core::HANDLE).is_some() && module.get_export(core::ON_START).is_some()
        };
        match &self.linked {
            Linked::Actor(_) => true,
            Linked::Core(pre) => asks_for_it(pre.module()),
            Linked::Reactor(pre) => asks_for_it(pre.module()),
            Linked::Firmlet(_) | Linked::Command(_) | Linked::Cli(_) | Linked::Http(_) => false,
        }
    }

    /// Whether its instances wait for something that goes with them when they move.
    pub(super) fn carries(&self) -> bool {
        let has_timers = matches!(self.linked, Linked::Core(_) | Linked::Reactor(_));
        has_timers && self.manifest.isolation == Isolation::Task
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("digest", &self.digest)
            .field("abi", &self.abi)
            .finish_non_exhaustive()
    }
}

/// Whether `wasm` is a valid module or component of what the engine takes.
///
/// # Errors
/// [`PackageError::Invalid`] that says what is wrong with it, and where.
pub fn validate(wasm: &[u8]) -> Result<(), PackageError> {
    if is_component(wasm) {
        // The engine only validates components as it compiles them.
        let valid = wasmparser::validate(wasm);
        return valid.map(drop).map_err(|error| invalid(&error));
    }
    validate_core(&engine::validator().map_err(no_engine)?, wasm)
}

pub(super) fn validate_core(engine: &wasmtime::Engine, wasm: &[u8]) -> Result<(), PackageError> {
    wasmtime::Module::validate(engine, wasm)
        .map_err(|error| PackageError::Invalid { reason: short(&format!("{error:#}")) })
}

fn invalid(error: &wasmparser::BinaryReaderError) -> PackageError {
    PackageError::Invalid { reason: short(&error.to_string()) }
}

fn no_engine(error: EngineError) -> PackageError {
    PackageError::Compile { reason: error.to_string().into() }
}

/// What a binary is, told from its imports and exports, which fit an ABI and what its manifest asks for.
fn told(wasm: &[u8], manifest: &Manifest) -> Result<(Shape, Abi), PackageError> {
    let layer = if is_component(wasm) { Layer::Component } else { Layer::Core };
    let shape = Shape::read(layer, wasm).map_err(|error| invalid(&error))?;
    let abi = detect(&shape, manifest.abi)?;
    if layer == Layer::Core {
        check::exports(&shape, abi)?;
        check::imports(&shape, abi, manifest.missing_imports)?;
    }
    match beyond::beyond(manifest, abi) {
        Some(key) => Err(PackageError::Beyond { key, abi }),
        None => Ok((shape, abi)),
    }
}

fn linked(
    engine: &wasmtime::Engine,
    loaded: &Loaded,
    abi: Abi,
    manifest: &Manifest,
) -> Result<Linked, PackageError> {
    match loaded {
        Loaded::Core(module) => link(engine, module, abi, manifest).map_err(not_compiled),
        // What is wrong here is an import that there is not, or has another type.
        Loaded::Component(component) => {
            link_component(engine, component, abi, manifest).map_err(|error| {
                let reason = short(&format!("{error:#}"));
                PackageError::NotLinked { abi, reason }
            })
        }
    }
}

fn link_component(
    engine: &wasmtime::Engine,
    component: &Component,
    abi: Abi,
    manifest: &Manifest,
) -> wasmtime::Result<Linked> {
    if abi == Abi::Actor {
        return Ok(Linked::Actor(ActorModule::new(engine, component, manifest)?));
    }
    let linker = component::linker(engine, component, manifest)?;
    Ok(match abi {
        Abi::WasiHttp => Linked::Http(HttpService::new(&linker, component)?),
        _ => Linked::Cli(component::command(&linker, component)?),
    })
}

fn link(
    engine: &wasmtime::Engine,
    module: &wasmtime::Module,
    abi: Abi,
    manifest: &Manifest,
) -> wasmtime::Result<Linked> {
    Ok(match abi {
        Abi::Firmlet => {
            let mut linker = Linker::new(engine);
            firmlet::add_to_linker(&mut linker)?;
            stand_in(&mut linker, module, manifest)?;
            Linked::Firmlet(linker.instantiate_pre(module)?)
        }
        Abi::WasiCommand => {
            let mut linker = Linker::new(engine);
            wasi_p1::add_to_linker(&mut linker, manifest)?;
            stand_in(&mut linker, module, manifest)?;
            Linked::Command(linker.instantiate_pre(module)?)
        }
        Abi::WasiReactor => {
            let mut linker = Linker::new(engine);
            core::add_to_linker(&mut linker)?;
            wasi_p1::add_to_linker(&mut linker, manifest)?;
            resources::add_to_linker(&mut linker, module)?;
            stand_in(&mut linker, module, manifest)?;
            Linked::Reactor(linker.instantiate_pre(module)?)
        }
        _ => {
            let mut linker = Linker::new(engine);
            core::add_to_linker(&mut linker)?;
            stand_in(&mut linker, module, manifest)?;
            Linked::Core(linker.instantiate_pre(module)?)
        }
    })
}

/// Puts in the place of functions that there are not such as end the guest, if `manifest` has it so. It
/// comes last: what is denied is there by then, and says so itself.
fn stand_in<T: 'static>(
    linker: &mut Linker<T>,
    module: &wasmtime::Module,
    manifest: &Manifest,
) -> wasmtime::Result<()> {
    match manifest.missing_imports {
        MissingImports::Refuse => Ok(()),
        MissingImports::Trap => linker.define_unknown_imports_as_traps(module),
    }
}

pub(super) fn not_compiled(error: wasmtime::Error) -> PackageError {
    PackageError::Compile { reason: short(&format!("{error:#}")) }
}

fn is_component(wasm: &[u8]) -> bool {
    wasm.get(MAGIC.len()..).is_some_and(|rest| rest.starts_with(COMPONENT))
}

/// The binary form of a file: as it is, or translated from text.
///
/// # Errors
/// [`PackageError`] that says what the file is instead.
pub fn to_wasm(file: Bytes) -> Result<Bytes, PackageError> {
    if file.len() > limits::PACKAGE_BYTES {
        return Err(PackageError::TooLarge { got: file.len(), limit: limits::PACKAGE_BYTES });
    }
    if let Some(rest) = file.strip_prefix(MAGIC) {
        return match rest.get(..4) {
            Some(CORE) => Ok(file),
            Some(COMPONENT) => Ok(file),
            Some([_, _, 1, 0]) => Err(not_wasm("a WebAssembly component of an unknown version")),
            _ => Err(not_wasm("a WebAssembly binary of an unknown version")),
        };
    }
    if let Some((_, found)) = KNOWN.iter().find(|(magic, _)| file.starts_with(magic)) {
        return Err(not_wasm(found));
    }
    match std::str::from_utf8(&file) {
        Ok(text) if text.trim().is_empty() => Err(not_wasm("empty")),
        Ok(text) => from_text(text),
        Err(_) => Err(not_wasm(&format!("binary data that begins with {}", hex(&file)))),
    }
}

/// WAT begins with an opening parenthesis or a comment; any other text is not meant as WAT.
fn from_text(text: &str) -> Result<Bytes, PackageError> {
    let start = text.trim_start();
    if !start.starts_with('(') && !start.starts_with(";;") {
        let line = start.lines().next().unwrap_or_default();
        return Err(not_wasm(&format!("text that begins with {:?}", clip(line, 40))));
    }
    match wat::parse_str(text) {
        Ok(wasm) if wasm.len() > limits::PACKAGE_BYTES => {
            Err(PackageError::TooLarge { got: wasm.len(), limit: limits::PACKAGE_BYTES })
        }
        Ok(wasm) => Ok(wasm.into()),
        Err(error) => Err(bad_text(&error.to_string())),
    }
}

/// The parser only offers its place as text: `message`, then `--> <anon>:LINE:COLUMN`.
fn bad_text(message: &str) -> PackageError {
    let reason = short(message.lines().next().unwrap_or_default());
    let place = message.lines().find_map(|line| {
        let (_, place) = line.split_once("<anon>:")?;
        let (line, column) = place.split_once(':')?;
        Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
    });
    let (line, column) = place.unwrap_or((1, 1));
    PackageError::BadText { line, column, reason }
}

fn not_wasm(found: &str) -> PackageError {
    PackageError::NotWasm { found: found.into() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn clip(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

pub(super) fn short(text: &str) -> Box<str> {
    clip(text.trim(), REASON_BYTES).into()
}
