//! `odeum run`: deploy a firmware and wait until it takes messages, or runs as a job.

use std::{collections::BTreeSet, path::Path, time::Duration};

use clap::Args;
use odeum_proto::{Digest, Epoch, Label, Name, NodeId};
use tokio::time::{Instant, sleep};

use super::{
    CliError, Invocation,
    config::label,
    package::{Fetched, RegistryArgs, StoreArgs, fetch, source},
};
use crate::{
    api::{
        client::{ApiClient, ApiError},
        types::{DeployOptions, FirmwareSettings, FirmwareState, FirmwareSummary, Nodes, Replicas},
    },
    config::{ByteSize, HumanDuration},
    package::source::Source,
};

/// Pause between two looks at a starting firmware: short beside the time a person notices.
const POLL: Duration = Duration::from_millis(50);

/// Arguments of `odeum run`.
#[derive(Debug, Args)]
#[command(after_help = "Deploying under a name that is taken replaces the firmware and keeps its \
                        sessions.\n\nA SOURCE is a folder with odeum.toml, a .wasm, .wat or .odeum \
                        file, oci://HOST/NAME:TAG, or what\n`odeum package ls` shows: NAME, \
                        NAME@VERSION, the beginning of a digest.\n\nExamples:\n  odeum run \
                        counter.wasm --memory 16MiB --time 250ms\n  odeum run counter.wasm --label disk=ssd\n  odeum run \
                        counter.wasm --replicas 3\n  odeum run \
                        counter.wasm --node n1 --node n3 --apart gate\n  odeum run \
                        oci://localhost:5000/counter:1.0.0")]
pub(crate) struct RunArgs {
    /// The package, or a module: .wasm, or .wat as text
    #[arg(value_name = "SOURCE", value_parser = source)]
    source: Source,
    /// What to call it [default: the package's name, the module's file name]
    #[arg(long)]
    name: Option<Name>,
    /// Most memory its instance may use, such as 16MiB [default: the node's]
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Longest time for one message, such as 250ms [default: the node's]
    #[arg(long, value_name = "DURATION")]
    time: Option<HumanDuration>,
    /// Run it on nodes with this label only; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(Label, Label)>,
    /// Run it on this node only; may be given several times, for any of them
    #[arg(long, value_name = "NODE")]
    node: Vec<NodeId>,
    /// Keep it apart from this firmware while another node can have it; may be given several times
    #[arg(long, value_name = "NAME")]
    apart: Vec<Name>,
    /// How many replicas of it to run, spread over the nodes [default: as many as before, or 1]
    #[arg(long, value_name = "N", value_parser = replicas)]
    replicas: Option<Replicas>,
    /// How long to wait until it runs
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    wait: HumanDuration,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn run(invocation: &Invocation, args: RunArgs) -> Result<(), CliError> {
    let api = invocation.api()?;
    let Fetched { name, file } = fetch(&args.source, &args.store, &args.registry).await?;
    let name = match args.name.or(name) {
        Some(name) => name,
        None => name_of(Path::new(&args.source.to_string()))?,
    };
    let options = DeployOptions {
        memory: args.memory.map(|size| size.to_string()),
        time: args.time.map(|time| time.to_string()),
        settings: FirmwareSettings {
            labels: args.label.into_iter().collect(),
            nodes: Nodes::new(args.node.into_iter().collect()),
            apart: args.apart.into_iter().collect(),
            replicas: args.replicas,
            ..FirmwareSettings::default()
        },
    };
    let deployed = api.put_firmware(&name, file, &options).await.map_err(|error| match error {
        ApiError::Refused { retryable: false, .. } => {
            CliError::Package { path: args.source.to_string().into(), error }
        }
        other => other.into(),
    })?;
    let since = Since { epoch: deployed.epoch, digest: Some(deployed.digest) };
    let firmware = until_running(&api, &name, &since, args.wait).await?;
    invocation.out.result(&firmware, |firmware| {
        let node = places(firmware);
        if let Some(code) = firmware.exit_code {
            return format!("{name} has completed{node} with exit code {code}");
        }
        format!("{name} is running{node}; talk to it with `odeum call {name} MESSAGE`")
    })
}

/// Where it runs: with several replicas, how many of them on which nodes.
pub(super) fn places(firmware: &FirmwareSummary) -> String {
    if firmware.replicas == 1 {
        return firmware.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
    }
    let FirmwareSummary { ready, replicas, .. } = firmware;
    format!(", {ready} of {replicas} replicas, on {}", nodes(firmware).unwrap_or_default())
}

/// The nodes that it is on, each once.
pub(super) fn nodes(firmware: &FirmwareSummary) -> Option<String> {
    let nodes: BTreeSet<&str> =
        firmware.instances.iter().filter_map(|one| Some(one.node.as_ref()?.as_str())).collect();
    let nodes: Vec<&str> = nodes.into_iter().collect();
    (!nodes.is_empty()).then(|| nodes.join(", "))
}

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// An activation not before this one.
    pub(super) epoch: Option<Epoch>,
    /// This package, in all replicas.
    pub(super) digest: Option<Digest>,
}

/// Waits until all replicas of a firmware run, or the one that is named.
pub(super) async fn until_running(
    api: &ApiClient,
    name: &impl std::fmt::Display,
    since: &Since,
    wait: HumanDuration,
) -> Result<FirmwareSummary, CliError> {
    let deadline = Instant::now() + wait.0;
    loop {
        let firmware = api.firmware_of(name).await?;
        let reason = firmware.last_error.as_deref().map(Box::from);
        let is_undone = since.digest.is_some_and(|digest| digest != firmware.digest);
        let is_under_way = firmware.updated < firmware.replicas;
        let is_new = firmware.epoch >= since.epoch && !is_under_way;
        match firmware.state {
            // Somebody else may have deployed something, which is as good a reason to go.
            _ if is_undone => {
                let reason = format!(
                    "another package has taken the place of this one: `odeum get events {name}` \
                     tells why"
                );
                return Err(CliError::Failed { name: name.to_string(), reason: reason.into() });
            }
            state if state.is_ready() && is_new => return Ok(firmware),
            FirmwareState::Failed if is_new => {
                let reason = reason.unwrap_or_else(|| "no reason is known".into());
                return Err(CliError::Failed { name: name.to_string(), reason });
            }
            state if Instant::now() >= deadline => {
                let name = name.to_string();
                return Err(CliError::NotRunning { name, state, waited: wait, reason });
            }
            _ => sleep(POLL).await,
        }
    }
}

/// Reads a number of replicas.
pub(super) fn replicas(text: &str) -> Result<Replicas, String> {
    let number: u64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    Replicas::try_from(number).map_err(|error| error.to_string())
}

/// The file's name without its extension, as a name: `My_Counter.wasm` is `my-counter`.
pub(super) fn name_of(file: &Path) -> Result<Name, CliError> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let label = stem.to_lowercase().replace(['_', '.', ' '], "-");
    label.parse().map_err(|reason| CliError::NoName { path: file.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firmware_is_named_after_its_file() {
        for (file, name) in [("x/counter.wasm", "counter"), ("My_Counter.v2.wat", "my-counter-v2")]
        {
            assert_eq!(name_of(Path::new(file)).expect("a name").as_str(), name);
        }
        for file in ["_.wasm", "zähler.wasm", "/"] {
            assert!(matches!(name_of(Path::new(file)), Err(CliError::NoName { .. })), "{file}");
        }
    }
}
