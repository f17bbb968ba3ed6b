//! Names the compiler of guests that the crate is built with, to the patch release: what it compiles is
//! kept on disk, and code of another release must not be taken for its own. wasmtime itself only tells
//! its major version.

use std::{fs, path::Path};

/// Whose versions make a difference to the code that comes out.
const COMPILER: [&str; 3] = ["wasmtime", "cranelift-codegen", "regalloc2"];

fn main() -> Result<(), String> {
    let lock = Path::new("../Cargo.lock");
    let text = fs::read_to_string(lock)
        .map_err(|error| format!("{}: {error}; it is part of the sources", lock.display()))?;
    let version = |name: &str| {
        let (_, rest) = text.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    let mut versions = Vec::new();
    for name in COMPILER {
        versions.push(version(name).ok_or_else(|| format!("{}: no {name}", lock.display()))?);
    }
    println!("cargo:rerun-if-changed={}", lock.display());
    println!("cargo:rustc-env=ODEUM_COMPILER={}", versions.join(", "));
    Ok(())
}
