//! Who one is to a registry, as `docker login` stores it.

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::{Place, RegistryError};

/// Who one is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// Somebody with a password.
    Password {
        /// The name.
        username: String,
        /// The password, or a token in its place.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Password { username, .. } => write!(f, "Password of {username}"),
        }
    }
}

/// The part of Docker's configuration that matters here.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    /// `name:password` in base64; not there when a helper program keeps it.
    auth: Option<String>,
}

impl Credentials {
    /// What is stored for the registry of `place` in `config.json` of `DOCKER_CONFIG`, or else of
    /// `~/.docker`; anonymous when nothing is.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`] when the file cannot be read.
    pub fn stored_for(place: &Place) -> Result<Self, RegistryError> {
        let folder = std::env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")));
        let Some(path) = folder.map(|folder| folder.join("config.json")) else {
            return Ok(Self::Anonymous);
        };
        let wrong = |reason: String| RegistryError::Credentials {
            path: path.clone(),
            reason: reason.into(),
        };
        match fs::read_to_string(&path) {
            Ok(text) => Self::of_docker(&text, &place.registry).map_err(wrong),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Anonymous),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    fn of_docker(text: &str, registry: &str) -> Result<Self, String> {
        let config: DockerConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
        // Older programs write an address.
        let host = |key: &str| {
            let key = key.trim_start_matches("https://").trim_start_matches("http://");
            key.split('/').next().unwrap_or_default().to_owned()
        };
        let login = config.auths.iter().find(|(key, _)| host(key) == registry);
        let Some(auth) = login.and_then(|(_, login)| login.auth.as_deref()) else {
            return Ok(Self::Anonymous);
        };
        let decoded = BASE64_STANDARD.decode(auth).ok().and_then(|b| String::from_utf8(b).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) =
            pair.ok_or_else(|| format!("what it has for {registry} is no name and password"))?;
        Ok(Self::Password { username: username.to_owned(), password: password.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_stored_is_found_by_the_host() {
        let text = r#"{"auths": {
            "https://localhost:5000/v1/": {"auth": "bWU6cGFzczp3b3Jk"},
            "ghcr.io": {}
        }, "credsStore": "desktop"}"#;
        let of = |registry| Credentials::of_docker(text, registry).expect("it is read");
        let (username, password) = ("me".to_owned(), "pass:word".to_owned());
        let mine = Credentials::Password { username, password };
        assert_eq!(format!("{mine:?}"), "Password of me");
        assert_eq!(of("localhost:5000"), mine);
        assert_eq!(of("ghcr.io"), Credentials::Anonymous);
        assert_eq!(of("elsewhere.org"), Credentials::Anonymous);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_shows_no_secret() {
        let broken = r#"{"auths": {"x": {"auth": "c2VjcmV0"}}}"#;
        let error = Credentials::of_docker(broken, "x").expect_err("no colon");
        assert!(error.contains('x') && !error.contains("c2VjcmV0"), "{error}");
        assert!(Credentials::of_docker("{", "x").is_err());
    }
}
