//! `odeum get`: what there is.

mod blobs;
mod events;
mod links;
mod nodes;

use clap::Subcommand;
use odeum_proto::{Digest, NodeId, Recipient, SessionId};

use super::{
    CliError, Invocation, migrate,
    out::{cell, table},
    run::nodes,
    session,
};
use crate::{
    api::{
        client::SessionQuery,
        types::{ActorNode, DEFAULT_PAGE, FirmwareEvent, FirmwareSummary, MAX_PAGE},
    },
    config::{ByteSize, HumanDuration},
};

/// Hex digits of a digest that a table shows; `-o json` shows all.
pub(super) const SHORT_DIGEST: usize = 12;

/// What to show.
#[derive(Debug, Subcommand)]
pub(crate) enum GetCommand {
    /// The cluster's nodes, as the asked node sees them
    #[command(visible_alias = "node")]
    Nodes,
    /// The asked node's links to the others; with a NODE, what that one carries by class
    #[command(visible_alias = "link")]
    Links {
        /// Show the link to this node by class of traffic
        peer: Option<NodeId>,
    },
    /// Deployed firmware: where it runs and how it fares
    Firmware {
        /// Only this one, and each of its replicas
        name: Option<Recipient>,
    },
    /// What became of a firmware lately, on any node: crashes, restarts, updates
    #[command(
        visible_alias = "event",
        after_help = "\
With -f it goes on with what becomes of it from then on, until Ctrl-C or until the firmware is deleted:
a line each, with `-o json` an object. What happens again with nothing else in between is printed again,
with how often it happened.

Examples:
  odeum get events counter
  odeum get events counter -f -o json"
    )]
    Events {
        /// The firmware; NAME.2 is one of its replicas
        #[arg(value_name = "FIRMWARE")]
        name: Recipient,
        /// Go on with what becomes of it from now on
        #[arg(long, short)]
        follow: bool,
    },
    /// What moved from node to node lately, and what is on its way
    #[command(visible_alias = "move")]
    Moves,
    /// Packages and other bytes that are kept on several nodes: who holds and who needs them
    #[command(visible_alias = "blob")]
    Blobs {
        /// Most blobs to show
        #[arg(long, default_value_t = DEFAULT_PAGE as u64,
              value_parser = clap::value_parser!(u64).range(1..=MAX_PAGE as u64))]
        limit: u64,
        /// Begin behind this blob
        #[arg(long, value_name = "DIGEST")]
        after: Option<Digest>,
    },
    /// Sessions in the replicated store; with an ID, the variables of that one
    #[command(visible_alias = "session")]
    Sessions {
        /// Show this session's variables
        id: Option<SessionId>,
        /// Most sessions to show
        #[arg(long, default_value_t = DEFAULT_PAGE as u64,
              value_parser = clap::value_parser!(u64).range(1..=MAX_PAGE as u64))]
        limit: u64,
        /// Begin behind this session
        #[arg(long, value_name = "ID")]
        after: Option<SessionId>,
    },
    /// The actors of the asked node
    Actors {
        /// Draw them as a tree
        #[arg(long)]
        tree: bool,
    },
}

pub(super) async fn get(invocation: &Invocation, command: GetCommand) -> Result<(), CliError> {
    let api = invocation.api()?;
    match command {
        GetCommand::Nodes => {
            invocation.out.result(&api.nodes().await?, |nodes| nodes::table_of(nodes))
        }
        GetCommand::Links { peer } => links::show(invocation, &api.links().await?, peer),
        GetCommand::Firmware { name: Some(name) } => {
            invocation.out.result(&api.firmware_of(&name).await?, one_table)
        }
        GetCommand::Firmware { name: None } => {
            invocation.out.result(&api.firmware().await?, |all| firmware_table(all))
        }
        GetCommand::Events { name, follow: true } => events::follow(invocation, &api, &name).await,
        GetCommand::Events { name, follow: false } => {
            invocation.out.result(&api.events(&name).await?, |events| events_table(events))
        }
        GetCommand::Moves => {
            invocation.out.result(&api.moves().await?, |moves| migrate::moves_table(moves))
        }
        GetCommand::Blobs { limit, after } => {
            let limit = usize::try_from(limit).unwrap_or(MAX_PAGE);
            let page = api.blobs(limit, after).await?;
            invocation.out.result(&page, blobs::table_of)?;
            invocation.out.note(&blobs::note_of(&page));
            if let Some(next) = &page.next {
                invocation.out.note(&format!("there are more: add `--after {next}`"));
            }
            Ok(())
        }
        GetCommand::Sessions { id: Some(id), .. } => {
            invocation.out.result(&api.session(&id).await?, session::session_table)
        }
        GetCommand::Sessions { id: None, limit, after } => {
            let limit = usize::try_from(limit).ok();
            let query = SessionQuery { limit, after, ..SessionQuery::default() };
            session::list(invocation, &api, &query).await
        }
        GetCommand::Actors { tree: true } if invocation.out.is_table() => {
            invocation.out.text(&api.actors_text().await?)
        }
        GetCommand::Actors { .. } => invocation.out.result(&api.actors().await?, actors_table),
    }
}

