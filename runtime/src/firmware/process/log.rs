//! What a host process logs, as lines of its node's log: the same words and fields as if the guest
//! ran inside the node.

use std::fmt;

use odeum_proto::Name;
use serde::{Deserialize, Serialize};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::firmware::effect::LOG_LINE_BYTES;

/// What guests say is logged under it.
const GUEST: &str = "odeum::guest";

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
    /// Logs it as of `firmware`, whatever the process says of whom it is.
    pub(super) fn emit(mut self, firmware: &Name) {
        cut(&mut self.message);
        self.fields.truncate(FIELDS);
        self.fields.iter_mut().for_each(|(_, value)| cut(value));
        say!(self, firmware,
            Error => ERROR, Warn => WARN, Info => INFO, Debug => DEBUG, Trace => TRACE);
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
