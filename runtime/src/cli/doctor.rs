//! `odeum doctor`: what stands in a node's way, and what to do about it.

use std::{fs, path::Path, process::ExitCode};

use clap::Args;

use super::{
    CliError, DEFAULT_API, Invocation,
    config::NodeFlags,
    out::{cell, table},
};
use crate::{
    api::client::ApiClient,
    config::NodeConfig,
    doctor::{self, Facts, Finding, Level},
    node::{self, PORTS_FILE, Ports},
};

/// Arguments of `odeum doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
A node that runs is asked by its API (--api-url, or the ports.json of --data-dir); one that does not
is judged by the settings that `odeum up` with the same flags would have: whether its ports are free
and whether each place to join by answers a real connection with its certificate.

Exit codes: 0 nothing failed (there may be warnings), 1 something failed, 2 wrong usage.

Examples:
  odeum doctor                                             the node on this machine
  odeum doctor --api-url http://10.0.0.1:7070              another one
  odeum doctor --certs DIR --join 10.0.0.1:7071            a node that is to be started")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    node: NodeFlags,
}

pub(super) async fn doctor(
    invocation: &Invocation,
    args: DoctorArgs,
) -> Result<ExitCode, CliError> {
    let config = args.node.resolve()?.config;
    let facts = match running(invocation, &config).await? {
        Some(api) => api.facts().await?,
        None => doctor::offline::gather(&config).await?,
    };
    let findings = doctor::judge(&facts);
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    invocation.out.result(&findings, |findings| report(&facts, findings))?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The API of the node these settings are for, if it runs. One that was named must run.
async fn running(
    invocation: &Invocation,
    config: &NodeConfig,
) -> Result<Option<ApiClient>, CliError> {
    if invocation.api_url != DEFAULT_API {
        let api = invocation.api()?;
        api.status().await?;
        return Ok(Some(api));
    }
    let addr = ports(&config.node.data_dir).map_or(config.api.listen, |ports| ports.api);
    let api = ApiClient::new(&format!("http://{addr}"))?;
    let Ok(status) = api.status().await else { return Ok(None) };
    // Without a name and a folder it is the node of this machine that is meant, whoever it is.
    let anyone = config.node.name.is_none() && !config.node.data_dir.exists();
    let own = node::name(config).is_ok_and(|name| name == status.node);
    Ok((anyone || own).then_some(api))
}

fn ports(data_dir: &Path) -> Option<Ports> {
    serde_json::from_slice(&fs::read(data_dir.join(PORTS_FILE)).ok()?).ok()
}

fn report(facts: &Facts, findings: &[Finding]) -> String {
    let rows = findings.iter().map(|finding| {
        [cell(finding.level), cell(&finding.check), cell(&finding.subject), cell(&finding.found)]
    });
    let mut text = table(["RESULT", "CHECK", "SUBJECT", "FOUND"], rows);
    let cures = findings.iter().filter_map(|finding| Some((finding, finding.cure.as_ref()?)));
    for (at, (finding, cure)) in cures.enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        let Finding { level, check, subject, .. } = finding;
        text.push_str(&format!("{gap}\n{level}: {check}, {subject}: {cure}"));
    }
    if facts.node.is_none() {
        text.push_str("\n\nThe node does not run: this is what it would find at its start.");
    }
    text
}
