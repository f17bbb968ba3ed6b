//! `odeum store backup` and `odeum store restore`: a cluster in a file, and back.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;
use odeum_cluster::store::{BackupError, survey_backup};
use tempfile::NamedTempFile;

use super::super::{CliError, Invocation};
use crate::{api::types::BackupSummary, config::ByteSize};

/// Arguments of `odeum store backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every write that was acknowledged before is in it. The file appears under its \
                        name when all of it is on the disk and was read back.\n\n\
                        Example: odeum store backup monday.backup"
)]
pub(crate) struct BackupArgs {
    /// The file to make
    file: PathBuf,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
}

/// Arguments of `odeum store restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "The cluster must be empty: no sessions, no firmware. When it fails half-way, \
                        run it again with the same file; it goes on where it was. To give it \
                        up, found the cluster anew with empty data folders: until it is complete, \
                        no session is written and nothing deployed."
)]
pub(crate) struct RestoreArgs {
    /// The backup
    file: PathBuf,
}

pub(super) async fn save(invocation: &Invocation, args: BackupArgs) -> Result<(), CliError> {
    let BackupArgs { file, force } = args;
    if !force && file.exists() {
        return Err(CliError::Exists { path: file });
    }
    let mut backup = invocation.api()?.backup().await?;
    let cannot = |reason| CliError::Unwritable { path: file.clone(), reason };
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Beside it, so that it can take its name; it is removed if it does not come to that.
    let mut half = NamedTempFile::with_prefix_in(".odeum-backup-", folder).map_err(cannot)?;
    while let Some(bytes) = backup.next().await.map_err(|error| CliError::Cut { error })? {
        half.write_all(&bytes).map_err(cannot)?;
    }
    half.as_file().sync_all().map_err(cannot)?;
    let summary = read(half.path(), &file)?;
    let kept = match force {
        true => half.persist(&file),
        false => half.persist_noclobber(&file),
    };
    kept.map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::Exists { path: file.clone() },
        _ => cannot(error.error),
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)?;
    let name = file.display();
    invocation.out.result(&summary, |summary| format!("saved in {name}: {}", contents(summary)))
}

pub(super) async fn restore(invocation: &Invocation, args: RestoreArgs) -> Result<(), CliError> {
    let path = args.file;
    // Here, too, so that it is known which file is at fault, and where.
    let summary = read(&path, &path)?;
    let opened = File::open(&path).map_err(|reason| CliError::Unreadable { path, reason })?;
    let restored = invocation.api()?.restore(opened, summary.bytes).await?;
    invocation.out.result(&restored, |restored| {
        let contents = contents(&restored.backup);
        match restored.already {
            false => format!("restored: {contents}"),
            true => format!("restored before, nothing was changed: {contents}"),
        }
    })
}

/// Reads and checks the backup at `path`, which is called `name` when it is damaged.
fn read(path: &Path, name: &Path) -> Result<BackupSummary, CliError> {
    // Nothing else runs meanwhile: it may block.
    let survey = tokio::task::block_in_place(|| survey_backup(path));
    survey.map(|survey| (&survey).into()).map_err(|error| match error {
        BackupError::Damaged { offset, reason, .. } => {
            BackupError::Damaged { file: name.to_owned(), offset, reason }.into()
        }
        error => error.into(),
    })
}

/// What is in a backup, in a line.
pub(super) fn contents(summary: &BackupSummary) -> String {
    let BackupSummary { sessions, variables, entities, firmware, blobs, bytes, .. } = summary;
    let groups: Vec<String> = summary
        .groups
        .iter()
        .map(|group| format!("{} at revision {}", group.group, group.revision))
        .collect();
    format!(
        "{sessions} sessions with {variables} variables, {entities} entities, {firmware} firmware, \
         {blobs} blobs, {} of cluster {} ({})",
        ByteSize(*bytes).rounded(),
        summary.cluster,
        groups.join(", ")
    )
}
