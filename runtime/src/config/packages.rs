//! `[packages]`: which packages a node takes, and what it gives them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::package::{
    key::PublicKey,
    manifest::{HostPath, VariableName},
    trust::Trust,
};

/// `[packages]`: which packages this node runs. Each node checks that itself, also for those that
/// another one took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PackagesConfig {
    /// Keys whose packages it takes, each as `odeum package keygen` prints it. One signature by one
    /// of them is enough.
    pub trusted: Vec<PublicKey>,
    /// Whether it takes packages that nobody signed, bare modules included. When left out: what
    /// `node.dev` says.
    pub allow_unsigned: Option<bool>,
    /// Folders of the node that a package may ask for, and all that is in them. More of them lets
    /// guests read, and write if they ask for it, more of the node's disk.
    pub folders: Vec<HostPath>,
    /// Variables of the node's environment that a package may ask for. They are often secrets.
    pub environment: Vec<VariableName>,
    /// A PEM file with certificates of authorities that servers which guests reach by HTTPS may have
    /// their own from, beside those that the machine trusts.
    pub ca_file: Option<PathBuf>,
}

impl PackagesConfig {
    /// What it says of packages; `dev` is whether the node is for development.
    #[must_use]
    pub fn trust(&self, dev: bool) -> Trust {
        let Self { trusted, allow_unsigned, folders, environment, ca_file: _ } = self.clone();
        Trust { keys: trusted, allow_unsigned: allow_unsigned.unwrap_or(dev), folders, environment }
    }
}
