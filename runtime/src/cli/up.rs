//! `odeum up`: one node, until it is told to stop.

use std::{env, io, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use clap::Args;

use super::{CliError, config::NodeFlags, logs};
use crate::node::{self, Ended, RunOptions};

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
    let program = Program::this();
    let ended = node::run(resolved.config, RunOptions { exit_with_stdin }).await?;
    program.goes_on(ended)
}

/// The program of this process.
pub(super) struct Program(io::Result<PathBuf>);

impl Program {
    /// Asked for when it begins: the system does not name a file any more that was replaced.
    pub(super) fn this() -> Self {
        Self(env::current_exe())
    }

    /// Runs it again in this very process, with the same arguments, when its node is to begin anew.
    pub(super) fn goes_on(self, ended: Ended) -> Result<(), CliError> {
        if ended == Ended::Stopped {
            return Ok(());
        }
        let arguments = || env::args_os();
        let (program, reason) = match self.0 {
            Ok(program) => {
                // It returns only when that cannot be.
                let reason = Command::new(&program).args(arguments().skip(1)).exec();
                (program, reason)
            }
            Err(reason) => (arguments().next().unwrap_or_default().into(), reason),
        };
        Err(CliError::NotAgain { program, reason })
    }
}
