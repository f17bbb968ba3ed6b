//! The JSON of the HTTP API: what the server writes and every client reads.
//!
//! One home for both sides, so that the command line, the demo and the server cannot drift apart.
//! Fields are only ever added; a client ignores those it does not know.

mod backup;
mod blob;
mod call;
mod change;
mod chronicle;
mod describe;
mod firmware;
mod link;
mod moves;
mod node;
mod placement;
mod program;
mod session;
mod settings;
mod store;
pub(crate) mod text;
mod watch;
mod word;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use backup::{
    BackupGroup, BackupSummary, CompactReport, CompactedLog, CompactedReplica, Restored,
};
pub use blob::{BlobPage, BlobSummary, BlobUsage};
pub use call::{
    CallAnswer, CallOptions, DEADLINE_HEADER, DEFAULT_DEADLINE, EPOCH_HEADER, KEY_HEADER,
    MAX_DEADLINE, NODE_HEADER, REPLAYED_HEADER, REQUEST_HEADER, SESSION_HEADER,
};
pub use change::{
    BatchAnswer, BatchBody, Changed, CompareBody, DefinitionBody, OperationBody, OperationResult,
    SessionCreated, SettingsBody, TransactionAnswer, TransactionBody, TtlBody, Written,
};
pub(crate) use chronicle::moment;
pub use chronicle::{
    CursorError, FirmwareEvent, LogCursor, LogCursors, LogLevel, LogLine, LogOptions, LogStream,
};
pub use describe::{FirmwareDescription, PackageReport, Renewed, RolledBack, UpdateReport};
pub use firmware::{
    DeployOptions, Deployed, FirmwareState, FirmwareSummary, ReplicaSummary, ScaleBody, Scaled,
};
pub use link::{CertificateSummary, ClassTraffic, LinkReport, LinkState, LinksReport};
pub use moves::{MoveBegun, MoveBody, MoveState, MoveSummary};
pub use node::{
    ActorNode, LeaseSummary, LinkSummary, LoadSummary, NodeRestart, NodeState, NodeStatus,
    NodeSummary, StoreRole, StoreSummary,
};
pub use placement::{Explanation, NodeShare, PlacedEntity, PlacementReport, Possibility};
pub use program::{ProgramSummary, SessionProgram, Text};
pub use session::{
    DEFAULT_PAGE, LEADER_HEARD_HEADER, MAX_PAGE, PastValue, REVISION_HEADER, Session, SessionPage,
    SessionSummary, SessionVariable, VariableHistory, VariablePage,
};
pub use settings::{
    Applied, ApplyBody, Change, Difference, FirmwareSettings, LimitSettings, Nodes, Replicas,
    RestartSettings, SETTINGS_HEADER, SettingsError, TransientSetting, UpdateSettings,
};
pub use store::{GroupHealth, GroupReport, MemberReport, StoreReport};
pub use watch::{After, WatchChange, WatchLine, WatchWhat};
pub use word::{Reading, UnknownWord, value_type};

/// How long a node that leaves may take to give away what it has, unless told otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

/// The longest such time: whoever asks keeps a connection open for it.
pub const MAX_PATIENCE: Duration = Duration::from_secs(600);

/// Body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A short fixed word for machines, such as `not-found`.
    pub error: String,
    /// What happened, for people.
    pub message: String,
    /// Whether the same request (a call: with the same idempotency key) may succeed a moment later.
    pub retryable: bool,
}

/// Prints an enum as its JSON has it.
macro_rules! displayed_as_in_json {
    ($name:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self { $(Self::$variant => $text),* })
            }
        }
    };
}
use displayed_as_in_json;
