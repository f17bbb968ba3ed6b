//! What a host process logs, as lines of its node's log: the same words and fields as if the guest
//! ran inside the node.

use std::fmt;

use odeum_proto::chronicle::{self, Stream};
use serde::{Deserialize, Serialize};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::firmware::{
    chronicle::GuestLog,
    effect::{LOG_LINE_BYTES, say_dropped},
};

/// What guests say is logged under it.
pub(super) const GUEST: &str = "odeum::guest";

/// Most fields of a line. No line of firmware has as many.
const FIELDS: usize = 8;

/// Longest message and longest field, in bytes: a guest's line, marked as cut.
const TEXT_BYTES: usize = LOG_LINE_BYTES + 64;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    level: Loudness,
    /// Whether the guest said it, or the host about it.
    is_guests: bool,
    message: String,
    fields: Vec<(String, String)>,
}

/// A level that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Loudness {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for Loudness {
    fn from(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }
}

impl From<Loudness> for chronicle::Level {
    fn from(level: Loudness) -> Self {
        match level {
            Loudness::Error => Self::Error,
            Loudness::Warn => Self::Warn,
            Loudness::Info => Self::Info,
            Loudness::Debug => Self::Debug,
            Loudness::Trace => Self::Trace,
        }
    }
}

/// One event, at each level under each target: both are fixed when a program is built.
macro_rules! say {
    ($line:ident, $firmware:ident, $($level:ident => $at:ident),+) => {
        match ($line.level, $line.is_guests) {
            $(
                (Loudness::$level, true) => say!(@ GUEST, $at, $line, $firmware),
                (Loudness::$level, false) => say!(@ "odeum_runtime::firmware", $at, $line, $firmware),
            )+
        }
    };
    (@ $target:expr, $at:ident, $line:ident, $firmware:ident) => {
        tracing::event!(
            target: $target, Level::$at,
            firmware = %$firmware,
            stream = $line.field("stream"),
            what = $line.field("what"),
            text = $line.field("text").map(tracing::field::display),
            error = $line.field("error").map(tracing::field::display),
            dropped = $line.number("dropped"),
            allowed = $line.number("allowed"),
            bytes = $line.number("bytes"),
            "{}", $line.message
        )
    };
}

impl Line {
    /// Logs it as of whom the log is, whatever the process says of that, and keeps it there.
    pub(super) fn emit(mut self, to: &GuestLog) {
        cut(&mut self.message);
        self.fields.truncate(FIELDS);
        self.fields.iter_mut().for_each(|(_, value)| cut(value));
        if self.is_guests {
            self.keep(to);
        }
        let firmware = to.firmware();
        say!(self, firmware,
            Error => ERROR, Warn => WARN, Info => INFO, Debug => DEBUG, Trace => TRACE);
    }

    /// Keeps what the guest said, or what its host said of it, as it is kept of one inside the node.
    fn keep(&self, to: &GuestLog) {
        let level = self.level.into();
        if let Some(text) = self.field("text") {
            let stream = match self.field("stream") {
                Some("stdout") => Stream::Stdout,
                Some("stderr") => Stream::Stderr,
                _ => Stream::Log,
            };
            to.keep(level, stream, text);
        } else if let Some(dropped) = self.number("dropped") {
            say_dropped(to, dropped);
        } else {
            let of = self.field("what").map(|what| format!("denied {what}:"));
            let text = of.map(|of| self.message.replacen("denied:", &of, 1));
            to.keep(level, Stream::Node, text.as_ref().unwrap_or(&self.message));
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_BYTES));
}

/// Gives `send` each line that firmware logs here.
pub(super) struct Forward<F>(pub(super) F);

impl<S: Subscriber, F: Fn(Line) + 'static> Layer<S> for Forward<F> {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Of libraries, what the node would log of them unless it is told otherwise.
        metadata.target().starts_with("odeum") || *metadata.level() <= Level::WARN
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        (self.0)(Line {
            level: (*metadata.level()).into(),
            is_guests: metadata.target() == GUEST,
            message: fields.message,
            fields: fields.others,
        });
    }
}

/// The fields of an event as text.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(String, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "firmware" => {}
            name => self.others.push((name.to_owned(), value)),
        }
    }
}
