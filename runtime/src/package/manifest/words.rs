//! Texts of a manifest that have a form: variables, hosts, topics.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use odeum_proto::{
    Name,
    limits::{KEY_BYTES, MANIFEST_TEXT_BYTES, NAME_BYTES},
};
use serde::{Deserialize, Serialize};

/// A text that is not of the form it should have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no {what}: {form}")]
pub struct WordError {
    given: Box<str>,
    what: &'static str,
    form: &'static str,
}

/// Longest piece of a refused text in its error, in characters.
const GIVEN_CHARACTERS: usize = 60;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = WordError;
            fn from_str(text: &str) -> Result<Self, WordError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.into()));
                }
                let given: String = text.chars().take(GIVEN_CHARACTERS).collect();
                Err(WordError { given: given.into(), what: $what, form: $form })
            }
        }

        impl TryFrom<String> for $name {
            type Error = WordError;
            fn try_from(text: String) -> Result<Self, WordError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

word! {
    /// An argument, or the value of a variable.
    GuestText, "text of a guest", "it has at most 4 KiB and no NUL",
    |text| text.len() <= MANIFEST_TEXT_BYTES && !text.contains('\0')
}

word! {
    /// The name of a variable of the environment.
    VariableName, "name of a variable", "it has letters, digits and `_`, and begins with no digit",
    |text| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        (1..=KEY_BYTES).contains(&text.len())
            && text.chars().all(word)
            && !text.starts_with(|c: char| c.is_ascii_digit())
    }
}

word! {
    /// Hosts that may be reached: `example.org`, `example.org:443`, `*.example.org`, `10.0.0.1:80`,
    /// `[::1]:80`. Without a port every port is meant; `*.` stands for one or more labels.
    HostPattern, "host", "write HOST, HOST:PORT or *.DOMAIN, an IPv6 address in [ ]",
    |text| parts(text).is_some()
}

word! {
    /// Firmware: a name, or what names begin with and a `*`.
    FirmwarePattern, "name of firmware", "it has a-z, 0-9 and `-`, `*` only at its end",
    |text| match text.strip_suffix('*') {
        Some(stem) => {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            stem.len() < NAME_BYTES && stem.chars().all(fits) && !stem.starts_with('-')
        }
        None => text.parse::<Name>().is_ok(),
    }
}

word! {
    /// Topics: a name, or what names begin with and a `*`.
    TopicPattern, "topic", "it is of printable ASCII without spaces, `*` only at its end",
    |text| {
        let stem = text.strip_suffix('*').unwrap_or(text);
        !text.is_empty()
            && stem.len() <= KEY_BYTES
            && stem.chars().all(|c| c.is_ascii_graphic() && c != '*')
    }
}

word! {
    /// An MQTT topic filter, such as `sensors/+/temperature` or `alerts/#`.
    MqttFilter, "MQTT topic filter", "`+` is a whole level, `#` the whole last one, and none is over 4 KiB",
    is_filter
}

/// Host without brackets, and port.
fn parts(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
        None => None,
    };
    let is_host =
        host.parse::<IpAddr>().is_ok() || is_domain(host.strip_prefix("*.").unwrap_or(host));
    is_host.then_some((host, port))
}

fn is_domain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Only digits and dots are an address that is none.
    let looks_like_address = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.len() <= 253 && !looks_like_address && text.split('.').all(label)
}

impl HostPattern {
    /// Whether it means `host` (a name, or an address without brackets) at `port`.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16) -> bool {
        let Some((pattern, of_port)) = parts(&self.0) else { return false };
        let is_host = match pattern.strip_prefix("*.") {
            Some(domain) => {
                let split = host.len().checked_sub(domain.len() + 1);
                let below = split.and_then(|at| host.split_at_checked(at));
                below.is_some_and(|(label, rest)| {
                    !label.is_empty()
                        && rest.strip_prefix('.').is_some_and(|d| d.eq_ignore_ascii_case(domain))
                })
            }
            None => match (pattern.parse::<IpAddr>(), host.parse::<IpAddr>()) {
                (Ok(pattern), Ok(host)) => pattern == host,
                _ => pattern.eq_ignore_ascii_case(host),
            },
        };
        is_host && of_port.is_none_or(|of| of == port)
    }
}

impl FirmwarePattern {
    /// Whether it means the firmware called `name`.
    #[must_use]
    pub fn allows(&self, name: &Name) -> bool {
        is_meant(&self.0, name.as_str())
    }
}

impl TopicPattern {
    /// Whether it means the topic called `name`.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        is_meant(&self.0, name)
    }
}

/// Whether a name is what the pattern says, or begins with what is before its `*`.
fn is_meant(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => name.starts_with(stem),
        None => name == pattern,
    }
}

fn is_filter(text: &str) -> bool {
    let levels = text.split('/').count();
    let level = |(i, level): (usize, &str)| match level {
        "+" => true,
        "#" => i + 1 == levels,
        level => !level.contains(['+', '#', '\0']),
    };
    (1..=MANIFEST_TEXT_BYTES).contains(&text.len()) && text.split('/').enumerate().all(level)
}

impl MqttFilter {
    /// Whether it means `topic`. Source: MQTT 5.0 §4.7; topics that begin with `$` are only meant
    /// by filters that do.
    #[must_use]
    pub fn allows(&self, topic: &str) -> bool {
        if topic.starts_with('$') && !self.0.starts_with('$') {
            return false;
        }
        let mut topic = topic.split('/');
        for level in self.0.split('/') {
            // `a/#` means `a`, too.
            if level == "#" {
                return true;
            }
            match topic.next() {
                Some(name) if level == "+" || level == name => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}
