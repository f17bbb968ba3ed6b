//! Layered, typed configuration: what there is, what it defaults to, and where it came from.
//!
//! Layers, the later over the earlier, key by key:
//!
//! 1. the defaults: `T::default()`,
//! 2. a TOML file, such as `app.toml`,
//! 3. the file of a profile beside it: `app.test.toml`, chosen by argument or by `APP_PROFILE`,
//! 4. the environment: `APP_SERVER__IDLE_TIMEOUT` sets `server.idle-timeout`,
//! 5. flags: whatever the program was told otherwise.
//!
//! Every value remembers its layer, so that a complaint can name the line, the variable or the
//! flag to correct, and a program can show which setting came from where.
//!
//! ```
//! use odeum_actors::config::{ByteSize, HumanDuration, Sources};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Default)]
//! #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
//! struct App {
//!     server: Server,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
//! struct Server {
//!     port: u16,
//!     idle_timeout: HumanDuration,
//!     buffer: ByteSize,
//! }
//!
//! impl Default for Server {
//!     fn default() -> Self {
//!         let idle_timeout = HumanDuration(std::time::Duration::from_secs(30));
//!         Self { port: 8080, idle_timeout, buffer: ByteSize::mebibytes(4) }
//!     }
//! }
//!
//! // A program takes `Sources::gather("APP", Some("app.toml".as_ref()), profile)?`.
//! let sources = Sources::new("APP")
//!     .file("app.toml", "[server]\nport = 80\nbuffer = '64 KiB'\n")
//!     .environment([("APP_SERVER__IDLE_TIMEOUT", "250ms")])
//!     .flag("--port", "server.port", 81);
//! let resolved = sources.resolve::<App>()?;
//! assert_eq!(resolved.config.server.port, 81);
//! assert_eq!(resolved.origin("server.port").to_string(), "flag --port");
//! assert_eq!(resolved.origin("server.buffer").to_string(), "app.toml:3:1");
//!
//! let wrong = Sources::new("APP").file("app.toml", "[server]\n  prot = 80\n");
//! assert_eq!(
//!     wrong.resolve::<App>().err().map(|error| error.to_string()).as_deref(),
//!     Some("app.toml:2:3: there is no setting `server.prot`; the nearest is `server.port`"),
//! );
//! # Ok::<(), odeum_actors::config::ConfigError>(())
//! ```
//!
//! # What makes a key known
//! A key is known when `T::default()`, serialized, has it. Below a key that is an empty table or
//! nothing there (a map, an `Option`) any key may stand, and `T` itself says what it does not
//! take: let it `deny_unknown_fields`.
//!
//! Not done, and why: figment and config-rs merge layers too, but neither knows line and column
//! of a TOML key, nor which known key is nearest to a misspelt one. JSON's values are the tree
//! here, not TOML's, since those cannot say that a key is there and nothing is in it.

pub mod duration;
mod error;
mod layer;
mod schema;
pub(crate) mod suggest;
mod units;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::{
    error::{ConfigError, Origin},
    layer::{Entry, line_and_column},
    suggest::nearest,
    units::{ByteSize, HumanDuration, UnitError},
};
use self::{
    layer::{Alias, Flag, Reading},
    schema::Schema,
};

/// Where settings are taken from, besides the defaults.
#[derive(Debug, Clone)]
pub struct Sources {
    prefix: Box<str>,
    /// Path and text, the stronger last.
    files: Vec<(PathBuf, String)>,
    variables: Vec<(OsString, OsString)>,
    aliases: Vec<Alias>,
    flags: Vec<Flag>,
}

