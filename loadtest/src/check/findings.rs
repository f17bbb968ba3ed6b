//! What was found wrong. One finding ends the scenario: what follows it proves nothing more.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use tokio::sync::watch;

use super::history::Entry;

/// A promise that was not kept.
#[derive(Debug)]
pub(crate) struct Finding {
    /// In one line.
    pub(crate) title: String,
    /// With what a person needs to see it.
    pub(crate) account: String,
    /// The variable and all that was done with it, where one is concerned.
    pub(crate) history: Option<(String, Vec<Entry>)>,
}

impl Finding {
    /// One whose title says everything.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), account: String::new(), history: None }
    }
}

/// All findings, for everybody to add to.
#[derive(Debug)]
pub(crate) struct Findings {
    list: Mutex<Vec<Finding>>,
    /// Whether there are any.
    any: watch::Sender<bool>,
}

impl Default for Findings {
    fn default() -> Self {
        Self { list: Mutex::default(), any: watch::Sender::new(false) }
    }
}

impl Findings {
    /// Adds one.
    pub(crate) fn add(&self, finding: Finding) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
        self.any.send_replace(true);
    }

    /// Adds what is wrong with a result, if anything is.
    pub(crate) fn unless_ok(&self, result: Result<(), Finding>) {
        if let Err(finding) = result {
            self.add(finding);
        }
    }

    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        *self.any.borrow()
    }

    /// Returns when there are some.
    pub(crate) async fn first(&self) {
        // The sender is in this very value.
        let _ = self.any.subscribe().wait_for(|any| *any).await;
    }

    /// Takes them out.
    pub(crate) fn take(&self) -> Vec<Finding> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes findings to a folder: an account of each, and the history of its variable as JSON, one
/// operation in a line.
///
/// # Errors
/// If the files cannot be written.
pub(crate) fn write(findings: &[Finding], folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (number, Finding { title, account, history }) in (1..).zip(findings) {
        let file = folder.join(format!("finding-{number}.txt"));
        std::fs::write(&file, format!("{title}\n\n{account}"))
            .with_context(|| file.display().to_string())?;
        if let Some((name, entries)) = history {
            let lines: Result<Vec<String>, _> = entries.iter().map(serde_json::to_string).collect();
            let file = folder.join(format!("finding-{number}-{name}.jsonl"));
            std::fs::write(&file, lines?.join("\n")).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}
