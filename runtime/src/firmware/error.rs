//! What can go wrong with firmware, by area: the engine, a package, a guest at work, the cache.

use std::{fmt, sync::Arc, time::Duration};

use odeum_proto::{
    Digest,
    store::{Measure, Threshold},
};
use serde::{Deserialize, Serialize};

use super::{
    abi::{Kind, detect::AbiError},
    cache::FetchError,
};
use crate::package::{build::BuildError, manifest::Abi, trust::TrustError};

/// The engine cannot be started. Fatal for the node.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The machine lacks something that WebAssembly needs.
    #[error("this machine cannot run WebAssembly: {reason}")]
    Unsupported {
        /// What the engine said.
        reason: Box<str>,
    },
    /// The thread that interrupts busy guests cannot be started.
    #[error("cannot start the thread that interrupts busy guests: {source}")]
    Ticker {
        /// What the system said.
        source: std::io::Error,
    },
}

/// A file that is no firmware. Nothing was kept; correct the file and deploy it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// Larger than the bound.
    #[error("the package has {got} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its length.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// Neither WebAssembly nor its text form.
    #[error("this is no WebAssembly module: it is {found}")]
    NotWasm {
        /// What it is instead, in words.
        found: Box<str>,
    },
    /// A text that looks like WAT and is not.
    #[error("this WebAssembly text does not parse at line {line}, column {column}: {reason}")]
    BadText {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser said.
        reason: Box<str>,
    },
    /// Begins like a module and is not valid.
    #[error("this WebAssembly module is not valid: {reason}")]
    Invalid {
        /// What the validator said, with the offset.
        reason: Box<str>,
    },
    /// An export that the ABI asks for is not there.
    #[error("the module does not export `{export}`: expected {expected}")]
    MissingExport {
        /// Its name.
        export: &'static str,
        /// Its type.
        expected: &'static str,
    },
    /// It imports a function whose outcome is told by an export that is not there.
    #[error(
        "the module imports `odeum.{import}` and does not export `{export}`, by which it would be \
         told what comes of that: expected {expected}"
    )]
    NotHeard {
        /// The function.
        import: &'static str,
        /// The name of the export.
        export: &'static str,
        /// Its type.
        expected: &'static str,
    },
    /// An export has another type than the ABI asks for.
    #[error("the module's export `{export}` is {got}, expected {expected}")]
    WrongExport {
        /// Its name.
        export: &'static str,
        /// The type the ABI asks for.
        expected: &'static str,
        /// The type it has.
        got: Box<str>,
    },
    /// Imports that no host function answers.
    #[error(
        "the module imports what Odeum does not offer to a module of the ABI {abi}: {imports}{}",
        MayTrap(*may_trap)
    )]
    UnknownImports {
        /// Each as `module.name`, separated by commas.
        imports: Box<str>,
        /// The ABI it was taken for.
        abi: Abi,
        /// Whether all of them are functions, and not too many, so that the manifest may have them trap.
        may_trap: bool,
    },
    /// More functions that there are not than the manifest may have trap.
    #[error(
        "the module imports {got} functions that Odeum does not offer, at most {limit} may be missing \
         with `missing-imports = \"trap\"`"
    )]
    StandIns {
        /// How many.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// No ABI fits it, or more than one does.
    #[error(transparent)]
    Abi(#[from] AbiError),
    /// An import of the right name and another type.
    #[error("the module imports `{import}` as {got}, it is {expected}")]
    WrongImport {
        /// It, as `module.name`.
        import: Box<str>,
        /// The type it has.
        expected: &'static str,
        /// The type the module wants.
        got: Box<str>,
    },
    /// The manifest asks for something that nothing here would see to.
    #[error(
        "the manifest asks for `{key}`, which a guest of the ABI {abi} cannot have here: leave it out"
    )]
    Beyond {
        /// Its key.
        key: &'static str,
        /// The ABI it was taken for.
        abi: Abi,
    },
    /// A component imports what there is not.
    #[error("the component cannot be linked as {abi}: {reason}")]
    NotLinked {
        /// The ABI it was taken for.
        abi: Abi,
        /// What is missing or has another type.
        reason: Box<str>,
    },
    /// The compiler gave up on a valid module, or was stopped.
    #[error("the module cannot be compiled: {reason}")]
    Compile {
        /// What it said.
        reason: Box<str>,
    },
}

/// How a module may do without what it imports, as the end of a sentence; nothing when it cannot.
struct MayTrap(bool);

impl fmt::Display for MayTrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 {
            f.write_str(
                "; if it does its work without calling them, write `missing-imports = \"trap\"` in \
                 its manifest",
            )?;
        }
        Ok(())
    }
}

