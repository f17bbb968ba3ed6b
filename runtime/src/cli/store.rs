//! `odeum store`: the replicated store.

mod backup;
mod check;
mod compact;

use clap::Subcommand;

use super::{
    CliError, Invocation,
    out::{cell, table},
};
use crate::{
    api::types::{GroupReport, StoreReport},
    config::HumanDuration,
};

/// What to do with it.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Show the groups of the store: who leads, who is in it, how far the asked node is
    Status,
    /// Save everything of the cluster in one file, while it goes on
    Backup(backup::BackupArgs),
    /// Restore a backup into an empty cluster of any size
    Restore(backup::RestoreArgs),
    /// Have every node make snapshots and shorten its log now
    Compact,
    /// Check a backup, or the data folder of a node that does not run
    Check(check::CheckArgs),
}

pub(super) async fn store(invocation: &Invocation, command: StoreCommand) -> Result<(), CliError> {
    match command {
        StoreCommand::Status => invocation.out.result(&invocation.api()?.store().await?, groups),
        StoreCommand::Backup(args) => backup::save(invocation, args).await,
        StoreCommand::Restore(args) => backup::restore(invocation, args).await,
        StoreCommand::Compact => {
            let report = invocation.api()?.compact().await?;
            invocation.out.result(&report, compact::table_of)
        }
        StoreCommand::Check(args) => check::check(invocation, &args).await,
    }
}

fn groups(report: &StoreReport) -> String {
    table(
        [
            "GROUP",
            "HEALTH",
            "LEADER",
            "TERM",
            "MEMBERS",
            "APPLIED",
            "LAST LOG",
            "SNAPSHOT",
            "LEADER HEARD",
        ],
        report.groups.iter().map(|group| {
            [
                cell(group.group),
                cell(group.health),
                group.leader.as_ref().map(ToString::to_string),
                cell(group.term),
                cell(members(group)),
                group.applied.map(|revision| revision.to_string()),
                group.last_log.map(|index| index.to_string()),
                group.snapshot.map(|index| index.to_string()),
                group.leader_heard_ms.map(|ms| {
                    let heard = std::time::Duration::from_millis(ms);
                    format!("{} ago", HumanDuration(heard))
                }),
            ]
        }),
    )
}

/// Voters by name; those that only follow in brackets.
fn members(group: &GroupReport) -> String {
    let one = |member: &crate::api::types::MemberReport| match member.voter {
        true => member.node.to_string(),
        false => format!("({})", member.node),
    };
    group.members.iter().map(one).collect::<Vec<_>>().join(" ")
}
