//! `odeum cache`: the compiled modules that the nodes of this machine share. Works on files only.

use std::time::SystemTime;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    CliError, Invocation,
    config::NodeFlags,
    out::{cell, table},
};
use crate::{
    config::ByteSize,
    firmware::{Kept, Vault},
    node,
};

/// What to do with compiled modules.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show the compiled modules, the last used first
    ///
    /// MODULE is the BLAKE3 hash of the WebAssembly binary, as the file claims it; the seal is only
    /// checked when the code is loaded.
    #[command(after_help = FOLDER_HELP)]
    Ls(NodeFlags),
    /// Remove all compiled modules
    ///
    /// Nodes that run keep what they have loaded. What is needed again is compiled again.
    #[command(after_help = FOLDER_HELP)]
    Clear(NodeFlags),
    /// Print the folder they are in
    #[command(after_help = FOLDER_HELP)]
    Path(NodeFlags),
}

const FOLDER_HELP: &str = "\
The folder is the one that `odeum up` with the same flags and settings would use:
`firmware.cache-dir`, else odeum/compiled in your cache directory, ~/.cache unless XDG_CACHE_HOME
names another.";

pub(super) fn cache(invocation: &Invocation, command: CacheCommand) -> Result<(), CliError> {
    let of = |flags: NodeFlags| Ok::<_, CliError>(node::vault(&flags.resolve()?.config));
    match command {
        CacheCommand::Ls(flags) => ls(invocation, &of(flags)?),
        CacheCommand::Clear(flags) => clear(invocation, &of(flags)?),
        CacheCommand::Path(flags) => {
            let vault = of(flags)?;
            let folder = vault.folder();
            invocation.out.result(&json!({ "path": folder }), |_| folder.display().to_string())
        }
    }
}

fn ls(invocation: &Invocation, vault: &Vault) -> Result<(), CliError> {
    let kept = vault.list()?;
    let bytes: u64 = kept.iter().map(|kept| kept.bytes).sum();
    let modules: Vec<Value> = kept.iter().map(as_json).collect();
    let json = json!({
        "path": vault.folder(), "bytes": bytes, "size": vault.size(), "modules": modules,
    });
    invocation.out.result(&json, |_| {
        if kept.is_empty() {
            return format!("no compiled modules in {}", vault.folder().display());
        }
        let short = |text: &str| text.chars().take(12).collect::<String>();
        let now = SystemTime::now();
        let rows = kept.iter().map(|kept| {
            // A clock that was set back: it was used just now.
            let unused = now.duration_since(kept.last_use).unwrap_or_default().as_secs();
            let unused = humantime::format_duration(std::time::Duration::from_secs(unused));
            [
                cell(short(&kept.key)),
                kept.module.as_deref().map(short),
                cell(ByteSize(kept.bytes).rounded()),
                cell(format!("{unused} ago")),
            ]
        });
        let table = table(["KEY", "MODULE", "SIZE", "USED"], rows);
        let (bytes, size) = (ByteSize(bytes).rounded(), ByteSize(vault.size()).rounded());
        format!("{table}\n{bytes} in {}, at most {size}", vault.folder().display())
    })
}

fn as_json(kept: &Kept) -> Value {
    let since = kept.last_use.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "key": kept.key,
        "module": kept.module,
        "bytes": kept.bytes,
        "last_use_ms": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    })
}

fn clear(invocation: &Invocation, vault: &Vault) -> Result<(), CliError> {
    let cleared = vault.clear()?;
    let json = json!({
        "path": vault.folder(), "modules": cleared.modules, "bytes": cleared.bytes,
    });
    invocation.out.result(&json, |_| {
        let bytes = ByteSize(cleared.bytes).rounded();
        let (modules, folder) = (cleared.modules, vault.folder().display());
        format!("compiled modules removed from {folder}: {modules}, {bytes}")
    })
}