/// A guest did not come to the end of a message. Nothing of the message was kept, and the
/// instance is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GuestFailure {
    /// It trapped.
    #[error("{reason}{}", Frames(frames))]
    Trapped {
        /// The trap.
        reason: Box<str>,
        /// Names of the guest's functions, innermost first.
        frames: Vec<Box<str>>,
    },
    /// It exceeded a limit.
    #[error(transparent)]
    Limit(#[from] GuestLimit),
    /// Its node does not give what its manifest asks for, or cannot.
    #[error("its manifest asks for {what}, and {reason}")]
    NotGranted {
        /// What.
        what: Box<str>,
        /// Why it is not had, and what to do.
        reason: Box<str>,
    },
    /// It ended itself.
    #[error("it exited with code {code}{hint}")]
    Exited {
        /// Its exit code.
        code: i32,
        /// What it was denied before, if that is known.
        hint: Hint,
    },
    /// It said itself that it cannot start.
    #[error("it did not start: {reason}")]
    NotStarted {
        /// What it said.
        reason: Box<str>,
    },
    /// The store refused what it wrote, after it was told that it was kept.
    #[error("what it wrote since its last checkpoint is lost: {reason}")]
    NotKept {
        /// Why.
        reason: Box<str>,
    },
    /// It used more of the machine than it may, for too long.
    #[error("it used {} for {:?}", Used(threshold), threshold.lasting)]
    Exceeded {
        /// What it exceeded.
        threshold: Threshold,
    },
    /// It did not show that it is alive, several times in a row.
    #[error("it is not alive: {failures} checks in a row failed, the last one because {reason}")]
    NotAlive {
        /// How many.
        failures: u32,
        /// Why the last one did.
        reason: Box<str>,
    },
    /// The process of its own that it ran in ended, or could not be had.
    #[error("its host process failed: {reason}")]
    Process {
        /// How it ended.
        reason: Box<str>,
    },
    /// It is for something else than it was started for.
    #[error("it is a guest for {kind}")]
    OtherKind {
        /// What it is for.
        kind: Kind,
    },
}

struct Used<'a>(&'a Threshold);

impl fmt::Display for Used<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = self.0.above;
        match self.0.of {
            Measure::Cpu => write!(f, "more than {above} % of a core"),
            Measure::Memory => write!(f, "more than {above} bytes of memory"),
        }
    }
}

/// What a guest was denied before it ended, as the end of a sentence; often nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// It looked for folders and has none.
    pub no_folders: bool,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.no_folders {
            f.write_str(
                "; it looked for folders and has none: write `folders = [{ guest = \"/data\", host = \
                 \"/srv/data\" }]` under `[capabilities]` in its manifest to give it one",
            )?;
        }
        Ok(())
    }
}

/// A limit that a guest exceeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GuestLimit {
    /// It ran longer than one message may.
    #[error("it ran longer than {allowed:?} on one message")]
    Time {
        /// The firmware's limit.
        allowed: Duration,
    },
    /// It asked for more memory than it may have.
    #[error("it asked for {asked} bytes of memory, at most {allowed} are allowed")]
    Memory {
        /// All memories together as they would have been.
        asked: u64,
        /// The firmware's limit.
        allowed: u64,
    },
    /// It asked for more elements of tables than it may have.
    #[error("it asked for {asked} elements of tables, at most {allowed} are allowed")]
    Table {
        /// All tables together as they would have been.
        asked: u64,
        /// The firmware's limit.
        allowed: u64,
    },
    /// It is made of more core instances, memories or tables than it may be.
    #[error("it asked for {asked} {what}, at most {allowed} are allowed by `limits.instances`")]
    Items {
        /// Of what.
        what: Box<str>,
        /// How many there would have been.
        asked: usize,
        /// The firmware's limit.
        allowed: usize,
    },
    /// It carried out more instructions than it may.
    #[error("it carried out more than {allowed} instructions on one message")]
    Fuel {
        /// The firmware's limit.
        allowed: u64,
    },
    /// It took longer to start than it may.
    #[error("it was not ready after {allowed:?}")]
    Boot {
        /// The firmware's limit.
        allowed: Duration,
    },
    /// It waited longer for something outside than one message may.
    #[error("it waited longer than {allowed:?} on one message")]
    Waiting {
        /// The bound.
        allowed: Duration,
    },
    /// It made more writes in one message than a commit takes.
    #[error("it made more than {allowed} variable writes on one message")]
    Writes {
        /// The bound.
        allowed: usize,
    },
    /// A variable is too large.
    #[error("it set a variable to {got} bytes, at most {allowed} are allowed")]
    Variable {
        /// Its size.
        got: usize,
        /// The bound.
        allowed: usize,
    },
    /// Its writes and its reply together are more than a commit takes.
    #[error("it wrote {got} bytes on one message, at most {allowed} are allowed")]
    CommitBytes {
        /// Bytes of all keys, values and the reply.
        got: usize,
        /// The bound.
        allowed: usize,
    },
    /// Its reply is too large.
    #[error("its reply has {got} bytes, at most {allowed} are allowed")]
    Reply {
        /// Its size.
        got: usize,
        /// The bound.
        allowed: usize,
    },
}

struct Frames<'a>(&'a [Box<str>]);

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, frame) in self.0.iter().enumerate() {
            write!(f, "{}{frame}", if i == 0 { " in " } else { " < " })?;
        }
        Ok(())
    }
}

/// A package cannot be had. Clones share their cause, because many may wait for one package.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// It is no firmware.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// It is no package, or one that was damaged or tampered with.
    #[error(transparent)]
    Container(Arc<BuildError>),
    /// This node does not take it.
    #[error(transparent)]
    Refused(#[from] TrustError),
    /// Bytes that came under a digest are others.
    #[error("these bytes are package {is}, not {claimed}")]
    OtherDigest {
        /// Their digest.
        is: Digest,
        /// The digest they came under.
        claimed: Digest,
    },
    /// It is not on this node and could not be fetched from another.
    #[error("package {digest} is not on this node, and no other node gave it: {reason}")]
    Fetch {
        /// The package.
        digest: Digest,
        /// What the others said.
        reason: FetchError,
    },
    /// The cache did not answer; it restarts. Try again.
    #[error("the package cache is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: Box<str>,
    },
}

impl From<BuildError> for CacheError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Module(error) => error.into(),
            other => Self::Container(Arc::new(other)),
        }
    }
}

impl CacheError {
    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Fetch { .. } | Self::Unavailable { .. })
    }
}
