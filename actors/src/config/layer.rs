//! Each layer as a list of readings: a path, what may be meant there, and where it stands.

use std::{ffi::OsString, path::Path};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, Origin},
    schema::{Place, Schema},
    suggest::nearest,
};

/// One setting as it is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// `section.key`.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Where it stands.
    pub origin: Origin,
}

/// A variable of the environment with a name of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alias {
    pub(super) variable: &'static str,
    pub(super) key: &'static str,
}

/// What the program was told.
#[derive(Debug, Clone)]
pub(super) struct Flag {
    pub(super) name: Box<str>,
    pub(super) key: Box<str>,
    pub(super) value: Value,
}

/// One setting in one layer.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) path: Vec<String>,
    value: Value,
    /// What a text of the environment may mean instead.
    otherwise: Option<Value>,
    pub(super) origin: Origin,
}

impl Reading {
    /// Sets the value in `settings`, and makes sure that these are still a `T`.
    pub(super) fn put_into<T: DeserializeOwned>(
        &self,
        settings: &mut Value,
        schema: &Schema,
    ) -> Result<(), ConfigError> {
        put(settings, &self.path, self.value.clone());
        let Err(first) = fits::<T>(settings) else { return Ok(()) };
        if let Some(otherwise) = &self.otherwise {
            put(settings, &self.path, otherwise.clone());
            if fits::<T>(settings).is_ok() {
                return Ok(());
            }
        }
        Err(self.refused(&first, schema))
    }

    fn refused(&self, error: &serde_json::Error, schema: &Schema) -> ConfigError {
        let message = error.to_string();
        let key = self.path.join(".");
        // serde: "unknown field `a`, expected one of `b`, `c`". Its parents are of our path.
        let mut quoted = message.split('`').skip(1).step_by(2);
        if message.starts_with("unknown field")
            && let Some(unknown) = quoted.next()
        {
            let depth = self.path.iter().rposition(|part| part == unknown);
            let parents = self.path[..depth.unwrap_or(0)].join(".");
            let full = |name: &str| format!("{parents}.{name}").trim_start_matches('.').to_owned();
            return match nearest(unknown, quoted) {
                Some(known) => ConfigError::UnknownKey {
                    key: full(unknown).into(),
                    at: self.origin.clone(),
                    nearest: full(known).into(),
                },
                None => schema.unknown(&key, &self.origin),
            };
        }
        ConfigError::BadValue { key: key.into(), at: self.origin.clone(), reason: message.into() }
    }
}

fn fits<T: DeserializeOwned>(settings: &Value) -> Result<(), serde_json::Error> {
    match T::deserialize(settings) {
        Ok(_) => Ok(()),
        // A later value may bring it; whether one did is seen at the end.
        Err(error) if error.to_string().starts_with("missing field") => Ok(()),
        Err(error) => Err(error),
    }
}

fn put(settings: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *settings = value;
        return;
    };
    if !settings.is_object() {
        *settings = Value::Object(Map::new());
    }
    if let Value::Object(keys) = settings {
        put(keys.entry(first.clone()).or_insert(Value::Null), rest, value);
    }
}

/// The readings of a TOML file.
pub(super) fn from_file(
    schema: &Schema,
    path: &Path,
    text: &str,
) -> Result<Vec<Reading>, ConfigError> {
    let at = |offset: usize| {
        let (line, column) = line_and_column(text, offset);
        Origin::File { path: path.to_owned(), line, column }
    };
    let root = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        at: at(error.span().map_or(0, |span| span.start)),
        reason: error.message().into(),
    })?;
    let mut readings = Vec::new();
    table(schema, &at, &mut Vec::new(), root.get_ref(), &mut readings)?;
    Ok(readings)
}

