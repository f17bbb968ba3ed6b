//! Gets what a SOURCE names.

use std::{io::BufRead, path::Path};

use bytes::Bytes;
use clap::Args;
use odeum_proto::Name;

use super::StoreArgs;
use crate::{
    cli::CliError,
    package::{
        Package,
        build::{self, BuildError},
        registry::{Credentials, Place, Registry},
        source::{self, Contents, Source},
    },
};

/// Who one is to a registry.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RegistryArgs {
    /// Who you are to the registry [default: what `docker login` has stored]
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

impl RegistryArgs {
    /// The registry that has `place`.
    pub(super) fn registry(&self, place: &Place) -> Result<Registry, CliError> {
        let credentials = match &self.username {
            None => Credentials::stored_for(place)?,
            Some(username) => {
                let mut password = String::new();
                // Nothing else runs meanwhile: it may block.
                let read = std::io::stdin().lock().read_line(&mut password);
                read.map_err(|reason| CliError::Stdin { reason })?;
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Credentials::Password { username: username.clone(), password }
            }
        };
        Ok(Registry::of(place, credentials)?)
    }
}

/// What is to be deployed.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// What it calls itself; a module alone is called after its file.
    pub(crate) name: Option<Name>,
    /// What a node is given: the file of a package, or a module.
    pub(crate) file: Bytes,
}

/// What a node is given of `source`.
pub(crate) async fn fetch(
    source: &Source,
    store: &StoreArgs,
    registry: &RegistryArgs,
) -> Result<Fetched, CliError> {
    if let Source::File(path) = source
        && let Contents::Other(file) = read(path)?
    {
        // The node says what is wrong with it, if anything is.
        return Ok(Fetched { name: None, file });
    }
    let package = package_of(source, store, registry).await?;
    let name = Some(package.manifest().name.clone());
    Ok(Fetched { name, file: package.file().clone() })
}

/// The package of `source`; a module becomes one.
pub(crate) async fn package_of(
    source: &Source,
    store: &StoreArgs,
    registry: &RegistryArgs,
) -> Result<Package, CliError> {
    package_named(None, source, store, registry).await
}

/// The same, where a module is called `name` rather than after its file.
pub(crate) async fn package_named(
    name: Option<&Name>,
    source: &Source,
    store: &StoreArgs,
    registry: &RegistryArgs,
) -> Result<Package, CliError> {
    let failed = |error| CliError::Build { path: source.to_string().into(), error };
    match source {
        Source::Folder(path) => Ok(build::of_folder(path).map_err(failed)?.package),
        Source::File(path) => match read(path)? {
            Contents::Package(package) => Ok(package),
            Contents::Other(file) => {
                let name = match name {
                    Some(name) => name.clone(),
                    None => super::super::run::name_of(path)?,
                };
                Ok(build::of_module(name, file).map_err(failed)?.package)
            }
        },
        Source::Registry(place) => {
            let (package, _) = registry.registry(place)?.pull(place).await?;
            Ok(package)
        }
        Source::Kept(wanted) => {
            let kept = store.store()?.find(wanted)?;
            kept.package.map_err(|error| failed(error.into()))
        }
    }
}

/// Reads a file, which may be a package.
pub(super) fn read(path: &Path) -> Result<Contents, CliError> {
    source::read(path).map_err(|error| match error {
        BuildError::Unreadable { path, reason } => CliError::Unreadable { path, reason },
        error => CliError::Build { path: path.to_owned(), error },
    })
}
