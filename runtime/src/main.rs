//! The `odeum` binary: parses the command line and runs it.

use std::process::ExitCode;

use clap::Parser;
use odeum_runtime::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    Box::pin(Cli::parse().run()).await
}
