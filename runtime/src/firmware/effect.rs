//! What a guest does while it handles one message, buffered until the host commits it.
//!
//! Pure but for the log lines, which leave at once: they matter most when the guest does not come
//! to the end of its message.

use std::{borrow::Cow, collections::BTreeMap};

use odeum_proto::{
    chronicle::{self, Stream},
    limits,
    session::Write,
};

use super::{chronicle::GuestLog, deeds::Deed, error::GuestLimit};
use crate::package::manifest::Limits;

/// Lines that one message may log; more are counted and dropped, so that a chatty guest costs a
/// bounded amount of log.
const LOG_LINES: u32 = 64;

/// Longest log line, in bytes; the rest is cut.
pub(super) const LOG_LINE_BYTES: usize = 2 << 10;

/// The variables of the session that a message is about, as they were before it.
pub trait Variables: Send + Sync + 'static {
    /// The value of `key`.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
}

/// What a message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The guest handled it.
    Done(Effect),
    /// The guest refused it; what it wrote is dropped.
    Refused {
        /// What the handler returned.
        code: i32,
        /// What it said with `reply`.
        reason: Box<str>,
    },
}

/// What a handled message changes and answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// The last write to each variable, in the order of their names.
    pub writes: Vec<Write>,
    /// The reply; empty when the guest gave none.
    pub reply: Vec<u8>,
    /// What is done to others when the rest is committed.
    pub deeds: Vec<Deed>,
}

#[derive(Debug)]
pub(super) struct Buffer {
    /// Most bytes of the reply.
    output_allowed: usize,
    /// Most bytes of the log.
    log_allowed: usize,
    writes: BTreeMap<String, Option<Vec<u8>>>,
    reply: Vec<u8>,
    /// Calls of `var_set` and `var_delete`.
    calls: usize,
    /// Bytes of their keys and values.
    bytes: usize,
    lines: u32,
    /// Lines that were dropped.
    dropped: u32,
    /// Bytes of the lines that were not.
    logged: usize,
}

