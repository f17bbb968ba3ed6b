//! `odeum restart`, `odeum rollback` and `odeum scale`: what is done to a firmware by hand.

use std::fmt::Display;

use clap::Args;
use odeum_proto::{Name, Recipient};
use serde::Serialize;

use super::{
    CliError, Invocation,
    get::SHORT_DIGEST,
    run::{Since, places, until_running},
};
use crate::{
    api::{
        client::ApiClient,
        types::{FirmwareSummary, Renewed, Replicas, ScaleBody, Scaled},
    },
    config::HumanDuration,
};

/// Arguments of `odeum restart`.
#[derive(Debug, Args)]
#[command(after_help = "\
It begins anew on the node it is on, with its sessions and without its memory; the message at hand
comes to its end. One that was given up is tried again, a job that has completed runs again. Of
several replicas one after the other is restarted, each when the one before is ready; NAME.2 is the
second one alone.

Examples:
  odeum restart counter
  odeum restart counter.2
  odeum restart counter --wait 0s     and do not wait until it runs")]
pub(crate) struct RestartArgs {
    /// The firmware, or a replica of it
    #[arg(value_name = "FIRMWARE")]
    name: Recipient,
    /// How long to wait until it runs, or each of its replicas; 0s restarts all of them at once
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    wait: HumanDuration,
}

/// Arguments of `odeum scale`.
#[derive(Debug, Args)]
#[command(after_help = "\
The replicas of a firmware are called NAME (or NAME.1), NAME.2 and so on. They are spread over the
nodes, as evenly as can be; each has sessions of its own. With fewer, those with the highest numbers
are ended: the message at hand comes to its end, their sessions stay, and are theirs again when there
are as many once more.

Examples:
  odeum scale counter --replicas 3
  odeum scale counter --replicas 1 --wait 0s    and do not wait until it is so")]
pub(crate) struct ScaleArgs {
    /// The firmware
    #[arg(value_name = "FIRMWARE")]
    name: Name,
    /// How many there are to be
    #[arg(long, value_name = "N", value_parser = super::run::replicas)]
    replicas: Replicas,
    /// How long to wait until all of them run
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    wait: HumanDuration,
}

/// Arguments of `odeum rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
The package before comes back with the settings that it had; sessions stay as they are. It can be
undone once (replicas one after the other, as in any update), and as long as the update has not stood the test (`update.rollback-within` in its
manifest); `odeum describe firmware NAME` tells whether it can.

Examples:
  odeum rollback counter
  odeum rollback counter --wait 0s    and do not wait until it runs")]
pub(crate) struct RollbackArgs {
    /// The firmware
    #[arg(value_name = "FIRMWARE")]
    name: Name,
    /// How long to wait until it runs
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    wait: HumanDuration,
}

/// What was done, and how the firmware fares then, if that was waited for.
#[derive(Debug, Serialize)]
struct Done<T> {
    #[serde(flatten)]
    done: T,
    firmware: Option<FirmwareSummary>,
}

pub(super) async fn restart(invocation: &Invocation, args: RestartArgs) -> Result<(), CliError> {
    let (api, RestartArgs { name, wait }) = (invocation.api()?, args);
    let replicas = if name.replica().is_some() || wait.0.is_zero() {
        1
    } else {
        api.firmware_of(&name).await?.replicas
    };
    if replicas == 1 {
        let done = api.restart_firmware(&name).await?;
        let since = Since { epoch: Some(done.epoch), digest: None };
        let firmware = waited(&api, &name, &since, wait).await?;
        return invocation.out.result(&Done { done, firmware }, |Done { done, firmware }| {
            format!("{name} is restarted on {}{}", done.node, state(firmware.as_ref()))
        });
    }
    let mut all = Vec::new();
    for number in 1..=replicas {
        let one = format!("{name}.{number}");
        let done = api.restart_firmware(&one).await?;
        let since = Since { epoch: Some(done.epoch), digest: None };
        let firmware = waited(&api, &one, &since, wait).await?;
        all.push(Done { done, firmware });
    }
    invocation.out.result(&all, |all| {
        let told = |(number, Done { done, firmware }): (u32, &Done<Renewed>)| {
            format!("{name}.{number} is restarted on {}{}", done.node, state(firmware.as_ref()))
        };
        (1..).zip(all).map(told).collect::<Vec<_>>().join("\n")
    })
}

pub(super) async fn scale(invocation: &Invocation, args: ScaleArgs) -> Result<(), CliError> {
    let (api, ScaleArgs { name, replicas, wait }) = (invocation.api()?, args);
    let done = api.scale_firmware(&name, &ScaleBody { replicas }).await?;
    let firmware = waited(&api, &name, &Since::default(), wait).await?;
    invocation.out.result(&Done { done, firmware }, |Done { done, firmware }| {
        let Scaled { from, to, .. } = done;
        let now = firmware.as_ref().map(places).unwrap_or_default();
        format!("{name} is scaled from {from} to {to}{}{now}", state(firmware.as_ref()))
    })
}

pub(super) async fn rollback(invocation: &Invocation, args: RollbackArgs) -> Result<(), CliError> {
    let (api, RollbackArgs { name, wait }) = (invocation.api()?, args);
    let done = api.roll_back_firmware(&name).await?;
    let since = Since { epoch: done.epoch, digest: Some(done.to) };
    let firmware = waited(&api, &name, &since, wait).await?;
    invocation.out.result(&Done { done, firmware }, |Done { done, firmware }| {
        let short = |digest: odeum_proto::Digest| {
            digest.to_string().chars().take(SHORT_DIGEST).collect::<String>()
        };
        let (from, to) = (short(done.from), short(done.to));
        format!("{name} is rolled back from {from} to {to}{}", state(firmware.as_ref()))
    })
}

async fn waited(
    api: &ApiClient,
    name: &impl Display,
    since: &Since,
    wait: HumanDuration,
) -> Result<Option<FirmwareSummary>, CliError> {
    if wait.0.is_zero() {
        return Ok(None);
    }
    until_running(api, name, since, wait).await.map(Some)
}

fn state(firmware: Option<&FirmwareSummary>) -> String {
    firmware.map(|firmware| format!(", and {}", firmware.state)).unwrap_or_default()
}
