//! Load tests as files: what is asked of which cluster, how often, what breaks meanwhile, and what must
//! hold.
//!
//! ```text
//! director                 one for a run: starts the cluster or finds it, orders, collects, reports
//! ├─ node …                whole nodes, as processes (`fleet`)
//! ├─ generator …           processes that send (`generator`), each on one thread
//! └─ torment               carries out faults at their times
//! ```
//! What is decided before anything happens is pure and by itself: when requests are due (`schedule`),
//! what is drawn by lot (`choice`), when faults come (`timetable`). So is what is decided afterwards: the
//! checks (`check`), budgets and reports (`outcome`, `html`, `junit`, `compare`).
//!
//! # Not done, and why
//! * Messages to firmware without an answer: the HTTP API has none. `tell` is for entities in Rust.
//! * Packets that are delayed where the kernel has no netem: a relay before each node would have to be
//!   known to all others as its address.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use odeum_cluster::netns::Net;
use rand::RngExt as _;

mod choice;
mod collect;
pub mod compare;
mod director;
pub mod generator;
mod growth;
mod html;
mod junit;
pub mod library;
mod live;
pub(crate) mod machine;
pub mod measure;
pub mod outcome;
mod protocol;
pub mod read;
mod sample;
mod schedule;
mod schema;
pub mod spec;
mod timetable;
mod torment;

use self::director::Director;
use self::live::Live;
use self::outcome::Outcome;
use self::protocol::Changes;
use self::read::ScenarioError;
pub use self::schema::schema;
use self::spec::{Fault, Network, Scenario, Sizes};
use self::torment::{Able, can_delay};
use crate::fault::defect::Defect;

/// Exit code when a budget does not hold or something was found wrong.
const BREACHED: u8 = 99;

/// How many seeds are drawn from.
const SEEDS: u64 = 1_000_000;

/// Before the names of the namespaces.
const PREFIX: &str = "odeum-loadtest";

/// What the command line says of a load test.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load tests")]
pub struct LoadArgs {
    /// The API of a node of a cluster that runs; once for each node that is to be asked. Without any, a
    /// cluster is started on this machine
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// How many nodes are started; several numbers, with commas between them, are one run each
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', conflicts_with = "url")]
    nodes: Vec<usize>,
    /// Processes that make the load
    #[arg(long, value_name = "NUMBER")]
    generators: Option<usize>,
    /// The folder of reports: NAME.html, NAME.json, NAME.xml (JUnit)
    #[arg(long, value_name = "FOLDER", default_value = "odeum-loadtest-reports")]
    reports: PathBuf,
    /// Lines instead of a picture, also where the output is a terminal
    #[arg(long)]
    plain: bool,
    /// A defect of the nodes that are started, to see it found: `drop:50`, `double`, `swap` (messages told
    /// to entities), `forget` (writes), `omit` (what watches tell)
    #[arg(long = "defect", value_name = "WORD:NUMBER", hide = true)]
    defects: Vec<Defect>,
}

/// One load test, as it was asked for.
#[derive(Debug, Clone)]
pub struct LoadTest {
    /// The name of a scenario that is built in, or a file.
    pub scenario: String,
    /// What the command line says.
    pub args: LoadArgs,
    /// Decides what is drawn by lot, instead of the scenario's own.
    pub seed: Option<u64>,
    /// Divides the time it takes.
    pub quick: usize,
    /// Also writes the report to this file as JSON.
    pub json: Option<PathBuf>,
}

/// Runs a load test, once for each number of nodes.
///
/// # Errors
/// If it cannot be run: the file is wrong, the cluster cannot be had, a generator fails.
pub fn run(test: &LoadTest) -> anyhow::Result<ExitCode> {
    let (file, text) = read::text_of(&test.scenario)?;
    let mut changes = Changes {
        seed: test.seed,
        generators: test.args.generators,
        quick: u32::try_from(test.quick).unwrap_or(u32::MAX).max(1),
        urls: test.args.url.clone(),
        nodes: test.args.nodes.clone(),
    };
    let parsed = read::parse(&file, &text)?;
    let seed = seed(test.seed, &parsed);
    // Generators read the file as well, and must have drawn the same.
    changes.seed = Some(seed);
    let scenario = changes.applied(parsed);
    check(&file, &scenario)?;
    let sizes = match scenario.cluster.urls.as_slice() {
        [] => scenario.cluster.nodes.0.clone(),
        urls => vec![urls.len()],
    };
    let mut passes = true;
    for size in &sizes {
        let name = match sizes.len() {
            1 => scenario.name.clone(),
            _ => format!("{}-{size}-nodes", scenario.name),
        };
        let outcome = in_network(&scenario, *size, |net, able| {
            let live = Live::start(&scenario, test.args.plain)?;
            let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            let mut director = Director {
                file: file.clone(),
                text: text.clone(),
                changes: changes.clone(),
                scenario: scenario.clone(),
                size: *size,
                able,
                defects: test.args.defects.clone(),
                findings: test.args.reports.join(format!("{name}-findings")),
                began,
                command: command(seed),
                live,
            };
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(director.run(net))
        })?;
        write(test, &name, &outcome)?;
        passes &= outcome.pass;
    }
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::from(BREACHED) })
}

