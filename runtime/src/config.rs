//! The settings of a node: what there is, and what they are read from.
//!
//! Layers, the later over the earlier: defaults, a TOML file, the file of a profile beside it
//! (`odeum.test.toml`), the environment (`ODEUM_SECTION__KEY`), flags. How they are laid over each
//! other and how every value keeps its origin is in [`odeum_actors::config`].

mod mqtt;
mod node;
mod packages;

use std::path::Path;

use odeum_cluster::blobs::BlobsConfig;

pub use mqtt::{Broker, BrokerError, MqttConfig};
pub use node::{
    ApiConfig, BlobConfig, ClusterConfig, FirmwareConfig, LogConfig, LogFormat, NodeConfig,
    NodeSection, StoreConfig,
};
pub use odeum_actors::config::{
    ByteSize, ConfigError, Entry, HumanDuration, Origin, Sources, UnitError,
};
pub use packages::PackagesConfig;

/// What the names of environment variables that are settings begin with.
const PREFIX: &str = "ODEUM";

/// Variables that set `log.filter`, the weaker first: the habit of Rust programs, and ours.
const LOG_FILTERS: [&str; 2] = ["RUST_LOG", "ODEUM_LOG"];

/// The settings of a node and where each came from.
pub type Resolved = odeum_actors::config::Resolved<NodeConfig>;

/// The file at `path`, if one is named, the file of `profile` beside it, and the environment of
/// this process.
///
/// # Errors
/// [`ConfigError::Unreadable`] when a file cannot be read, [`ConfigError::Profile`] when there
/// cannot be a file of that profile.
pub fn gather(path: Option<&Path>, profile: Option<&str>) -> Result<Sources, ConfigError> {
    Ok(with_log_filters(Sources::gather(PREFIX, path, profile)?))
}

/// The settings that `sources` give a node.
///
/// # Errors
/// [`ConfigError`] for an unknown key or a value that its key cannot take; it names the place.
pub fn resolve(sources: &Sources) -> Result<Resolved, ConfigError> {
    let resolved: Resolved = sources.resolve()?;
    check(&resolved)?;
    Ok(resolved)
}

fn with_log_filters(sources: Sources) -> Sources {
    LOG_FILTERS.iter().fold(sources, |sources, variable| sources.alias(variable, "log.filter"))
}

/// What no single value can know about itself.
fn check(resolved: &Resolved) -> Result<(), ConfigError> {
    let (copies, most) = (resolved.config.blobs.copies.get(), BlobsConfig::MOST_COPIES);
    if usize::try_from(copies).is_ok_and(|copies| copies > most) {
        let key = "blobs.copies";
        let (at, reason) =
            (resolved.origin(key), format!("{copies} where at most {most} are kept"));
        return Err(ConfigError::BadValue { key: key.into(), at, reason: reason.into() });
    }
    check_mqtt(resolved)?;
    let ApiConfig { listen, allow_remote, .. } = resolved.config.api;
    if listen.ip().is_loopback() || allow_remote {
        return Ok(());
    }
    let key = "api.listen";
    Err(ConfigError::BadValue {
        key: key.into(),
        at: resolved.origin(key),
        reason: "the API does not ask who is there, so it listens on loopback only; set \
                 `api.allow-remote = true` when the network around it is closed"
            .into(),
    })
}

/// What is said of TLS to the broker fits together.
fn check_mqtt(resolved: &Resolved) -> Result<(), ConfigError> {
    let MqttConfig { broker, ca_file, cert_file, key_file, .. } = &resolved.config.mqtt;
    let Some(broker) = broker else { return Ok(()) };
    let has_tls = broker.has_tls();
    let files =
        [("mqtt.ca-file", ca_file), ("mqtt.cert-file", cert_file), ("mqtt.key-file", key_file)];
    let named = files.iter().find(|(_, file)| file.is_some()).map(|(key, _)| *key);
    let wrong = match (named, cert_file, key_file) {
        (Some(key), ..) if !has_tls => Some((
            key,
            "it is for a broker that is reached by TLS: write `mqtts://` in `mqtt.broker`",
        )),
        (_, Some(_), None) => Some(("mqtt.cert-file", "`mqtt.key-file` is missing")),
        (_, None, Some(_)) => Some(("mqtt.key-file", "`mqtt.cert-file` is missing")),
        _ => None,
    };
    wrong.map_or(Ok(()), |(key, reason)| {
        let at = resolved.origin(key);
        Err(ConfigError::BadValue { key: key.into(), at, reason: reason.into() })
    })
}

#[cfg(test)]
mod tests;
