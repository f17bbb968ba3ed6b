//! What compiled code is known by: all that decides what comes out of the compiler.

use std::{fmt, hash::Hash as _};

use crate::firmware::engine::Sorted;

/// Of this layout of files. Another one must be another number: there is no way to read an old one.
const FORMAT: u32 = 1;

/// The compiler, to the patch release.
const COMPILER: &str = env!("ODEUM_COMPILER");

/// Keeps these hashes apart from all others.
const CONTEXT: &str = "odeum 2026 compiled module";

/// What code is made from and for: the module, the compiler, the machine, the engine's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firmware) struct Key {
    id: blake3::Hash,
    module: blake3::Hash,
}

impl Key {
    /// Of a binary for that engine.
    pub(in crate::firmware) fn of(sorted: &Sorted, wasm: &[u8]) -> Self {
        let module = blake3::hash(wasm);
        let mut hasher = Feed(blake3::Hasher::new_derive_key(CONTEXT));
        // Each is of one length, or says where it ends.
        FORMAT.hash(&mut hasher);
        COMPILER.hash(&mut hasher);
        sorted.sort.hash(&mut hasher);
        // The target, the features of its processor, and all settings that make a difference.
        sorted.engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.0.update(module.as_bytes());
        Self { id: hasher.0.finalize(), module }
    }

    pub(super) fn as_bytes(&self) -> &[u8; blake3::OUT_LEN] {
        self.id.as_bytes()
    }

    /// The hash of the binary.
    pub(super) fn module(&self) -> &[u8; blake3::OUT_LEN] {
        self.module.as_bytes()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// Takes what hashes itself into a hash that is the same in all processes.
struct Feed(blake3::Hasher);

impl std::hash::Hasher for Feed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes().iter().take(8).fold(0, |all, byte| (all << 8) | u64::from(*byte))
    }
}
