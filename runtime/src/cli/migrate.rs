//! `odeum migrate` and `odeum drain`: entities go from node to node while they are at work.

use std::time::Duration;

use clap::Args;
use odeum_proto::{EntityId, NodeId, ReplicaId};
use serde_json::json;

use super::{
    CliError, Invocation,
    leave::patience,
    out::{cell, table},
};
use crate::{
    api::types::{MoveBegun, MoveBody, MoveState, MoveSummary},
    config::{ByteSize, HumanDuration},
};

/// How often a move is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `odeum migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
It goes on there with all that it has in memory, and with what waits for it; who calls it sees a
delay of some milliseconds. A guest whose memory cannot move (a component, one in a process of its
own, one that may have files open) begins anew there with its sessions, and the answer says why. A
move that fails changes nothing: it goes on where it was.

Examples:
  odeum migrate counter --to n2
  odeum migrate counter --to n2 --watch    and show how it goes")]
pub(crate) struct MigrateArgs {
    /// The firmware, one of its replicas (`counter.2`), or an entity as KIND/NAME
    #[arg(value_parser = entity)]
    entity: EntityId,
    /// The node that is to have it
    #[arg(long, value_name = "NODE")]
    to: NodeId,
    /// Show each phase of the move
    #[arg(long)]
    watch: bool,
    /// How long to wait until it has moved; 0s does not wait
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    wait: HumanDuration,
}

/// Arguments of `odeum drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Firmware moves with all that it has in memory, entities of other kinds by shard. The node stays a
member: it keeps its vote and its copies of sessions and packages, and gets nothing more until it is
used again. To stop a node, stop its process: it gives away what it has first.

Examples:
  odeum drain n2           returns when it is empty
  odeum drain n2 --undo    things may be placed on it again")]
pub(crate) struct DrainArgs {
    /// The node
    node: NodeId,
    /// How long it may take to give away what it has; then it goes on by itself
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = patience)]
    patience: HumanDuration,
    /// Use the node again
    #[arg(long, conflicts_with = "patience")]
    undo: bool,
}

pub(super) fn entity(text: &str) -> Result<EntityId, String> {
    match text.contains('/') {
        true => text.parse().map_err(|error| format!("{error}")),
        false => {
            let replica: ReplicaId = text.parse().map_err(|error| format!("{error}"))?;
            Ok(replica.entity())
        }
    }
}

pub(super) async fn drain(invocation: &Invocation, args: DrainArgs) -> Result<(), CliError> {
    let (api, DrainArgs { node, patience, undo }) = (invocation.api()?, args);
    if undo {
        api.use_again(&node).await?;
        return invocation
            .out
            .result(&json!({ "used": node }), |_| format!("{node} is used again"));
    }
    api.drain(&node, patience.0).await?;
    invocation.out.result(&json!({ "drained": node }), |_| {
        format!("{node} is empty, and gets nothing until `odeum drain {node} --undo`")
    })
}

pub(super) async fn migrate(invocation: &Invocation, args: MigrateArgs) -> Result<(), CliError> {
    let (api, MigrateArgs { entity, to, watch, wait }) = (invocation.api()?, args);
    let begun = api.begin_move(&MoveBody { entity, to }).await?;
    if wait.0.is_zero() {
        return invocation
            .out
            .result(&begun, |it| format!("{} moves from {} to {}", it.entity, it.from, it.to));
    }
    let start = std::time::Instant::now();
    let mut shown = None;
    loop {
        let made = api.moves().await?.into_iter().rev().find(|made| is_of(made, &begun));
        if let Some(made) = made {
            if watch && shown != Some(made.state) {
                invocation.out.note(&phase(&made));
                shown = Some(made.state);
            }
            match made.state {
                MoveState::Moved => return invocation.out.result(&made, moved),
                MoveState::Stayed | MoveState::Overtaken => {
                    let reason = made.reason.unwrap_or_else(|| "it was placed anew".to_owned());
                    let (entity, from) = (made.entity, made.from);
                    return Err(CliError::NotMoved { entity, from, reason });
                }
                _ => {}
            }
        }
        if start.elapsed() > wait.0 {
            let MoveBegun { entity, from, to, .. } = begun;
            return Err(CliError::StillMoves { entity, from, to, wait });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_of(made: &MoveSummary, begun: &MoveBegun) -> bool {
    made.entity == begun.entity && made.epoch == begun.epoch && made.to == begun.to
}

fn moved(made: &MoveSummary) -> String {
    let how = match (made.live, &made.reason) {
        (Some(false), Some(reason)) => format!("it began anew, because {reason}"),
        _ => format!("{} moved with it", ByteSize(made.bytes).rounded()),
    };
    let paused = made.paused_ms.map_or_else(String::new, |ms| format!(", paused for {ms:.1} ms"));
    format!("{} is on {}: {how}, in {:.1} ms{paused}", made.entity, made.to, made.took_ms)
}

fn phase(made: &MoveSummary) -> String {
    let (took, state) = (made.took_ms, made.state.as_str());
    match made.bytes {
        0 => format!("{took:8.1} ms  {state}"),
        bytes => format!("{took:8.1} ms  {state}, {} sent", ByteSize(bytes).rounded()),
    }
}

/// Moves, the oldest first.
pub(super) fn moves_table(moves: &[MoveSummary]) -> String {
    table(
        ["BEGAN", "ENTITY", "FROM", "TO", "STATE", "MEMORY", "SENT", "TOOK", "PAUSED", "WHY"],
        moves.iter().map(|made| {
            [
                cell(&made.began),
                cell(&made.entity),
                cell(&made.from),
                cell(&made.to),
                cell(made.state.as_str()),
                made.live.map(|live| if live { "moves" } else { "stays" }.to_owned()),
                cell(ByteSize(made.bytes).rounded()),
                cell(format!("{:.1} ms", made.took_ms)),
                made.paused_ms.map(|ms| format!("{ms:.1} ms")),
                made.reason.clone(),
            ]
        }),
    )
}
