//! `odeum leave`: a node goes for good.

use clap::Args;
use odeum_proto::NodeId;
use serde_json::json;

use super::{CliError, Invocation};
use crate::{api::types::MAX_PATIENCE, config::HumanDuration};

/// Arguments of `odeum leave`.
#[derive(Debug, Args)]
#[command(after_help = "\
What the node has goes to the others, it gives up its vote, and its process ends with 0. A node that
is down is let go as well. Refused when the rest would have no majority, and for the last node.
With its data folder it may join again; its name is never given to another folder.

To stop a node for a while, stop its process: it comes back as a member.

Examples:
  odeum leave              the asked node
  odeum leave n3           another one, which may be down
  odeum leave n3 --stay    not after all")]
pub(crate) struct LeaveArgs {
    /// The node [default: the asked one]
    node: Option<NodeId>,
    /// How long it may take to give away what it has; then it goes on by itself
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = patience)]
    patience: HumanDuration,
    /// Take back that it is to leave
    #[arg(long, conflicts_with = "patience")]
    stay: bool,
}

pub(super) async fn leave(invocation: &Invocation, args: LeaveArgs) -> Result<(), CliError> {
    let api = invocation.api()?;
    let node = match args.node {
        Some(node) => node,
        None => api.status().await?.node,
    };
    if args.stay {
        api.stay(&node).await?;
        return invocation.out.result(&json!({ "stays": node }), |_| format!("{node} stays"));
    }
    api.leave(&node, args.patience.0).await?;
    invocation.out.result(&json!({ "left": node }), |_| format!("{node} has left the cluster"))
}

pub(super) fn patience(text: &str) -> Result<HumanDuration, String> {
    let patience: HumanDuration = text.parse().map_err(|error| format!("{error}"))?;
    match patience.0 <= MAX_PATIENCE {
        true => Ok(patience),
        false => Err(format!("it must be at most {}", HumanDuration(MAX_PATIENCE))),
    }
}
