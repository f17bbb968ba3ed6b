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
        /// As without it: a plan changes nothing
        #[arg(long)]
        dry_run: bool,
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
        PlacementCommand::Plan { moves, dry_run: _ }
        | PlacementCommand::Rebalance { moves, dry_run: true } => invocation
            .out
            .result(&api.rebalance(moves, true).await?, |it| planned(it, "would move")),
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
    let listed = |all: Vec<String>| (!all.is_empty()).then(|| all.join(", "));
    let pinned = listed(it.pinned.iter().map(ToString::to_string).collect());
    let apart = listed(it.apart.iter().map(ToString::to_string).collect());
    let wants = [
        pinned.map(|nodes| format!("\nIt may be on {nodes} only.")),
        listed(it.labels.clone()).map(|labels| format!("\nIt wants {labels}.")),
        apart.map(|apart| {
            format!("\nIt is to be apart from {apart}, while another node can have it.")
        }),
    ];
    let wants: String = wants.into_iter().flatten().collect();
    let nodes = table(
        [
            "NODE",
            "BESIDE",
            "ZONE",
            "REPLICAS IN ZONE",
            "REPLICAS",
            "FIRMWARE",
            "CAPACITY",
            "CANNOT HAVE IT, OR COMES LATER, BECAUSE",
        ],
        it.nodes.iter().map(|node| {
            [
                cell(&node.node),
                listed(node.beside.iter().map(ToString::to_string).collect()),
                node.zone.as_ref().map(ToString::to_string),
                cell(node.zone_siblings),
                cell(node.siblings),
                cell(node.entities),
                cell(node.capacity),
                node.cannot.clone().or_else(|| node.later.clone()),
            ]
        }),
    );
    format!(
        "{place}{stays}.{wants}\nPlaced anew it would be on the first of these that can have it. What it \
         is to be apart from\ncounts first, then other replicas in the zone, those on the node, and \
         how busy that is for its capacity:\n\n{nodes}"
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{api::types::Possibility, cli::Cli};

    #[test]
    fn a_plan_is_made_with_and_without_the_flag_that_says_so() {
        for more in [&[][..], &["--dry-run"], &["--moves", "3", "--dry-run"]] {
            let words = [&["odeum", "placement", "plan"], more].concat();
            assert!(Cli::try_parse_from(words).is_ok(), "{more:?}");
        }
    }

    #[test]
    fn what_is_told_names_what_is_wanted_and_what_stands_against_each_node() {
        let node = |id: &str| id.parse().expect("a name");
        let n1 = Possibility {
            node: node("n1"),
            zone: Some("a".parse().expect("a zone")),
            beside: Vec::new(),
            zone_siblings: 0,
            siblings: 0,
            entities: 2,
            capacity: 100,
            cannot: None,
            later: None,
        };
        let stock = || vec!["stock".parse().expect("a name")];
        let later = Some("it has stock, to be apart from".to_owned());
        let n2 = Possibility { node: node("n2"), beside: stock(), later, ..n1.clone() };
        let told = explained(&Explanation {
            entity: "firmware/shop".parse().expect("an entity"),
            node: None,
            epoch: None,
            moves_to: None,
            pinned: vec![node("n1"), node("n2")],
            labels: vec!["disk=ssd".to_owned()],
            apart: stock(),
            nodes: vec![n1, n2],
        });
        let lines: Vec<&str> = told.lines().collect();
        let wants = [
            "firmware/shop waits for a node.",
            "It may be on n1, n2 only.",
            "It wants disk=ssd.",
            "It is to be apart from stock, while another node can have it.",
        ];
        assert_eq!(lines[..4], wants);
        let last = lines.last().expect("a node");
        assert!(
            last.starts_with("n2") && last.ends_with("it has stock, to be apart from"),
            "{told}"
        );
    }
}
