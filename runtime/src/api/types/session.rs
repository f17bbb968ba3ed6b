//! Sessions of the replicated store.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use odeum_proto::{Revision, SessionId};
use serde::{Deserialize, Serialize};

/// Sessions, or blobs, on one page when the client does not say.
pub const DEFAULT_PAGE: usize = 100;
/// Most sessions, or blobs, on one page.
pub const MAX_PAGE: usize = 1_000;

/// `GET /v1/sessions`: a page of sessions, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionSummary>,
    /// The `after` of the next page; `None` when this is the last.
    pub next: Option<SessionId>,
}

/// A session without its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// How many variables it has.
    pub variables: usize,
    /// The last change to it.
    pub revision: Revision,
}

/// `GET /v1/sessions/{id}`: a session with its variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its variables by name.
    pub variables: BTreeMap<String, SessionVariable>,
}

/// One variable of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionVariable {
    /// Its value.
    #[serde(flatten)]
    pub value: Text,
    /// How often it was written, from 1.
    pub version: u64,
    /// The change that wrote it last.
    pub revision: Revision,
}

/// Bytes in JSON: as they are when they are UTF-8, else in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "encoding", content = "value", rename_all = "kebab-case")]
pub enum Text {
    /// The bytes are this text.
    #[serde(rename = "utf-8")]
    Utf8(String),
    /// The bytes are no text; this is their base64 form.
    Base64(String),
}

impl Text {
    /// `bytes` in the form that is easiest to read.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes)
            .map_or_else(|_| Self::Base64(BASE64.encode(bytes)), |text| Self::Utf8(text.to_owned()))
    }

    /// The bytes; `None` when what claims to be base64 is not.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Utf8(text) => Some(text.as_bytes().to_vec()),
            Self::Base64(text) => BASE64.decode(text).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_text_stay_readable_and_others_survive() {
        for bytes in [&b"41"[..], "\u{e4}".as_bytes(), &[0xff, 0x00, 0x80]] {
            assert_eq!(Text::of(bytes).bytes().as_deref(), Some(bytes));
        }
        let json = serde_json::to_value(SessionVariable {
            value: Text::of(b"41"),
            version: 41,
            revision: Revision(7),
        })
        .expect("serializes");
        assert_eq!(
            json,
            serde_json::json!({"encoding": "utf-8", "value": "41", "version": 41, "revision": 7})
        );
        assert!(serde_json::from_value::<SessionVariable>(json).is_ok());
    }
}
