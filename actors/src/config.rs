//! Layered, typed configuration: files, a profile, the environment, flags. A later layer
//! wins, key by key; an error names the key and where its value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

use self::suggest::nearest;

pub mod duration;
pub(crate) mod suggest;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(Box<str>),
    /// Given by the program, such as a command line flag.
    Given(Box<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Given(what) => f.write_str(what),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A file is no TOML.
    #[error("{path} is not valid: {reason}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: Box<toml::de::Error>,
    },
    /// There is no such key.
    #[error("unknown key {key} ({origin}){}", hint(nearest.as_deref()))]
    Unknown {
        /// The key, with dots.
        key: Box<str>,
        /// Where it was set.
        origin: Origin,
        /// The most similar key there is.
        nearest: Option<Box<str>>,
    },
    /// A value does not fit its key.
    #[error("{key} ({origin}): {reason}")]
    Value {
        /// The key, with dots.
        key: Box<str>,
        /// Where it was set.
        origin: Origin,
        /// Why it does not fit.
        reason: Box<str>,
    },
    /// The whole does not fit, though each value does: something is missing.
    #[error("the configuration is not complete: {reason}")]
    Incomplete {
        /// What is missing.
        reason: Box<str>,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|key| format!("; did you mean {key}?")).unwrap_or_default()
}

/// The layers of a configuration, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    leaves: Vec<Leaf>,
}

#[derive(Debug, Clone)]
struct Leaf {
    path: Vec<String>,
    value: Value,
    /// The text, if the value was guessed from it: it may be meant as a text.
    text: Option<String>,
    origin: Origin,
}

impl Layers {
    /// No layer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file. Without a profile this is all; see [`Layers::profile`].
    ///
    /// # Errors
    /// If it cannot be read or is no TOML.
    pub fn file(mut self, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref().to_path_buf();
        let text = std::fs::read_to_string(&path)
            .map_err(|reason| ConfigError::Unreadable { path: path.clone(), reason })?;
        let table: Table = toml::from_str(&text).map_err(|reason| ConfigError::Syntax {
            path: path.clone(),
            reason: Box::new(reason),
        })?;
        self.add(&mut Vec::new(), &table, &Origin::File(path));
        Ok(self)
    }

    /// Adds the profile's file that lies beside `path`: for `app.toml` and `test`, this is
    /// `app.test.toml`. It may be missing.
    ///
    /// # Errors
    /// If it is there and cannot be read or is no TOML.
    pub fn profile(self, path: impl AsRef<Path>, profile: &str) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let extension = path.extension().map(|e| e.to_string_lossy()).unwrap_or_default();
        let beside = path.with_extension(format!("{profile}.{extension}"));
        if beside.exists() { self.file(beside) } else { Ok(self) }
    }

    /// Adds the environment: `PREFIX_SECTION__KEY_NAME=value` sets `section.key-name`. A
    /// value is read as TOML if it is that and fits, else as a text.
    #[must_use]
    pub fn environment(self, prefix: &str) -> Self {
        self.variables(prefix, std::env::vars())
    }

    /// Like [`Layers::environment`] with the variables given.
    #[must_use]
    pub fn variables(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        // Sorted, so that which one wins does not depend on the environment's order.
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'))
            else {
                continue;
            };
            let path = rest.split("__").map(|part| part.to_lowercase().replace('_', "-")).collect();
            self.leaves.push(Leaf {
                path,
                value: guess(&text),
                text: Some(text),
                origin: Origin::Variable(name.into()),
            });
        }
        self
    }

    /// Adds one value, such as a flag's. `key` has dots.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>, origin: &str) -> Self {
        self.leaves.push(Leaf {
            path: key.split('.').map(str::to_owned).collect(),
            value: value.into(),
            text: None,
            origin: Origin::Given(origin.into()),
        });
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// If a key is unknown (`T` must deny unknown fields), a value does not fit, or
    /// something is missing.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Loaded<T>, ConfigError> {
        let mut table = Table::new();
        let mut origins = BTreeMap::new();
        for leaf in &self.leaves {
            put(&mut table, &leaf.path, leaf.value.clone());
            if let Err(error) = table.clone().try_into::<T>() {
                // Something may be missing that comes with a later value.
                if !error.message().starts_with("missing field") {
                    let text = leaf.text.clone().filter(|_| leaf.value.as_str().is_none());
                    let Some(text) = text else { return Err(explain(leaf, error.message())) };
                    put(&mut table, &leaf.path, Value::String(text));
                    if table.clone().try_into::<T>().is_err() {
                        return Err(explain(leaf, error.message()));
                    }
                }
            }
            origins.insert(leaf.path.join("."), leaf.origin.clone());
        }
        let value = table
            .clone()
            .try_into::<T>()
            .map_err(|error| ConfigError::Incomplete { reason: error.message().into() })?;
        Ok(Loaded { value, table, origins })
    }

    fn add(&mut self, path: &mut Vec<String>, table: &Table, origin: &Origin) {
        for (key, value) in table {
            path.push(key.clone());
            match value {
                Value::Table(inner) if !inner.is_empty() => self.add(path, inner, origin),
                value => self.leaves.push(Leaf {
                    path: path.clone(),
                    value: value.clone(),
                    text: None,
                    origin: origin.clone(),
                }),
            }
            path.pop();
        }
    }
}

/// A configuration and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    table: Table,
    origins: BTreeMap<String, Origin>,
}

impl<T> Loaded<T> {
    /// Every value that was set, with its key and its origin; what is not listed has its
    /// default.
    pub fn explain(&self) -> impl Iterator<Item = (&str, String, &Origin)> {
        self.origins.iter().filter_map(|(key, origin)| {
            let value = get(&self.table, key)?;
            Some((key.as_str(), value.to_string(), origin))
        })
    }
}

fn guess(text: &str) -> Value {
    let parsed: Result<Table, _> = toml::from_str(&format!("value = {text}"));
    let value = parsed.ok().and_then(|mut table| {
        // More than one key means that the text was more than a value.
        (table.len() == 1).then(|| table.remove("value"))?
    });
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn put(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let entry = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(Table::new());
    }
    if let Value::Table(inner) = entry {
        put(inner, rest, value);
    }
}

fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    Some(value)
}

/// serde says "unknown field `a`, expected one of `b`, `c`": the key's name is there, its
/// path is the leaf's.
fn explain(leaf: &Leaf, message: &str) -> ConfigError {
    let origin = leaf.origin.clone();
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field")
        && let Some(unknown) = quoted.next()
    {
        let depth = leaf.path.iter().position(|part| part == unknown);
        let depth = depth.unwrap_or(leaf.path.len().saturating_sub(1));
        let parents: Vec<&str> = leaf.path.iter().take(depth).map(String::as_str).collect();
        let full = |name: &str| -> Box<str> {
            let mut path = parents.clone();
            path.push(name);
            path.join(".").into()
        };
        let nearest = nearest(unknown, quoted).map(full);
        return ConfigError::Unknown { key: full(unknown), origin, nearest };
    }
    let reason = message.trim_end().into();
    ConfigError::Value { key: leaf.path.join(".").into(), origin, reason }
}

#[cfg(test)]
mod tests;
