//! `odeum watch`: changes of sessions as they happen.
//!
//! Goes on where it was when its node goes and comes back, so that each change is printed once.

use std::time::Duration;

use clap::Args;
use odeum_proto::{SessionId, session::Glob};
use tokio::time::{Instant, sleep};

use super::{
    CliError, Invocation,
    session::{shortened, shown},
};
use crate::api::{
    client::{ApiClient, ApiError, Watched},
    types::{After, WatchChange, WatchLine, WatchWhat},
};

/// How long a node that has gone is looked for: a restart on a busy machine with a long log.
const AWAY: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Arguments of `odeum watch`.
#[derive(Debug, Args)]
#[command(after_help = "Ends on Ctrl-C. With `-o json` each line is as in GET /v1/watch; what a \
                        `changes` or `progress` line\nnames as its revision is where `--after` \
                        goes on.")]
pub(crate) struct WatchArgs {
    /// The session
    #[arg(value_name = "SESSION", required_unless_present = "matching")]
    id: Option<SessionId>,
    /// All sessions with such ids; `*` is any text, `?` any character
    #[arg(long = "match", value_name = "GLOB", conflicts_with = "id")]
    matching: Option<Glob>,
    /// Begin after this revision; of several groups as GROUP:REVISION,... [default: now]
    #[arg(long, value_name = "REVISION")]
    after: Option<After>,
    /// End after so many changes
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
}

/// What has been told so far.
struct Progress {
    after: Option<After>,
    left: Option<u64>,
}

/// Why a watch is over for now.
enum Ended {
    /// As many changes as wished were printed, or nobody reads on.
    Enough,
    /// The node ended it, or went.
    Away(Option<ApiError>),
}

pub(super) async fn watch(invocation: &Invocation, args: WatchArgs) -> Result<(), CliError> {
    let api = invocation.api()?;
    let watched = match (args.id, args.matching) {
        (Some(id), _) => Watched::Session(id),
        (None, matching) => Watched::Matching(matching.unwrap_or_else(Glob::all)),
    };
    let mut progress = Progress { after: args.after, left: args.count };
    let mut last_seen: Option<Instant> = None;
    loop {
        let error = match follow(invocation, &api, &watched, &mut progress, &mut last_seen).await? {
            Ended::Enough => return Ok(()),
            Ended::Away(error) => error,
        };
        let since = last_seen.map(|seen| seen.elapsed());
        match (since, error) {
            // Not even once: there is nobody, or no such watch.
            (None, Some(error)) => return Err(error.into()),
            (Some(since), Some(error)) if since > AWAY || !error.is_retryable() => {
                return Err(error.into());
            }
            (Some(_), _) | (None, None) => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

/// One connection's part of the watch.
async fn follow(
    invocation: &Invocation,
    api: &ApiClient,
    watched: &Watched,
    progress: &mut Progress,
    last_seen: &mut Option<Instant>,
) -> Result<Ended, CliError> {
    let mut lines = match api.watch(watched, progress.after.as_ref()).await {
        Ok(lines) => lines,
        Err(error) => return Ok(Ended::Away(Some(error))),
    };
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(Ended::Away(None)),
            Err(error) => return Ok(Ended::Away(Some(error))),
        };
        *last_seen = Some(Instant::now());
        progress.take(&line, watched);
        if !print(invocation, &line)? || progress.left == Some(0) {
            return Ok(Ended::Enough);
        }
    }
}

impl Progress {
    fn take(&mut self, line: &WatchLine, watched: &Watched) {
        match (&mut self.after, line.told()) {
            (Some(after), _) => after.advance(line),
            (None, Some((group, revision))) => {
                self.after = Some(match watched {
                    Watched::Session(_) => After::Revision(revision),
                    Watched::Matching(_) => After::Groups([(group, revision)].into()),
                });
            }
            (None, None) => {}
        }
        if let (Some(left), WatchLine::Changes { changes, .. }) = (&mut self.left, line) {
            *left = left.saturating_sub(changes.len() as u64);
        }
    }
}

/// Prints a line; whether anybody still reads.
fn print(invocation: &Invocation, line: &WatchLine) -> Result<bool, CliError> {
    invocation.out.line(line, |line| match line {
        WatchLine::Changes { group, revision, changes } => {
            let rows = changes
                .iter()
                .map(|change| format!("{group} {revision}  {}  {}", change.session, what(change)));
            Some(rows.collect::<Vec<_>>().join("\n"))
        }
        WatchLine::State { group, revision, sessions } => Some(format!(
            "{group} {revision}  earlier changes are forgotten; {sessions} sessions as they are:"
        )),
        WatchLine::Session { group, revision, session } => {
            let variables: Vec<_> = session
                .variables
                .iter()
                .map(|(key, variable)| {
                    let kind = variable.kind.as_str();
                    let value = shown(&variable.value, variable.text.as_deref(), kind);
                    format!("{key}={}", shortened(&value))
                })
                .collect();
            Some(format!("{group} {revision}  {}  {}", session.id, variables.join(" ")))
        }
        WatchLine::Progress { .. } | WatchLine::End { .. } => None,
    })
}

fn what(change: &WatchChange) -> String {
    match &change.what {
        WatchWhat::Created => "created".to_owned(),
        WatchWhat::Deleted => "deleted".to_owned(),
        WatchWhat::Expired => "expired".to_owned(),
        WatchWhat::Ttl { ttl: Some(ttl) } => format!("ttl {ttl}"),
        WatchWhat::Ttl { ttl: None } => "ttl none".to_owned(),
        WatchWhat::Set { key, kind, value, text, version } => {
            let value = shortened(&shown(value, text.as_deref(), kind.as_str()));
            format!("{key} = {value}, version {version}")
        }
        WatchWhat::Defined { key } => format!("{key} has another definition"),
        WatchWhat::Removed { key } => format!("{key} removed"),
        WatchWhat::Metadata { key, value: Some(value) } => {
            format!("metadata {key} = {}", shortened(value))
        }
        WatchWhat::Metadata { key, value: None } => format!("metadata {key} removed"),
        WatchWhat::ProgramPut { name } => format!("program {name} stored"),
        WatchWhat::ProgramDeleted { name } => format!("program {name} removed"),
    }
}
