//! What guests may do to a node: nothing. What a node may do to a count: nothing, either.

mod actors;
mod bench;
mod broker;
mod components;
mod durability;
mod firmlets;
mod guests;
mod hostile;
mod hosts;
mod jobs;
mod limits;
mod liveness;
mod loading;
mod outward;
mod packages;
mod policies;
mod reactors;
mod stage;

use bytes::Bytes;

use super::{Engine, Module, PackageError};
use crate::package::{
    Package,
    build::{self, BuildError},
    manifest::Manifest,
};

/// The committed build of `examples/guests/counter`.
pub(super) const COUNTER: &[u8] = include_bytes!("../../../examples/guests/counter/counter.wasm");

/// The committed builds of the guests beside it: a job, a server and an actor, as components.
pub(super) const COMMAND: &[u8] =
    include_bytes!("../../../examples/guests/command-component/command-component.wasm");
pub(super) const SERVER: &[u8] =
    include_bytes!("../../../examples/guests/http-component/http-component.wasm");
pub(super) const ACTOR: &[u8] =
    include_bytes!("../../../examples/guests/actor-component/actor-component.wasm");

/// The package of a file, with these lines in its manifest.
fn package(lines: &str, file: impl AsRef<[u8]>) -> Result<Package, PackageError> {
    let text = format!("name = 'guest'\nversion = '1.0.0'\n{lines}");
    let manifest = Manifest::parse(text.as_bytes()).expect("a manifest");
    let file = Bytes::copy_from_slice(file.as_ref());
    match build::assemble(text.into(), &manifest, file, Vec::new()) {
        Ok(built) => Ok(built.package),
        Err(BuildError::Module(error)) => Err(error),
        Err(error) => panic!("another error: {error}"),
    }
}

/// The file of that package.
pub(super) fn packaged(lines: &str, file: impl AsRef<[u8]>) -> Bytes {
    package(lines, file).expect("a package").file().clone()
}

/// The module of a file, with these lines in its manifest.
pub(super) async fn compile(
    engine: &Engine,
    lines: &str,
    file: impl AsRef<[u8]>,
) -> Result<Module, PackageError> {
    let package = package(lines, file)?;
    Module::compile(engine, package.digest(), &package).await
}
