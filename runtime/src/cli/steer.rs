//! `odeum restart` and `odeum rollback`: what is done to a firmware by hand.

use clap::Args;
use odeum_proto::{Epoch, Name};
use serde::Serialize;

use super::{CliError, Invocation, get::SHORT_DIGEST, run::until_running};
use crate::{
    api::{client::ApiClient, types::FirmwareSummary},
    config::HumanDuration,
};

/// Arguments of `odeum restart`.
#[derive(Debug, Args)]
#[command(after_help = "\
It begins anew on the node it is on, with its sessions and without its memory; the message at hand
comes to its end. One that was given up is tried again, a job that has completed runs again.

Examples:
  odeum restart counter
  odeum restart counter --wait 0s     and do not wait until it runs")]
pub(crate) struct RestartArgs {
    /// The firmware
    #[arg(value_name = "FIRMWARE")]
    name: Name,
    /// How long to wait until it runs
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    wait: HumanDuration,
}

/// Arguments of `odeum rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
The package before comes back with the settings that it had; sessions stay as they are. It can be
undone once, and as long as the update has not stood the test (`update.rollback-within` in its
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
    let done = api.restart_firmware(&name).await?;
    let firmware = waited(&api, &name, Some(done.epoch), wait).await?;
    invocation.out.result(&Done { done, firmware }, |Done { done, firmware }| {
        format!("{name} is restarted on {}{}", done.node, state(firmware.as_ref()))
    })
}

pub(super) async fn rollback(invocation: &Invocation, args: RollbackArgs) -> Result<(), CliError> {
    let (api, RollbackArgs { name, wait }) = (invocation.api()?, args);
    let done = api.roll_back_firmware(&name).await?;
    let firmware = waited(&api, &name, done.epoch, wait).await?;
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
    name: &Name,
    since: Option<Epoch>,
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
