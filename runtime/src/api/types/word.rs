//! Words that a client may choose from, and what it is told when it slips.

use std::{fmt, str::FromStr};

use odeum_cluster::store::Consistency;
use odeum_proto::session::ValueType;
use serde::{Deserialize, Serialize};

/// A word that is none of those there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{given}`; the nearest is `{nearest}`, of {known}")]
pub struct UnknownWord {
    what: &'static str,
    given: Box<str>,
    nearest: &'static str,
    known: Box<str>,
}

impl UnknownWord {
    fn new(what: &'static str, given: &str, known: &[&'static str]) -> Self {
        let likeness = |word: &&&'static str| strsim::jaro_winkler(given, word);
        let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        Self {
            what,
            given: given.into(),
            nearest: nearest.copied().unwrap_or_default(),
            known: known.join(", ").into(),
        }
    }
}

/// The type called `text`.
///
/// # Errors
/// [`UnknownWord`] names the type that is most like it.
pub fn value_type(text: &str) -> Result<ValueType, UnknownWord> {
    let known = ValueType::ALL.map(ValueType::as_str);
    text.parse().map_err(|_| UnknownWord::new("type", text, &known))
}

/// How fresh a read must be; see [`Consistency`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Reading {
    /// It shows every write that was acknowledged before.
    #[default]
    Linearizable,
    /// The same while the clocks of all nodes run equally fast; cheaper.
    Lease,
    /// What the asked node has, at once.
    Local,
}

impl Reading {
    const ALL: [Self; 3] = [Self::Linearizable, Self::Lease, Self::Local];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Lease => "lease",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Reading {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|reading| reading.as_str() == text);
        known.ok_or_else(|| UnknownWord::new("consistency", text, &Self::ALL.map(Self::as_str)))
    }
}

impl TryFrom<String> for Reading {
    type Error = UnknownWord;
    fn try_from(text: String) -> Result<Self, UnknownWord> {
        text.parse()
    }
}

impl From<Reading> for String {
    fn from(reading: Reading) -> Self {
        reading.as_str().to_owned()
    }
}

impl From<Reading> for Consistency {
    fn from(reading: Reading) -> Self {
        match reading {
            Reading::Linearizable => Self::Linearizable,
            Reading::Lease => Self::Lease,
            Reading::Local => Self::Local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_with_the_nearest_word() {
        for (slip, nearest) in [("lcoal", "local"), ("leese", "lease"), ("linear", "linearizable")]
        {
            let text = slip.parse::<Reading>().expect_err("a slip").to_string();
            assert!(text.contains(&format!("`{slip}`; the nearest is `{nearest}`")), "{text}");
        }
        let text = value_type("flaot").expect_err("a slip").to_string();
        assert!(text.contains("`flaot`; the nearest is `float`"), "{text}");
    }

    #[test]
    fn every_word_is_read_as_it_is_printed() {
        for reading in Reading::ALL {
            assert_eq!(reading.to_string().parse(), Ok(reading));
        }
        for kind in ValueType::ALL {
            assert_eq!(value_type(kind.as_str()), Ok(kind));
        }
    }
}
