//! Each layer as a list of entries: `section.key`, a value, and where it stands.

use std::{ffi::OsString, path::Path};

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, Origin},
    node::NodeConfig,
};

/// What the names of environment variables that are settings begin with.
const PREFIX: &str = "ODEUM_";
/// Variables that set `log.filter`, the weaker first: the habit of Rust programs, and ours.
const LOG_FILTERS: [&str; 2] = ["RUST_LOG", "ODEUM_LOG"];
/// The key they set.
const LOG_FILTER_KEY: &str = "log.filter";

/// One setting in one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// `section.key`.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Where it stands.
    pub origin: Origin,
}

/// A setting that was given on the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag, such as `--data-dir`.
    pub name: &'static str,
    /// The setting, `section.key`.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// Which sections and keys there are, read off a configuration.
#[derive(Debug)]
pub(super) struct Schema {
    sections: Map<String, Value>,
}

impl Schema {
    pub(super) fn of(config: &NodeConfig) -> Result<Self, ConfigError> {
        match serde_json::to_value(config) {
            Ok(Value::Object(sections)) => Ok(Self { sections }),
            Ok(_) => Err(ConfigError::Schema { reason: "they are no map".into() }),
            Err(error) => Err(ConfigError::Schema { reason: error.to_string().into() }),
        }
    }

    pub(super) fn defaults(&self) -> &Map<String, Value> {
        &self.sections
    }

    /// Every `section.key` with its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, &Value)> {
        self.sections.iter().flat_map(|(section, keys)| {
            let keys = keys.as_object().into_iter().flatten();
            keys.map(move |(key, value)| (format!("{section}.{key}"), value))
        })
    }

    fn default_of(&self, key: &str) -> Option<&Value> {
        let (section, key) = key.split_once('.')?;
        self.sections.get(section)?.get(key)
    }

    fn require(&self, key: &str, at: &Origin) -> Result<&Value, ConfigError> {
        self.default_of(key).ok_or_else(|| self.unknown(key, at))
    }

    fn unknown(&self, key: &str, at: &Origin) -> ConfigError {
        let leaf = key.rsplit('.').next().unwrap_or(key);
        // The whole key decides; a key that is right but stands in the wrong section wins ties.
        let distance = |known: &str| {
            let known_leaf = known.rsplit('.').next().unwrap_or(known);
            let whole = strsim::damerau_levenshtein(key, known);
            whole.min(strsim::damerau_levenshtein(leaf, known_leaf) * 2 + 1)
        };
        let nearest = self.entries().map(|(known, _)| known).min_by_key(|known| distance(known));
        ConfigError::UnknownKey {
            key: key.into(),
            at: at.clone(),
            nearest: nearest.unwrap_or_default().into(),
        }
    }

    fn unknown_section(&self, section: &str, at: Origin) -> ConfigError {
        let distance = |known: &&String| strsim::damerau_levenshtein(section, known);
        let nearest = self.sections.keys().min_by_key(distance);
        ConfigError::UnknownSection {
            section: section.into(),
            at,
            nearest: nearest.map_or("", String::as_str).into(),
        }
    }
}

/// Sets `section.key` in `sections`.
pub(super) fn put(sections: &mut Map<String, Value>, key: &str, value: Value) {
    if let Some((section, key)) = key.split_once('.')
        && let Some(Value::Object(keys)) = sections.get_mut(section)
    {
        keys.insert(key.to_owned(), value);
    }
}

/// The entries of a TOML file.
pub(super) fn from_file(
    schema: &Schema,
    path: &Path,
    text: &str,
) -> Result<Vec<Entry>, ConfigError> {
    let at = |offset: usize| {
        let (line, column) = line_and_column(text, offset);
        Origin::File { path: path.to_owned(), line, column }
    };
    let root = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        at: at(error.span().map_or(0, |span| span.start)),
        reason: error.message().into(),
    })?;
    let mut entries = Vec::new();
    for (section, keys) in root.get_ref() {
        let name: &str = section.get_ref();
        let here = at(section.span().start);
        let DeValue::Table(keys) = keys.get_ref() else {
            if schema.sections.contains_key(name) {
                return Err(ConfigError::BadValue {
                    key: name.into(),
                    at: here,
                    reason: format!("this is a section: write [{name}]").into(),
                });
            }
            return Err(schema.unknown(name, &here));
        };
        if !schema.sections.contains_key(name) {
            return Err(schema.unknown_section(name, here));
        }
        for (key, value) in keys {
            let origin = at(key.span().start);
            let key = format!("{name}.{}", key.get_ref());
            schema.require(&key, &origin)?;
            entries.push(Entry { key, value: to_json(value), origin });
        }
    }
    Ok(entries)
}

/// The entries among the variables of the environment.
pub(super) fn from_environment(
    schema: &Schema,
    variables: &[(OsString, OsString)],
) -> Result<Vec<Entry>, ConfigError> {
    let mut entries = Vec::new();
    let named = |wanted: &str| variables.iter().find(|(name, _)| name == wanted);
    for (name, value) in LOG_FILTERS.into_iter().filter_map(named) {
        entries.push(variable(schema, LOG_FILTER_KEY.to_owned(), name, value)?);
    }
    for (name, value) in variables {
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        // Without a double underscore it is no setting but a plain variable such as ODEUM_API.
        let Some((section, key)) = rest.split_once("__") else { continue };
        let key = format!("{section}.{key}").to_ascii_lowercase().replace('_', "-");
        entries.push(variable(schema, key, name, value)?);
    }
    Ok(entries)
}

fn variable(
    schema: &Schema,
    key: String,
    name: &OsString,
    value: &OsString,
) -> Result<Entry, ConfigError> {
    let origin = Origin::Environment { name: name.to_string_lossy().into_owned() };
    let default = schema.require(&key, &origin)?;
    let Some(text) = value.to_str() else {
        return Err(ConfigError::BadValue {
            key: key.into(),
            at: origin,
            reason: "the value is not UTF-8".into(),
        });
    };
    Ok(Entry { value: like(default, text), key, origin })
}

/// The entries of the command line.
pub(super) fn from_flags(schema: &Schema, flags: &[Flag]) -> Result<Vec<Entry>, ConfigError> {
    let entry = |flag: &Flag| {
        let origin = Origin::Flag { name: flag.name };
        schema.require(flag.key, &origin)?;
        Ok(Entry { key: flag.key.to_owned(), value: flag.value.clone(), origin })
    };
    flags.iter().map(entry).collect()
}

/// A text of the environment as the sort of value that `default` is. What does not fit stays a
/// string, and is refused with a better message when the settings are read.
fn like(default: &Value, text: &str) -> Value {
    let string = || Value::String(text.to_owned());
    match default {
        Value::Bool(_) => text.parse().map_or_else(|_| string(), Value::Bool),
        Value::Number(_) => text.parse::<u64>().map_or_else(|_| string(), Value::from),
        Value::Array(_) => text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(Value::from)
            .collect(),
        _ => string(),
    }
}

fn to_json(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => items.iter().map(to_json).collect(),
        DeValue::Table(table) => {
            let entries = table.iter();
            Value::Object(
                entries.map(|(key, value)| (key.get_ref().to_string(), to_json(value))).collect(),
            )
        }
    }
}

/// Line and column of a byte offset, both from 1.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
