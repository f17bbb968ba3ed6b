//! Which sections and keys there are, read off a configuration at its defaults.

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{ConfigError, Origin};

/// The keys of a configuration, as a tree of its values.
#[derive(Debug)]
pub(super) struct Schema {
    root: Value,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// A section with known keys.
    Section(&'a Map<String, Value>),
    /// A key with its default.
    Key(&'a Value),
    /// Whatever the configuration takes: a map, or what is below something that may be absent.
    Open,
    /// Nothing.
    Unknown,
}

impl Schema {
    pub(super) fn of(config: &impl Serialize) -> Result<Self, ConfigError> {
        match serde_json::to_value(config) {
            Ok(root @ Value::Object(_)) => Ok(Self { root }),
            Ok(_) => Err(ConfigError::Schema { reason: "they are no map".into() }),
            Err(error) => Err(ConfigError::Schema { reason: error.to_string().into() }),
        }
    }

    pub(super) fn defaults(&self) -> &Value {
        &self.root
    }

    pub(super) fn at(&self, path: &[String]) -> Place<'_> {
        let mut value = &self.root;
        for part in path {
            value = match value {
                Value::Object(keys) if keys.is_empty() => return Place::Open,
                Value::Null => return Place::Open,
                Value::Object(keys) => match keys.get(part) {
                    Some(below) => below,
                    None => return Place::Unknown,
                },
                _ => return Place::Unknown,
            };
        }
        match value {
            Value::Object(keys) if keys.is_empty() => Place::Open,
            Value::Object(keys) => Place::Section(keys),
            value => Place::Key(value),
        }
    }

    /// Every key, with dots, and its value.
    pub(super) fn keys(&self) -> Vec<(String, &Value)> {
        let (mut keys, _) = self.walk();
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        keys
    }

    /// Keys and sections.
    fn walk(&self) -> (Vec<(String, &Value)>, Vec<String>) {
        let (mut keys, mut sections) = (Vec::new(), Vec::new());
        let mut left = vec![(String::new(), &self.root)];
        while let Some((path, value)) = left.pop() {
            match value {
                Value::Object(below) if !below.is_empty() => {
                    let dot = if path.is_empty() { "" } else { "." };
                    let below = below.iter();
                    left.extend(below.map(|(key, value)| (format!("{path}{dot}{key}"), value)));
                    sections.push(path);
                }
                value => keys.push((path, value)),
            }
        }
        (keys, sections)
    }

    /// The error of a key that is not there.
    pub(super) fn unknown(&self, key: &str, at: &Origin) -> ConfigError {
        let leaf = key.rsplit('.').next().unwrap_or(key);
        // The whole key decides; a key that is right but stands in the wrong section wins ties.
        let distance = |known: &str| {
            let known_leaf = known.rsplit('.').next().unwrap_or(known);
            let whole = strsim::damerau_levenshtein(key, known);
            whole.min(strsim::damerau_levenshtein(leaf, known_leaf) * 2 + 1)
        };
        let keys = self.keys().into_iter().map(|(known, _)| known);
        let nearest = keys.min_by_key(|known| distance(known));
        ConfigError::UnknownKey {
            key: key.into(),
            at: at.clone(),
            nearest: nearest.unwrap_or_default().into(),
        }
    }

    /// The error of a section that is not there.
    pub(super) fn unknown_section(&self, section: &str, at: Origin) -> ConfigError {
        let (_, mut sections) = self.walk();
        sections.sort();
        let distance = |known: &String| strsim::damerau_levenshtein(section, known);
        let known = sections.into_iter().filter(|known| !known.is_empty());
        ConfigError::UnknownSection {
            section: section.into(),
            at,
            nearest: known.min_by_key(distance).unwrap_or_default().into(),
        }
    }
}