/// Runs a scenario against nodes that are there, without a word and without a report.
///
/// # Errors
/// As [`run`].
pub(crate) async fn against(text: &str, urls: Vec<String>) -> anyhow::Result<Outcome> {
    let file = "scenario".to_owned();
    // Always the same lots: a rate is not to depend on them.
    let changes = Changes { seed: Some(1), urls, quick: 1, ..Changes::default() };
    let scenario = changes.applied(read::parse(&file, text)?);
    check(&file, &scenario)?;
    let mut director = Director {
        file,
        text: text.to_owned(),
        changes,
        scenario,
        size: 0,
        able: Able { is_foreign: true, ..Able::default() },
        defects: Vec::new(),
        findings: PathBuf::new(),
        began: String::new(),
        command: String::new(),
        live: Live::quiet(),
    };
    director.run(None).await
}

/// What the command line added can be wrong as well.
fn check(file: &str, scenario: &Scenario) -> anyhow::Result<()> {
    let wrong = |reason: String| ScenarioError::Wrong { at: file.to_owned(), reason };
    let fewest = scenario.targets.iter().find_map(|(name, target)| match target {
        spec::Target::Call(it) if it.guests < scenario.generators => Some((name, it.guests)),
        _ => None,
    });
    if let Some((name, guests)) = fewest {
        return Err(wrong(format!("target `{name}`: {guests} guests for more generators")).into());
    }
    let needs_door = scenario
        .targets
        .iter()
        .find(|(_, it)| matches!(it, spec::Target::Ask(_) | spec::Target::Tell(_)));
    if let Some((name, _)) = needs_door.filter(|_| !scenario.cluster.urls.is_empty()) {
        let reason = format!(
            "target `{name}`: entities in Rust are reached where the harness starts the cluster; a \
             program of your own is reached by its own interface"
        );
        return Err(wrong(reason).into());
    }
    Ok(())
}

/// Runs something where nodes have addresses of their own, if the scenario asks for that and this machine
/// allows it: on a thread that is in the network's hub, as is all that it starts.
fn in_network<T: Send>(
    scenario: &Scenario,
    size: usize,
    f: impl FnOnce(Option<Net>, Able) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let faults = || scenario.faults.iter().map(|fault| &fault.value);
    let is_foreign = !scenario.cluster.urls.is_empty();
    let needs_net = faults().any(|fault| {
        matches!(
            fault,
            Fault::Isolate(_)
                | Fault::Split(_)
                | Fault::Loss(_)
                | Fault::Delay(_)
                | Fault::Bandwidth(_)
        )
    });
    let is_root = rustix::process::geteuid().is_root();
    let mut able = Able { is_foreign, ..Able::default() };
    if faults().any(|fault| matches!(fault, Fault::DiskFull(_))) && !is_root {
        able.no_disk = Some("a disk of its own for a node takes root".to_owned());
    }
    let wants = match scenario.cluster.network {
        Network::Auto => needs_net,
        Network::Loopback => {
            able.no_net = Some("the scenario has its nodes on loopback".to_owned());
            false
        }
        Network::Namespaces => true,
    };
    if !wants || is_foreign {
        return f(None, able);
    }
    let names: Vec<String> = (1..=size).map(|number| format!("n{number}")).collect();
    let labels: Vec<&str> = names.iter().map(String::as_str).collect();
    let net = match Net::create(PREFIX, &labels) {
        Ok(net) => net,
        Err(error) if scenario.cluster.network == Network::Namespaces => return Err(error.into()),
        Err(error) => {
            let why = if is_root { error.to_string() } else { "it takes root".to_owned() };
            able.no_net = Some(format!("there are no network namespaces: {why}"));
            return f(None, able);
        }
    };
    if faults().any(|fault| matches!(fault, Fault::Delay(_)))
        && let Err(error) = can_delay(&net, names.first().map_or("n1", String::as_str))
    {
        able.no_delay = Some(format!("the kernel cannot delay packets (netem): {error:#}"));
    }
    let hub = net.hub_file();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            machine::enter(Path::new(&hub)).context("the network's hub")?;
            f(Some(net), able)
        });
        thread.join().map_err(|_| anyhow::anyhow!("the run has panicked"))?
    })
}

