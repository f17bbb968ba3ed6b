//! A checked and compiled module.
//!
//! Everything that can be wrong with a file is found here, before it is replicated or placed, and
//! told in one sentence that names what is wrong and what was expected.

use std::sync::Arc;

use bytes::Bytes;
use odeum_proto::{Digest, limits};
use wasmtime::{ExternType, FuncType, InstancePre};

use super::{
    abi::{self, Guest},
    engine::{self, Engine},
    error::{EngineError, PackageError},
};
use crate::package::{
    Package,
    manifest::{Abi, Limits, Manifest},
};

/// What every WebAssembly binary begins with.
const MAGIC: &[u8] = b"\0asm";
/// Version and layer of a core module.
const CORE: &[u8] = &[1, 0, 0, 0];

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

/// A module that passed all checks, compiled and linked against the host functions. Cheap to
/// clone.
#[derive(Clone)]
pub struct Module {
    digest: Digest,
    limits: Arc<Limits>,
    pre: InstancePre<Guest>,
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
        let (manifest, wasm) = (package.manifest(), package.module());
        if let Some(abi) = manifest.abi.filter(|abi| *abi != Abi::ActorCore) {
            return Err(PackageError::OtherAbi { abi });
        }
        if let Some(key) = beyond(manifest) {
            return Err(PackageError::Beyond { key });
        }
        let limits = Arc::new(manifest.limits.clone());
        let of_limits = engine.for_limits(&limits).map_err(no_engine)?;
        let stopped = || PackageError::Compile { reason: "the compiler was stopped".into() };
        let compiled = engine.compile(move || Self::compile_here(&of_limits, &wasm));
        let pre = compiled.await.ok_or_else(stopped)??;
        Ok(Self { digest, limits, pre })
    }

    fn compile_here(
        engine: &wasmtime::Engine,
        wasm: &[u8],
    ) -> Result<InstancePre<Guest>, PackageError> {
        validate_with(engine, wasm)?;
        let compile_error =
            |error: wasmtime::Error| PackageError::Compile { reason: short(&format!("{error:#}")) };
        let module = wasmtime::Module::from_binary(engine, wasm).map_err(compile_error)?;
        check_exports(&module)?;
        check_imports(&module)?;
        abi::linker(engine)
            .and_then(|linker| linker.instantiate_pre(&module))
            .map_err(compile_error)
    }

    /// The package it was compiled from.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What an instance of it may take.
    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    pub(super) fn pre(&self) -> &InstancePre<Guest> {
        &self.pre
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// Whether `wasm` is a valid module of what the engine takes.
///
/// # Errors
/// [`PackageError::Invalid`] that says what is wrong with it, and where.
pub fn validate(wasm: &[u8]) -> Result<(), PackageError> {
    validate_with(&engine::validator().map_err(no_engine)?, wasm)
}

fn validate_with(engine: &wasmtime::Engine, wasm: &[u8]) -> Result<(), PackageError> {
    wasmtime::Module::validate(engine, wasm)
        .map_err(|error| PackageError::Invalid { reason: short(&format!("{error:#}")) })
}

/// What a manifest asks for that a node does not do. A guest that relies on it must not find out by
/// itself.
fn beyond(manifest: &Manifest) -> Option<&'static str> {
    let usual = Manifest::new(manifest.name.clone(), manifest.version.clone());
    let asked = [
        ("args", manifest.args != usual.args),
        ("environment", manifest.environment != usual.environment),
        ("durability", manifest.durability != usual.durability),
        ("isolation", manifest.isolation != usual.isolation),
        ("capabilities", manifest.capabilities != usual.capabilities),
        ("restart", manifest.restart != usual.restart),
        ("update", manifest.update != usual.update),
        ("transient", manifest.transient != usual.transient),
    ];
    asked.into_iter().find(|(_, is_asked)| *is_asked).map(|(key, _)| key)
}

fn no_engine(error: EngineError) -> PackageError {
    PackageError::Compile { reason: error.to_string().into() }
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
            Some([_, _, 1, 0]) => {
                Err(not_wasm("a WebAssembly component, and a core module is expected"))
            }
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

fn check_exports(module: &wasmtime::Module) -> Result<(), PackageError> {
    for export in abi::EXPORTS {
        let (name, expected) = (export.name, export.signature);
        match module.get_export(name).map(|found| describe(&found)) {
            Some(got) if *got == *expected => {}
            Some(got) => return Err(PackageError::WrongExport { export: name, expected, got }),
            None if export.required => {
                return Err(PackageError::MissingExport { export: name, expected });
            }
            None => {}
        }
    }
    Ok(())
}

fn check_imports(module: &wasmtime::Module) -> Result<(), PackageError> {
    let mut unknown = Vec::new();
    for import in module.imports() {
        let known = (import.module() == abi::MODULE)
            .then(|| abi::IMPORTS.iter().find(|known| known.name == import.name()))
            .flatten();
        let Some(known) = known else {
            unknown.push(format!("{}.{}", import.module(), import.name()));
            continue;
        };
        let got = describe(&import.ty());
        if *got != *known.signature {
            let (import, expected) = (known.name, known.signature);
            return Err(PackageError::WrongImport { import, expected, got });
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    Err(PackageError::UnknownImports { imports: short(&unknown.join(", ")) })
}

/// A type as the ABI document writes it.
fn describe(ty: &ExternType) -> Box<str> {
    match ty {
        ExternType::Func(func) => signature(func).into(),
        ExternType::Memory(_) => abi::MEMORY.into(),
        ExternType::Global(_) => "a global".into(),
        ExternType::Table(_) => "a table".into(),
        _ => "something else".into(),
    }
}

fn signature(func: &FuncType) -> String {
    let list = |types: Vec<String>| types.join(", ");
    let params = list(func.params().map(|ty| ty.to_string()).collect());
    let results = list(func.results().map(|ty| ty.to_string()).collect());
    if results.is_empty() { format!("({params})") } else { format!("({params}) -> {results}") }
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

fn short(text: &str) -> Box<str> {
    clip(text.trim(), REASON_BYTES).into()
}
