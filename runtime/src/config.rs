//! The settings of a node: what there is, what it defaults to, and where it came from.
//!
//! Layers, the later over the earlier: defaults, a TOML file, the environment
//! (`ODEUM_SECTION__KEY`), flags. Every value remembers its layer, so that `odeum config show`
//! and every complaint can name the line, the variable or the flag to correct.
//!
//! Not done, and why: figment and config-rs merge layers too, but neither knows line and column
//! of a TOML key, nor which known key is nearest to a misspelt one.

mod error;
mod layer;
mod node;
mod units;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub use error::{ConfigError, Origin};
pub use layer::{Entry, Flag};
pub use node::{
    ApiConfig, ClusterConfig, FirmwareConfig, LogConfig, LogFormat, NodeConfig, NodeSection,
    StoreConfig,
};
pub use units::{ByteSize, HumanDuration, UnitError};

use layer::Schema;

/// Where settings are taken from, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file: its path, for messages, and its text.
    pub file: Option<(PathBuf, String)>,
    /// The process environment. What does not look like `ODEUM_SECTION__KEY` is passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// What was given on the command line.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The file at `path`, if one is named, the environment of this process, and `flags`.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] when the file cannot be read.
    pub fn gather(path: Option<&Path>, flags: Vec<Flag>) -> Result<Self, ConfigError> {
        let file = path
            .map(|path| match std::fs::read_to_string(path) {
                Ok(text) => Ok((path.to_owned(), text)),
                Err(reason) => Err(ConfigError::Unreadable { path: path.to_owned(), reason }),
            })
            .transpose()?;
        Ok(Self { file, environment: std::env::vars_os().collect(), flags })
    }

    /// The settings in force. Pure: reads nothing but `self`.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown key or a value that its key cannot take; it names the place.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        let defaults = NodeConfig::default();
        let schema = Schema::of(&defaults)?;
        let mut entries = Vec::new();
        if let Some((path, text)) = &self.file {
            entries.extend(layer::from_file(&schema, path, text)?);
        }
        entries.extend(layer::from_environment(&schema, &self.environment)?);
        entries.extend(layer::from_flags(&schema, &self.flags)?);

        let mut merged = schema.defaults().clone();
        let mut config = defaults;
        let mut origins = BTreeMap::new();
        for entry in entries {
            // One by one, so that a value that does not fit is known by the entry it came with.
            layer::put(&mut merged, &entry.key, entry.value);
            config = serde_json::from_value(Value::Object(merged.clone())).map_err(|error| {
                ConfigError::BadValue {
                    key: entry.key.as_str().into(),
                    at: entry.origin.clone(),
                    reason: error.to_string().into(),
                }
            })?;
            origins.insert(entry.key, entry.origin);
        }
        let resolved = Resolved { config, origins };
        resolved.check()?;
        Ok(resolved)
    }
}

/// The settings in force and where each came from.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The settings.
    pub config: NodeConfig,
    /// Origins by `section.key`; what is missing here is at its default.
    origins: BTreeMap<String, Origin>,
}

impl Resolved {
    /// Where the value of `section.key` came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Every key with the value in force and its origin, by key.
    ///
    /// # Errors
    /// [`ConfigError::Schema`] when a value cannot be shown, which is a programming error.
    pub fn entries(&self) -> Result<Vec<Entry>, ConfigError> {
        let schema = Schema::of(&self.config)?;
        let entry = |(key, value): (String, &Value)| Entry {
            origin: self.origin(&key),
            key,
            value: value.clone(),
        };
        Ok(schema.entries().map(entry).collect())
    }

    /// What no single value can know about itself.
    fn check(&self) -> Result<(), ConfigError> {
        let ApiConfig { listen, allow_remote, .. } = self.config.api;
        if listen.ip().is_loopback() || allow_remote {
            return Ok(());
        }
        let key = "api.listen";
        Err(ConfigError::BadValue {
            key: key.into(),
            at: self.origin(key),
            reason: "the API does not ask who is there, so it listens on loopback only; set \
                     `api.allow-remote = true` when the network around it is closed"
                .into(),
        })
    }
}

#[cfg(test)]
mod tests;
