//! Modules in the machine's own code: how it is made, and how it gets into the process.
//!
//! [`native`] is the one way from a WebAssembly binary to something that can be linked: with a
//! [`Vault`](super::vault::Vault) the code is taken from there if it has it, and kept there
//! otherwise. While one process compiles for the vault, others that need the same code wait for it.
//!
//! Code is always loaded from bytes, also right after it was compiled: what comes from the disk is
//! then nothing special.

use bytes::Bytes;
use wasmtime::component::Component;

use super::{
    abi::shape::Layer,
    engine::{Engine, Sorted},
    error::PackageError,
    module::{not_compiled, short, validate_core},
    vault::{Key, Unsealed, Vault},
};

/// A module that can be linked.
#[derive(Debug)]
pub(super) enum Loaded {
    Core(wasmtime::Module),
    Component(Component),
}

/// Where code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was compiled now.
    Compiled,
    /// It was compiled before, here or by another process.
    Kept,
}

/// A module in the machine's code.
#[derive(Debug)]
pub(super) struct Native {
    layer: Layer,
    code: Code,
}

#[derive(Debug)]
enum Code {
    Compiled(Vec<u8>),
    Kept(Unsealed),
}

impl Native {
    /// Compiles a binary of that layer.
    ///
    /// # Errors
    /// [`PackageError`] when it is not valid, or the compiler gives up on it.
    pub(super) fn compile(
        engine: &wasmtime::Engine,
        layer: Layer,
        wasm: &[u8],
    ) -> Result<Self, PackageError> {
        let code = match layer {
            Layer::Core => {
                validate_core(engine, wasm)?;
                engine.precompile_module(wasm).map_err(not_compiled)?
            }
            Layer::Component => engine
                .precompile_component(wasm)
                .map_err(|error| PackageError::Invalid { reason: short(&format!("{error:#}")) })?,
        };
        Ok(Self { layer, code: Code::Compiled(code) })
    }

    /// Code that was compiled before from a binary of that layer, by an engine of the same settings.
    pub(super) fn kept(layer: Layer, code: Unsealed) -> Self {
        Self { layer, code: Code::Kept(code) }
    }

    /// The code as wasmtime serialises it.
    pub(super) fn code(&self) -> &[u8] {
        match &self.code {
            Code::Compiled(code) => code,
            Code::Kept(code) => code.code(),
        }
    }

    /// Maps the code into the process.
    ///
    /// # Errors
    /// What wasmtime says, when the code is none for that engine.
    #[expect(unsafe_code, reason = "native code is what this is for, and wasmtime cannot check it")]
    pub(super) fn load(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Loaded> {
        // SAFETY: these bytes were written by `precompile_*`. Either that was in `compile` above,
        // or they are an `Unsealed`, which there is only of bytes that carry a keyed hash of this
        // user's secret over just these bytes and that only `Vault::keep` makes, of a `Native`.
        // They are in the memory of this process, where nobody else can change them, and wasmtime
        // copies them from there. An engine of other settings refuses them.
        unsafe {
            Ok(match self.layer {
                Layer::Core => Loaded::Core(wasmtime::Module::deserialize(engine, self.code())?),
                Layer::Component => Loaded::Component(Component::deserialize(engine, self.code())?),
            })
        }
    }
}

/// The module of a binary, compiled if its code is not in the engine's vault.
///
/// # Errors
/// [`PackageError`] when it cannot be compiled.
pub(super) async fn native(
    engine: &Engine,
    sorted: &Sorted,
    layer: Layer,
    wasm: Bytes,
) -> Result<(Loaded, Origin), PackageError> {
    let Some(vault) = engine.vault() else {
        return compiled(engine, sorted, layer, wasm, None).await;
    };
    let (of, bytes) = (sorted.clone(), wasm.clone());
    let key = blocking(move || Key::of(&of, &bytes)).await?;
    if let Some(loaded) = kept(vault, sorted, layer, key).await? {
        return Ok((loaded, Origin::Kept));
    }
    let hold = vault.hold(key).await;
    // Another process may have compiled it just before it was this one's turn.
    if let Some(loaded) = kept(vault, sorted, layer, key).await? {
        return Ok((loaded, Origin::Kept));
    }
    let done = compiled(engine, sorted, layer, wasm, Some((vault.clone(), key))).await;
    drop(hold);
    done
}

/// What the vault has.
async fn kept(
    vault: &Vault,
    sorted: &Sorted,
    layer: Layer,
    key: Key,
) -> Result<Option<Loaded>, PackageError> {
    let (vault, engine) = (vault.clone(), sorted.engine.clone());
    blocking(move || {
        let code = vault.find(key)?;
        let loaded = Native::kept(layer, code).load(&engine);
        // The key says what the code is for, so that this is a vault of another time or a bug.
        loaded.inspect_err(|error| vault.refused(key, &format!("{error:#}"))).ok()
    })
    .await
}

/// Compiles when it is this module's turn, and keeps the code.
async fn compiled(
    engine: &Engine,
    sorted: &Sorted,
    layer: Layer,
    wasm: Bytes,
    keep: Option<(Vault, Key)>,
) -> Result<(Loaded, Origin), PackageError> {
    let of = sorted.engine.clone();
    let work = move || {
        let native = Native::compile(&of, layer, &wasm)?;
        let loaded = native.load(&of).map_err(not_compiled)?;
        if let Some((vault, key)) = keep {
            vault.keep(key, &native);
        }
        Ok((loaded, Origin::Compiled))
    };
    engine.compile(work).await.unwrap_or_else(|| Err(stopped()))
}

/// Runs what blocks on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PackageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| stopped())
}

fn stopped() -> PackageError {
    PackageError::Compile { reason: "the compiler was stopped".into() }
}
