//! Where in a registry a package is.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::package::Package;

/// What the text of a place begins with.
pub const SCHEME: &str = "oci://";

/// The tag of a place that names none.
const LATEST: &str = "latest";

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no place in a registry: {reason}; expected oci://HOST/NAME:TAG")]
pub struct PlaceError {
    given: Box<str>,
    reason: &'static str,
}

/// A place in a registry, written as `oci://localhost:5000/team/counter:1.0.0` or with
/// `@sha256:` and a digest in place of the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub(super) registry: Box<str>,
    pub(super) repository: Box<str>,
    pub(super) tag: Option<Box<str>>,
    pub(super) digest: Option<Box<str>>,
}

impl Place {
    /// Its tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or(LATEST)
    }

    /// The last part of its name.
    pub(super) fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    /// The same place, with the version of the package as its tag if it has none. A tag has no `+`,
    /// which stands before the build in a version.
    #[must_use]
    pub fn with_tag_of(self, package: &Package) -> Self {
        let version = || package.manifest().version.to_string().replace('+', "_").into();
        let tag = self.tag.or_else(|| self.digest.is_none().then(version));
        Self { tag, ..self }
    }

    /// Whether the registry is on this machine, so that what is said to it can be heard by nobody
    /// else.
    pub(super) fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.registry.split(':').next().unwrap_or_default(),
        };
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Place {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let wrong = |reason| PlaceError { given: text.into(), reason };
        let rest =
            text.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with oci://"))?;
        let (registry, path) = rest.split_once('/').ok_or_else(|| wrong("there is no name"))?;
        if !is_host(registry) {
            return Err(wrong("the host is none"));
        }
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => (path, Some(digest)),
            None => (path, None),
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !repository.split('/').all(is_name) || repository.len() > 255 {
            return Err(wrong("a name has lower-case letters, digits and single `.`, `_`, `-`"));
        }
        if !tag.is_none_or(is_tag) {
            return Err(wrong("a tag has at most 128 letters, digits, `.`, `_`, `-`"));
        }
        if !digest.is_none_or(is_digest) {
            return Err(wrong("a digest is sha256: and 64 hex digits"));
        }
        let (tag, digest) = (tag.map(Box::from), digest.map(Box::from));
        Ok(Self { registry: registry.into(), repository: repository.into(), tag, digest })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (_, Some(digest)) => write!(f, "@{digest}"),
            (Some(tag), None) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            ("v6", port.strip_prefix(':').or(port.is_empty().then_some("1")))
        }
        Some(_) => return false,
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("1")),
        },
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    !host.is_empty() && host.chars().all(inner) && port.is_some_and(|p| p.parse::<u16>().is_ok())
}

/// Source: OCI distribution specification 1.1, "Pulling manifests".
fn is_name(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = |c: char| plain(c) || matches!(c, '.' | '_' | '-');
    part.chars().all(inner)
        && part.starts_with(plain)
        && part.ends_with(plain)
        && !["..", "._", "_.", ".-", "-."].iter().any(|pair| part.contains(pair))
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=128).contains(&text.len())
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:");
    let digit = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f');
    hex.is_some_and(|hex| hex.len() == 64 && hex.chars().all(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_it_is_printed() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        for text in [
            "oci://localhost:5000/counter",
            "oci://localhost:5000/team/counter:1.0.0-beta.1",
            "oci://[::1]:5000/counter:latest",
            "oci://ghcr.io/me/my_counter-x:V1",
            &format!("oci://ghcr.io/me/counter{digest}"),
        ] {
            assert_eq!(text.parse::<Place>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_told_with_the_form() {
        for text in [
            "counter",
            "docker://x/y",
            "oci://x",
            "oci:///y",
            "oci://x/",
            "oci://x/Y",
            "oci://x/../y",
            "oci://x/a//b",
            "oci://x/y:",
            "oci://x/y:a b",
            "oci://x/y@sha256:12",
            "oci://x:port/y",
            "oci://a@b/y",
            "oci://[x]/y",
        ] {
            let error = text.parse::<Place>().expect_err(text).to_string();
            assert!(error.contains("expected oci://HOST/NAME:TAG"), "{error}");
        }
    }

    #[test]
    fn only_registries_on_this_machine_are_spoken_to_in_the_clear() {
        let is_loopback =
            |host: &str| format!("oci://{host}/x").parse::<Place>().expect(host).is_loopback();
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.evil.org", "10.0.0.1:5000", "[::2]", "registry", "128.0.0.1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
