//! `odeum package init` and `build`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use odeum_proto::{Digest, Name};
use serde_json::json;

use super::{StoreArgs, inspect, source::read};
use crate::{
    cli::{CliError, Invocation, run::name_of},
    package::{
        build::{self, BuildError, Built, MANIFEST_TEMPLATE},
        manifest::{FILE as MANIFEST, PackagePath},
        source::Contents,
        store::write_whole,
    },
};

/// Arguments of `odeum package init`.
#[derive(Debug, Args)]
#[command(after_help = "Example: odeum package init examples/guests/counter --entry counter.wasm")]
pub(crate) struct InitArgs {
    /// The folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// What to call the package [default: the folder's name]
    #[arg(long)]
    name: Option<Name>,
    /// File of the module in that folder [default: the only one]
    #[arg(long, value_name = "FILE")]
    entry: Option<PackagePath>,
}

/// Arguments of `odeum package build`.
#[derive(Debug, Args)]
#[command(after_help = "\
The package is written to NAME-VERSION.odeum and kept in your store, too. Equal inputs give equal
bytes. The module in it is checked, translated from text, and made movable where it can be.

Examples:
  odeum package build                          the folder you are in
  odeum package build counter.wasm             a module alone, with a manifest that grants nothing
  odeum package build app --out app.odeum")]
pub(crate) struct BuildArgs {
    /// A folder with odeum.toml, or a .wasm or .wat file
    #[arg(value_name = "SOURCE", default_value = ".")]
    source: PathBuf,
    /// File to write [default: NAME-VERSION.odeum]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn init(invocation: &Invocation, args: InitArgs) -> Result<(), CliError> {
    let InitArgs { folder, name, entry } = args;
    let name = match name {
        Some(name) => name,
        None => name_of(
            &folder
                .canonicalize()
                .map_err(|reason| CliError::Unreadable { path: folder.clone(), reason })?,
        )?,
    };
    let entry = match entry {
        Some(entry) => entry,
        None => only_module(&folder)?.unwrap_or_else(PackagePath::module),
    };
    let path = folder.join(MANIFEST);
    let text =
        MANIFEST_TEMPLATE.replace("{name}", name.as_str()).replace("{entry}", entry.as_str());
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|reason| match reason.kind() {
            io::ErrorKind::AlreadyExists => CliError::Manifest { path: path.clone() },
            _ => CliError::Unwritable { path: path.clone(), reason },
        })?;
    invocation.out.result(&json!({ "manifest": path, "name": name, "entry": entry }), |_| {
        format!(
            "wrote {}; fill it in, then `odeum package build {}`",
            path.display(),
            folder.display()
        )
    })
}

/// The one module in a folder, if there is one.
fn only_module(folder: &Path) -> Result<Option<PackagePath>, CliError> {
    let unreadable = |reason| CliError::Unreadable { path: folder.to_owned(), reason };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".wasm") || name.ends_with(".wat") {
            found.extend(name.parse::<PackagePath>().ok());
        }
    }
    Ok(if found.len() == 1 { found.pop() } else { None })
}

pub(super) fn build(invocation: &Invocation, args: BuildArgs) -> Result<(), CliError> {
    let BuildArgs { source, out, store } = args;
    let Built { package, movability } = made_of(&source)?;
    let path = out.unwrap_or_else(|| PathBuf::from(package.file_name()));
    write_whole(&path, package.file())
        .map_err(|reason| CliError::Unwritable { path: path.clone(), reason })?;
    let kept = store.store()?.keep(&package)?;
    let json = json!({
        "file": path,
        "kept": kept,
        "name": package.manifest().name,
        "version": package.manifest().version,
        "digest": package.digest().to_string(),
        "file_digest": Digest::of(package.file()).to_string(),
        "bytes": package.file().len(),
        "movable": inspect::movable(&movability),
    });
    invocation.out.result(&json, |_| {
        let (digest, bytes) = (package.digest(), package.file().len());
        format!("built {}: {bytes} bytes, digest {digest}, movable: {movability}", path.display())
    })
}

fn made_of(source: &Path) -> Result<Built, CliError> {
    let failed = |error| CliError::Build { path: source.to_owned(), error };
    if source.is_dir() {
        return build::of_folder(source).map_err(failed);
    }
    match read(source)? {
        Contents::Package(_) => Err(CliError::BuiltAlready { path: source.to_owned() }),
        Contents::Other(file) => {
            build::of_module(name_of(source)?, file).map_err(|error: BuildError| failed(error))
        }
    }
}
