//! `odeum delete`: what is to be no more.

use clap::Subcommand;
use odeum_proto::{Name, SessionId};
use serde_json::json;

use super::{CliError, Invocation};

/// What to remove.
#[derive(Debug, Subcommand)]
pub(crate) enum DeleteCommand {
    /// Stop and remove a firmware; its sessions stay
    Firmware {
        /// Its name
        name: Name,
    },
    /// Remove a session with all its variables
    Session {
        /// Its id
        id: SessionId,
    },
}

pub(super) async fn delete(
    invocation: &Invocation,
    command: DeleteCommand,
) -> Result<(), CliError> {
    let api = invocation.api()?;
    let (what, name) = match command {
        DeleteCommand::Firmware { name } => {
            api.delete_firmware(&name).await?;
            ("firmware", name.to_string())
        }
        DeleteCommand::Session { id } => {
            api.delete_session(&id).await?;
            ("session", id.to_string())
        }
    };
    invocation
        .out
        .result(&json!({ "deleted": { what: name } }), |_| format!("{what} {name} is deleted"))
}
