//! `odeum store check`: whether files are what was written.

use std::path::{Path, PathBuf};

use clap::Args;
use odeum_cluster::store::{
    FileReport, FolderError, FolderReport, Found, check_folder, survey_backup,
};
use odeum_proto::{ClusterId, NodeId};
use serde::Serialize;

use super::{
    super::{
        CliError, Invocation,
        out::{cell, table},
    },
    backup,
};
use crate::{api::types::BackupSummary, config::ByteSize};

/// Arguments of `odeum store check`.
#[derive(Debug, Args)]
#[command(
    after_help = "It changes nothing, and the node cannot start meanwhile. Exit codes: 0 all is \
                        as it was written, 3 something is damaged, 1 it cannot be checked."
)]
pub(crate) struct CheckArgs {
    /// A data folder, or a backup
    path: PathBuf,
}

/// What is found in a data folder, as JSON has it.
#[derive(Debug, Serialize)]
struct Checked {
    node: NodeId,
    cluster: Option<ClusterId>,
    good: bool,
    files: Vec<CheckedFile>,
}

/// What is found of a file.
#[derive(Debug, Serialize)]
struct CheckedFile {
    file: PathBuf,
    bytes: u64,
    state: &'static str,
    /// Where it is damaged.
    offset: Option<u64>,
    /// What is in it, or what is wrong with it.
    found: String,
}

pub(super) async fn check(invocation: &Invocation, args: &CheckArgs) -> Result<(), CliError> {
    if args.path.is_dir() { folder(invocation, &args.path) } else { file(invocation, &args.path) }
}

fn file(invocation: &Invocation, path: &Path) -> Result<(), CliError> {
    // Nothing else runs meanwhile: it may block.
    let survey = tokio::task::block_in_place(|| survey_backup(path))?;
    let summary = BackupSummary::from(&survey);
    invocation.out.result(&summary, |summary| {
        format!("{} is good: {}", path.display(), backup::contents(summary))
    })
}

fn folder(invocation: &Invocation, path: &Path) -> Result<(), CliError> {
    let report =
        tokio::task::block_in_place(|| check_folder(path)).map_err(|error| match error {
            // Its description is one of its files.
            damaged @ FolderError::Damaged { .. } => {
                CliError::Damaged { faults: 1, first: damaged.to_string().into() }
            }
            error => error.into(),
        })?;
    let FolderReport { node, cluster, files } = &report;
    let checked = Checked {
        node: node.clone(),
        cluster: *cluster,
        good: report.faults().next().is_none(),
        files: files.iter().map(checked).collect(),
    };
    invocation.out.result(&checked, |checked| {
        table(
            ["STATE", "FILE", "SIZE", "FOUND"],
            checked.files.iter().map(|file| {
                [
                    cell(file.state),
                    cell(file.file.strip_prefix(path).unwrap_or(&file.file).display()),
                    cell(ByteSize(file.bytes).rounded()),
                    cell(&file.found),
                ]
            }),
        )
    })?;
    let is_damage = |fault: &&FileReport| matches!(fault.found, Found::Damaged { .. });
    let faults = report.faults().count();
    match (report.faults().find(is_damage), report.faults().next()) {
        (Some(damaged), _) => Err(CliError::Damaged { faults, first: said(damaged) }),
        (None, Some(first)) => Err(CliError::Unchecked { faults, first: said(first) }),
        (None, None) => Ok(()),
    }
}

fn checked(report: &FileReport) -> CheckedFile {
    let (state, offset, found) = match &report.found {
        Found::Good { what } => ("good", None, what.to_string()),
        Found::Damaged { offset, reason } => {
            ("damaged", Some(*offset), format!("at byte {offset}: {reason}"))
        }
        Found::Unreadable { reason } => ("unreadable", None, reason.to_string()),
    };
    CheckedFile { file: report.file.clone(), bytes: report.bytes, state, offset, found }
}

fn said(report: &FileReport) -> Box<str> {
    let file = report.file.display();
    match &report.found {
        Found::Damaged { offset, reason } => {
            format!("{file} is damaged at byte {offset}: {reason}").into()
        }
        Found::Good { what: text } | Found::Unreadable { reason: text } => {
            format!("{file}: {text}").into()
        }
    }
}
