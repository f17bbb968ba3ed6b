//! The manifest of a package, `odeum.toml`: what its module is and what it may do.
//!
//! Types here only hold what is valid, so whoever has a [`Manifest`] need not check it again. What
//! is wrong with a text is told with its line, its column and, for a mistyped word, the word that
//! was likely meant.
//!
//! ```
//! use odeum_runtime::package::manifest::{Abi, Manifest};
//!
//! let manifest = Manifest::parse(
//!     b"
//!     name = 'thermostat'
//!     version = '1.2.0'
//!     abi = 'wasi-reactor'
//!     entry = 'thermostat.wasm'
//!
//!     [limits]
//!     memory = '16 MiB'
//!
//!     [capabilities]
//!     clock = true
//!     folders = [{ guest = '/data', host = '/srv/thermostat' }]
//!     ",
//! )?;
//! assert_eq!(manifest.abi, Some(Abi::WasiReactor));
//! assert!(manifest.capabilities.folders[0].read_only);
//! assert!(!manifest.capabilities.random, "what is not granted is denied");
//!
//! let wrong = Manifest::parse(b"name = 'x'\nversion = '1.0.0'\n[limits]\nmemroy = '1 MiB'\n");
//! assert_eq!(
//!     wrong.err().map(|error| error.to_string()).as_deref(),
//!     Some("odeum.toml:4:1: there is no key `memroy` here; the nearest is `memory`"),
//! );
//! # Ok::<(), odeum_runtime::package::manifest::ManifestError>(())
//! ```

mod bounded;
mod capabilities;
mod error;
mod health;
mod kind;
mod limits;
mod path;
mod policy;
mod words;

use std::collections::BTreeMap;

use odeum_proto::{Name, limits::MANIFEST_BYTES};
use semver::Version;
use serde::{Deserialize, Serialize};

pub use bounded::{BoundError, Bytes, Count, Time};
pub use capabilities::{Capabilities, Folder, Mqtt};
pub(crate) use error::advice;
pub use error::{ManifestError, Place};
pub use health::{
    CpuThreshold, Health, Lasting, LivenessCheck, MemoryThreshold, Then, UrlPath, UrlPathError,
};
pub use kind::{Abi, Durability, Isolation, MissingImports};
pub use limits::{Limits, MemoryLimit, MessageTime, StackLimit};
pub use path::{GuestPath, HostPath, PackagePath, PathError};
pub use policy::{Checkpoint, Restart, RestartWhen, Transient, Update};
pub use words::{
    FirmwarePattern, GuestText, HostPattern, MqttFilter, TopicPattern, VariableName, WordError,
};

/// The name of the manifest's file, in a folder and in a package.
pub const FILE: &str = "odeum.toml";

/// What a package says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// The package's name, and the firmware's when it is deployed without another one. No default.
    pub name: Name,
    /// Its version, as semantic versioning has it. No default.
    pub version: Version,
    /// How the module is called and what it may import. When left out it is told from the module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abi: Option<Abi>,
    /// What becomes of a core module that imports functions which there are not here, such as those of
    /// a browser. What a capability denies is no such function. Default: `refuse`.
    #[serde(default, skip_serializing_if = "MissingImports::is_default")]
    pub missing_imports: MissingImports,
    /// The file of the module, `.wasm` or `.wat`, beside the manifest. Default: `module.wasm`.
    #[serde(default = "default_entry")]
    pub entry: PackagePath,
    /// More files or folders beside the manifest that the package carries and its signature covers,
    /// such as a licence. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PackagePath>,
    /// Arguments of the guest, without the program's name that comes before them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<GuestText>,
    /// What becomes of its sessions when its node crashes. Default: `durable`.
    #[serde(default)]
    pub durability: Durability,
    /// What separates an instance from its node. Default: `task`.
    #[serde(default)]
    pub isolation: Isolation,
    /// Variables of the guest's environment, with their values. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<VariableName, GuestText>,
    /// `[limits]`: how much an instance may take.
    #[serde(default)]
    pub limits: Limits,
    /// `[capabilities]`: what of the world outside it may reach. Default: nothing.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// `[checkpoint]`: when what a `checkpointed` guest wrote is saved.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// `[restart]`: whether and how soon an instance that ended is started again.
    #[serde(default)]
    pub restart: Restart,
    /// `[update]`: how a new version takes the place of this one.
    #[serde(default)]
    pub update: Update,
    /// `[health]`: when an instance is not well, and what is done about it.
    #[serde(default)]
    pub health: Health,
    /// `[transient]`: stops an idle instance until its next message. Default: it keeps running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<Transient>,
}

impl Manifest {
    /// The manifest of a package that says nothing else of itself.
    #[must_use]
    pub fn new(name: Name, version: Version) -> Self {
        Self {
            name,
            version,
            abi: None,
            missing_imports: MissingImports::default(),
            entry: default_entry(),
            files: Vec::new(),
            args: Vec::new(),
            durability: Durability::default(),
            isolation: Isolation::default(),
            environment: BTreeMap::new(),
            limits: Limits::default(),
            capabilities: Capabilities::default(),
            checkpoint: Checkpoint::default(),
            restart: Restart::default(),
            update: Update::default(),
            health: Health::default(),
            transient: None,
        }
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] with the place of what is wrong, and what to write instead.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { got: text.len(), limit: MANIFEST_BYTES });
        }
        let text = std::str::from_utf8(text)
            .map_err(|error| ManifestError::NotUtf8 { at: error.valid_up_to() })?;
        toml::from_str(text).map_err(|error| ManifestError::of(text, &error))
    }

    /// Its text. Equal manifests have the same one.
    ///
    /// # Errors
    /// [`ManifestError::Unwritable`], which is a programming error.
    pub fn to_text(&self) -> Result<String, ManifestError> {
        toml::to_string(self)
            .map_err(|error| ManifestError::Unwritable { reason: error.to_string().into() })
    }
}

fn default_entry() -> PackagePath {
    PackagePath::module()
}

#[cfg(test)]
mod tests;
