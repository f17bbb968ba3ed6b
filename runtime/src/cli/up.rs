//! `odeum up`: one node, until it is told to stop.

use clap::Args;

use super::{CliError, config::NodeFlags, logs};
use crate::node::{self, RunOptions};

/// Arguments of `odeum up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every setting can also stand in a file or in the environment: see `odeum config show`.
SIGTERM or Ctrl-C stops the node in good order.

Examples:
  odeum up --dev                                  a node alone, with certificates of its own
  odeum up --certs DIR --join 10.0.0.1:7071       a node of a cluster")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    node: NodeFlags,
    /// Stop too when standard input ends: for a node that must not outlive its parent
    #[arg(long)]
    exit_with_stdin: bool,
}

pub(super) async fn up(args: UpArgs) -> Result<(), CliError> {
    let UpArgs { node, exit_with_stdin } = args;
    let resolved = node.resolve()?;
    logs::start(&resolved)?;
    Ok(node::run(resolved.config, RunOptions { exit_with_stdin }).await?)
}
