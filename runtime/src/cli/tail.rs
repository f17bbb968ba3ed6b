//! `odeum logs`: what a firmware logs, wherever it runs.
//!
//! Goes on where it was when the asked node goes and comes back, so that each line is printed once.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use odeum_proto::{Name, NodeId, Recipient};
use tokio::time::{Instant, sleep};

use super::{CliError, Invocation};
use crate::{
    api::{
        client::{ApiClient, ApiError},
        types::{LogCursors, LogLine, LogOptions, LogStream},
    },
    config::HumanDuration,
};

/// How long a node that has gone is looked for: a restart on a busy machine with a long log.
const AWAY: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Arguments of `odeum logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Any node can be asked: it asks all that are there, each of which keeps the last lines of what ran on it
in memory (`firmware.log-lines`, `firmware.log-size`), and puts them in the order of their times. With
-f it begins with those of the node that runs the firmware, and goes on when that is restarted and when
it goes to another node; who reads too slowly is told how many lines it missed. Ends on Ctrl-C. Of
several replicas the lines of all are printed, with the name of each.

A line has its time, its node when there are lines of several, its level (or the output that it was
written to) and its text. With `-o json` it is as in GET /v1/firmware/NAME/logs; `--after` goes on
behind the `cursor` of one.

Examples:
  odeum logs counter --tail 20
  odeum logs counter --since 10m
  odeum logs counter -f --tail 0")]
pub(crate) struct LogsArgs {
    /// The firmware; NAME.2 is one of its replicas
    #[arg(value_name = "FIRMWARE")]
    name: Recipient,
    /// Go on with what it logs from now on
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines of those that are kept
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Only lines that are not older, such as 10m
    #[arg(long, value_name = "DURATION")]
    since: Option<HumanDuration>,
    /// Begin behind this line
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["tail", "since"])]
    after: Option<LogCursors>,
}

/// Why the lines are over for now.
enum Ended {
    /// There are no more, or nobody reads on.
    Enough,
    /// The node ended it, or went.
    Away(Option<ApiError>),
}

pub(super) async fn logs(invocation: &Invocation, args: LogsArgs) -> Result<(), CliError> {
    let api = invocation.api()?;
    let LogsArgs { name, follow, tail, since, after } = args;
    let mut options = LogOptions { tail, since, follow, after };
    if !follow && options.after.is_none() {
        return kept(invocation, &api, &name, &options).await;
    }
    let mut last_seen: Option<Instant> = None;
    loop {
        let ended = read(invocation, &api, &name, &mut options, &mut last_seen).await?;
        let error = match ended {
            Ended::Enough => return Ok(()),
            Ended::Away(None) if !follow => return Ok(()),
            Ended::Away(error) => error,
        };
        match (last_seen.map(|seen| seen.elapsed()), error) {
            // Not even once, or not to be gone on with.
            (None, Some(error)) => return Err(error.into()),
            (Some(away), Some(error)) => {
                let is_unknown = is_unknown(&error);
                if follow && is_unknown && is_deleted(&api, &name).await {
                    invocation.out.note(&format!("firmware {name} is deleted"));
                    return Ok(());
                }
                if !follow || away > AWAY || !(is_unknown || error.is_retryable()) {
                    return Err(error.into());
                }
            }
            (_, None) => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Whether the asked node knows of no such firmware.
pub(super) fn is_unknown(error: &ApiError) -> bool {
    error.code() == Some("not-found")
}

/// Whether there is no such firmware any more. A node that has just started knows of none.
pub(super) async fn is_deleted(api: &ApiClient, name: &Recipient) -> bool {
    // In this order: what it does not know once it is ready is not there.
    api.ready().await.is_ok() && api.firmware_of(name).await.is_err_and(|error| is_unknown(&error))
}

/// The lines that there are, of all nodes. They are bounded by what nodes keep.
async fn kept(
    invocation: &Invocation,
    api: &ApiClient,
    name: &Recipient,
    options: &LogOptions,
) -> Result<(), CliError> {
    let (mut answer, mut lines) = (api.logs(name, options).await?, Vec::new());
    while let Some(line) = answer.next().await? {
        lines.push(line);
    }
    let nodes = lines.iter().filter_map(|line| match line {
        LogLine::Line { node, .. } => Some(node.clone()),
        _ => None,
    });
    let nodes: BTreeSet<NodeId> = nodes.collect();
    let width = nodes.iter().map(|node| node.as_str().len()).max().filter(|_| nodes.len() > 1);
    let firmware = api.firmware_of(name.firmware()).await?;
    let several = Some(name.firmware()).filter(|_| firmware.replicas > 1);
    let columns = Columns { name: several, node: width };
    for line in &lines {
        remark(invocation, line);
        if !print(invocation, line, columns)? {
            break;
        }
    }
    Ok(())
}

/// One connection's part.
async fn read(
    invocation: &Invocation,
    api: &ApiClient,
    name: &Recipient,
    options: &mut LogOptions,
    last_seen: &mut Option<Instant>,
) -> Result<Ended, CliError> {
    let mut lines = match api.logs(name, options).await {
        Ok(lines) => lines,
        Err(error) => return Ok(Ended::Away(Some(error))),
    };
    *last_seen = Some(Instant::now());
    let firmware = match api.firmware_of(name.firmware()).await {
        Ok(firmware) => firmware,
        Err(error) => return Ok(Ended::Away(Some(error))),
    };
    let several = Some(name.firmware()).filter(|_| firmware.replicas > 1);
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(Ended::Away(None)),
            Err(error) => return Ok(Ended::Away(Some(error))),
        };
        *last_seen = Some(Instant::now());
        match &line {
            LogLine::Line { cursor, .. } | LogLine::Progress { cursor: Some(cursor) } => {
                options.after.get_or_insert_default().put(cursor.clone());
            }
            _ => {}
        }
        remark(invocation, &line);
        let columns = Columns { name: several, node: None };
        if !print(invocation, &line, columns)? {
            return Ok(Ended::Enough);
        }
        if let LogLine::End { .. } = line {
            // A firmware that is deleted has no more; a node that stops comes back.
            let is_over = is_deleted(api, name).await;
            return Ok(if is_over { Ended::Enough } else { Ended::Away(None) });
        }
    }
}

/// What a line has beside what it always has.
#[derive(Debug, Clone, Copy)]
struct Columns<'a> {
    /// The firmware, whose replica is named; `None` when there is only one.
    name: Option<&'a Name>,
    /// The node, in so many characters; `None` when they are all of one, or it is not known.
    node: Option<usize>,
}

/// Prints a line; whether anybody still reads.
fn print(invocation: &Invocation, line: &LogLine, columns: Columns<'_>) -> Result<bool, CliError> {
    invocation.out.line(line, |line| {
        let LogLine::Line { at, node, replica, level, stream, text, .. } = line else {
            return None;
        };
        let name = columns.name.map_or(String::new(), |name| format!("{name}.{replica}  "));
        let node =
            columns.node.map_or(String::new(), |width| format!("{:width$}  ", node.as_str()));
        let what = match stream {
            LogStream::Log | LogStream::Node => level.to_string(),
            LogStream::Stdout | LogStream::Stderr => stream.to_string(),
        };
        Some(format!("{at}  {name}{node}{what:6}  {}", super::out::single_line(text)))
    })
}

/// What is said beside the lines.
fn remark(invocation: &Invocation, line: &LogLine) {
    match line {
        LogLine::Missed { node, lines } => {
            invocation.out.note(&format!("{lines} lines of {node} are not kept any more"));
        }
        LogLine::Moved { node, epoch, replica } => {
            let who = if *replica == 1 { "it".to_owned() } else { format!("replica {replica}") };
            invocation.out.note(&format!("{who} is on {node} now, in activation {epoch}"));
        }
        LogLine::Waiting { reason } | LogLine::End { reason } => invocation.out.note(reason),
        LogLine::Line { .. } | LogLine::Progress { .. } => {}
    }
}
