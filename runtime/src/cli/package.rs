//! `odeum package`: makes, signs, looks at and moves packages. Works on files, the user's store and
//! registries; no node is asked.

mod build;
mod inspect;
mod keys;
mod registry;
mod shelf;
mod source;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CliError, Invocation};
use crate::package::{
    source::Source,
    store::{Store, StoreError},
};

pub(super) use self::source::{Fetched, RegistryArgs, fetch, package_named, package_of};

/// What a SOURCE may be, for the help of commands.
const SOURCES: &str = "\
A SOURCE is a folder with odeum.toml, a .wasm, .wat or .odeum file, oci://HOST/NAME:TAG, or what
`odeum package ls` shows: NAME, NAME@VERSION, the beginning of a digest.";

/// What to do with packages.
#[derive(Debug, Subcommand)]
pub(crate) enum PackageCommand {
    /// Write an odeum.toml to begin with
    Init(build::InitArgs),
    /// Make a package of a folder or a module
    Build(build::BuildArgs),
    /// Vouch for a package with a private key
    Sign(keys::SignArgs),
    /// Check every byte of a package, and who vouches for it
    Verify(keys::VerifyArgs),
    /// Show what a package says of itself, what is in it, and whether it can move
    Inspect(inspect::InspectArgs),
    /// Send a package to a registry
    Push(registry::PushArgs),
    /// Get a package from a registry
    Pull(registry::PullArgs),
    /// Show the packages that are kept here
    Ls(shelf::LsArgs),
    /// Remove a package that is kept here
    Rm(shelf::RmArgs),
    /// Make a key to sign packages with
    Keygen(keys::KeygenArgs),
}

/// Where packages are kept.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// Where packages are kept [default: see `odeum package ls`]
    #[arg(long, value_name = "DIR", env = "ODEUM_PACKAGES")]
    store: Option<PathBuf>,
}

impl StoreArgs {
    fn store(&self) -> Result<Store, StoreError> {
        Store::at(self.store.clone())
    }
}

/// A package as a user names it.
pub(super) fn source(text: &str) -> Result<Source, String> {
    text.parse().map_err(|error: crate::package::registry::PlaceError| error.to_string())
}

pub(super) async fn package(
    invocation: &Invocation,
    command: PackageCommand,
) -> Result<(), CliError> {
    match command {
        PackageCommand::Init(args) => build::init(invocation, args),
        PackageCommand::Build(args) => build::build(invocation, args),
        PackageCommand::Sign(args) => keys::sign(invocation, args),
        PackageCommand::Verify(args) => keys::verify(invocation, args).await,
        PackageCommand::Inspect(args) => inspect::inspect(invocation, args).await,
        PackageCommand::Push(args) => registry::push(invocation, args).await,
        PackageCommand::Pull(args) => registry::pull(invocation, args).await,
        PackageCommand::Ls(args) => shelf::ls(invocation, args),
        PackageCommand::Rm(args) => shelf::rm(invocation, args),
        PackageCommand::Keygen(args) => keys::keygen(invocation, args),
    }
}
