//! `odeum describe`: all that is known of something.

use clap::Subcommand;
use odeum_proto::Name;

use super::{
    CliError, Invocation,
    get::{SHORT_DIGEST, events_table, replicas_table},
};
use crate::{
    api::types::{FirmwareDescription, PackageReport, UpdateReport},
    config::ByteSize,
};

/// Events that are shown; `odeum get events` shows all.
const EVENTS: usize = 12;

/// What to describe.
#[derive(Debug, Subcommand)]
pub(crate) enum DescribeCommand {
    /// A firmware: its package, where it runs and how it fares, its policy, its last events
    #[command(after_help = "\
When it has no node that runs it, it says why. `odeum get events FIRMWARE` shows more events,
`odeum logs FIRMWARE` what it logs.

Examples:
  odeum describe firmware counter
  odeum describe firmware counter -o json")]
    Firmware {
        /// Its name
        name: Name,
    },
}

pub(super) async fn describe(
    invocation: &Invocation,
    command: DescribeCommand,
) -> Result<(), CliError> {
    let DescribeCommand::Firmware { name } = command;
    let described = invocation.api()?.describe_firmware(&name).await?;
    invocation.out.result(&described, told)
}

fn told(described: &FirmwareDescription) -> String {
    let FirmwareDescription { summary, package, policy, former, update, .. } = described;
    let FirmwareDescription { waits_for, events, .. } = described;
    let state = match summary.exit_code {
        Some(code) => format!("{} with exit code {code}", summary.state),
        None => summary.state.to_string(),
    };
    let mut facts: Vec<(&str, String)> = vec![("name", summary.name.to_string()), ("state", state)];
    if summary.replicas > 1 {
        facts.push(("replicas", format!("{} of {} ready", summary.ready, summary.replicas)));
    }
    facts.extend(update.as_ref().map(|update| ("update", told_of(update))));
    facts.extend(waits_for.clone().map(|reason| ("waits", reason)));
    facts.extend(summary.node.as_ref().map(|node| ("node", node.to_string())));
    facts.extend(summary.epoch.map(|epoch| ("epoch", epoch.to_string())));
    facts.extend(summary.restarts.map(|restarts| ("restarts", restarts.to_string())));
    facts.extend(summary.cpu_percent.map(|percent| ("cpu", format!("{percent} % of a core"))));
    facts.extend(summary.memory_bytes.map(|bytes| ("memory", ByteSize(bytes).rounded())));
    facts.extend(summary.last_error.clone().map(|error| ("last error", error)));
    let size = ByteSize(summary.size).rounded();
    facts.push(("package", format!("{} ({size})", summary.digest)));
    match package {
        Some(package) => facts.extend(facts_of(package)),
        None => facts.push(("", "the asked node cannot get it at present".to_owned())),
    }
    facts.push(match former {
        Some(former) => {
            let short: String = former.to_string().chars().take(SHORT_DIGEST).collect();
            ("rollback", format!("to package {short}, by `odeum rollback {}`", summary.name))
        }
        None => ("rollback", "nothing was deployed before, or it has been forgotten".to_owned()),
    });
    facts.extend(
        policy
            .iter()
            .enumerate()
            .map(|(number, words)| (if number == 0 { "policy" } else { "" }, words.clone())),
    );
    let width = facts.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
    let facts: Vec<String> = facts
        .iter()
        .map(|(what, value)| format!("{what:width$}  {}", super::out::single_line(value)))
        .collect();
    let replicas = match summary.replicas {
        1 => String::new(),
        _ => format!("\n\n{}", replicas_table(summary)),
    };
    let last = events.get(events.len().saturating_sub(EVENTS)..).unwrap_or_default();
    let events = match last {
        [] => "no events are known".to_owned(),
        last => events_table(last),
    };
    format!("{}{replicas}\n\n{events}", facts.join("\n"))
}

fn told_of(update: &UpdateReport) -> String {
    let UpdateReport { done, of, behind } = update;
    let behind: Vec<String> = behind.iter().map(ToString::to_string).collect();
    let behind = behind.join(", ");
    format!(
        "{done} of {of} replicas run this package or have begun with it; still to come: {behind}"
    )
}

fn facts_of(package: &PackageReport) -> Vec<(&'static str, String)> {
    let PackageReport { name, version, abi, kind, signers } = package;
    let signed = if signers.is_empty() { "nobody".to_owned() } else { signers.join(", ") };
    let mut facts = vec![("", format!("{name} {version}, signed by {signed}"))];
    if let (Some(abi), Some(kind)) = (abi, kind) {
        facts.push(("", format!("{abi}: {kind}")));
    }
    facts
}