impl Sources {
    /// No source. Variables of the environment that are settings begin with `prefix` and `_`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let (files, variables, aliases, flags) = Default::default();
        Self { prefix: prefix.into(), files, variables, aliases, flags }
    }

    /// The environment of this process, the file at `path`, if one is named, and beside it the
    /// file of the profile: `profile`, or else the one that `<PREFIX>_PROFILE` names.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] when a file cannot be read, [`ConfigError::Profile`] when
    /// there cannot be a file of that profile.
    pub fn gather(
        prefix: &str,
        path: Option<&Path>,
        profile: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let mut sources = Self::new(prefix).environment(std::env::vars_os());
        let variable = std::env::var(format!("{prefix}_PROFILE")).ok();
        let profile = profile.or(variable.as_deref()).filter(|name| !name.is_empty());
        let beside = profile.map(|name| profile_path(path, name)).transpose()?;
        for path in path.map(Path::to_owned).into_iter().chain(beside) {
            let text = std::fs::read_to_string(&path)
                .map_err(|reason| ConfigError::Unreadable { path: path.clone(), reason })?;
            sources = sources.file(path, text);
        }
        Ok(sources)
    }

    /// Adds the text of a TOML file; its path is for messages. A later file wins over an earlier.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.files.push((path.into(), text.into()));
        self
    }

    /// Adds variables: `<PREFIX>_SECTION__KEY_NAME` sets `section.key-name`. A name without `__`
    /// counts only when there is a key of that name outside of all sections, and is passed over
    /// otherwise, as is everything without the prefix.
    ///
    /// A value is read as what the key's default is: a list is separated by commas, a number or a
    /// truth value is as in TOML.
    #[must_use]
    pub fn environment<N: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.variables.extend(variables.map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Lets `variable` of the environment set `key` too. It is weaker than the variable that is
    /// called after the key, and stronger than an alias that was added before it.
    #[must_use]
    pub fn alias(mut self, variable: &'static str, key: &'static str) -> Self {
        self.aliases.push(Alias { variable, key });
        self
    }

    /// Sets `key` to what `flag`, such as `--port`, says. A later flag wins over an earlier.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, value: impl Into<Value>) -> Self {
        self.flags.push(Flag { name: flag.into(), key: key.into(), value: value.into() });
        self
    }

    /// The settings in force. Pure: reads nothing but `self`.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown key or a value that its key cannot take; it names the place.
    pub fn resolve<T>(&self) -> Result<Resolved<T>, ConfigError>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        let schema = Schema::of(&T::default())?;
        let mut readings = Vec::new();
        for (path, text) in &self.files {
            readings.extend(layer::from_file(&schema, path, text)?);
        }
        let variables = &self.variables;
        readings.extend(layer::from_environment(&schema, &self.prefix, variables, &self.aliases)?);
        readings.extend(layer::from_flags(&schema, &self.flags)?);

        let mut merged = schema.defaults().clone();
        let mut origins = BTreeMap::new();
        for reading in readings {
            // One by one, so that a value that does not fit is known by the place it came from.
            reading.put_into::<T>(&mut merged, &schema)?;
            let Reading { path, origin, .. } = reading;
            origins.insert(path.join("."), origin);
        }
        let config = serde_json::from_value(merged)
            .map_err(|error| ConfigError::Incomplete { reason: error.to_string().into() })?;
        Ok(Resolved { config, origins })
    }
}

/// `app.test.toml` for `app.toml` and the profile `test`.
fn profile_path(path: Option<&Path>, profile: &str) -> Result<PathBuf, ConfigError> {
    let refused = |reason| ConfigError::Profile { profile: profile.into(), reason };
    let path = path.ok_or_else(|| refused("its file lies beside the main file, name that too"))?;
    // It must not lead elsewhere.
    if !profile.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Err(refused("a name has letters, digits, `-` and `_`"));
    }
    let extension = path.extension().map_or_else(|| "toml".into(), |end| end.to_string_lossy());
    Ok(path.with_extension(format!("{profile}.{extension}")))
}

/// The settings in force and where each came from.
#[derive(Debug, Clone)]
pub struct Resolved<T> {
    /// The settings.
    pub config: T,
    /// Origins by key; what is missing here is at its default.
    origins: BTreeMap<String, Origin>,
}

impl<T> Resolved<T> {
    /// Where the value of `section.key` came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Every key with the value in force and its origin, by key.
    ///
    /// # Errors
    /// [`ConfigError::Schema`] when a value cannot be shown, which is a programming error.
    pub fn entries(&self) -> Result<Vec<Entry>, ConfigError>
    where
        T: Serialize,
    {
        let schema = Schema::of(&self.config)?;
        let entry = |(key, value): (String, &Value)| Entry {
            origin: self.origin(&key),
            key,
            value: value.clone(),
        };
        Ok(schema.keys().into_iter().map(entry).collect())
    }
}

#[cfg(test)]
mod tests;