fn firmware_table(firmware: &[FirmwareSummary]) -> String {
    table(
        [
            "NAME",
            "READY",
            "STATE",
            "NODE",
            "EPOCH",
            "RESTARTS",
            "CPU",
            "MEMORY",
            "SIZE",
            "DIGEST",
            "LAST ERROR",
        ],
        firmware.iter().map(|one| {
            [
                cell(&one.name),
                cell(format!("{}/{}", one.ready, one.replicas)),
                match (one.exit_code, one.pid) {
                    (Some(code), _) => cell(format!("{} ({code})", one.state)),
                    (None, Some(pid)) => cell(format!("{} (process {pid})", one.state)),
                    (None, None) => cell(one.state),
                },
                nodes(one),
                one.epoch.map(|epoch| epoch.to_string()),
                one.restarts.map(|restarts| restarts.to_string()),
                one.cpu_percent.map(|percent| format!("{percent} %")),
                one.memory_bytes.map(|bytes| ByteSize(bytes).rounded()),
                cell(ByteSize(one.size).rounded()),
                cell(one.digest.to_string().get(..SHORT_DIGEST).unwrap_or_default()),
                one.last_error.clone(),
            ]
        }),
    )
}

/// One firmware: with several replicas, each of them, too.
fn one_table(firmware: &FirmwareSummary) -> String {
    let all = firmware_table(std::slice::from_ref(firmware));
    if firmware.replicas == 1 {
        return all;
    }
    format!("{all}\n\n{}", replicas_table(firmware))
}

/// The replicas of a firmware.
pub(super) fn replicas_table(firmware: &FirmwareSummary) -> String {
    table(
        ["REPLICA", "STATE", "NODE", "EPOCH", "RESTARTS", "CPU", "MEMORY", "DIGEST", "LAST ERROR"],
        firmware.instances.iter().map(|one| {
            [
                cell(format!("{}.{}", firmware.name, one.replica)),
                match (one.exit_code, one.pid) {
                    (Some(code), _) => cell(format!("{} ({code})", one.state)),
                    (None, Some(pid)) => cell(format!("{} (process {pid})", one.state)),
                    (None, None) => cell(one.state),
                },
                one.node.as_ref().map(ToString::to_string),
                one.epoch.map(|epoch| epoch.to_string()),
                one.restarts.map(|restarts| restarts.to_string()),
                one.cpu_percent.map(|percent| format!("{percent} %")),
                one.memory_bytes.map(|bytes| ByteSize(bytes).rounded()),
                cell(one.digest.to_string().get(..SHORT_DIGEST).unwrap_or_default()),
                one.last_error.clone(),
            ]
        }),
    )
}

/// Events, the oldest first. The column of replicas is there when it says something.
pub(super) fn events_table(events: &[FirmwareEvent]) -> String {
    if events.iter().any(|event| event.replica > 1) {
        return table(
            ["LAST SEEN", "TIMES", "NODE", "REPLICA", "EPOCH", "EVENT", "WHAT"],
            events.iter().map(|event| {
                [
                    cell(&event.at),
                    cell(event.count),
                    cell(&event.node),
                    // What is about all of them has no epoch.
                    Some(event.replica).filter(|_| event.epoch.0 > 0).map(|it| it.to_string()),
                    Some(event.epoch).filter(|epoch| epoch.0 > 0).map(|it| it.to_string()),
                    cell(&event.event),
                    cell(&event.text),
                ]
            }),
        );
    }
    table(
        ["LAST SEEN", "TIMES", "NODE", "EPOCH", "EVENT", "WHAT"],
        events.iter().map(|event| {
            [
                cell(&event.at),
                cell(event.count),
                cell(&event.node),
                // What was done by hand before it was placed has none.
                Some(event.epoch).filter(|epoch| epoch.0 > 0).map(|epoch| epoch.to_string()),
                cell(&event.event),
                cell(&event.text),
            ]
        }),
    )
}

fn actors_table(root: &ActorNode) -> String {
    let mut rows = Vec::new();
    // Deepest-first would reverse siblings, so the stack is filled from behind.
    let mut stack = vec![(root, String::new())];
    while let Some((actor, parent)) = stack.pop() {
        let path =
            if parent.is_empty() { actor.name.clone() } else { format!("{parent}/{}", actor.name) };
        rows.push([
            cell(&path),
            cell(&actor.kind),
            cell(&actor.state),
            cell(actor.restarts),
            cell(actor.mailbox),
            cell(actor.handled),
        ]);
        stack.extend(actor.children.iter().rev().map(|child| (child, path.clone())));
    }
    table(["ACTOR", "KIND", "STATE", "RESTARTS", "WAITING", "HANDLED"], rows)
}

/// Whole seconds are enough for a person.
fn seconds(ms: u64) -> HumanDuration {
    HumanDuration(std::time::Duration::from_secs(ms / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(name: &str, children: Vec<ActorNode>) -> ActorNode {
        ActorNode {
            name: name.to_owned(),
            kind: "actor".to_owned(),
            state: "running".to_owned(),
            restarts: 0,
            mailbox: 0,
            handled: 0,
            busy_us: 0,
            children,
        }
    }

    #[test]
    fn actors_are_listed_in_start_order_under_their_supervisors() {
        let tree = actor("node", vec![actor("a", vec![actor("b", vec![])]), actor("c", vec![])]);
        let text = actors_table(&tree);
        let paths: Vec<&str> =
            text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(paths, ["node", "node/a", "node/a/b", "node/c"]);
    }
}
