//! The `odeum` binary: parses the command line and runs it.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use odeum_runtime::cli::Cli;
use odeum_runtime::memory;

/// Messages are many small allocations that end on other threads than they began on.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    memory::without_huge_pages();
    Cli::parse().run()
}
