//! `odeum package ls` and `rm`: the packages that are kept here.

use clap::Args;
use serde_json::{Value, json};

use super::StoreArgs;
use crate::{
    cli::{
        CliError, Invocation,
        out::{cell, table},
    },
    config::ByteSize,
    package::store::Kept,
};

/// Arguments of `odeum package ls`.
#[derive(Debug, Args)]
#[command(after_help = "What was built and pulled here is kept in odeum/packages in your data \
                        directory, ~/.local/share unless XDG_DATA_HOME names another.")]
pub(crate) struct LsArgs {
    #[command(flatten)]
    store: StoreArgs,
}

/// Arguments of `odeum package rm`.
#[derive(Debug, Args)]
#[command(after_help = "Example: odeum package rm counter@1.0.0")]
pub(crate) struct RmArgs {
    /// NAME, which means the newest, NAME@VERSION, or a digest
    #[arg(value_name = "PACKAGE")]
    package: String,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn ls(invocation: &Invocation, args: LsArgs) -> Result<(), CliError> {
    let store = args.store.store()?;
    let kept = store.list()?;
    let json: Vec<Value> = kept.iter().map(as_json).collect();
    invocation.out.result(&json, |_| {
        if kept.is_empty() {
            return format!("no packages in {}", store.folder().display());
        }
        let rows = kept.iter().map(|kept| {
            let file = kept.file_digest.to_string().chars().take(12).collect::<String>();
            match &kept.package {
                Ok(package) => [
                    cell(&package.manifest().name),
                    cell(&package.manifest().version),
                    cell(ByteSize(package.file().len() as u64).rounded()),
                    cell(package.signatures().len()),
                    cell(file),
                    None,
                ],
                Err(error) => [None, None, None, None, cell(file), cell(error)],
            }
        });
        table(["NAME", "VERSION", "SIZE", "SIGNATURES", "FILE", "ERROR"], rows)
    })
}

fn as_json(kept: &Kept) -> Value {
    let package = kept.package.as_ref().ok();
    json!({
        "name": package.map(|package| &package.manifest().name),
        "version": package.map(|package| &package.manifest().version),
        "digest": package.map(|package| package.digest().to_string()),
        "file_digest": kept.file_digest.to_string(),
        "bytes": package.map(|package| package.file().len()),
        "signatures": package.map(|package| package.signatures().len()),
        "path": kept.path,
        "error": kept.package.as_ref().err().map(ToString::to_string),
    })
}

pub(super) fn rm(invocation: &Invocation, args: RmArgs) -> Result<(), CliError> {
    let removed = args.store.store()?.remove(&args.package)?;
    invocation.out.result(&json!({ "removed": as_json(&removed) }), |_| {
        let what = removed.package.as_ref().ok().map(|package| package.manifest());
        match what {
            Some(manifest) => format!("removed {} {}", manifest.name, manifest.version),
            None => format!("removed {}", removed.path.display()),
        }
    })
}
