//! `odeum host`: one guest in a process of its own, for the node that started it.

use std::process::ExitCode;

use clap::Args;

use super::{
    CliError, Invocation,
    out::{cell, table},
};
use crate::firmware::{Attempt, prove_sandbox, serve_host};

/// Arguments of `odeum host`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --check it is of no use to people: a node speaks to it through a socket.

Exit codes of --check: 0 all of it is denied, 1 something is not.")]
pub(crate) struct HostArgs {
    /// Shut this process in as a host without grants, try to get out, and tell what came of it
    #[arg(long)]
    check: bool,
}

pub(super) fn host(invocation: &Invocation, args: &HostArgs) -> Result<ExitCode, CliError> {
    if !args.check {
        return Ok(serve_host());
    }
    let (attempts, lacks) = prove_sandbox();
    invocation.out.result(&attempts, |attempts| report(attempts))?;
    for lack in lacks {
        invocation.out.note(&lack);
    }
    let is_tight = attempts.iter().all(|attempt| attempt.denied);
    Ok(if is_tight { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(attempts: &[Attempt]) -> String {
    let word = |attempt: &Attempt| if attempt.denied { "denied" } else { "ALLOWED" };
    let rows = attempts.iter().map(|it| [cell(it.what), cell(word(it)), cell(&it.said)]);
    table(["A HOST PROCESS MAY NOT", "RESULT", "THE SYSTEM SAID"], rows)
}
