//! What `odeum session` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use odeum_proto::{
    RequestId, SessionId,
    session::{Glob, ValueType},
};

use super::{register, text};
use crate::{
    api::types::{MAX_PAGE, Reading, value_type},
    config::HumanDuration,
};

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Create a session; one that is there with the same settings stays as it is
    Create(CreateArgs),
    /// Show a session with its variables, or one of them
    Get {
        /// The session
        id: SessionId,
        /// Only this variable
        key: Option<String>,
        /// Only variables with such names; `*` is any text, `?` any character
        #[arg(long = "match", value_name = "GLOB", conflicts_with = "key")]
        matching: Option<Glob>,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// List sessions
    List {
        /// Only those with such ids; `*` is any text, `?` any character
        #[arg(long = "match", value_name = "GLOB")]
        matching: Option<Glob>,
        /// Most sessions to show [default: 100]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MAX_PAGE as u64))]
        limit: Option<u64>,
        /// Begin behind this session
        #[arg(long, value_name = "ID")]
        after: Option<SessionId>,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Write a variable, which is made when it is not there
    Set {
        #[command(flatten)]
        value: ValueArgs,
        /// Fail when it is not there
        #[arg(long)]
        must_exist: bool,
    },
    /// Write a variable if it has the version that is expected
    Cas {
        #[command(flatten)]
        value: ValueArgs,
        /// The version; 0 when it must not be there
        #[arg(long, value_name = "VERSION")]
        expected: u64,
    },
    /// Make a variable of a type, with what it allows
    Register(Box<register::RegisterArgs>),
    /// Remove a variable
    Unset {
        /// The session
        id: SessionId,
        /// The variable
        key: String,
        /// Only if it has this version
        #[arg(long, value_name = "VERSION")]
        expected: Option<u64>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Delete a session with all that is in it
    Delete {
        /// The session
        id: SessionId,
    },
    /// Renew a session's time to live
    Touch {
        /// The session
        id: SessionId,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give a session another time to live
    Ttl {
        /// The session
        id: SessionId,
        /// How long it lives after the last write or touch; `none` for ever
        #[arg(value_name = "DURATION", value_parser = text::ttl)]
        ttl: text::Ttl,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Show the values that a variable had, as far as they are kept
    History {
        /// The session
        id: SessionId,
        /// The variable
        key: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Do several things as one change: all of them or, unless it says otherwise, none
    #[command(after_help = text::BATCH_HELP)]
    Batch {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Do one list of things when comparisons hold, and another when one does not
    #[command(after_help = text::TRANSACTION_HELP)]
    Transaction {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Store, show and remove programs that a session keeps
    #[command(subcommand)]
    Program(ProgramCommand),
    /// Set and remove what is said of a session
    #[command(subcommand)]
    Meta(MetaCommand),
}

/// A session to be.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its id
    pub(super) id: SessionId,
    /// How long it lives after the last write or touch [default: for ever]
    #[arg(long, value_name = "DURATION")]
    pub(super) ttl: Option<HumanDuration>,
    /// What is said of it; may be given several times
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = text::entry)]
    pub(super) metadata: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) change: ChangeArgs,
}

/// What every read takes.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// How fresh the answer must be: linearizable, lease or local
    #[arg(long, value_name = "WORD", default_value_t)]
    pub(super) consistency: Reading,
}

/// What every change takes.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Name of this request: sent again under the same name, it takes effect once
    #[arg(long, value_name = "ID")]
    pub(super) request_id: Option<RequestId>,
}

/// A variable and its value.
#[derive(Debug, Args)]
pub(crate) struct ValueArgs {
    /// The session
    pub(super) id: SessionId,
    /// The variable
    pub(super) key: String,
    /// Its value: JSON, or plain text for a string, choice, module or bytes; `-` reads it from stdin
    #[arg(allow_hyphen_values = true)]
    pub(super) value: String,
    /// Its type [default: the variable's own, or what the value looks like]
    #[arg(long = "type", value_name = "TYPE", value_parser = value_type)]
    pub(super) kind: Option<ValueType>,
    #[command(flatten)]
    pub(super) change: ChangeArgs,
}

/// A session and a file about it.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The session
    pub(super) id: SessionId,
    /// The file with the JSON; `-` is stdin
    #[arg(default_value = "-")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) change: ChangeArgs,
}

/// What to do with programs.
#[derive(Debug, Subcommand)]
pub(crate) enum ProgramCommand {
    /// Store a program
    Put {
        /// The session
        id: SessionId,
        /// Its name
        name: String,
        /// The file with it; `-` is stdin
        file: PathBuf,
        /// The language it is written in
        #[arg(long)]
        language: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Write a program to stdout
    Get {
        /// The session
        id: SessionId,
        /// Its name
        name: String,
    },
    /// List programs
    List {
        /// The session
        id: SessionId,
    },
    /// Remove a program
    Delete {
        /// The session
        id: SessionId,
        /// Its name
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// What to do with metadata.
#[derive(Debug, Subcommand)]
pub(crate) enum MetaCommand {
    /// Set an entry
    Set {
        /// The session
        id: SessionId,
        /// The entry
        key: String,
        /// What it says
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Remove an entry
    Unset {
        /// The session
        id: SessionId,
        /// The entry
        key: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Show all entries
    List {
        /// The session
        id: SessionId,
    },
}

impl ChangeArgs {
    /// The name of the request, a new one unless it is said.
    pub(super) fn request(&self) -> RequestId {
        self.request_id.clone().unwrap_or_else(RequestId::random)
    }
}
