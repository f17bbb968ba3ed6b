//! `[limits]`: how much an instance may take.

use odeum_proto::limits::{COMMIT_BYTES, MESSAGE_BYTES};
use serde::{Deserialize, Serialize};

use super::bounded::{Bytes, Count, Time};
use crate::api::types::MAX_DEADLINE;

/// Linear memory: from one page of WebAssembly to all that 32 bits address.
pub type MemoryLimit = Bytes<{ 64 << 10 }, { 4 << 30 }>;

/// Time for one message: from what a busy machine may take to schedule it at all to the longest
/// that anybody waits for a reply.
pub type MessageTime = Time<10, { MAX_DEADLINE.as_millis() as u64 }>;

/// Stack: from what a shallow C program needs to what the deepest parsers do. Each instance at work
/// has one.
pub type StackLimit = Bytes<{ 64 << 10 }, { 8 << 20 }>;

/// How much an instance may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Linear memory of all its memories together, 64 KiB to 4 GiB. When left out: the node's
    /// `firmware.memory` (64 MiB).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryLimit>,
    /// Time that it computes on one message, 10 ms and more. When left out: the node's
    /// `firmware.message-time` (1 s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_time: Option<MessageTime>,
    /// Elements of all its tables together, 8 bytes each. Default: 65,536, which are many functions.
    pub table_elements: Count<0, 10_000_000>,
    /// Its stack, rounded up to a power of two, 64 KiB to 8 MiB. Default: 512 KiB, deep enough for
    /// recursive parsers.
    pub stack: StackLimit,
    /// Core instances of a component, and its memories and tables of each sort; a core module is
    /// always one instance. Default: 64, several times what toolchains make.
    pub instances: Count<1, 1_000>,
    /// What it writes out on one message: its reply and what it publishes, up to 3 MiB. A reply
    /// has at most 1 MiB in any case. Default: 1 MiB.
    pub output: Bytes<0, { COMMIT_BYTES as u64 }>,
    /// What it logs on one message; the rest is dropped, and the log says how much. Default: 64
    /// KiB.
    pub log: Bytes<0, { 1 << 20 }>,
    /// WebAssembly instructions on one message. When left out they are not counted, and code is up
    /// to twice as fast: the time limit does without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Count<1, { i64::MAX as u64 }>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            message_time: None,
            table_elements: Count::clamped(64 << 10),
            stack: Bytes::clamped(512 << 10),
            instances: Count::clamped(64),
            output: Bytes::clamped(MESSAGE_BYTES as u64),
            log: Bytes::clamped(64 << 10),
            fuel: None,
        }
    }
}
