//! `[mqtt]`: the broker that firmlets reach.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The ports of MQTT where none is named. Source: IANA, `mqtt` and `secure-mqtt`.
const PORT: u16 = 1_883;
const TLS_PORT: u16 = 8_883;

/// The schemes of a broker's address: without and with TLS.
const SCHEME: &str = "mqtt://";
const TLS_SCHEME: &str = "mqtts://";

/// `[mqtt]`: the broker that firmware reaches, each only the topics that its manifest grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MqttConfig {
    /// Its address, `mqtts://HOST` or `mqtts://HOST:PORT`. When left out there is none. With
    /// `mqtt://` the connection is not encrypted: such a broker belongs beside the node.
    pub broker: Option<Broker>,
    /// A PEM file with certificates of authorities that the broker may have its own from, beside those
    /// that the machine trusts. For `mqtts://`.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate that the node shows the broker, and those behind it. For
    /// `mqtts://`, with `key-file`.
    pub cert_file: Option<PathBuf>,
    /// A PEM file with the private key that belongs to it.
    pub key_file: Option<PathBuf>,
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
    has_tls: bool,
}

impl Broker {
    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is reached by TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// Its TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A text that is no address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no MQTT broker: write mqtts://HOST or mqtts://HOST:PORT, or mqtt:// without TLS"
)]
pub struct BrokerError {
    given: String,
}

impl FromStr for Broker {
    type Err = BrokerError;

    fn from_str(given: &str) -> Result<Self, BrokerError> {
        let parsed = || {
            let (rest, has_tls) = match given.strip_prefix(TLS_SCHEME) {
                Some(rest) => (rest, true),
                None => (given.strip_prefix(SCHEME)?, false),
            };
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            let (host, port) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
            };
            let port = match port {
                "" if has_tls => TLS_PORT,
                "" => PORT,
                port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
            };
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
            (!host.is_empty() && host.chars().all(fits)).then(|| Self {
                host: host.into(),
                port,
                has_tls,
            })
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
        let Self { host, port, has_tls } = self;
        let scheme = if *has_tls { TLS_SCHEME } else { SCHEME };
        if host.contains(':') {
            write!(f, "{scheme}[{host}]:{port}")
        } else {
            write!(f, "{scheme}{host}:{port}")
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
            ("mqtts://broker.example", "mqtts://broker.example:8883"),
        ] {
            let broker: Broker = given.parse().expect("a broker");
            assert_eq!(broker.to_string(), written);
        }
        for bad in [
            "localhost",
            "http://x",
            "mqtts://",
            "mqtt://",
            "mqtt://x:0",
            "mqtt://x:y",
            "mqtt://a b",
        ] {
            assert!(bad.parse::<Broker>().is_err(), "{bad}");
        }
    }
}
