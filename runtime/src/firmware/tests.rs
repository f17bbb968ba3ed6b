//! What guests may do to a node: nothing. What a node may do to a count: nothing, either.

mod guests;
mod hosts;
mod limits;
mod loading;
mod packages;
mod stage;

use bytes::Bytes;
use odeum_proto::Digest;

use super::{Engine, Module, PackageError};
use crate::package::build::{self, BuildError};

/// The committed build of `examples/guests/counter`.
const COUNTER: &[u8] = include_bytes!("../../../examples/guests/counter/counter.wasm");

/// The module of a file that has no manifest.
async fn compile(engine: &Engine, file: impl Into<Bytes>) -> Result<Module, PackageError> {
    match build::of_module("guest".parse().expect("a name"), file.into()) {
        Ok(built) => {
            let file = built.package.file();
            Module::compile(engine, Digest::of(file), &built.package).await
        }
        Err(BuildError::Module(error)) => Err(error),
        Err(error) => panic!("another error: {error}"),
    }
}
