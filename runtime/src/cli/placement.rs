//! `odeum placement`: what is where, why, and how it could be better.

use clap::Subcommand;
use odeum_proto::EntityId;

use super::{
    CliError, Invocation,
    migrate::entity,
    out::{cell, table},
};
use crate::api::types::{Explanation, MoveBegun, PlacementReport};

/// Moves that are begun at a time unless it is said otherwise.
const MOST: usize = 16;

/// What to show or do.
#[derive(Debug, Subcommand)]
pub(crate) enum PlacementCommand {
    /// What is where, and how much each node has
    Show,
    /// Why a firmware is where it is, and where else it could be
    Explain {
        /// The firmware, one of its replicas (`counter.2`), or an entity as KIND/NAME
        #[arg(value_parser = entity)]
        entity: EntityId,
    },
    /// What `rebalance` would move
    Plan {
        /// At most so many moves
        #[arg(long, value_name = "NUMBER", default_value_t = MOST)]
        moves: usize,
    },
    /// Begin moves that make the nodes equally busy for their capacity
    ///
    /// As few as that takes. What has moved in the last 30 s stays where it is. `odeum get moves`
    /// tells how they go.
    Rebalance {
        /// At most so many moves
        #[arg(long, value_name = "NUMBER", default_value_t = MOST)]
        moves: usize,
        /// Only tell what would be moved
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn placement(
    invocation: &Invocation,
    command: PlacementCommand,
) -> Result<(), CliError> {
    let api = invocation.api()?;
    match command {
        PlacementCommand::Show => invocation.out.result(&api.placement().await?, shown),
        PlacementCommand::Explain { entity } => {
            invocation.out.result(&api.explain(&entity).await?, explained)
        }
        PlacementCommand::Plan { moves } | PlacementCommand::Rebalance { moves, dry_run: true } => {
            invocation
                .out
                .result(&api.rebalance(moves, true).await?, |it| planned(it, "would move"))
        }
        PlacementCommand::Rebalance { moves, dry_run: false } => {
            invocation.out.result(&api.rebalance(moves, false).await?, |it| planned(it, "moves"))
        }
    }
}

fn shown(report: &PlacementReport) -> String {
    let nodes = table(
        ["NODE", "CAPACITY", "FIRMWARE", "SHARDS", "TAKES NOTHING BECAUSE IT"],
        report.nodes.iter().map(|it| {
            let why = it.takes_nothing.as_deref();
            let why = why.map(|why| why.trim_start_matches(it.node.as_str()).trim().to_owned());
            [cell(&it.node), cell(it.capacity), cell(it.entities), cell(it.shards), why]
        }),
    );
    let entities = table(
        ["ENTITY", "NODE", "EPOCH", "MOVES TO"],
        report.entities.iter().map(|it| {
            [
                cell(&it.entity),
                it.node.as_ref().map(ToString::to_string),
                it.epoch.map(|epoch| epoch.to_string()),
                it.moves_to.as_ref().map(ToString::to_string),
            ]
        }),
    );
    format!("{nodes}\n\n{entities}")
}

fn explained(it: &Explanation) -> String {
    let place = match (&it.node, &it.moves_to) {
        (Some(node), Some(to)) => format!("{} is on {node} and moves to {to}", it.entity),
        (Some(node), None) => format!("{} is on {node}", it.entity),
        (None, _) => format!("{} waits for a node", it.entity),
    };
    let stays = match it.nodes.iter().find(|node| Some(&node.node) == it.node.as_ref()) {
        Some(node) if node.cannot.is_none() => {
            ": it stays there as long as that node is there and may have it"
        }
        Some(_) => ": it is to go from there",
        None => "",
    };
    let labels = match it.labels.is_empty() {
        true => String::new(),
        false => format!("\nIt wants {}.", it.labels.join(", ")),
    };
    let nodes = table(
        ["NODE", "FIRMWARE", "CAPACITY", "OTHER REPLICAS", "CANNOT HAVE IT BECAUSE"],
        it.nodes.iter().map(|node| {
            [
                cell(&node.node),
                cell(node.entities),
                cell(node.capacity),
                cell(node.siblings),
                node.cannot.clone(),
            ]
        }),
    );
    format!(
        "{place}{stays}.{labels}\nPlaced anew it would be on the first of these that can have it:\n\n{nodes}"
    )
}

fn planned(moves: &[MoveBegun], verb: &str) -> String {
    if moves.is_empty() {
        return "nothing to move: the nodes are equally busy, or what could move has just moved"
            .to_owned();
    }
    let line = |it: &MoveBegun| format!("{} {verb} from {} to {}", it.entity, it.from, it.to);
    moves.iter().map(line).collect::<Vec<_>>().join("\n")
}
