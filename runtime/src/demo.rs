//! `odeum demo`: three real nodes on this machine, a guest that counts, and what happens to the
//! count when the guest traps, when its node is killed, and when it moves while it runs.
//!
//! It proves by doing: the nodes are processes of this executable, everything is asked of them
//! through their HTTP API, and the verdict is computed from what was acknowledged
//! (`verdict`). It leaves nothing behind: processes and files are gone on every way out, by its
//! end, by a failure, by Ctrl-C or SIGTERM; after SIGKILL the processes are gone and the folder
//! stays.

mod acts;
mod error;
mod fleet;
mod report;
mod stage;
mod story;
mod traffic;
mod verdict;

use std::{io, path::PathBuf, process::ExitCode};

use clap::Args;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use error::DemoError;

use fleet::Fleet;
use report::{Series, Summary};
use stage::Stage;
use story::{Story, to_stdout};

/// Lines of a node's log that are shown when it is at fault.
const LOG_LINES: usize = 15;

/// What `odeum demo` takes
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Leave the cluster running at the end and say how to reach it
    #[arg(long, conflicts_with = "repeat")]
    keep: bool,
    /// Run it so many times, print a line for each and the medians
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repeat: Option<u32>,
    /// Write times and counts into a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the demo. It prints its own story, failures included; the exit code is 0 when everything
/// went as promised, 130, 143 or 129 when SIGINT, SIGTERM or SIGHUP ended it, else 1.
pub async fn run(args: DemoArgs) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(reason) => {
            Story::silent().failed(&DemoError::Setup { doing: "listen for signals", reason }, None);
            return ExitCode::FAILURE;
        }
    };
    let played = match args.repeat {
        None => play_once(args.keep, &mut signals).await,
        Some(times) => play_series(times, &mut signals).await,
    };
    let (series, good) = match played {
        Ok(played) => played,
        Err(Interrupted { code }) => return ExitCode::from(code),
    };
    if let Some(path) = &args.json
        && let Err(error) = series.write(path)
    {
        Story::silent().failed(&error, None);
        return ExitCode::FAILURE;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn play_once(keep: bool, signals: &mut Signals) -> Result<(Series, bool), Interrupted> {
    let summary = perform(&mut Story::aloud(), keep, signals).await?;
    let good = summary.as_ref().is_some_and(Summary::is_good);
    let failed = usize::from(summary.is_none());
    Ok((Series::new(summary.into_iter().collect(), failed), good))
}

async fn play_series(times: u32, signals: &mut Signals) -> Result<(Series, bool), Interrupted> {
    let (mut runs, mut failed) = (Vec::new(), 0);
    for run in 1..=times {
        match perform(&mut Story::silent(), false, signals).await? {
            Some(summary) => {
                let word = if summary.is_good() { "passed" } else { "failed" };
                to_stdout(&format!("run {run} of {times} {word}: {}", summary.in_short()));
                runs.push(summary);
            }
            None => {
                to_stdout(&format!("run {run} of {times} failed before its end"));
                failed += 1;
            }
        }
    }
    let series = Series::new(runs, failed);
    series.lines().iter().for_each(|line| to_stdout(line));
    let good = series.is_good();
    Ok((series, good))
}

/// One demo from its folder to its last process. `None` when it failed before its end, which the
/// story has told then.
async fn perform(
    story: &mut Story,
    keep: bool,
    signals: &mut Signals,
) -> Result<Option<Summary>, Interrupted> {
    let prepared = tempfile::Builder::new()
        .prefix("odeum-demo-")
        .tempdir()
        .map_err(|reason| DemoError::Setup { doing: "make a temporary folder", reason })
        .and_then(|folder| Ok((Fleet::new(folder.path(), keep)?, folder)));
    let (mut fleet, folder) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            story.failed(&error, None);
            return Ok(None);
        }
    };
    let ended = tokio::select! {
        biased;
        interrupted = signals.next() => Err(interrupted),
        played = Box::pin(play(story, &mut fleet, &folder, keep)) => Ok(played),
    };
    let outcome = match ended {
        Ok(Ok(summary)) if keep => {
            fleet.release();
            // From here on it belongs to the nodes.
            let _: PathBuf = folder.keep();
            return Ok(Some(summary));
        }
        Ok(Ok(summary)) => Ok(Some(summary)),
        Ok(Err(error)) => {
            let log = error.node().and_then(|node| fleet.log_tail(node, LOG_LINES));
            story.failed(&error, log);
            Ok(None)
        }
        Err(interrupted) => {
            story.interrupted();
            Err(interrupted)
        }
    };
    fleet.kill_all().await;
    if keep && outcome.is_ok() {
        story.kept(&folder.keep());
    } else if let Err(reason) = folder.close() {
        story.failed(&DemoError::Setup { doing: "remove the temporary folder", reason }, None);
        return outcome.map(|_| None);
    }
    outcome
}

async fn play(
    story: &mut Story,
    fleet: &mut Fleet,
    folder: &TempDir,
    keep: bool,
) -> Result<Summary, DemoError> {
    story.open("Odeum: three nodes, a guest that counts, and a kill -9");
    story.line(&format!("Data and logs of the nodes: {}", folder.path().display()));
    let summary = acts::play(&mut Stage { fleet, story }).await?;
    if keep {
        story.summary(&summary);
        story.reachable(&fleet.all_reachable(), folder.path());
    } else {
        fleet.stop_all().await?;
        story.say("all nodes stopped cleanly on SIGTERM");
        story.summary(&summary);
    }
    Ok(summary)
}

/// A signal asked the demo to end.
#[derive(Debug, Clone, Copy)]
struct Interrupted {
    /// The exit code that tells which, as shells count: 128 and the signal's number.
    code: u8,
}

/// The signals that end the demo early.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Interrupted {
        let code = tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hangup.recv() => 129,
        };
        Interrupted { code }
    }
}
