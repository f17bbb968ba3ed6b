//! What a firmware has logged, and what became of it.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

use humantime::format_rfc3339_millis;
use odeum_proto::{
    Epoch, NodeId,
    chronicle::{Level, Line, Stream},
};
use serde::{Deserialize, Serialize};

use super::text;

/// One line of `GET /v1/firmware/{name}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum LogLine {
    /// A line that the firmware has logged.
    Line {
        /// When, as RFC 3339 has it, by the clock of its node.
        at: String,
        /// The node that ran it.
        node: NodeId,
        /// Which replica, from 1.
        #[serde(default = "first")]
        replica: u32,
        /// The activation.
        epoch: Epoch,
        /// `error`, `warn`, `info`, `debug` or `trace`; `info` for what was written to an output.
        level: LogLevel,
        /// Where it comes from.
        stream: LogStream,
        /// What it says.
        text: String,
        /// Where to read on behind it: the query's `after`.
        #[serde(with = "text")]
        cursor: LogCursor,
    },
    /// Lines before the next one are not kept any more: the firmware logs faster than they were
    /// read.
    Missed {
        /// The node that ran it.
        node: NodeId,
        /// How many.
        lines: u64,
    },
    /// What follows is from another node. What the last one logged in the end may be missing when
    /// it has gone.
    Moved {
        /// Where it is now.
        node: NodeId,
        /// Which replica, from 1.
        #[serde(default = "first")]
        replica: u32,
        /// The activation.
        epoch: Epoch,
    },
    /// It has no node at present.
    Waiting {
        /// Why not.
        reason: String,
    },
    /// Nothing was logged for a while. Comes first when there is nothing, and every few seconds.
    Progress {
        /// Where to read on.
        #[serde(with = "text::optional", default)]
        cursor: Option<LogCursor>,
    },
    /// There is no more to come from here.
    End {
        /// Why.
        reason: String,
    },
}

impl LogLine {
    /// A line of `node`, from its ring.
    pub(crate) fn of(node: &NodeId, ring: u64, replica: u32, line: Line) -> Self {
        let Line { number, at_ms, epoch, level, stream, text } = line;
        let cursor = LogCursor { node: node.clone(), ring, number, epoch, replica };
        Self::Line {
            at: moment(at_ms),
            node: node.clone(),
            replica,
            epoch,
            level: level.into(),
            stream: stream.into(),
            text,
            cursor,
        }
    }
}

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What is of use to an operator.
    Info,
    /// What is of use to who wrote the guest.
    Debug,
    /// Everything.
    Trace,
}

super::displayed_as_in_json! {
    LogLevel {
        Error => "error",
        Warn => "warn",
        Info => "info",
        Debug => "debug",
        Trace => "trace",
    }
}

impl From<Level> for LogLevel {
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

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    /// The guest logged it.
    Log,
    /// The guest wrote it to its standard output.
    Stdout,
    /// The guest wrote it to its standard error.
    Stderr,
    /// Its node says it of the guest: what it was denied, what was dropped.
    Node,
}

super::displayed_as_in_json! {
    LogStream { Log => "log", Stdout => "stdout", Stderr => "stderr", Node => "node" }
}

impl From<Stream> for LogStream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Log => Self::Log,
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
            Stream::Node => Self::Node,
        }
    }
}

/// A line, for who reads on behind it. As text opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCursor {
    /// Whose line.
    pub(crate) node: NodeId,
    /// Of which of its rings.
    pub(crate) ring: u64,
    /// Its place there.
    pub(crate) number: u64,
    /// The activation.
    pub(crate) epoch: Epoch,
    /// Of which replica.
    pub(crate) replica: u32,
}

fn first() -> u32 {
    1
}

impl fmt::Display for LogCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, ring, number, epoch, replica } = self;
        write!(f, "{node}:{ring:x}:{number}:{epoch}")?;
        if *replica == 1 { Ok(()) } else { write!(f, ":{replica}") }
    }
}

/// A text that is no cursor. Take one from a line of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no cursor: take the `cursor` of a line of the log")]
pub struct CursorError {
    given: Box<str>,
}

impl FromStr for LogCursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let read = || {
            let mut parts = text.split(':');
            let mut cursor = Self {
                node: parts.next()?.parse().ok()?,
                ring: u64::from_str_radix(parts.next()?, 16).ok()?,
                number: parts.next()?.parse().ok()?,
                epoch: parts.next()?.parse().ok()?,
                replica: 1,
            };
            if let Some(replica) = parts.next() {
                cursor.replica = replica.parse().ok()?;
            }
            parts.next().is_none().then_some(cursor)
        };
        read()
            .ok_or_else(|| CursorError { given: text.chars().take(80).collect::<String>().into() })
    }
}

