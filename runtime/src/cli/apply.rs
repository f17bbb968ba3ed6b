//! `odeum apply`: what files declare becomes what is deployed.

mod file;

use std::path::PathBuf;

use clap::Args;
use futures::future::join_all;
use odeum_proto::{Digest, Name};
use serde::Serialize;

pub(crate) use self::file::DeclaredError;
use self::file::{Declared, read};
use super::{
    CliError, Invocation,
    get::SHORT_DIGEST,
    package::{RegistryArgs, StoreArgs, package_named},
    run::{Since, places, until_running},
};
use crate::{
    api::{
        client::ApiClient,
        types::{Applied, ApplyBody, Change, DeployOptions, FirmwareSummary},
    },
    config::HumanDuration,
};

/// Arguments of `odeum apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
A file declares one firmware or several, in TOML:

  [[firmware]]
  name = \"counter\"              # when left out: the package's name
  source = \"counter.wasm\"       # as of `odeum run`, relative to this file
  labels = { disk = \"ssd\" }     # only on nodes that have them
  nodes = [\"n1\", \"n3\"]         # only on these
  apart = [\"gate\"]             # not beside it while another node can have it
  replicas = 3                  # when left out: as many as before, or 1
  limits = { memory = \"16 MiB\", message-time = \"250ms\" }
  restart = { max-restarts = 5, within = \"1m\", per-hour = 20, pause = \"1s\" }
  health = { boot-time = \"10s\", cpu = { above = 90, lasting = \"30s\", then = \"restart\" } }
  update = { max-unavailable = 1, rollback-restarts = 3, rollback-within = \"5m\" }
  transient = { idle = \"10m\" }

or the same in YAML, as a list under `firmware:`. The keys are those of a package's odeum.toml; what
is left out is as that says. What is deployed so already goes on undisturbed, and a package that the
cluster has is not sent again. What no file declares stays as it is.

Examples:
  odeum apply -f shop.toml --dry-run
  odeum apply -f shop.toml more.yaml --wait
  generate | odeum apply -f -")]
pub(crate) struct ApplyArgs {
    /// Files that declare firmware, .toml, .yaml or .yml; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Wait until all of them run, at most so long [default when given alone: 30s]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "30s", conflicts_with = "dry_run")]
    wait: Option<HumanDuration>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// What became of one firmware.
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    applied: Applied,
    /// How it fares, when that was waited for.
    firmware: Option<FirmwareSummary>,
}

pub(super) async fn apply(invocation: &Invocation, args: ApplyArgs) -> Result<(), CliError> {
    let api = invocation.api()?;
    let declared = read(&args.files)?;
    let all = declared.len();
    // Everything that can be wrong with the files is wrong before anything is changed.
    let mut prepared: Vec<Prepared> = Vec::with_capacity(all);
    for declared in declared {
        let next = prepare(declared, &args).await?;
        if let Some(other) = prepared.iter().find(|other| other.name == next.name) {
            let (name, first, second) = (next.name, other.place.clone(), next.place);
            return Err(DeclaredError::Twice { name, first, second }.into());
        }
        prepared.push(next);
    }
    let (mut outcomes, mut failed) = (Vec::new(), Vec::new());
    for prepared in &prepared {
        match one(&api, prepared, args.dry_run).await {
            Ok(applied) => outcomes.push(Outcome { applied, firmware: None }),
            Err(error) => failed.push(format!("{}: {error}", prepared.name)),
        }
    }
    if let Some(wait) = args.wait {
        let waited = outcomes.iter_mut().map(|outcome| wait_for(&api, outcome, wait));
        failed.extend(join_all(waited).await.into_iter().flatten());
    }
    invocation
        .out
        .result(&outcomes, |outcomes| outcomes.iter().map(told).collect::<Vec<_>>().join("\n"))?;
    match failed.len() {
        0 => Ok(()),
        number => {
            let reasons = failed.join("; ").into();
            Err(CliError::NotApplied { failed: number, all, reasons })
        }
    }
}

/// Waits until it runs; why it does not.
async fn wait_for(api: &ApiClient, outcome: &mut Outcome, wait: HumanDuration) -> Option<String> {
    let Applied { name, epoch, digest, .. } = &outcome.applied;
    let since = Since { epoch: *epoch, digest: Some(*digest) };
    match until_running(api, name, &since, wait).await {
        Ok(firmware) => {
            outcome.firmware = Some(firmware);
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// A firmware that is to be, with its package at hand.
struct Prepared {
    name: Name,
    /// Where it is declared.
    place: Box<str>,
    file: bytes::Bytes,
    body: ApplyBody,
}

async fn prepare(declared: Declared, args: &ApplyArgs) -> Result<Prepared, CliError> {
    let Declared { place, name, source, settings } = declared;
    let package = package_named(name.as_ref(), &source, &args.store, &args.registry).await?;
    let manifest = package.manifest();
    let unwritable = |error: crate::package::manifest::ManifestError| DeclaredError::Invalid {
        at: place.clone(),
        reason: error.to_string().into(),
    };
    let name = name.unwrap_or_else(|| manifest.name.clone());
    settings.check(&name).map_err(|error| DeclaredError::Invalid {
        at: place.clone(),
        reason: error.to_string().into(),
    })?;
    let file = package.file().clone();
    let body = ApplyBody {
        digest: Digest::of(&file),
        size: file.len() as u64,
        manifest: manifest.to_text().map_err(unwritable)?,
        settings,
        dry_run: args.dry_run,
    };
    Ok(Prepared { name, place, file, body })
}

async fn one(api: &ApiClient, prepared: &Prepared, dry_run: bool) -> Result<Applied, CliError> {
    let Prepared { name, file, body, .. } = prepared;
    let mut applied = api.apply_firmware(name, body).await?;
    if applied.package_needed && !dry_run {
        let options = DeployOptions { settings: body.settings.clone(), ..DeployOptions::default() };
        let deployed = api.put_firmware(name, file.clone(), &options).await?;
        applied.package_needed = false;
        (applied.node, applied.epoch) = (deployed.node, deployed.epoch);
    }
    Ok(applied)
}

fn told(outcome: &Outcome) -> String {
    let Applied { name, change, differences, dry_run, .. } = &outcome.applied;
    let mut text = match (dry_run, change) {
        (true, Change::Created | Change::Updated) => format!("firmware {name} would be {change}"),
        _ => format!("firmware {name} {change}"),
    };
    if let Some(firmware) = &outcome.firmware {
        text.push_str(&format!(", and {}{}", firmware.state, places(firmware)));
    }
    for difference in differences {
        let side = |value: &Option<String>| match value {
            None => "nothing".to_owned(),
            Some(value) if difference.key == "package" => {
                value.chars().take(SHORT_DIGEST).collect()
            }
            Some(value) => value.clone(),
        };
        let (from, to) = (side(&difference.from), side(&difference.to));
        text.push_str(&format!("\n  {}: {from} -> {to}", difference.key));
    }
    text
}
