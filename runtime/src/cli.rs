//! The command line. Every command but those that start nodes is a client of a node's HTTP API.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 2 wrong usage (an unknown
//! flag or setting, a value that does not fit), 3 a backup, a package or a data folder is damaged, 1 anything
//! else.

mod apply;
mod cache;
mod call;
mod certs;
mod config;
mod delete;
mod describe;
mod doctor;
mod error;
mod get;
mod host;
mod join;
mod leave;
pub mod logs;
mod migrate;
mod new;
mod out;
mod package;
mod placement;
mod rollout;
mod run;
mod session;
mod steer;
mod store;
mod tail;
mod up;
mod watch;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{
    api::client::ApiClient,
    demo::{self, DemoArgs},
};
use error::CliError;
use out::{Out, OutputFormat};

/// Where a node's API is unless told otherwise.
const DEFAULT_API: &str = "http://127.0.0.1:7070";

/// Runs WebAssembly firmware as supervised actors, on one node or many
///
/// What firmware keeps in its sessions is in a replicated store: it survives the crash of the
/// firmware, of its node and, with three nodes or more, the loss of a machine.
#[derive(Debug, Parser)]
#[command(name = "odeum", version)]
#[command(after_help = "Exit codes: 0 done, 2 wrong usage, 3 a damaged file, 1 anything else.")]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Entry,
}

/// What can be asked of the executable.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one value of it, and not for long")]
enum Entry {
    #[command(flatten)]
    Usual(Command),
    /// Run one guest for the node that starts this, or check what such a process cannot do here
    ///
    /// A node starts it for each firmware whose manifest says `isolation = "process"`, with a socket
    /// as its standard input and the compiled module as its standard output.
    #[command(hide = true)]
    Host(host::HostArgs),
}

/// What every command takes.
#[derive(Debug, Args)]
struct GlobalArgs {
    /// The node to talk to
    #[arg(long, global = true, help_heading = "Everywhere", env = "ODEUM_API", value_name = "URL", default_value = DEFAULT_API)]
    api_url: String,
    /// How results are printed
    #[arg(long, short, global = true, help_heading = "Everywhere", value_enum)]
    #[arg(value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node, alone or in a cluster
    Up(up::UpArgs),
    /// Start a node that joins a cluster, once that is seen to be possible
    Join(join::JoinArgs),
    /// Let a node leave its cluster for good
    Leave(leave::LeaveArgs),
    /// Move a firmware to another node while it is at work
    Migrate(migrate::MigrateArgs),
    /// Empty a node: what it has moves to others
    Drain(migrate::DrainArgs),
    /// Restart all nodes, one after the other
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Show what is where and why, and make nodes equally busy
    #[command(subcommand)]
    Placement(placement::PlacementCommand),
    /// Deploy a firmware and wait until it runs
    Run(run::RunArgs),
    /// Deploy what files declare, as far as it is not deployed so already
    Apply(apply::ApplyArgs),
    /// Send a message to a firmware and print its reply
    Call(call::CallArgs),
    /// Show nodes, links, firmware, its events, moves, blobs, sessions or actors
    #[command(subcommand)]
    Get(get::GetCommand),
    /// Show all that is known of a firmware
    #[command(subcommand)]
    Describe(describe::DescribeCommand),
    /// Print what a firmware logs, wherever it runs
    Logs(tail::LogsArgs),
    /// Start a firmware anew where it is
    Restart(steer::RestartArgs),
    /// Change how many replicas of a firmware there are
    Scale(steer::ScaleArgs),
    /// Bring back the package that was deployed before
    Rollback(steer::RollbackArgs),
    /// Create, read, write and delete sessions and what is in them
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Print changes of sessions as they happen
    Watch(watch::WatchArgs),
    /// Look at the replicated store, back it up, restore it, check its files
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Check a node's certificates, clock, ports, paths, disk and limits, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Remove a firmware or a session
    #[command(subcommand)]
    Delete(delete::DeleteCommand),
    /// Make, sign, look at and move packages of firmware
    #[command(subcommand)]
    Package(package::PackageCommand),
    /// Begin a project
    #[command(subcommand)]
    New(new::NewCommand),
    /// Show or remove the compiled modules that the nodes of this machine share
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Make and show the certificates by which nodes know each other
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Show a node's settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Run three nodes here, kill one, and check that nothing was lost
    ///
    /// Needs nothing and leaves nothing behind.
    Demo(DemoArgs),
}

/// What a command works with.
#[derive(Debug)]
struct Invocation {
    api_url: String,
    out: Out,
}

impl Invocation {
    fn api(&self) -> Result<ApiClient, CliError> {
        Ok(ApiClient::new(&self.api_url)?)
    }
}

impl Cli {
    /// Carries the command out and says on stderr what went wrong, if anything did.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let Self { global: GlobalArgs { api_url, output }, command } = self;
        let invocation = Invocation { api_url, out: Out::new(output) };
        let done = match command {
            // Before there is a second thread: a process shuts in its threads one by one.
            Entry::Host(args) => host::host(&invocation, &args),
            Entry::Usual(command) => match tokio::runtime::Runtime::new() {
                Ok(runtime) => runtime.block_on(Box::pin(dispatch(&invocation, command))),
                Err(error) => Err(CliError::Runtime(error)),
            },
        };
        match done {
            Ok(code) => code,
            Err(error) => {
                invocation.out.complain(&error);
                error.exit_code()
            }
        }
    }
}

async fn dispatch(invocation: &Invocation, command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Up(args) => up::up(args).await,
        Command::Join(args) => join::join(args).await,
        Command::Leave(args) => leave::leave(invocation, args).await,
        Command::Migrate(args) => migrate::migrate(invocation, args).await,
        Command::Drain(args) => migrate::drain(invocation, args).await,
        Command::Rollout(command) => rollout::rollout(invocation, command).await,
        Command::Placement(command) => placement::placement(invocation, command).await,
        Command::Run(args) => run::run(invocation, args).await,
        Command::Apply(args) => apply::apply(invocation, args).await,
        Command::Call(args) => call::call(invocation, args).await,
        Command::Get(command) => get::get(invocation, command).await,
        Command::Describe(command) => describe::describe(invocation, command).await,
        Command::Logs(args) => tail::logs(invocation, args).await,
        Command::Restart(args) => steer::restart(invocation, args).await,
        Command::Scale(args) => steer::scale(invocation, args).await,
        Command::Rollback(args) => steer::rollback(invocation, args).await,
        Command::Session(command) => session::session(invocation, command).await,
        Command::Watch(args) => watch::watch(invocation, args).await,
        Command::Store(command) => store::store(invocation, command).await,
        Command::Delete(command) => delete::delete(invocation, command).await,
        Command::Package(command) => package::package(invocation, command).await,
        Command::New(command) => new::new(invocation, command),
        Command::Cache(command) => cache::cache(invocation, command),
        Command::Certs(command) => certs::certs(invocation, command),
        Command::Config(command) => config::config(invocation, command),
        Command::Doctor(args) => return doctor::doctor(invocation, args).await,
        Command::Demo(args) => return Ok(demo::run(args).await),
    }
    .map(|()| ExitCode::SUCCESS)
}
