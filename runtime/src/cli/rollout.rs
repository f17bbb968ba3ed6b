//! `odeum rollout`: what is done to all nodes, one after the other.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use odeum_proto::{Incarnation, NodeId};
use serde::Serialize;
use tokio::time::sleep;

use super::{CliError, Invocation, leave::patience};
use crate::{
    api::{client::ApiClient, types::NodeRestart},
    config::HumanDuration,
};

/// Moves that make the nodes equally busy again behind a restart of all: all there are.
const MOVES: usize = 1_024;

/// How often a node is looked for that is away.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is done to all nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Restart nodes one after the other, without a call that fails
    Restart(RestartArgs),
}

/// Arguments of `odeum rollout restart`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each node gives away what it has, with its memory, ends, and runs its program again, from the same
file with the same arguments: what was installed there meanwhile is what runs then. The next one
follows when it is back and knows all that was written while it was away. When one does not come
back, the others stay as they are. At the end firmware moves until the nodes are equally busy.

A call to a node that is away finds nobody there: have callers try another one.

Examples:
  odeum rollout restart              all nodes, the asked one last
  odeum rollout restart n2 n3        these")]
pub(crate) struct RestartArgs {
    /// The nodes [default: all]
    nodes: Vec<NodeId>,
    /// How long each may take
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = patience)]
    patience: HumanDuration,
    /// Leave what has moved where it is
    #[arg(long)]
    no_rebalance: bool,
}

pub(super) async fn rollout(
    invocation: &Invocation,
    command: RolloutCommand,
) -> Result<(), CliError> {
    let RolloutCommand::Restart(args) = command;
    restart(invocation, args).await
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    restarted: Vec<NodeRestart>,
    /// Firmware that moves to make the nodes equally busy.
    moves: usize,
}

async fn restart(invocation: &Invocation, args: RestartArgs) -> Result<(), CliError> {
    let RestartArgs { nodes, patience, no_rebalance } = args;
    let api = invocation.api()?;
    let asked = api.status().await?.node;
    let all = api.nodes().await?;
    let mut left = match nodes.is_empty() {
        true => all.iter().map(|node| node.id.clone()).collect(),
        false => nodes,
    };
    // It has to tell how the others fare.
    left.sort_by_key(|node| (*node == asked, node.clone()));
    left.dedup();
    if let Some(unknown) = left.iter().find(|node| !all.iter().any(|it| it.id == **node)) {
        return Err(CliError::NoNode { node: unknown.clone() });
    }
    let others = all.iter().filter(|node| node.id != asked);
    let others = others.map(|node| ApiClient::new(&format!("http://{}", node.api_addr)));
    let ways = Ways { api: api.clone(), others: others.collect::<Result<_, _>>()? };
    let mut restarted = Vec::new();
    for node in left {
        let begin = Instant::now();
        let made = api.restart_node(&node, patience.0).await.map_err(|error| {
            let done = restarted.iter().map(|it: &NodeRestart| it.node.to_string()).collect();
            CliError::NotRestarted { done: Names(done), reason: error.to_string() }
        })?;
        let made = match made.incarnation {
            Some(_) => made,
            None => ways.back(made, patience).await?,
        };
        invocation
            .out
            .note(&format!("{node} is back after {:.1} s", begin.elapsed().as_secs_f64()));
        restarted.push(made);
    }
    let moves = match no_rebalance {
        true => 0,
        false => ways.rebalanced().await?,
    };
    invocation.out.result(&Done { restarted, moves }, |done| {
        let (nodes, moves) = (done.restarted.len(), done.moves);
        let even = match moves {
            0 => String::new(),
            moves => format!("; {moves} firmware move, so that the nodes are equally busy"),
        };
        format!("{nodes} nodes restarted{even}")
    })
}

/// Names for a message, or that there are none.
#[derive(Debug)]
pub(crate) struct Names(Vec<String>);

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("none was restarted"),
            names => write!(f, "restarted were {}", names.join(", ")),
        }
    }
}

/// Ways to the cluster while the asked node is away.
struct Ways {
    api: ApiClient,
    others: Vec<ApiClient>,
}

impl Ways {
    fn all(&self) -> impl Iterator<Item = &ApiClient> {
        std::iter::once(&self.api).chain(&self.others)
    }

    /// Waits until the asked node is back, as it or another one says.
    async fn back(&self, made: NodeRestart, wait: HumanDuration) -> Result<NodeRestart, CliError> {
        let begin = Instant::now();
        while begin.elapsed() < wait.0 {
            sleep(LOOK_EVERY).await;
            for api in self.all() {
                if let Some(incarnation) = later(api, &made).await {
                    return Ok(NodeRestart { incarnation: Some(incarnation), ..made });
                }
            }
        }
        Err(CliError::NotBack { node: made.node, wait })
    }

    async fn rebalanced(&self) -> Result<usize, CliError> {
        let mut failed = None;
        for api in self.all() {
            match api.rebalance(MOVES, false).await {
                Ok(moves) => return Ok(moves.len()),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(0), |error| Err(error.into()))
    }
}

/// The life of a node behind `made`, when it is there and takes requests, as far as `api` can tell.
async fn later(api: &ApiClient, made: &NodeRestart) -> Option<Incarnation> {
    let nodes = api.nodes().await.ok()?;
    let node = nodes.into_iter().find(|node| node.id == made.node)?;
    if node.incarnation <= made.former || node.lease.is_none() {
        return None;
    }
    let own = ApiClient::new(&format!("http://{}", node.api_addr)).ok()?;
    if own.ready().await.is_ok() {
        return Some(node.incarnation);
    }
    // Where it listens may be out of reach from here.
    let is_own = api.status().await.ok()?.node == made.node;
    (is_own && api.ready().await.is_ok()).then_some(node.incarnation)
}