fn table(
    schema: &Schema,
    at: &impl Fn(usize) -> Origin,
    path: &mut Vec<String>,
    keys: &DeTable<'_>,
    readings: &mut Vec<Reading>,
) -> Result<(), ConfigError> {
    for (key, value) in keys {
        let parent = schema.at(path);
        path.push(key.get_ref().to_string());
        let origin = at(key.span().start);
        let name = || path.join(".");
        match (schema.at(path), value.get_ref()) {
            (Place::Section(_), DeValue::Table(below)) => {
                table(schema, at, path, below, readings)?;
            }
            (Place::Open | Place::Key(Value::Null), DeValue::Table(below)) if !below.is_empty() => {
                table(schema, at, path, below, readings)?;
            }
            (Place::Section(_), _) => {
                let reason = format!("this is a section: write [{}]", name()).into();
                return Err(ConfigError::BadValue { key: name().into(), at: origin, reason });
            }
            (Place::Unknown, DeValue::Table(_)) if has_sections(parent) => {
                return Err(schema.unknown_section(&name(), origin));
            }
            (Place::Unknown, _) => return Err(schema.unknown(&name(), &origin)),
            (Place::Open | Place::Key(_), value) => {
                let (path, value) = (path.clone(), to_json(value));
                readings.push(Reading { path, value, otherwise: None, origin });
            }
        }
        path.pop();
    }
    Ok(())
}

fn has_sections(place: Place<'_>) -> bool {
    matches!(place, Place::Section(keys) if keys.values().any(Value::is_object))
}

/// The readings of the variables of the environment.
pub(super) fn from_environment(
    schema: &Schema,
    prefix: &str,
    variables: &[(OsString, OsString)],
    aliases: &[Alias],
) -> Result<Vec<Reading>, ConfigError> {
    let mut readings = Vec::new();
    for alias in aliases {
        for (name, value) in variables.iter().filter(|(name, _)| name == alias.variable) {
            readings.push(variable(schema, path_of(alias.key), name, value)?);
        }
    }
    for (name, value) in variables {
        let rest = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_prefix('_'));
        let Some(rest) = rest else { continue };
        let part = |part: &str| part.to_ascii_lowercase().replace('_', "-");
        let path: Vec<String> = rest.split("__").map(part).collect();
        // A plain variable that has nothing to do with settings.
        if path.len() == 1 && !matches!(schema.at(&path), Place::Key(_)) {
            continue;
        }
        readings.push(variable(schema, path, name, value)?);
    }
    Ok(readings)
}

fn variable(
    schema: &Schema,
    path: Vec<String>,
    name: &OsString,
    value: &OsString,
) -> Result<Reading, ConfigError> {
    let origin = Origin::Environment { name: name.to_string_lossy().into() };
    let default = require(schema, &path, &origin)?;
    let Some(text) = value.to_str() else {
        return Err(ConfigError::BadValue {
            key: path.join(".").into(),
            at: origin,
            reason: "the value is not UTF-8".into(),
        });
    };
    let (value, otherwise) = meanings(default, text);
    Ok(Reading { path, value, otherwise: Some(otherwise), origin })
}

/// The readings of what the program was told.
pub(super) fn from_flags(schema: &Schema, flags: &[Flag]) -> Result<Vec<Reading>, ConfigError> {
    let reading = |flag: &Flag| {
        let (path, origin) = (path_of(&flag.key), Origin::Flag { name: flag.name.clone() });
        require(schema, &path, &origin)?;
        Ok(Reading { path, value: flag.value.clone(), otherwise: None, origin })
    };
    flags.iter().map(reading).collect()
}

fn path_of(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

/// The default at `path`; nothing where none is known and any key may stand.
fn require<'a>(schema: &'a Schema, path: &[String], at: &Origin) -> Result<&'a Value, ConfigError> {
    match schema.at(path) {
        Place::Key(default) => Ok(default),
        Place::Open => Ok(&Value::Null),
        Place::Section(_) | Place::Unknown => Err(schema.unknown(&path.join("."), at)),
    }
}

/// What a text of the environment may mean where `default` stands, the likelier first.
fn meanings(default: &Value, text: &str) -> (Value, Value) {
    let literal = || {
        let parsed = DeValue::parse(text).ok();
        parsed.map_or_else(|| Value::from(text), |value| to_json(value.get_ref()))
    };
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    match default {
        Value::String(_) => (Value::from(text), literal()),
        Value::Array(_) => (items.map(Value::from).collect(), literal()),
        _ => (literal(), Value::from(text)),
    }
}

fn to_json(value: &DeValue<'_>) -> Value {
    let below = |value: &Spanned<DeValue<'_>>| to_json(value.get_ref());
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => items.iter().map(below).collect(),
        DeValue::Table(table) => {
            let entries = table.iter();
            Value::Object(
                entries.map(|(key, value)| (key.get_ref().to_string(), below(value))).collect(),
            )
        }
    }
}

/// Line and column of a byte offset in a text, both from 1, the column in characters.
#[must_use]
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
