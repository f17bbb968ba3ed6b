//! Programs that a session keeps, and bytes in JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use odeum_proto::session::{Metadata, Program};
use serde::{Deserialize, Serialize};

/// A program without its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSummary {
    /// The language it is written in.
    pub language: String,
    /// How many bytes it has.
    pub bytes: usize,
    /// What its owner says of it.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// `GET /v1/sessions/{id}/programs/{name}`: a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionProgram {
    /// The language it is written in.
    pub language: String,
    /// Its text or code.
    #[serde(flatten)]
    pub content: Text,
    /// What its owner says of it.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
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

impl ProgramSummary {
    /// As the API shows `program` in a list.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        Self {
            language: program.language.to_string(),
            bytes: program.content.len(),
            metadata: program.metadata.clone(),
        }
    }
}

impl SessionProgram {
    /// As the API shows `program`.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        Self {
            language: program.language.to_string(),
            content: Text::of(&program.content),
            metadata: program.metadata.clone(),
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
    }
}
