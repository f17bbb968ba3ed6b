//! Whether a guest that moves from node to node keeps all that it has answered while nodes die, are cut
//! off, or stand still at a step of its move. Three nodes are processes, each in a network namespace of
//! its own. Many senders tell the guest a number each, which it folds into a chain that it keeps in its
//! session, and ask again, with the same request id, until they are answered. Where nothing happens
//! but the moves, it keeps the chain in its memory alone.
//!
//! | promise | how it is seen |
//! |---|---|
//! | nothing acknowledged is lost, doubled or reordered | the answers, in the order of their counts, are one chain (`chain`), and the guest says its end when all is over |
//! | two nodes never answer for one entity | no count is answered twice, one node answers in an epoch, and no earlier epoch goes on |
//! | no move is stuck | each is over when its cluster is whole again |
//! | nothing is left behind on either side | one node has one host of the guest then |
//! | the guest goes on | somebody is answered during each fault |
//!
//! Each step of a move, each of who is struck (the node that gives the guest away, the one that takes it
//! in, the leader of the control group) and each fault is a case; a seed says in which order they come.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use odeum_cluster::netns::Net;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::report::{Report, Row};
use crate::scenario::machine;

mod case;
mod chain;
mod halt;
mod stage;

use self::case::{Case, Fault};
use self::stage::{Ending, Stage};

/// The names of its networks begin with it.
const PREFIX: &str = "odeum-moves";

/// How long every other fault lasts at least: longer than any lease.
const LONG: Duration = Duration::from_secs(5);

/// Time between two moves to which nothing happens.
const CALM: Duration = Duration::from_secs(1);

/// What happens to the nodes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of move-faults")]
pub struct MoveFaultsArgs {
    /// `move-faults`: what happens at each step of a move; by default each in turn.
    #[arg(long = "fault", value_enum)]
    fault: Option<Only>,
}

/// What happens at a step of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// A node is killed.
    Kill,
    /// A node is cut off from the others.
    Isolate,
    /// A node stands still for longer than its lease.
    Pause,
    /// Nothing: the guest moves every second.
    None,
}

impl Only {
    fn has(self, fault: Fault) -> bool {
        match self {
            Self::Kill => fault == Fault::Kill,
            Self::Isolate => fault == Fault::Isolate,
            Self::Pause => fault == Fault::Pause,
            Self::None => false,
        }
    }
}

/// What came of the moves.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    moved: usize,
    stayed: usize,
    overtaken: usize,
    forgotten: usize,
    /// Before the step at which they were to be struck.
    stayed_early: usize,
}

impl Tally {
    fn add(&mut self, ending: Ending) {
        self.cases += 1;
        match ending {
            Ending::Moved => self.moved += 1,
            Ending::Stayed => self.stayed += 1,
            Ending::Overtaken => self.overtaken += 1,
            Ending::Forgotten => self.forgotten += 1,
        }
    }
}

/// Runs cases until the time is over, on a thread of its own; `say` is told what happens as it does.
///
/// # Errors
/// If the cluster cannot be had: it takes root, `ip` and `nft`.
pub fn run(
    args: &MoveFaultsArgs,
    time: Duration,
    seed: Option<u64>,
    say: impl Fn(&str) + Send,
) -> anyhow::Result<Report> {
    let seed = seed.unwrap_or_else(|| StdRng::from_rng(&mut rand::rng()).random());
    say(&format!("moves with faults for {time:?}, --seed {seed}"));
    let net = Net::create(PREFIX, &stage::NAMES).context("a network that can be cut")?;
    let hub = net.hub_file();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            // What this thread begins is where it can reach the nodes.
            machine::enter(Path::new(&hub)).context("the network's hub")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(in_hub(net, args, time, seed, say))
        });
        thread.join().map_err(|_| anyhow::anyhow!("the run has panicked"))?
    })
}

async fn in_hub(
    net: Net,
    args: &MoveFaultsArgs,
    time: Duration,
    seed: u64,
    say: impl Fn(&str),
) -> anyhow::Result<Report> {
    let mut rng = StdRng::seed_from_u64(seed);
    // What nothing happens to has to take its memory along.
    let is_kept = args.fault != Some(Only::None);
    let mut stage = Stage::set(net, is_kept).await?;
    let mut tally = Tally::default();
    let found = torment(&mut stage, args.fault, time, &mut rng, &mut tally, &say).await;
    let sum = match found {
        Ok(()) => stage.reckon().await,
        Err(error) => Err(error),
    };
    let (acknowledged, gap) = (stage.acknowledged(), stage.longest_gap());
    let violations = match sum {
        Ok(()) => {
            stage.end().await;
            0
        }
        Err(error) => {
            say(&format!("FOUND: {error:#}"));
            say(&format!("logs and data of the nodes are in {}", stage.keep().await));
            1
        }
    };
    let all = case::all().filter(|case| args.fault.is_none_or(|only| only.has(case.fault))).count();
    let kept = if is_kept { "its session" } else { "its memory alone" };
    let conditions = vec![
        format!("{} cases, of which there are {all} different, seed {seed}", tally.cases),
        format!("3 nodes in namespaces, mutual TLS, a guest of 4 MiB whose state is in {kept}"),
    ];
    Ok(report(conditions, &tally, acknowledged, gap, violations))
}

/// One case after the other, all of them before one comes again.
async fn torment(
    stage: &mut Stage,
    only: Option<Only>,
    time: Duration,
    rng: &mut StdRng,
    tally: &mut Tally,
    say: &impl Fn(&str),
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut cases: Vec<Case> = Vec::new();
    while began.elapsed() < time {
        if only == Some(Only::None) {
            tally.add(stage.moves().await?);
            tokio::time::sleep(CALM).await;
            continue;
        }
        let Some(case) = cases.pop() else {
            cases = case::all().filter(|case| only.is_none_or(|it| it.has(case.fault))).collect();
            cases.shuffle(rng);
            continue;
        };
        let at = began.elapsed().as_secs_f64();
        let lasts = if rng.random() { LONG } else { Duration::ZERO };
        let ending = stage.perform(case, lasts).await;
        let (ending, stayed) =
            ending.map_err(|error| error.context(format!("at {at:.1} s, {case}")))?;
        let took = began.elapsed().as_secs_f64() - at;
        say(&format!("{at:7.1} s: {case}: {ending}, whole again after {took:.1} s"));
        tally.add(ending);
        tally.stayed_early += stayed;
    }
    Ok(())
}

fn report(
    conditions: Vec<String>,
    tally: &Tally,
    acknowledged: usize,
    gap: Duration,
    violations: usize,
) -> Report {
    Report {
        peer: "budget",
        conditions,
        rows: vec![
            Row::told("moves that moved it", "", tally.moved as f64),
            Row::told("after which it stayed", "", tally.stayed as f64),
            Row::told("overtaken by a failover", "", tally.overtaken as f64),
            Row::told("of which nobody knows more", "", tally.forgotten as f64),
            Row::told("begun again: it stayed too early", "", tally.stayed_early as f64),
            Row::told("messages acknowledged", "", acknowledged as f64),
            Row::told("longest time without one", "ms", gap.as_secs_f64() * 1e3),
            Row::violations(violations),
        ],
    }
}