/// What decides what is drawn by lot: what the command line says, what the file says, or what is drawn now.
fn seed(given: Option<u64>, scenario: &Scenario) -> u64 {
    // Short enough to be typed.
    given.or(scenario.seed).unwrap_or_else(|| rand::rng().random_range(0..SEEDS))
}

/// The command that was given, as one gives it for the same once more.
fn command(seed: u64) -> String {
    again(std::env::args().skip(1), seed)
}

fn again(words: impl Iterator<Item = String>, seed: u64) -> String {
    let mut words: Vec<String> =
        std::iter::once("odeum-loadtest".to_owned()).chain(words).collect();
    let is_said = |word: &String| word == "--seed" || word.starts_with("--seed=");
    if !words.iter().any(is_said) {
        words.extend(["--seed".to_owned(), seed.to_string()]);
    }
    words.join(" ")
}

fn write(test: &LoadTest, name: &str, outcome: &Outcome) -> anyhow::Result<()> {
    let folder = &test.args.reports;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let json = serde_json::to_string_pretty(outcome)?;
    let files =
        [("html", html::report(outcome)), ("json", json.clone()), ("xml", junit::report(outcome))];
    for (ending, text) in files {
        let file = folder.join(format!("{name}.{ending}"));
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &test.json {
        std::fs::write(file, json).with_context(|| file.display().to_string())?;
    }
    live::conclude(outcome, &folder.join(format!("{name}.html")));
    Ok(())
}

/// Reads a report.
///
/// # Errors
/// If it is none.
pub fn outcome(file: &Path) -> anyhow::Result<Outcome> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is no report of a load test", file.display()))
}

impl Changes {
    /// The scenario with these changes.
    fn applied(&self, mut scenario: Scenario) -> Scenario {
        scenario.seed = self.seed.or(scenario.seed);
        scenario.generators = self.generators.unwrap_or(scenario.generators).max(1);
        if !self.urls.is_empty() {
            scenario.cluster.urls.clone_from(&self.urls);
        }
        if !self.nodes.is_empty() {
            scenario.cluster.nodes = Sizes(self.nodes.clone());
        }
        let by = self.quick.max(1);
        scenario.phases.iter_mut().for_each(|phase| phase.shorten(by));
        scenario.faults.iter_mut().for_each(|fault| fault.value.shorten(by));
        scenario
    }
}

/// How long the load of a scenario is.
pub(crate) fn lasts(scenario: &Scenario) -> Duration {
    scenario.phases.iter().map(spec::Phase::lasts).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_that_of_the_command_line_or_of_the_file_or_drawn() {
        let text = library::text("smoke").unwrap();
        let silent = read::parse("smoke", text).unwrap();
        let said = read::parse("smoke", &format!("{text}seed: 7\n")).unwrap();
        assert_eq!(seed(Some(3), &said), 3);
        assert_eq!(seed(None, &said), 7);
        let drawn: Vec<u64> = (0..8).map(|_| seed(None, &silent)).collect();
        assert!(drawn.iter().any(|seed| *seed != drawn[0]), "{drawn:?}");
    }

    #[test]
    fn generators_have_the_seed_of_the_run() {
        let text = library::text("smoke").unwrap();
        let changes = Changes { seed: Some(42), ..Changes::default() };
        assert_eq!(changes.applied(read::parse("smoke", text).unwrap()).seed(), 42);
    }

    #[test]
    fn the_command_in_a_report_runs_the_same_lots() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter();
        assert_eq!(again(words("run chaos"), 5), "odeum-loadtest run chaos --seed 5");
        assert_eq!(again(words("run chaos --seed=5"), 5), "odeum-loadtest run chaos --seed=5");
        assert_eq!(again(words("run x.yaml --seed 9"), 9), "odeum-loadtest run x.yaml --seed 9");
    }
}
