//! Patterns: regular expressions that constrain values, globs that select names.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::violation::{DefinitionFault, Rule};
use crate::ids::IdError;
use crate::limits;

/// Compiled patterns. What is in it never changes an answer, only its cost, so it belongs to no
/// state and is neither compared nor written.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    compiled: BTreeMap<Box<str>, Regex>,
}

impl Patterns {
    /// The compiled form of `pattern`.
    ///
    /// Matching takes time linear in the text, whatever the pattern (no look-around, no back
    /// references).
    ///
    /// # Errors
    /// [`DefinitionFault`] when it is too long, is no regular expression, or becomes larger than
    /// [`limits::COMPILED_PATTERN_BYTES`].
    pub fn get(&mut self, pattern: &str) -> Result<&Regex, DefinitionFault> {
        if !self.compiled.contains_key(pattern) {
            let compiled = compile(pattern)?;
            if self.compiled.len() >= limits::COMPILED_PATTERNS {
                // All at once: whoever uses more patterns than there is room for would otherwise
                // need an order of use, and gain little by it.
                self.compiled.clear();
            }
            self.compiled.insert(pattern.into(), compiled);
        }
        self.compiled.get(pattern).ok_or_else(|| DefinitionFault::Pattern {
            pattern: pattern.into(),
            reason: "it was not kept".into(),
        })
    }
}

fn compile(pattern: &str) -> Result<Regex, DefinitionFault> {
    let (got, limit) = (pattern.len() as u64, limits::PATTERN_BYTES as u64);
    if got > limit {
        return Err(DefinitionFault::TooLarge { rule: Rule::Pattern, got, limit });
    }
    let fault = |error: regex::Error| {
        let reason = match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("compiled it has more than {limit} bytes")
            }
            // The last line says what is wrong, those before it draw where.
            regex::Error::Syntax(text) => text
                .lines()
                .last()
                .map(|line| line.trim_start_matches("error: ").to_owned())
                .unwrap_or_default(),
            other => other.to_string(),
        };
        DefinitionFault::Pattern { pattern: pattern.into(), reason: reason.into() }
    };
    RegexBuilder::new(pattern)
        .size_limit(limits::COMPILED_PATTERN_BYTES)
        .dfa_size_limit(limits::COMPILED_PATTERN_BYTES)
        .build()
        .map_err(fault)
}

/// Selects names: `*` stands for any text, also none, `?` for one character.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(Box<str>);

impl Glob {
    /// Selects everything.
    #[must_use]
    pub fn all() -> Self {
        Self("*".into())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every selected name begins with, so that sorted names need not be looked at from the
    /// first on.
    #[must_use]
    pub fn prefix(&self) -> &str {
        let end = self.0.find(['*', '?']).unwrap_or(self.0.len());
        self.0.get(..end).unwrap_or_default()
    }

    /// Whether it selects `name`. Time is at most the product of both lengths.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut text) = (&*self.0, name);
        // Behind the last star, and where the text it stands for ends for now.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let (mut rest, mut behind) = (pattern.chars(), text.chars());
            match (rest.next(), behind.next()) {
                (Some('*'), _) => {
                    pattern = rest.as_str();
                    retry = Some((pattern, text));
                    continue;
                }
                (Some(wanted), Some(got)) if wanted == '?' || wanted == got => {
                    (pattern, text) = (rest.as_str(), behind.as_str());
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            // The last star takes one character more.
            let Some((after_star, from)) = retry else { return false };
            let mut longer = from.chars();
            if longer.next().is_none() {
                return false;
            }
            (pattern, text) = (after_star, longer.as_str());
            retry = Some((after_star, text));
        }
    }
}

impl FromStr for Glob {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (what, limit) = ("name pattern", limits::SESSION_ID_BYTES);
        match text.len() {
            0 => Err(IdError::Empty { what }),
            got if got > limit => Err(IdError::TooLong { what, limit, got }),
            _ => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for Glob {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0.into()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
