//! The command line: `odeum-loadtest vs PEER`.
//!
//! Exit codes: 0 when every row meets its target, 99 when one misses it, 3 when the peer is
//! not installed, 2 for usage, 1 for anything else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use odeum_loadtest::vs;

/// Exit code when a row misses its target.
const MISSED: u8 = 99;

/// Measures Odeum against the systems it stands beside.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares with a peer; prints a table.
    Vs {
        /// Whom to compare with.
        peer: Peer,
        /// Interleaved rounds; each row is the median.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Divides the amount of work of a round, for a quick look.
        #[arg(long, default_value_t = 1)]
        quick: usize,
        /// Also writes the rows to this file as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Prints the memory of idle actors in this process; a step of `vs ractor`.
    #[command(hide = true)]
    Memory {
        /// Whose actors.
        side: vs::ractor::Side,
        /// How many.
        count: usize,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Peer {
    /// The actor framework beneath Odeum, used without it.
    Ractor,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("odeum-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.command {
        Command::Vs { peer: Peer::Ractor, rounds, quick, json } => {
            let report = runtime.block_on(vs::ractor::run(rounds.max(1), quick.max(1)))?;
            println!("{report}");
            if let Some(file) = json {
                std::fs::write(&file, serde_json::to_vec_pretty(&report.rows)?)
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
            Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
        }
        Command::Memory { side, count } => {
            println!("{}", runtime.block_on(vs::ractor::memory(side, count))?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
