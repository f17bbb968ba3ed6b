//! The command line: `odeum-loadtest run SCENARIO`, `odeum-loadtest vs PEER`, `odeum-loadtest compare A B`.
//!
//! Exit codes: 0 when everything holds, 99 when a budget or a target is missed or something is found wrong,
//! 3 when the peer is not installed or the machine does not allow the scenario, 2 for usage, 1 for
//! anything else, also when a part of `vs all` fails and no row misses its target.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use mimalloc::MiMalloc;
use odeum_loadtest::remote::process::{self, PeerArgs};
use odeum_loadtest::report::{Report, Sheet};
use odeum_loadtest::run::entities::{self, NodeArgs};
use odeum_loadtest::run::faults::{FaultsArgs, member};
use odeum_loadtest::run::move_faults::MoveFaultsArgs;
use odeum_loadtest::run::{Measurement, Wanted};
use odeum_loadtest::scenario::compare::Comparison;
use odeum_loadtest::scenario::{self, LoadArgs, LoadTest, generator, library};
use odeum_loadtest::vs::{self, Compared, VsArgs};
use odeum_loadtest::{fleet, run, store};
use odeum_runtime::memory;
use serde::Serialize;

/// Messages are many small allocations that end on other threads than they began on.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Below the help.
const EXIT_CODES: &str = "\
Exit codes: 0 everything holds; 99 a budget or target is missed, or something is found wrong; 3 the peer is
not installed, or this machine does not allow it; 2 usage; 1 anything else.";

/// Below the help of `run`.
const RUN_EXAMPLES: &str = "\
A SCENARIO is one that is built in (`odeum-loadtest scenarios` lists them), a file (its schema:
`odeum-loadtest schema`), or one of six measurements with a table of their own: entities, store, migration,
generator, store-faults, move-faults.

Examples:
  odeum-loadtest run chaos
  odeum-loadtest run steady --url http://10.0.0.1:7070 --url http://10.0.0.2:7070
  odeum-loadtest run shop.yaml --nodes 1,3,5 --reports reports
  odeum-loadtest run store-faults --class partition --for 10m
  odeum-loadtest run move-faults --fault kill --for 10m";

/// Below the help of `vs`.
const VS_EXAMPLES: &str = "\
Examples:
  odeum-loadtest vs etcd --install
  odeum-loadtest vs redis --quick 10 --rounds 1
  odeum-loadtest vs all --install
  odeum-loadtest vs all --only etcd,redis,store --out figures.md";

/// Exit code when a row misses its target.
const MISSED: u8 = 99;

/// Exit code when there is nobody to compare with.
const NOT_INSTALLED: u8 = 3;

/// Load tests of clusters, and measurements of Odeum against the systems it stands beside.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares with a peer, or with all of them; prints a table.
    #[command(after_help = VS_EXAMPLES)]
    Vs(VsArgs),
    /// Runs a load test: makes load, breaks things, checks what must hold, and writes a report.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Lists the load tests that are built in, or prints one, to be changed.
    Scenarios {
        /// The one that is printed
        name: Option<String>,
    },
    /// Prints the JSON schema of scenario files.
    Schema,
    /// Compares two reports of a load test: what is worse by more than noise?
    Compare(CompareArgs),
    /// One of the nodes of a load test.
    #[command(hide = true)]
    FleetNode(fleet::NodeArgs),
    /// One of the processes that make load.
    #[command(hide = true)]
    LoadGenerator,
    /// A bare client; a step of `run generator`.
    #[command(hide = true)]
    BareClient(run::generator::BareArgs),
    /// One of the nodes of `run entities`.
    #[command(hide = true)]
    EntitiesNode(NodeArgs),
    /// One of the nodes of `run store`.
    #[command(hide = true)]
    StoreNode(run::store::node::NodeArgs),
    /// One of the nodes of `run store-faults`.
    #[command(hide = true)]
    StoreMember(member::MemberArgs),
    /// One of the two processes of a side; a step of most comparisons.
    #[command(hide = true)]
    Peer(PeerArgs),
    /// A process that drives a replicated store; a step of `vs etcd`.
    #[command(hide = true)]
    StorePeer(store::process::PeerArgs),
    /// Starts instances of a guest and prints what that took; a step of `vs bare-wasmtime`.
    #[command(hide = true)]
    Guests {
        /// Whose.
        side: vs::bare_wasmtime::Side,
        /// How many.
        count: usize,
    },
    /// One guest in a process of its own; a step of `vs bare-wasmtime`.
    #[command(hide = true)]
    Host,
    /// Prints the memory of idle actors in this process; a step of `vs ractor`.
    #[command(hide = true)]
    Memory {
        /// Whose actors.
        side: vs::ractor::Side,
        /// How many.
        count: usize,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Which: a name or a file.
    scenario: String,
    /// Rounds of `entities`, `store`, `migration` and `generator`; each row is the median.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Divides the time of a load test, or the work of a round, for a quick look.
    #[arg(long, default_value_t = 1)]
    quick: usize,
    /// Decides what comes by lot, in load tests, `store-faults` and `move-faults`; drawn when neither this
    /// nor the file of the load test says one, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Also writes the report, or the rows, to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also writes the table to this file, for `vs all`.
    #[arg(long, hide = true)]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    faults: FaultsArgs,
    #[command(flatten)]
    move_faults: MoveFaultsArgs,
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// A report, as JSON.
    a: PathBuf,
    /// A later one.
    b: PathBuf,
    /// By how many percent a figure may differ and is the same; more where the reports say that it is
    /// restless.
    #[arg(long, default_value_t = 10.0)]
    noise: f64,
    /// Compares also what was measured on different hardware.
    #[arg(long)]
    other_hardware: bool,
}

