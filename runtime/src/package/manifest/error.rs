//! What can be wrong with a manifest, and where.

use std::fmt;

use odeum_actors::config::{line_and_column, nearest};

use super::FILE;

/// A place in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FILE}:{}:{}", self.line, self.column)
    }
}

/// A manifest that cannot be used. Correct the place it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Larger than the bound.
    #[error("{FILE} has {got} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its length.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// No text.
    #[error("{FILE} is no text in UTF-8: byte {at} cannot be in it")]
    NotUtf8 {
        /// Which byte, from 0.
        at: usize,
    },
    /// A key that does not exist.
    #[error("{at}: there is no key `{key}` here; {advice}")]
    UnknownKey {
        /// Where it stands.
        at: Place,
        /// The key.
        key: Box<str>,
        /// The nearest key, or which there are.
        advice: Box<str>,
    },
    /// A word that is none of those it can be.
    #[error("{at}: there is no `{word}` here; {advice}")]
    UnknownWord {
        /// Where it stands.
        at: Place,
        /// The word.
        word: Box<str>,
        /// The nearest word, or which there are.
        advice: Box<str>,
    },
    /// A key that has no default is not there.
    #[error("{at}: the key `{key}` is missing")]
    Missing {
        /// Where its table begins.
        at: Place,
        /// The key.
        key: Box<str>,
    },
    /// No TOML, or a value that its key cannot take.
    #[error("{at}: {reason}")]
    Invalid {
        /// Where it stands.
        at: Place,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// Cannot be written as text: a programming error.
    #[error("the manifest cannot be written: {reason}")]
    Unwritable {
        /// What the serializer said.
        reason: Box<str>,
    },
}

impl ManifestError {
    /// serde only tells what it misses as text: "unknown field `a`, expected one of `b`, `c`".
    pub(super) fn of(text: &str, error: &toml::de::Error) -> Self {
        let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
        let at = Place { line, column };
        let message = error.message();
        let mut quoted = message.split('`').skip(1).step_by(2);
        let begins = |with| message.starts_with(with);
        match quoted.next() {
            Some(key) if begins("unknown field") => {
                let advice = advice(key, &quoted.collect::<Vec<_>>());
                Self::UnknownKey { at, key: key.into(), advice }
            }
            Some(word) if begins("unknown variant") => {
                let advice = advice(word, &quoted.collect::<Vec<_>>());
                Self::UnknownWord { at, word: word.into(), advice }
            }
            Some(key) if begins("missing field") => Self::Missing { at, key: key.into() },
            _ => Self::Invalid { at, reason: message.into() },
        }
    }
}

/// What to write instead of a key or a word that does not exist.
pub(crate) fn advice(given: &str, known: &[&str]) -> Box<str> {
    match nearest(given, known.iter().copied()) {
        Some(known) => format!("the nearest is `{known}`").into(),
        None => format!("there are `{}`", known.join("`, `")).into(),
    }
}
