//! `odeum package inspect`.

use clap::Args;
use odeum_proto::Digest;
use serde_json::{Value, json};

use super::{RegistryArgs, SOURCES, StoreArgs, package_of, source};
use crate::{
    cli::{
        CliError, Invocation,
        out::{cell, table},
    },
    config::ByteSize,
    package::{
        Package,
        manifest::{Checkpoint, Durability, Manifest, MissingImports},
        normalise::{self, Movability},
        source::Source,
    },
};

/// Arguments of `odeum package inspect`.
#[derive(Debug, Args)]
#[command(after_help = SOURCES)]
pub(crate) struct InspectArgs {
    /// The package
    #[arg(value_name = "SOURCE", value_parser = source)]
    package: Source,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Whether it can move, and what stands in the way, as JSON.
pub(super) fn movable(movability: &Movability) -> Value {
    match movability {
        Movability::Movable => json!({ "movable": true, "obstacles": [] }),
        Movability::Fixed(obstacles) => {
            let told: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
            json!({ "movable": false, "obstacles": told })
        }
    }
}

pub(super) async fn inspect(invocation: &Invocation, args: InspectArgs) -> Result<(), CliError> {
    let InspectArgs { package: source, store, registry } = args;
    let package = package_of(&source, &store, &registry).await?;
    let failed = |error: normalise::NormaliseError| CliError::Build {
        path: source.to_string().into(),
        error: error.into(),
    };
    let movability = normalise::movability(&package.module()).map_err(failed)?;
    let signers: Vec<Value> = package
        .signatures()
        .iter()
        .map(|one| json!({ "id": one.key().id().to_string(), "key": one.key() }))
        .collect();
    let json = json!({
        "manifest": package.manifest(),
        "digest": package.digest().to_string(),
        "file_digest": Digest::of(package.file()).to_string(),
        "bytes": package.file().len(),
        "files": package.index().files(),
        "signatures": signers,
        "movable": movable(&movability),
    });
    invocation.out.result(&json, |_| told(&package, &movability))
}

fn told(package: &Package, movability: &Movability) -> String {
    let manifest = package.manifest();
    let abi = manifest.abi.map_or_else(|| "told from the module".to_owned(), |abi| abi.to_string());
    let signers: Vec<String> =
        package.signatures().iter().map(|one| one.key().id().to_string()).collect();
    let signed = if signers.is_empty() { "by nobody".to_owned() } else { signers.join(", ") };
    let mut facts = vec![
        ("package", format!("{} {}", manifest.name, manifest.version)),
        ("digest", package.digest().to_string()),
        ("file", Digest::of(package.file()).to_string()),
        ("signed", signed),
        ("abi", abi),
        ("movable", movability.to_string()),
        ("durability", durability(manifest)),
        ("isolation", manifest.isolation.to_string()),
        ("granted", granted(package)),
    ];
    if manifest.missing_imports == MissingImports::Trap {
        let imports = "those that a node does not have trap when they are called".to_owned();
        facts.push(("imports", imports));
    }
    let width = facts.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
    let facts: Vec<String> =
        facts.iter().map(|(what, value)| format!("{what:width$}  {value}")).collect();
    let rows = package.index().files().iter().map(|file| {
        let digest = file.blake3.to_string().chars().take(12).collect::<String>();
        [cell(&file.path), cell(ByteSize(file.size).rounded()), cell(digest)]
    });
    format!("{}\n\n{}", facts.join("\n"), table(["FILE", "SIZE", "DIGEST"], rows))
}

fn durability(manifest: &Manifest) -> String {
    let Checkpoint { every, messages } = &manifest.checkpoint;
    match manifest.durability {
        Durability::Checkpointed => format!("checkpointed, after {every} or {messages} messages"),
        other => other.to_string(),
    }
}

/// All that the manifest grants, in its words.
fn granted(package: &Package) -> String {
    let capabilities = &package.manifest().capabilities;
    let mut all = Vec::new();
    for folder in &capabilities.folders {
        let how = if folder.read_only { "" } else { " (writable)" };
        all.push(format!("folder {} as {}{how}", folder.host, folder.guest));
    }
    let mut list = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            all.push(format!("{what} {}", names.join(" ")));
        }
    };
    list("environment", capabilities.environment.iter().map(ToString::to_string).collect());
    list("sockets", capabilities.sockets.iter().map(ToString::to_string).collect());
    list("http", capabilities.http.iter().map(ToString::to_string).collect());
    list("messages to", capabilities.messages.iter().map(ToString::to_string).collect());
    list("publish", capabilities.publish.iter().map(ToString::to_string).collect());
    list("subscribe", capabilities.subscribe.iter().map(ToString::to_string).collect());
    list("mqtt publish", capabilities.mqtt.publish.iter().map(ToString::to_string).collect());
    list("mqtt subscribe", capabilities.mqtt.subscribe.iter().map(ToString::to_string).collect());
    all.extend(capabilities.clock.then(|| "clock".to_owned()));
    all.extend(capabilities.random.then(|| "random".to_owned()));
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}
