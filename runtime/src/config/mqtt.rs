//! `[mqtt]`: the broker that firmlets reach.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The port of MQTT where none is named. Source: IANA, `mqtt`.
const PORT: u16 = 1_883;

/// The scheme of a broker's address.
const SCHEME: &str = "mqtt://";

/// `[mqtt]`: the broker that firmware reaches, each only the topics that its manifest grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MqttConfig {
    /// Its address, `mqtt://HOST` or `mqtt://HOST:PORT`. When left out there is none. The
    /// connection is not encrypted: put the broker beside the node, or a tunnel between them.
    pub broker: Option<Broker>,
    /// The name the node tells the broker.
    pub user: Option<String>,
    /// A file with the password that belongs to it, read when the node starts; a line end behind it
    /// does not count.
    pub password_file: Option<PathBuf>,
}

/// The address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Broker {
    host: Arc<str>,
    port: u16,
}

impl Broker {
    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A text that is no address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no MQTT broker: write mqtt://HOST or mqtt://HOST:PORT")]
pub struct BrokerError {
    given: String,
}

impl FromStr for Broker {
    type Err = BrokerError;

    fn from_str(given: &str) -> Result<Self, BrokerError> {
        let parsed = || {
            let rest = given.strip_prefix(SCHEME)?;
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            let (host, port) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
            };
            let port = match port {
                "" => PORT,
                port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
            };
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
            (!host.is_empty() && host.chars().all(fits)).then(|| Self { host: host.into(), port })
        };
        parsed().ok_or_else(|| BrokerError { given: given.to_owned() })
    }
}

impl TryFrom<String> for Broker {
    type Error = BrokerError;

    fn try_from(given: String) -> Result<Self, BrokerError> {
        given.parse()
    }
}

impl From<Broker> for String {
    fn from(broker: Broker) -> Self {
        broker.to_string()
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "{SCHEME}[{host}]:{port}")
        } else {
            write!(f, "{SCHEME}{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        for (given, written) in [
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("mqtt://10.0.0.1:2000/", "mqtt://10.0.0.1:2000"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
        ] {
            let broker: Broker = given.parse().expect("a broker");
            assert_eq!(broker.to_string(), written);
        }
        for bad in ["localhost", "mqtts://x", "mqtt://", "mqtt://x:0", "mqtt://x:y", "mqtt://a b"] {
            assert!(bad.parse::<Broker>().is_err(), "{bad}");
        }
    }
}