fn main() -> ExitCode {
    match perform(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("odeum-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // As a node does; but what is not ours, and is started by this process, has memory as it likes.
    if !matches!(arguments.command, Command::Vs(_)) {
        memory::without_huge_pages();
    }
    // Each of its processes has threads of its own kind.
    let command = match arguments.command {
        Command::Peer(args) => return process::run(&args).map(|()| ExitCode::SUCCESS),
        Command::StorePeer(args) => return store::process::run(args).map(|()| ExitCode::SUCCESS),
        Command::Host => return Ok(odeum_runtime::firmware::serve_host()),
        Command::BareClient(args) => {
            println!("{}", run::generator::bare(&args)?);
            return Ok(ExitCode::SUCCESS);
        }
        Command::LoadGenerator => return generator::run().map(|()| ExitCode::SUCCESS),
        Command::Run(args) if Measurement::from_str(&args.scenario, false).is_err() => {
            return load_test(args);
        }
        Command::Scenarios { name } => return scenarios(name),
        Command::Schema => {
            print!("{}", scenario::schema()?);
            return Ok(ExitCode::SUCCESS);
        }
        Command::Compare(args) => return compare_reports(&args),
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Vs(args) => compare(args).await,
            Command::Guests { side, count } => {
                let (millis, kib) = vs::bare_wasmtime::instances(side, count).await?;
                println!("{millis} {kib}");
                Ok(ExitCode::SUCCESS)
            }
            Command::Memory { side, count } => {
                println!("{}", vs::ractor::memory(side, count).await?);
                Ok(ExitCode::SUCCESS)
            }
            Command::Run(args) => measure(args).await,
            Command::StoreMember(args) => {
                member::run(args).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::EntitiesNode(args) => {
                entities::node(args).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::FleetNode(args) => {
                fleet::node(args).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::StoreNode(args) => {
                run::store::node::run(args).await?;
                Ok(ExitCode::SUCCESS)
            }
            // Done above.
            _ => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Runs a load test.
fn load_test(args: RunArgs) -> anyhow::Result<ExitCode> {
    let RunArgs { scenario, quick, load, seed, json, .. } = args;
    scenario::run(&LoadTest { scenario, args: load, seed, quick, json })
}

fn scenarios(name: Option<String>) -> anyhow::Result<ExitCode> {
    if let Some(name) = name {
        let (_, text) = scenario::read::text_of(&name)?;
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    for (name, text) in library::ALL {
        let scenario = scenario::read::parse(name, text)?;
        println!("{name:18} {}", scenario.about);
    }
    Ok(ExitCode::SUCCESS)
}

fn compare_reports(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let (a, b) = (scenario::outcome(&args.a)?, scenario::outcome(&args.b)?);
    let comparison = Comparison::new(&a, &b, args.noise, args.other_hardware)?;
    println!("{comparison}");
    Ok(if comparison.passes() { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
}

/// Runs a measurement with a table of its own.
async fn measure(args: RunArgs) -> anyhow::Result<ExitCode> {
    let RunArgs { scenario, rounds, quick, seed, faults, move_faults, json, sheet, .. } = args;
    let measurement = Measurement::from_str(&scenario, false).map_err(anyhow::Error::msg)?;
    let (rounds, quick) = (rounds.max(1), quick.max(1));
    let wanted = Wanted { rounds, quick, seed, faults, move_faults };
    match run::measure(measurement, wanted, |line| println!("{line}")).await? {
        Some(report) => conclude(&report, json, sheet),
        None => {
            eprintln!("odeum-loadtest: network namespaces take root");
            Ok(ExitCode::from(NOT_INSTALLED))
        }
    }
}

async fn compare(args: VsArgs) -> anyhow::Result<ExitCode> {
    match vs::run(&args, |line| println!("{line}")).await? {
        Compared::With(report) => conclude(&report, args.json, args.sheet),
        Compared::NotInstalled(peer) => {
            eprintln!("odeum-loadtest: {peer} is not installed; --install gets it");
            Ok(ExitCode::from(NOT_INSTALLED))
        }
        Compared::All(benchmarks) => {
            if let Some(file) = args.json {
                write(&file, &benchmarks)?;
            }
            Ok(match (benchmarks.misses(), benchmarks.fails()) {
                (true, _) => ExitCode::from(MISSED),
                (false, true) => ExitCode::FAILURE,
                (false, false) => ExitCode::SUCCESS,
            })
        }
    }
}

/// Shows the report; the exit code says whether it passes.
fn conclude(
    report: &Report,
    json: Option<PathBuf>,
    sheet: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    println!("{report}");
    if let Some(file) = json {
        write(&file, &report.rows)?;
    }
    if let Some(file) = sheet {
        write(&file, &Sheet::from(report))?;
    }
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
}

fn write(file: &Path, what: &impl Serialize) -> anyhow::Result<()> {
    std::fs::write(file, serde_json::to_vec_pretty(what)?)
        .with_context(|| format!("cannot write {}", file.display()))
}