/// Where to read on in the lines of several replicas: a cursor of each, with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogCursors(Vec<LogCursor>);

impl LogCursors {
    /// That of a replica; `None` when nothing of it was read.
    pub(crate) fn of(&self, replica: u32) -> Option<&LogCursor> {
        self.0.iter().find(|cursor| cursor.replica == replica)
    }

    /// That of its replica is this one from now on.
    pub fn put(&mut self, cursor: LogCursor) {
        self.0.retain(|other| other.replica != cursor.replica);
        self.0.push(cursor);
    }
}

impl From<LogCursor> for LogCursors {
    fn from(cursor: LogCursor) -> Self {
        Self(vec![cursor])
    }
}

impl fmt::Display for LogCursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(","))
    }
}

impl FromStr for LogCursors {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Query of `GET /v1/firmware/{name}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// At most so many lines of those that are there; all that are kept when `None`.
    pub tail: Option<u32>,
    /// None of them older than this, such as `10m`.
    pub since: Option<crate::config::HumanDuration>,
    /// Whether those that come are told as well, also when the firmware goes to another node.
    pub follow: bool,
    /// Begin behind this line, or these of several replicas. `tail` and `since` mean nothing for
    /// those then.
    #[serde(with = "text::optional")]
    pub after: Option<LogCursors>,
}

/// `GET /v1/firmware/{name}/events`: something that became of a firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareEvent {
    /// When it happened last, as RFC 3339 has it, by the clock of its node.
    pub at: String,
    /// When it happened first, with nothing else in between.
    pub first_at: String,
    /// How often it did.
    pub count: u32,
    /// Which node saw it.
    pub node: NodeId,
    /// Which replica, from 1; the first also when it is about all of them.
    #[serde(default = "first")]
    pub replica: u32,
    /// The activation.
    pub epoch: Epoch,
    /// `deployed`, `started`, `waits`, `running`, `crashed`, `restarted`, `given-up`,
    /// `rolled-back`, `idle`, `woken`, `exceeded`, `completed`, `stopped`, `renewed`, `updating`,
    /// `updated`, `scaled`, `not-alive`, `configured` or `moved`. There may be more some day.
    pub event: String,
    /// What there is to say of it.
    pub text: String,
}

/// A time of day as RFC 3339 has it.
pub(crate) fn moment(at_ms: u64) -> String {
    // So far in the future that no calendar has it: nobody's clock says that.
    const LAST: u64 = 253_402_300_799_000;
    format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms.min(LAST))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_what_is_none_is_refused() {
        let node: NodeId = "n1".parse().expect("a name");
        let mut cursor = LogCursor { node, ring: u64::MAX, number: 7, epoch: Epoch(3), replica: 1 };
        assert_eq!(cursor.to_string(), "n1:ffffffffffffffff:7:3");
        assert_eq!(cursor.to_string().parse().as_ref(), Ok(&cursor));
        let mut all = LogCursors::default();
        all.put(cursor.clone());
        cursor.replica = 2;
        all.put(cursor.clone());
        cursor.number = 9;
        all.put(cursor);
        assert_eq!(all.to_string(), "n1:ffffffffffffffff:7:3,n1:ffffffffffffffff:9:3:2");
        assert_eq!(all.to_string().parse(), Ok(all));
        for bad in ["", "n1", "n1:1:2", "n1:x:2:3", "n1:1:2:3:x", "n1:1:2:3:4:5", "n 1:1:2:3"] {
            assert!(bad.parse::<LogCursor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_is_one_object_whose_cursor_is_text() {
        let node: NodeId = "n1".parse().expect("a name");
        let (level, stream) = (Level::Warn, Stream::Stderr);
        let line =
            Line { number: 2, at_ms: 1_000, epoch: Epoch(3), level, stream, text: "x".to_owned() };
        let json = serde_json::to_value(LogLine::of(&node, 10, 1, line)).expect("serializes");
        let expected = serde_json::json!({
            "event": "line", "at": "1970-01-01T00:00:01.000Z", "node": "n1", "replica": 1,
            "epoch": 3,
            "level": "warn", "stream": "stderr", "text": "x", "cursor": "n1:a:2:3",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn any_number_is_some_moment() {
        assert_eq!(moment(u64::MAX), "9999-12-31T23:59:59.000Z");
    }
}