impl Buffer {
    /// A buffer that bounds what the guest says.
    pub(super) fn new(package: &Limits) -> Self {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            output_allowed: bytes(package.output.bytes()).min(limits::MESSAGE_BYTES),
            log_allowed: bytes(package.log.bytes()),
            writes: BTreeMap::new(),
            reply: Vec::new(),
            calls: 0,
            bytes: 0,
            lines: 0,
            dropped: 0,
            logged: 0,
        }
    }

    /// What this message wrote to `key`: `None` when nothing, `Some(None)` when it deleted it.
    pub(super) fn written(&self, key: &str) -> Option<Option<&[u8]>> {
        self.writes.get(key).map(Option::as_deref)
    }

    pub(super) fn set(&mut self, key: &str, value: &[u8]) -> Result<(), GuestLimit> {
        let (got, allowed) = (value.len(), limits::VARIABLE_BYTES);
        if got > allowed {
            return Err(GuestLimit::Variable { got, allowed });
        }
        self.count(key.len() + value.len())?;
        self.writes.insert(key.to_owned(), Some(value.to_vec()));
        Ok(())
    }

    pub(super) fn delete(&mut self, key: &str) -> Result<(), GuestLimit> {
        self.count(key.len())?;
        self.writes.insert(key.to_owned(), None);
        Ok(())
    }

    pub(super) fn reply(&mut self, body: &[u8]) -> Result<(), GuestLimit> {
        let (got, allowed) = (body.len(), self.output_allowed);
        if got > allowed {
            return Err(GuestLimit::Reply { got, allowed });
        }
        self.reply.clear();
        self.reply.extend_from_slice(body);
        Ok(())
    }

    /// Has the reply be why the host refuses the message for the guest: no more than a refusal tells, and
    /// whatever the guest may reply, as it may not know of that message at all.
    pub(super) fn refuse(&mut self, reason: &str) {
        self.reply.clear();
        let told = &reason[..reason.floor_char_boundary(LOG_LINE_BYTES)];
        self.reply.extend_from_slice(told.as_bytes());
    }

    pub(super) fn log(&mut self, to: &GuestLog, level: Level, text: &[u8]) {
        let logged = self.logged + text.len().min(LOG_LINE_BYTES);
        if self.lines >= LOG_LINES || logged > self.log_allowed {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.lines += 1;
        self.logged = logged;
        emit(to, level, text);
    }

    /// Says once how many lines were dropped.
    pub(super) fn finish_log(&self, to: &GuestLog) {
        if self.dropped > 0 {
            let firmware = to.firmware();
            let (dropped, allowed, bytes) = (self.dropped, LOG_LINES, self.log_allowed);
            tracing::warn!(%firmware, dropped, allowed, bytes, "guest log lines dropped");
            say_dropped(to, u64::from(dropped));
        }
    }

    /// The effect, when the handler returned 0.
    pub(super) fn effect(self) -> Result<Effect, GuestLimit> {
        let (got, allowed) = (self.bytes + self.reply.len(), limits::COMMIT_BYTES);
        if got > allowed {
            return Err(GuestLimit::CommitBytes { got, allowed });
        }
        let write = |(key, value): (String, Option<Vec<u8>>)| match value {
            Some(value) => Write::Set { key, value },
            None => Write::Delete { key },
        };
        let writes = self.writes.into_iter().map(write).collect();
        Ok(Effect { writes, reply: self.reply, deeds: Vec::new() })
    }

    /// The reason, when it returned something else.
    pub(super) fn refusal(self, code: i32) -> Answer {
        let said = text(&self.reply);
        let reason = if said.is_empty() { format!("code {code}").into() } else { said };
        Answer::Refused { code, reason: reason.into() }
    }

    fn count(&mut self, bytes: usize) -> Result<(), GuestLimit> {
        self.calls += 1;
        self.bytes += bytes;
        if self.calls > limits::WRITES_PER_MESSAGE {
            return Err(GuestLimit::Writes { allowed: limits::WRITES_PER_MESSAGE });
        }
        if self.bytes > limits::COMMIT_BYTES {
            let (got, allowed) = (self.bytes, limits::COMMIT_BYTES);
            return Err(GuestLimit::CommitBytes { got, allowed });
        }
        Ok(())
    }
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// As the ABI numbers them; what it does not know is the quietest.
    pub(super) fn of(level: i32) -> Self {
        match level {
            0 => Self::Error,
            1 => Self::Warn,
            2 => Self::Info,
            3 => Self::Debug,
            _ => Self::Trace,
        }
    }
}

impl From<Level> for chronicle::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

/// A line that the guest logs.
pub(super) fn emit(to: &GuestLog, level: Level, line: &[u8]) {
    let (text, firmware) = (text(line), to.firmware());
    to.keep(level.into(), Stream::Log, &text);
    match level {
        Level::Error => tracing::error!(target: "odeum::guest", %firmware, %text, "guest log"),
        Level::Warn => tracing::warn!(target: "odeum::guest", %firmware, %text, "guest log"),
        Level::Info => tracing::info!(target: "odeum::guest", %firmware, %text, "guest log"),
        Level::Debug => tracing::debug!(target: "odeum::guest", %firmware, %text, "guest log"),
        Level::Trace => tracing::trace!(target: "odeum::guest", %firmware, %text, "guest log"),
    }
}

/// A line of one of the guest's output streams. Programs report their progress on standard error,
/// too, so both are as loud.
pub(super) fn emit_from(to: &GuestLog, stream: Stream, line: &[u8]) {
    let (text, firmware) = (text(line), to.firmware());
    to.keep(chronicle::Level::Info, stream, &text);
    let stream = if stream == Stream::Stderr { "stderr" } else { "stdout" };
    tracing::info!(target: "odeum::guest", %firmware, stream, %text, "guest log");
}

/// Says among the guest's lines that some are missing. The node's log says it in its own way.
pub(super) fn say_dropped(to: &GuestLog, dropped: u64) {
    let text = format!("{dropped} lines dropped: it logs too much");
    to.keep(chronicle::Level::Warn, Stream::Node, &text);
}

/// The beginning of what a guest said, as text.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.get(..LOG_LINE_BYTES).unwrap_or(bytes))
}
