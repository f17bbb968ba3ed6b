//! `odeum package push` and `pull`.

use std::path::PathBuf;

use clap::Args;
use odeum_proto::Digest;
use serde_json::json;

use super::{RegistryArgs, SOURCES, StoreArgs, package_of, source};
use crate::{
    cli::{CliError, Invocation},
    package::{registry::Place, source::Source, store::write_whole},
};

/// Arguments of `odeum package push`.
#[derive(Debug, Args)]
#[command(after_help = SOURCES)]
#[command(after_long_help = "\
A SOURCE is a folder with odeum.toml, a .wasm, .wat or .odeum file, or what `odeum package ls` shows:
NAME, NAME@VERSION, the beginning of a digest.

The registry gets the module as application/wasm, so that other tools find it, and beside it what
makes a package of it. Registries on this machine are spoken to by HTTP, all others by HTTPS.

Example: odeum package push counter@1.0.0 oci://localhost:5000/counter")]
pub(crate) struct PushArgs {
    /// The package
    #[arg(value_name = "SOURCE", value_parser = source)]
    package: Source,
    /// Where to, oci://HOST/NAME:TAG; without a tag that of its version
    #[arg(value_name = "PLACE")]
    place: Place,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Arguments of `odeum package pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
The package is checked and kept in your store. A module that another tool has put there becomes a
package with a manifest that grants nothing.

Examples:
  odeum package pull oci://localhost:5000/counter:1.0.0
  odeum package pull oci://ghcr.io/me/counter:1.0.0 --out counter.odeum")]
pub(crate) struct PullArgs {
    /// Where from, oci://HOST/NAME:TAG or oci://HOST/NAME@sha256:DIGEST
    #[arg(value_name = "PLACE")]
    place: Place,
    /// File to write besides
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn push(invocation: &Invocation, args: PushArgs) -> Result<(), CliError> {
    let PushArgs { package: source, place, store, registry } = args;
    let package = package_of(&source, &store, &RegistryArgs::default()).await?;
    let place = place.with_tag_of(&package);
    let digest = registry.registry(&place)?.push(&place, &package).await?;
    let json = json!({
        "place": place.to_string(),
        "oci_digest": digest,
        "digest": package.digest().to_string(),
    });
    invocation.out.result(&json, |_| format!("pushed {place}, there {digest}"))
}

pub(super) async fn pull(invocation: &Invocation, args: PullArgs) -> Result<(), CliError> {
    let PullArgs { place, out, store, registry } = args;
    let (package, oci_digest) = registry.registry(&place)?.pull(&place).await?;
    let kept = store.store()?.keep(&package)?;
    if let Some(path) = &out {
        write_whole(path, package.file())
            .map_err(|reason| CliError::Unwritable { path: path.clone(), reason })?;
    }
    let manifest = package.manifest();
    let json = json!({
        "name": manifest.name,
        "version": manifest.version,
        "oci_digest": oci_digest,
        "digest": package.digest().to_string(),
        "file_digest": Digest::of(package.file()).to_string(),
        "signatures": package.signatures().len(),
        "kept": kept,
        "file": out,
    });
    invocation.out.result(&json, |_| {
        format!("pulled {} {}: digest {}", manifest.name, manifest.version, package.digest())
    })
}
