//! Why a command failed: one line that says what, where, and what to do about it.

use std::{path::PathBuf, process::ExitCode};

use odeum_cluster::{
    store::{BackupError, FolderError},
    transport::pki::PkiError,
};
use odeum_proto::{EntityId, IdError, Name, NodeId, RequestId};

use super::{apply::DeclaredError, join::JoinError, rollout::Names};
use crate::{
    api::client::ApiError,
    config::{ByteSize, ConfigError, HumanDuration},
    firmware::VaultError,
    node::NodeError,
    package::{
        build::BuildError,
        key::{KeyError, KeyFileError},
        registry::RegistryError,
        store::StoreError,
        trust::TrustError,
    },
};

/// Exit code of wrong usage, the same that clap uses.
const USAGE: u8 = 2;

/// Exit code of a file that is not what was written.
const DAMAGED: u8 = 3;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The node said no, or there is none.
    #[error("{error}{}", hint(.error))]
    Api {
        /// What happened.
        error: ApiError,
    },
    /// A call that may be repeated safely.
    #[error("{error}; to try again without doubling the effect, add `--request-id {request}`")]
    Call {
        /// What happened.
        error: ApiError,
        /// The idempotency key of the call.
        request: RequestId,
    },
    /// It is where it was.
    #[error("{entity} stays on {from}: {reason}")]
    NotMoved {
        /// What was to move.
        entity: EntityId,
        /// Where it is.
        from: NodeId,
        /// Why.
        reason: String,
    },
    /// It was not waited for any longer.
    #[error(
        "{entity} is still on its way from {from} to {to} after {wait}: `odeum get moves` tells how \
         it goes"
    )]
    StillMoves {
        /// What moves.
        entity: EntityId,
        /// From where.
        from: NodeId,
        /// Where to.
        to: NodeId,
        /// How long was waited.
        wait: HumanDuration,
    },
    /// A node that was to be restarted is none of the cluster.
    #[error("there is no node {node}; `odeum get nodes` shows all of them")]
    NoNode {
        /// Its name.
        node: NodeId,
    },
    /// A node was not restarted, and those behind it neither.
    #[error("{reason}; {done}")]
    NotRestarted {
        /// Why.
        reason: String,
        /// Those before it.
        done: Names,
    },
    /// A node that was restarted is not back.
    #[error(
        "{node} was told to begin anew and does not take requests after {wait}: its log says why"
    )]
    NotBack {
        /// Its name.
        node: NodeId,
        /// How long was waited.
        wait: HumanDuration,
    },
    /// The program of a node that was to begin anew cannot be run.
    #[error("cannot run {} again: {reason}", program.display())]
    NotAgain {
        /// The program.
        program: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The threads that commands run on cannot be had.
    #[error("cannot start the threads that commands run on: {0}")]
    Runtime(std::io::Error),
    /// The node did not start, or ended.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The cluster cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates cannot be made or read.
    #[error(transparent)]
    Certificates(#[from] PkiError),
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A project would be mixed with what is there.
    #[error("{} is not empty: choose another folder with --folder", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// Cargo takes no such name.
    #[error("a package of cargo cannot begin with a digit, as {name} does: choose another name")]
    NoPackageName {
        /// The name.
        name: Name,
    },
    /// There is a file of that name.
    #[error("{} is there already: choose another name, or add --force", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The node did not come to the end of a backup.
    #[error("the backup was cut off and nothing is saved: {error}; the log of the node says why")]
    Cut {
        /// What became of the connection.
        error: ApiError,
    },
    /// A backup cannot be read.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A data folder cannot be looked at.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Files of a node are not what was written.
    #[error("{first}{}", and_others(*.faults))]
    Damaged {
        /// How many.
        faults: usize,
        /// The first of them, and what is wrong with it.
        first: Box<str>,
    },
    /// Files of a node cannot be read, so that nobody knows what is in them.
    #[error("{first}{}", and_others(*.faults))]
    Unchecked {
        /// How many.
        faults: usize,
        /// The first of them, and why.
        first: Box<str>,
    },
    /// Nothing can be read from stdin.
    #[error("cannot read the message from stdin: {reason}")]
    Stdin {
        /// What the system said.
        reason: std::io::Error,
    },
    /// What was given as JSON is none.
    #[error("{what} is no JSON: {error}")]
    BadJson {
        /// What was given.
        what: Box<str>,
        /// What is wrong, and where.
        error: serde_json::Error,
    },
    /// What was given as a text is none.
    #[error(
        "the value is no text in UTF-8: byte {at} cannot be in it; bytes are of `--type bytes`"
    )]
    NoText {
        /// Which byte, from 0.
        at: usize,
    },
    /// Something is larger than a node takes.
    #[error("{what} has more than {limit}, the most a node takes")]
    TooLarge {
        /// What it is.
        what: Box<str>,
        /// The bound.
        limit: ByteSize,
    },
    /// A package cannot be made or read.
    #[error("{}: {error}", path.display())]
    Build {
        /// What was to be a package, as it was named.
        path: PathBuf,
        /// What is wrong with it.
        error: BuildError,
    },
    /// A package was to be made of one.
    #[error("{} is a package already: `odeum package inspect` shows it", path.display())]
    BuiltAlready {
        /// The file.
        path: PathBuf,
    },
    /// What is to be signed is no file of a package.
    #[error(
        "{what} is no .odeum file: make one with `odeum package build`, or get one with `odeum package pull`"
    )]
    NotBuilt {
        /// What was named.
        what: Box<str>,
    },
    /// There is a manifest already.
    #[error("{} is there already: change it, or remove it first", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
    },
    /// A package is whole and not trusted.
    #[error("{what}: {error}")]
    Refused {
        /// What was named.
        what: Box<str>,
        /// Why not.
        error: TrustError,
    },
    /// A text is no public key.
    #[error(transparent)]
    PublicKey(#[from] KeyError),
    /// A key cannot be read or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The user's packages cannot be read or written.
    #[error(transparent)]
    Packages(#[from] StoreError),
    /// The folder of compiled modules cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A registry cannot be reached, or refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The node does not take the file as firmware.
    #[error("{} cannot be deployed: {error}", path.display())]
    Package {
        /// The file.
        path: PathBuf,
        /// The node's words.
        error: ApiError,
    },
    /// The name of a file cannot be the name of a firmware.
    #[error("{} cannot give the firmware its name ({reason}): choose one with --name", path.display())]
    NoName {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: IdError,
    },
    /// The firmware was deployed and cannot run.
    #[error("{name} is deployed and does not run: {reason}")]
    Failed {
        /// The firmware.
        name: String,
        /// Why it does not run.
        reason: Box<str>,
    },
    /// The firmware was deployed and did not start in time.
    #[error("{name} is deployed and {state} after {waited}{}; watch it with `odeum get firmware`", because(.reason.as_deref()))]
    NotRunning {
        /// The firmware.
        name: String,
        /// How it fares.
        state: crate::api::types::FirmwareState,
        /// How long was waited.
        waited: HumanDuration,
        /// Its last error.
        reason: Option<Box<str>>,
    },
    /// The asked node knows no such peer.
    #[error("{node} has no peer called {peer}; `odeum get links` shows those it has")]
    NoLink {
        /// The asked node.
        node: NodeId,
        /// Who was looked for.
        peer: NodeId,
    },
    /// A file for `odeum apply` is not as it should be.
    #[error(transparent)]
    Declared(#[from] DeclaredError),
    /// Some of what was to be applied could not be, or does not run.
    #[error("{failed} of {all} failed: {reasons}")]
    NotApplied {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
        /// Which, and why.
        reasons: Box<str>,
    },
    /// The result cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
    /// The result cannot be put into JSON: a programming error.
    #[error("cannot write the result as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        Self::Api { error }
    }
}

impl CliError {
    pub(crate) fn exit_code(&self) -> ExitCode {
        let damaged = match self {
            Self::Damaged { .. } => true,
            Self::Backup(error) => error.is_damage(),
            Self::Build { error: BuildError::Container(error), .. } => error.is_damage(),
            Self::Registry(RegistryError::Container { error, .. }) => error.is_damage(),
            _ => false,
        };
        if damaged {
            return ExitCode::from(DAMAGED);
        }
        let usage = match self {
            Self::Api { error: ApiError::BadUrl { .. } | ApiError::NoPath { .. } }
            | Self::BadJson { .. }
            | Self::NoText { .. }
            | Self::Declared(_)
            | Self::PublicKey(_)
            | Self::NoPackageName { .. }
            | Self::NoName { .. } => true,
            Self::Config(error) => error.is_usage(),
            Self::Join(error) => error.is_usage(),
            _ => false,
        };
        if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
    }
}

fn hint(error: &ApiError) -> &'static str {
    match error {
        ApiError::NotRunning { .. } => {
            ": start one with `odeum up --dev`, or name another with --api-url"
        }
        ApiError::NotOdeum { .. } => ": name the node's address with --api-url",
        ApiError::Refused { retryable: true, .. } => " (this may pass: try again)",
        _ => "",
    }
}

fn and_others(faults: usize) -> String {
    match faults {
        0 | 1 => String::new(),
        more => format!(", and {} more files are not as they should be", more - 1),
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}
