//! `[capabilities]`: what of the world outside an instance may reach. Everything is denied that is
//! not here.

use serde::{Deserialize, Serialize};

use super::{
    path::{GuestPath, HostPath},
    words::{FirmwarePattern, HostPattern, MqttFilter, TopicPattern, VariableName},
};

/// What an instance may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Capabilities {
    /// Folders of the node that it sees. A node gives only what lies in one of its own
    /// `packages.folders`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<Folder>,
    /// Variables of the node's environment that it sees. A node gives only those of its own
    /// `packages.environment`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<VariableName>,
    /// Whether it may read clocks. Without it they stand still. Default: no.
    pub clock: bool,
    /// Whether it gets random numbers. Default: no.
    pub random: bool,
    /// Where it may connect to, each `HOST`, `HOST:PORT` or `*.DOMAIN`. Default: nowhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<HostPattern>,
    /// Whom it may send HTTP requests, written as `sockets` are. Default: nobody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HostPattern>,
    /// Firmware it may send messages to, each a name or what names begin with and a `*`. `*` alone
    /// is all of it. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<FirmwarePattern>,
    /// Topics it may publish under, each a name or what names begin with and a `*`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<TopicPattern>,
    /// Topics it may subscribe to, written as `publish` is. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<TopicPattern>,
    /// `[capabilities.mqtt]`: topics of the node's MQTT broker.
    pub mqtt: Mqtt,
}

/// A folder of the node that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Folder {
    /// Where the guest sees it: an absolute path. No default.
    pub guest: GuestPath,
    /// What it is on the node: an absolute path. No default.
    pub host: HostPath,
    /// Whether the guest may only read. Default: yes.
    #[serde(default = "yes")]
    pub read_only: bool,
}

fn yes() -> bool {
    true
}

/// Topics of the node's MQTT broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mqtt {
    /// Topics it may publish under, as MQTT topic filters with `+` and `#`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<MqttFilter>,
    /// Topics whose messages it gets, as MQTT topic filters. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<MqttFilter>,
}
